"""Rotations, shifts and waves in numbers, from made-up tables of hits."""

import pathlib
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest
from kind_stages import stage, study

from robust_features import (
  changes,
  evaluate,
  fourier,
  recipes,
  spatial,
)
from robust_features.study import settings
from robust_features.study.kinds import KINDS
from robust_features.study.report import change_figures


class RunTest(absltest.TestCase):
  def run_kind(self, made, tables):
    """Runs a kind on tables of hits by the name of what is measured."""
    data = toys.dataset(9)
    asked = study(D=data)
    asked.plan.config.seed = 0

    def hits(model, variables, data, change, points, key, size, name, measured):
      self.assertEqual((model, variables, size), ("net", "weights", 30))
      self.assertEqual(key, jax.random.key(len("stage")))
      self.assertEqual(measured.directory, pathlib.Path("f/parts"))
      self.points[name] = change, points
      return tables[name]

    self.points = {}
    with (
      mock.patch.object(changes, "hits", side_effect=hits),
      mock.patch.object(evaluate, "accuracy", side_effect=[0.75, 0.5]) as clean,
    ):
      found = KINDS[made.kind].run(
        asked, "stage", stage(made), pathlib.Path("f")
      )
    for call in clean.call_args_list:  # Of the images that are changed.
      self.assertEqual(call.args[:2], ("net", "weights"))
      self.assertEqual(call.args[2].num_examples, found["num_examples"])
    self.assertEqual(list(found["models"]), ["a", "b"])
    self.assertEqual(found["num_examples"], 4)
    return found

  def test_spatial(self):
    grid = {"max_shift": 2.0, "num_shifts": 3, "max_angle": 40.0,
            "num_angles": 5, "batch_size": 30}  # fmt: skip
    made = recipes.spatial_stage(("a", "b"), num_examples=4, spatial=grid)
    a, b = np.ones((2, 4, 3, 3, 5), bool)
    a[0, 0, 1, 2] = False  # Up.
    a[1, 1, 1, 4] = False  # Turned.
    b[:3, 1, 1, 2] = False  # The image itself.
    b[3, 0, 0, 0] = False  # Moved and turned.
    tables = {"a": a.reshape(4, -1), "b": b.reshape(4, -1)}
    found = self.run_kind(made, tables)
    self.assertEqual(
      [result["worst"] for result in found["models"].values()],
      [{"natural": 1.0, "down": 0.75, "right": 1.0, "shift": 0.75,
        "rotation": 0.75, "grid": 0.5},
       {"natural": 0.25, "down": 0.25, "right": 0.25, "shift": 0.25,
        "rotation": 0.25, "grid": 0.0}],
    )  # fmt: skip
    mean = {name: r["mean"] for name, r in found["models"].items()}
    self.assertEqual(mean, {"a": 178 / 180, "b": 176 / 180})
    self.assertEqual(
      found["models"]["a"]["by_angle"],
      {"unshifted": [1.0, 1.0, 1.0, 1.0, 0.75],
       "worst shift": [1.0, 1.0, 0.75, 1.0, 0.75]},
    )  # fmt: skip
    # Ahead on images 2 and 3 of four.
    self.assertEqual(
      found["differences"],
      {"b": {"difference": 0.5, "standard_error": (1 / 3) ** 0.5 / 2}},
    )
    self.assertEqual(found["shifts"], [-2.0, 0.0, 2.0])
    self.assertEqual(found["angles"], [-40.0, -20.0, 0.0, 20.0, 40.0])
    self.assertEqual((found["num_points"], found["num_classes"]), (45, 3))
    cfg = spatial.SpatialConfig(**grid)
    for change, points in self.points.values():
      self.assertIs(change, spatial.move)
      np.testing.assert_array_equal(points, cfg.points())

  def test_fourier_map(self):
    fields = {"eps": 1.0, "max_frequency": 1, "num_white": 2, "batch_size": 30}
    made = recipes.fourier_map_stage(("a", "b"), num_examples=4, fourier=fields)
    waves = np.ones((4, 5), bool)
    waves[0], waves[1, 0], waves[1:, 4] = False, False, False
    white = np.array([[1, 0], [1, 1], [1, 1], [1, 1]], bool)
    found = self.run_kind(made, {
      "a-waves": waves, "a-white": white,
      "b-waves": np.ones_like(waves), "b-white": ~white,
    })  # fmt: skip
    cfg = fourier.FourierConfig(**fields)
    error = np.array([0.5, 0.25, 0.25, 0.25, 1.0])
    shown = fourier.heat_map(error, cfg, (8, 8, 3))
    one = found["models"]["a"]
    self.assertEqual(one["map"], shown.tolist())
    self.assertEqual((one["clean"], one["white"]), (0.25, 0.125))
    self.assertEqual(found["models"]["b"]["clean"], 0.5)
    self.assertEqual(found["models"]["b"]["white"], 0.875)
    # So small a map has high frequencies alone: all but the middle.
    self.assertEqual(one["bands"][:2], [None, None])
    self.assertAlmostEqual(one["bands"][2], (shown.sum() - 0.5) / 8)
    away = np.array([0.0, 0.6, 0.8, 0.8]) - 1
    pair = found["differences"]["b"]
    self.assertAlmostEqual(pair["difference"], away.mean())
    self.assertAlmostEqual(pair["standard_error"], away.std(ddof=1) / 2)
    self.assertEqual(
      [found[k] for k in ("eps", "num_frequencies", "extent", "num_white")],
      [1.0, 5, [1, 1], 2],
    )
    for name, (change, points) in self.points.items():
      waves = name.endswith("waves")
      self.assertIs(change, fourier.add_wave if waves else fourier.add_white)
      want = fourier.points(cfg, (8, 8)) if waves else fourier.white_points(cfg)
      jax.tree.map(np.testing.assert_array_equal, points, want)


class LinesTest(absltest.TestCase):
  def found(self, **models):
    pair = {"difference": -0.25, "standard_error": 0.05}
    return {"models": models, "differences": {"b": pair}, "num_examples": 100}

  def test_spatial(self):
    one = {"worst": {"natural": 0.95, "down": 0.9, "right": 0.89, "shift": 0.8,
                     "rotation": 0.7, "grid": 0.64}, "mean": 0.85}  # fmt: skip
    two = {"worst": dict.fromkeys(("natural", *spatial.PARTS), 0.0),
           "mean": 0.125}  # fmt: skip
    found = self.found(a=one, b=two) | {
      "num_points": 45, "shifts": [-2.0, 0.0, 2.0],
      "angles": [-40.0, -20.0, 0.0, 20.0, 40.0],
    }  # fmt: skip
    ((title, lines),) = KINDS["spatial"].report({"moved": found})
    table, _, grid, images, pair = lines
    self.assertEqual(title, "moved: rotations and shifts")
    self.assertEqual(
      table.rows,
      [["model", "natural", "mean of the grid", "worst shift down",
        "worst shift right", "worst shift", "worst rotation",
        "worst of the grid"],
       ["a", "95.00", "85.00", "90.00", "89.00", "80.00", "70.00", "64.00"],
       ["b", "0.00", "12.50", *5 * ["0.00"]]],
    )  # fmt: skip
    self.assertStartsWith(
      grid, "- 45 points: 3 x 3 shifts of at most 2 pixels, 5 rotations of at "
      "most 40 degrees;",
    )  # fmt: skip
    self.assertStartsWith(images, "- percent of 100 images that are right")
    # Of 64 %, the nearest to one half.
    self.assertEndsWith(images, "of a worst case: at most 4.80")
    self.assertEqual(
      pair, "- worst of the grid: a less its control b: -25.00 ± 5.00 points, "
      "pairs of the same images",
    )  # fmt: skip

  def test_fourier_map(self):
    one = {"clean": 0.05, "white": 0.25, "bands": [None, 0.5, 0.75]}
    two = {"clean": 0.1, "white": 0.2, "bands": [0.3, 0.4, 0.6]}
    found = self.found(a=one, b=two) | {
      "num_frequencies": 13, "extent": [2, 3], "eps": 1.5, "num_white": 4,
    }  # fmt: skip
    ((title, lines),) = KINDS["fourier_map"].report({"waves": found})
    table, _, waves, white, pair = lines
    self.assertEqual(title, "waves: errors by frequency")
    self.assertEqual(
      table.rows,
      [["model", "clean", "white noise", "low frequencies",
        "middle frequencies", "high frequencies"],
       ["a", "5.00", "25.00", "-", "50.00", "75.00"],
       ["b", "10.00", "20.00", "30.00", "40.00", "60.00"]],
    )  # fmt: skip
    self.assertStartsWith(
      waves, "- percent of 100 images that are wrong under each of 13 waves of "
      "at most 2 periods down and 3 to the right, of l2 norm 1.5 in every cha",
    )  # fmt: skip
    self.assertIn("of the same norm, 4 draws an image", white)
    self.assertStartsWith(
      pair, "- accuracy over all waves: a less its control b: -25.00 ± 5.00"
    )


class FiguresTest(absltest.TestCase):
  def test_one_of_each_stage_by_its_name(self):
    found, where = {"a": {"x": 1}, "b": {"x": 2}}, pathlib.Path("run")
    for kind, of in (("spatial", "angles"), ("fourier_map", "maps")):
      with mock.patch.object(change_figures, of, side_effect="pq") as draw:
        self.assertEqual(KINDS[kind].draw(found, where), ["p", "q"])
      self.assertEqual(
        [call.args for call in draw.call_args_list],
        [(name, found[name], where / "figures") for name in "ab"],
      )


class WorkTest(absltest.TestCase):
  def work(self, section):
    fields = dict(section.items())
    kind = KINDS[fields.pop("kind")]
    made = settings.build(kind.stage, fields, "stages.s")
    sizes = {("D", "train"): 1000, ("T", "train"): 200, ("T", "test"): 100}
    return kind.work(made, lambda data, split: sizes[data, split])

  def test_changes(self):
    grid = {"max_shift": 2.0, "num_shifts": 3, "max_angle": 40.0,
            "num_angles": 5, "batch_size": 30}  # fmt: skip
    made = recipes.spatial_stage(
      ("a", "b"), data="T", num_examples=30, spatial=grid
    )
    self.assertEqual(self.work(made), (60, 0, 60 * 45))
    waves = {"eps": 1.0, "max_frequency": 3, "num_white": 4, "batch_size": 30}
    made = recipes.fourier_map_stage(
      ("a", "b"), data="T", num_examples=0, fourier=waves
    )
    # 7 x 7 frequencies: the middle, and pairs that are one wave.
    self.assertEqual(self.work(made), (200, 0, 200 * (25 + 4 + 1)))


class SmokeTest(absltest.TestCase):
  def test_a_small_grid_is_not_made_larger(self):
    made = recipes.spatial_stage(("a",))
    made.spatial.num_shifts = made.spatial.num_angles = 1
    KINDS["spatial"].shrink(made)
    self.assertEqual((made.spatial.num_shifts, made.spatial.num_angles), (1, 1))


if __name__ == "__main__":
  absltest.main()
