"""A kind of stage is one file: a new one needs a `Kind` and a name."""

import dataclasses
import json
import pathlib
import re
import types
from unittest import mock

import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized
from kind_stages import stage
from ml_collections import ConfigDict

import robust_features
from robust_features import evaluate, models, recipes
from robust_features.data import dataset as ds
from robust_features.runtime import files
from robust_features.study import graph, run, settings
from robust_features.study.graph import Kind
from robust_features.study.kinds import KINDS, architecture, subject
from robust_features.study.parse import parse

PACKAGE = pathlib.Path(robust_features.__file__).parent


@dataclasses.dataclass(frozen=True)
class Stage:
  """A toy kind: counts the classes of a set."""

  data: settings.DataName
  split: settings.Split
  most: int


def _run(study, name, stage, directory):
  del name
  (directory / "note.txt").write_text("ran")
  counts = np.bincount(study.dataset(stage.data, stage.split).labels)
  return {"counts": counts[: stage.most].tolist()}


def _report(found):
  return [
    (f"{name}: classes", [str(result["counts"])])
    for name, result in found.items()
  ]


def _shrink(stage):
  stage.most = 1


COUNT = Kind(stage=Stage, run=_run, section="counts", report=_report,
             shrink=_shrink)  # fmt: skip


class NewKindTest(absltest.TestCase):
  def config(self, folder):
    toy_study.write_npz(folder)
    found = recipes.study("counting")
    found.data.D = recipes.data("npz", name="toy", data_dir=str(folder))
    found.stages.count = ConfigDict(
      {"kind": "count", "data": "D", "split": "test", "most": 3}
    )
    return found

  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.dict(KINDS, {"count": COUNT}))
    self.folder = toys.folder(self)

  def test_it_runs_reports_and_is_skipped(self):
    workdir = self.folder / "run"
    found = run.run(self.config(self.folder), workdir)
    counts = found["counts"]["count"]["counts"]
    self.assertEqual(sum(counts), 30)
    text = (workdir / "results.md").read_text()
    self.assertIn(f"## count: classes\n\n{counts}", text)
    (workdir / "count" / "note.txt").unlink()
    run.run(self.config(self.folder), workdir)
    self.assertFalse((workdir / "count" / "note.txt").exists())
    made = json.loads((workdir / "count" / "provenance.json").read_text())
    self.assertIn("jax", made["versions"])

  def test_killed_before_each_of_its_files(self):
    """What is there then is taken over or made again by the same command."""
    want = None
    for survived in (9, 4, 3, 2, 1, 0):
      left, write = [survived], files.write_json

      def dying(path, value, left=left, write=write):
        left[0] -= 1
        if left[0] < 0:
          raise KeyboardInterrupt
        write(path, value)

      workdir = toys.folder(self) / "run"
      with mock.patch.object(files, "write_json", dying):
        made = graph.Study(parse(self.config(self.folder)), workdir)
        if survived < 9:
          with self.assertRaises(KeyboardInterrupt):
            made.require("count")
      made = graph.Study(parse(self.config(self.folder)), workdir)
      (workdir / "count").mkdir(parents=True, exist_ok=True)
      found = made.require("count")
      self.assertEqual(found, want or found)
      want = found

  def test_seconds_of_a_stage_that_does_not_count_them(self):
    with mock.patch.object(graph.time, "monotonic", side_effect=(5.0, 7.5)):
      made = graph.Study(parse(self.config(self.folder)), self.folder / "run")
      (self.folder / "run" / "count").mkdir(parents=True)
      made.require("count")
    self.assertEqual(made._shown("count")["seconds"], 2.5)

  def test_how_far_by_default(self):
    folder = self.folder / "stage"
    self.assertEqual(COUNT.how_far(folder), "")
    for name, want in (("config.json", ""), ("parts/0.npz", "begun")):
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).touch()
      self.assertEqual(COUNT.how_far(folder), want)

  def test_its_fields_are_checked(self):
    config = self.config(self.folder)
    config.stages.count.split = "tset"
    with self.assertRaisesRegex(ValueError, "stages.count.split must be one"):
      parse(config)
    config = self.config(self.folder)
    del config.stages.count.most
    with self.assertRaisesRegex(ValueError, "stages.count.most is missing"):
      parse(config)

  def test_smoke(self):
    config = self.config(self.folder)
    recipes.variant(config, "smoke")
    self.assertEqual(config.stages.count.most, 1)


class SampledTest(absltest.TestCase):
  def test_a_sample_of_a_sorted_set_has_every_class(self):
    """The first images of an image folder are all of its first class."""
    images = np.zeros((40, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(40)
    data = ds.make(images, np.repeat(np.arange(4), 10), 4)
    study = types.SimpleNamespace(
      plan=types.SimpleNamespace(config=ConfigDict({"seed": 3}))
    )
    found = subject.sampled(study, data, 8)
    self.assertEqual(np.bincount(found.labels).tolist(), [2, 2, 2, 2])
    again = subject.sampled(study, data, 8)
    np.testing.assert_array_equal(found.images, again.images)
    self.assertEqual(subject.sampled(study, data, 0).num_examples, 40)


class EvaluateStageTest(absltest.TestCase):
  def test_noise_and_accuracy_alone_need_no_step(self):
    for fields in ({"num_restarts": 2}, {"eps": ()}, {"eps": (0.0,)}):
      attack = recipes.evaluation(num_steps=0, **fields)
      made = stage(recipes.evaluate_stage("base", "a row", attack))
      self.assertEqual(made.evaluate.num_steps, 0)


class AutoAttackStageTest(parameterized.TestCase):
  @parameterized.parameters(
    ("num_examples", -1, "num_examples must be at least 0, got -1"),
    ("autoattack", {"eps": ()}, r"autoattack.eps must hold a radius, got \(\)"),
  )
  def test_refused(self, field, value, message):
    section = recipes.autoattack_stage("base", "l2", (0.5,)).to_dict()
    del section["kind"]
    settings.build(KINDS["autoattack"].stage, section, "s")
    if isinstance(value, dict):
      value = section[field] | value
    with self.assertRaisesRegex(ValueError, f"^s.{message}"):
      settings.build(KINDS["autoattack"].stage, section | {field: value}, "s")


class ShiftedLabelsTest(absltest.TestCase):
  def test_the_last_class_is_followed_by_the_first(self):
    """A model with more logits than there are classes changes no order."""
    seen = [[3, 1, 0, 0], [0, 2, 2, 0], [4, 0, 0, 8], [0, 0, 0, 0]]
    found = [evaluate.on_shifted_labels(seen, 3, shift) for shift in (0, 1, -1)]
    self.assertEqual(found, [5 / 20, 7 / 20, 0])


class NormalisationTest(absltest.TestCase):
  def test_whose_constants(self):
    """The library's for CIFAR-10, the network's own, else the pixels'."""
    pixels = np.full((4, 2, 2, 3), 0.5, np.float32)
    pixels[:2] = 0.25
    train = ds.make(pixels, np.array([0, 1, 0, 1]), 2)

    def constants(source, name, mean=()):
      model = models.ModelConfig("mlp", num_classes=0, mean=mean, std=mean)
      study = mock.Mock()
      study.plan.data = {"D": mock.Mock(source=source)}
      study.plan.data["D"].name = name
      study.plan.models = {"main": model}
      study.num_classes.return_value = 2
      study.splits.return_value.train = train
      cfg, where = architecture.fitted(study, "main", "D", "D")
      self.assertEqual((where, cfg.num_classes), ("models.main", 2))
      return cfg.mean

    self.assertEqual(constants("tfds", "cifar10"), models.CIFAR_MEAN)
    own = (0.1, 0.2, 0.3)
    for source, name in (("tfds", "svhn"), ("npz", "cifar10")):
      self.assertEqual(constants(source, name, own), own)
      np.testing.assert_allclose(constants(source, name), (0.375,) * 3)


class ControlsTest(absltest.TestCase):
  def test_at_every_radius_that_both_have(self):
    def row(name, accuracy, robust, control_of=""):
      return {"name": name, "title": name, "accuracy": accuracy,
              "robust_accuracy": robust, "control_of": control_of,
              "num_examples": 100, "class_names": ["a", "b"],
              "confusion": [[25, 25], [25, 25]]}  # fmt: skip

    rows = [
      row("claim", 0.5, {"0.25": 0.5, "0.5": 0.1}),
      row("control", 0.5, {"0.25": 0.2, "1.0": 0.0}, control_of="claim"),
    ]
    ((title, lines),) = KINDS["evaluate"].report(rows)[-1:]
    self.assertEqual(title, "Claims and controls")
    self.assertEqual(
      lines[0].rows[1:],
      [
        ["claim", "50.00", "control", "50.00", "0.00", "7.07", "no"],
        ["claim, eps=0.25", "50.00", "control", "20.00", "30.00", "6.40",
         "yes"],
      ],
    )  # fmt: skip


class LiteralsTest(parameterized.TestCase):
  @parameterized.parameters(*KINDS)
  def test_nobody_else_compares_with_a_kind(self, name):
    """Outside its file a kind's name stands in recipes and in KINDS alone."""
    literal = re.compile(rf"kind\s*(==|!=|in)[^\n]*[\"']{name}[\"']")
    for folder in (PACKAGE, PACKAGE.parent / "launch"):
      for path in folder.rglob("*.py"):
        self.assertNotRegex(path.read_text(), literal, path)

  @parameterized.parameters(*KINDS)
  def test_every_kind_is_complete(self, name):
    kind = KINDS[name]
    self.assertTrue(dataclasses.is_dataclass(kind.stage))
    self.assertTrue(kind.stage.__doc__)
    sections = [
      field.name
      for field in dataclasses.fields(kind.stage)
      if dataclasses.is_dataclass(field.type)
    ]
    if any(field in ("evaluate", "autoattack") for field in sections):
      self.assertNotEqual(kind.radii, Kind.radii)


if __name__ == "__main__":
  absltest.main()
