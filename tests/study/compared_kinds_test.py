"""Stages that measure models beside their controls, on the toy study."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

import jax.numpy as jnp
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, evaluate, fourier, recipes
from robust_features.data import dataset as ds
from robust_features.study import run
from robust_features.study.graph import Study
from robust_features.study.kinds import KINDS, compared
from robust_features.study.parse import parse


def config(folder):
  """Returns the toy study with one stage of every kind that compares."""
  found = toy_study.config(folder)
  made = found.stages
  for name in ("sweep", "eval_base", "eval_on_d_rand"):
    del made[name]
  found.table = ()
  grid = {"max_shift": 2.0, "num_shifts": 3, "max_angle": 40.0,
          "num_angles": 3, "batch_size": 30}  # fmt: skip
  both = ("base", "on_d_rand")
  made.moved = recipes.spatial_stage(both, spatial=grid)
  waves = {"eps": 1.0, "max_frequency": 2, "num_white": 2, "batch_size": 30}
  made.waves = recipes.fourier_map_stage(both, num_examples=20, fourier=waves)
  made.over = recipes.curve_stage(both, (0, 1, -1))
  return found


class ComparedTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    toy_study.write_npz(cls.folder)
    cls.workdir = cls.folder / "run"
    cls.results = run.run(config(cls.folder), cls.workdir)
    cls.study = Study(parse(config(cls.folder)), cls.workdir)
    cls.text = (cls.workdir / "results.md").read_text()

  def test_spatial(self):
    found = self.results["spatial"]["moved"]
    self.assertEqual(found["num_points"], 27)
    test = self.study.dataset("D", "test")
    for name, result in found["models"].items():
      worst = result["worst"]
      clean = evaluate.accuracy(*self.study.model(name), test, 30)
      self.assertAlmostEqual(worst["natural"], clean)
      for less, more in (
        ("grid", "shift"), ("grid", "rotation"), ("shift", "down"),
        ("shift", "right"), ("down", "natural"), ("rotation", "natural"),
      ):  # fmt: skip
        self.assertLessEqual(worst[less], worst[more])
      self.assertBetween(result["mean"], worst["grid"], 1)
      curves = result["by_angle"]
      self.assertAlmostEqual(curves["unshifted"][1], clean)
      self.assertAlmostEqual(curves["worst shift"][1], worst["shift"])
    grids = [r["worst"]["grid"] for r in found["models"].values()]
    pair = found["differences"]["on_d_rand"]
    self.assertAlmostEqual(pair["difference"], grids[0] - grids[1])
    self.assertIn("## moved: rotations and shifts", self.text)
    self.assertIn("base less its control on_d_rand", self.text)
    self.assertTrue((self.workdir / "figures/moved.png").exists())

  def test_fourier_map(self):
    found = self.results["fourier_maps"]["waves"]
    self.assertEqual((found["num_examples"], found["extent"]), (20, [2, 2]))
    self.assertEqual(found["num_frequencies"], 13)
    for result in found["models"].values():
      shown = np.asarray(result["map"])
      self.assertEqual(shown.shape, (5, 5))
      np.testing.assert_array_equal(shown, shown[::-1, ::-1])
      self.assertLen(result["bands"], 3)
    data = self.study.plan.nodes["waves"].stage.dataset(self.study)
    keys = attacks.example_keys(self.study.key("waves"), jnp.arange(20))
    number = 1  # Of frequency (0, 1).
    point = jnp.array([0, 1]), jnp.int32(number), jnp.float32(1.0)
    changed = fourier.add_wave(ds.to_float(data.images), point, keys)
    wrong = 1 - evaluate.accuracy(
      *self.study.model("base"),
      dataclasses.replace(data, images=np.asarray(changed)), 20,
    )  # fmt: skip
    self.assertAlmostEqual(found["models"]["base"]["map"][2][3], wrong)
    self.assertIn("## waves: errors by frequency", self.text)
    self.assertIn("white noise of the same norm, 2 draws", self.text)
    self.assertTrue((self.workdir / "figures/waves.png").exists())

  def test_curve(self):
    found = self.results["curves"]["over"]["models"]["base"]
    held_out = self.study.splits("D").validation
    seen = evaluate.predict(*self.study.model("base"), held_out.images, 8)
    for shift, values in found["accuracy"].items():
      right = seen.argmax(1) == (held_out.labels + int(shift)) % 3
      self.assertAlmostEqual(values[-1], right.mean())
      self.assertLen(values, 2)
    self.assertEqual(found["epochs"], [1, 2])
    history = self.study.require("base")["history"]
    self.assertEqual(
      found["accuracy"]["0"], [r["validation_accuracy"] for r in history]
    )
    text = self.text.partition("## over: ")[2].partition("##")[0]
    values = found["accuracy"]["0"]
    peak, at = max(values), 1 + int(np.argmax(values))
    self.assertRegex(
      text, rf"\| base .*\| +{100 * peak:.2f} \| +{at} \| "
      rf"+{100 * values[-1]:.2f} \|",
    )  # fmt: skip
    self.assertIn("| y+1: peak | at epoch |", text)
    self.assertTrue((self.workdir / "figures/over.png").exists())

  def test_a_curve_of_an_older_training(self):
    history = [{"epoch": 1, "train_accuracy": 1.0}]
    stage = self.study.plan.nodes["over"].stage
    with (
      mock.patch.object(
        self.study, "require", return_value={"history": history}
      ),
      self.assertRaisesRegex(ValueError, "'base', which was trained before"),
    ):
      KINDS["curve"].run(self.study, "over", stage, self.workdir)

  def test_a_curve_needs_images_held_out(self):
    changed = config(self.folder)
    changed.data.D.num_validation = 0
    with self.assertRaisesRegex(ValueError, "data.D has no validation images"):
      run.run(changed, toys.folder(self) / "new")

  def test_a_curve_of_what_is_not_trained(self):
    changed = config(self.folder)
    changed.stages.outside = recipes.imported_stage("nowhere")
    changed.stages.over.models = ("base", "outside")
    with self.assertRaisesRegex(
      ValueError, "stages.over.models must name stages that train, got 'outsi"
    ):
      parse(changed)

  @parameterized.parameters(
    ("over", {"label_shifts": ()}, "over.label_shifts must have at least one"),
    ("over", {"label_shifts": (1, 1)}, "over.label_shifts must .* each once"),
    ("over", {"models": ()}, "stages.over.models must have at least one"),
    ("moved", {"models": ()}, "moved.models must name at least one"),
    ("moved", {"models": ("base", "base")}, "moved.models must .* each once"),
    ("waves", {"models": ("d_rand",)}, "waves.models must be one of"),
    ("waves", {"num_examples": -1}, "waves.num_examples must be at least 0"),
    ("waves", {"fourier.eps": 0.0}, "stages.waves.fourier.eps must be above"),
    ("moved", {"spatial.num_shifts": 2}, "stages.moved.spatial.num_shifts mu"),
  )
  def test_refused(self, name, changes, message):
    changed = config(self.folder)
    for field, value in changes.items():
      section, _, last = field.rpartition(".")
      stage = changed.stages[name]
      (stage[section] if section else stage)[last] = value
    with self.assertRaisesRegex(ValueError, message):
      parse(changed)

  def test_too_far_a_shift(self):
    changed = config(self.folder)
    changed.stages.moved.spatial.max_shift = 8.0
    with self.assertRaisesRegex(
      ValueError, "stages.moved.spatial.max_shift must be less .* 8 pixels"
    ):
      run.run(changed, toys.folder(self) / "new")

  def test_smoke_and_cost(self):
    changed = config(self.folder)
    num_images = self.study.num_images
    for name in ("moved", "waves"):
      stage = self.study.plan.nodes[name].stage
      kind = KINDS[changed.stages[name].kind]
      passes = {"moved": 2 * 30 * 27, "waves": 2 * 20 * (13 + 2 + 1)}[name]
      self.assertEqual(kind.work(stage, num_images).passes, passes)
      kind.shrink(changed.stages[name])
    self.assertEqual(changed.stages.moved.num_examples, 16)
    self.assertEqual(changed.stages.waves.fourier.num_white, 2)


class DifferencesTest(absltest.TestCase):
  def test_pairs(self):
    right = {"one": np.array([1, 1, 1, 0], bool),
             "two": np.array([1, 0, 0, 0], bool)}  # fmt: skip
    found = compared.differences(right)
    error = np.std([0, 1, 1, 0], ddof=1) / 2
    self.assertEqual(
      found, {"two": {"difference": 0.5, "standard_error": error}}
    )

  def test_shares_and_a_single_pair(self):
    found = compared.differences(
      {"a": np.array([0.5]), "b": np.array([0.25]), "c": np.array([1.0])}
    )
    self.assertEqual(
      found,
      {"b": {"difference": 0.25, "standard_error": 0.0},
       "c": {"difference": -0.5, "standard_error": 0.0}},
    )  # fmt: skip

  def test_two_standard_errors_are_not_clear(self):
    for away, error, clear in ((2.0, 1.0, False), (2.25, 1.0, True)):
      pair = {"difference": away / 100, "standard_error": error / 100}
      found = {"models": {"a": {}, "b": {}}, "differences": {"b": pair}}
      (line,) = compared.lines(found, "worst")
      self.assertEqual("not clear" not in line, clear)
      self.assertStartsWith(
        line, f"- worst: a less its control b: +{away:.2f} ± {error:.2f} points"
      )

  def test_a_difference_that_is_none_is_said_to_be(self):
    pair = {"difference": 0.02, "standard_error": 0.02}
    found = {"models": {"a": {}, "b": {}}, "differences": {"b": pair}}
    (line,) = compared.lines(found, "worst")
    self.assertIn("a less its control b: +2.00 ± 2.00", line)
    self.assertIn("not clear of it", line)
    pair["difference"] = -0.05
    (line,) = compared.lines(found, "worst")
    self.assertNotIn("not clear", line)


if __name__ == "__main__":
  absltest.main()
