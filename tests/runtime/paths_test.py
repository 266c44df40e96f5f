"""What users write for a path, and folders that cannot be written."""

import dataclasses
import pathlib

import jax
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import (
  attacks,
  class_perturbation,
  construct,
  error_minimising,
  strong_attacks,
  train,
  trained,
)
from robust_features.attacks import autoattack
from robust_features.data import (
  constructed,
  image_folder,
  npz,
  released,
  restricted_imagenet,
  tfds_source,
)
from robust_features.data import dataset as ds
from robust_features.pytorch import import_checkpoint
from robust_features.runtime import command, paths
from robust_features.study import run


class ResolveTest(parameterized.TestCase):
  def test_home(self):
    for resolve in (paths.resolve, paths.folder):
      self.assertEqual(resolve("~/x", "out"), pathlib.Path.home() / "x")
      self.assertEqual(resolve("runs/x", "out"), pathlib.Path("runs/x"))
      found = resolve(pathlib.Path("~/x"), "out")
      self.assertEqual(found, pathlib.Path.home() / "x")

  @parameterized.parameters(
    "gs://bucket/run", "s3://bucket/run", pathlib.Path("gs://bucket/run")
  )
  def test_a_bucket_is_no_path(self, path):
    pattern = f"^--out must be .* got '{path}'; mount the bucket"
    for resolve in (paths.resolve, paths.folder):
      with self.assertRaisesRegex(ValueError, pattern):
        resolve(path, "--out")

  def test_a_home_that_is_nobodys(self):
    with self.assertRaisesRegex(ValueError, "^out begins with .*, got '~no_o"):
      paths.resolve("~no_one_is_called_so/x", "out")

  def test_a_file_in_the_way(self):
    path = toys.folder(self) / "file"
    path.write_text("")
    self.assertEqual(paths.resolve(path, "--out"), path)
    for text in (path, path / "below" / "it"):
      pattern = f"^--out={text}: {path} is a file; give a folder"
      with self.assertRaisesRegex(ValueError, pattern):
        paths.folder(text, "--out")


class LoadersTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("model", trained.load),
    ("checkpoint", import_checkpoint.read_state),
    ("description", import_checkpoint.described),
    ("constructed", constructed.load),
    ("image_folder", image_folder.load),
    ("npz", lambda path: npz.load(path, "a")),
    ("released", released.load),
    ("tfds", lambda path: tfds_source.load("cifar10", path, 32)),
    ("wnids", lambda path: restricted_imagenet.check_folder(path, {})),
  )
  def test_what_a_path_means(self, load):
    with self.assertRaisesRegex(ValueError, "got 'gs://b/x'; mount the bucket"):
      load("gs://b/x")


class DriversTest(absltest.TestCase):
  """What writes into a folder says so before it has worked for it."""

  def test_a_bucket(self):
    model, data, key = toys.Linear(3), toys.dataset(12), jax.random.key(0)
    variables = toys.linear_variables(np.zeros((192, 3), np.float32))
    attack, where = attacks.AttackConfig("l2", 0.5, 0.1, 1), "gs://b/x"
    fixed = dataclasses.replace(attack, keep_best=False)
    for work in (
      lambda: train.train(
        toys.recipe(), train.RunConfig(), model, data, data, where, key
      ),
      lambda: construct.construct(
        construct.preset("det", attack), model, variables, data, data, where,
        key, {},
      ),
      lambda: class_perturbation.make(
        class_perturbation.ClassPerturbationConfig(
          fixed, "next", 4, "uint8", 4, 4
        ),
        model, variables, data, where, key, {},
      ),
      lambda: error_minimising.make(
        error_minimising.ErrorMinimisingConfig(
          fixed, 1, 4, 0.1, 0.9, 0.0, 0.5, 1, "uint8", 4, 4
        ),
        model, data, where, key, {},
      ),
      lambda: strong_attacks.auto_attack(
        model, variables, data,
        strong_attacks.AutoAttackConfig(
          "l2", (0.5,), ("square",), autoattack.Budget(), 4
        ), key, where, "a",
      ),
      lambda: autoattack.run(
        lambda x: x.reshape(len(x), -1)[:, :3], ds.to_float(data.images),
        data.labels, norm="l2", eps=0.5, key=key, workdir=where,
      ),
      lambda: run.run(toy_study.config("."), where),
    ):  # fmt: skip
      with self.assertRaisesRegex(ValueError, "got 'gs://b/x'; mount the buck"):
        work()


class WritingTest(absltest.TestCase):
  def test_the_folder_the_reason_and_the_remedy_are_told(self):
    where = pathlib.Path("/proc/nowhere")
    with (
      self.assertRaisesRegex(
        ValueError,
        f"^nothing can be written to {where} .No such file or directory.; "
        "choose another --out, or change who may write there$",
      ),
      paths.writing(where, "--out"),
    ):
      where.mkdir()

  def test_other_errors_pass(self):
    with self.assertRaises(KeyError), paths.writing(pathlib.Path("x"), "out"):
      raise KeyError

  def test_a_new_folder_that_cannot_be_made(self):
    for out in ("/proc/x", "/proc/x/y"):
      with (
        self.assertRaisesRegex(ValueError, "^nothing can be .* another out"),
        command.new_folder(pathlib.Path(out)),
      ):
        self.fail("made")


if __name__ == "__main__":
  absltest.main()
