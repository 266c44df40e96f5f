"""What users write for a path, and folders that cannot be written."""

import pathlib

import toys
from absl.testing import absltest, parameterized

from robust_features import trained
from robust_features.data import (
  constructed,
  image_folder,
  npz,
  released,
  restricted_imagenet,
  tfds_source,
)
from robust_features.pytorch import import_checkpoint
from robust_features.runtime import command, paths


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
