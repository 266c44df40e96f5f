"""The numbers that figures draw, read off their axes."""

import pathlib
from unittest import mock

import matplotlib.colors
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.study.report import (
  change_figures,
  curve_figures,
  features_figure,
  figures,
  picture_figures,
  stage_graph,
  theory_figures,
)
from tests.study.report import report_test

NAMED = {"study": "toy", "seed": 4, "num_examples": 400}
ANYWHERE = pathlib.Path()


def drawn(function, *args):
  """Returns the figure that a function would save."""
  with mock.patch.object(figures, "save") as save:
    function(*args)
  return save.call_args.args[0]


def error(value, num):
  """Returns a binomial standard error in percent."""
  return 100 * np.sqrt(value * (1 - value) / num)


def heights(bar):
  """Returns the lower and upper ends of an error bar's segments."""
  return np.array([part[:, 1] for part in bar[2][0].get_segments()])


def band(collection):
  """Returns the least and the largest value of a band at each of its places."""
  points = collection.get_paths()[0].vertices
  places = np.unique(points[:, 0])
  inside = [points[points[:, 0] == place, 1] for place in places]
  return np.array([[each.min(), each.max()] for each in inside])


class AccuracyTest(absltest.TestCase):
  def test_bars_errors_and_the_papers_lines(self):
    rows = report_test.results()["rows"]
    (axes,) = drawn(figures.accuracies, rows, ANYWHERE).axes
    bars = [c for c in axes.containers if hasattr(c, "patches")]
    want = [[0.9, 0.8512], [0.05, 0.75], [0.0, 0.0], [0.0, 0.3]]
    for container, values in zip(bars, want, strict=True):
      found = [patch.get_height() for patch in container.patches]
      np.testing.assert_allclose(found, 100 * np.array(values))
      ends = heights(container.errorbar.lines)
      for end, value in zip(ends, values, strict=True):
        size = error(value, 1000)
        np.testing.assert_allclose(
          end, [100 * value - size, 100 * value + size]
        )
    # The four bars of a row lie side by side about its tick.
    for row in (0, 1):
      left = [container.patches[row].get_x() for container in bars]
      np.testing.assert_allclose(
        left, row - 0.4 + 0.2 * np.arange(4), atol=1e-9
      )
    # Of the first row alone: clean, and at 0.25 over that radius' own bar.
    lines = [c for c in axes.collections if len(c.get_segments()) == 1]
    lines = [c.get_segments()[0] for c in lines]
    for (left, right), value, container in zip(
      lines, (95.25, 4.49), bars[:2], strict=True
    ):
      patch = container.patches[0]
      np.testing.assert_allclose([left[1], right[1]], value)
      np.testing.assert_allclose(left[0], patch.get_x())
      np.testing.assert_allclose(right[0] - left[0], patch.get_width())
    chance = [x for x in axes.lines if x.get_label() == "chance"]
    np.testing.assert_allclose(chance[0].get_ydata(), 50)

  def test_a_sweeps_errors(self):
    sweep = report_test.results()["step_sweeps"]["sweep"]
    (axes,) = drawn(figures.step_sweep, "s", sweep, ANYWHERE).axes
    size = error(0.9, 50)
    np.testing.assert_allclose(
      heights(axes.containers[0]), [[90 - size, 90 + size],
                                    [10 - size, 10 + size]]
    )  # fmt: skip

  def test_curves(self):
    found = report_test.results()["models"]
    axes = drawn(figures.curves, found, ANYWHERE).axes[0]
    for line, values in zip(axes.lines, ((50, 75), (40, 62.5)), strict=False):
      np.testing.assert_array_equal(line.get_xdata(), [1, 2])
      np.testing.assert_allclose(line.get_ydata(), values)
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 50)  # Chance.
    (found,) = axes.collections  # Of what was held out alone.
    want = [[40 - error(0.4, 8), 40 + error(0.4, 8)],
            [62.5 - error(0.625, 8), 62.5 + error(0.625, 8)]]  # fmt: skip
    np.testing.assert_allclose(band(found), want)

  def test_curves_by_label(self):
    one = {
      "epochs": [5, 10, 15], "num_validation": 100, "num_classes": 4,
      "accuracy": {"0": [0.5, 0.8, 0.75], "1": [0.3, 0.1, 0.1]},
    }  # fmt: skip
    found = NAMED | {"models": {"m": one}}
    axes = drawn(curve_figures.labels, "c", found, ANYWHERE).axes[0]
    first, peak, second, other_peak, chance = axes.lines
    self.assertEqual(first.get_label(), "label y")
    self.assertEqual(second.get_label(), "label y+1")
    np.testing.assert_allclose(
      first.get_xydata(), [[5, 50], [10, 80], [15, 75]]
    )
    np.testing.assert_allclose(peak.get_xydata(), [[10, 80]])
    np.testing.assert_allclose(other_peak.get_xydata(), [[5, 30]])
    np.testing.assert_allclose(chance.get_ydata(), 25)
    np.testing.assert_allclose(band(axes.collections[0])[1], [80 - 4, 80 + 4])


class ChangeTest(absltest.TestCase):
  def test_angles(self):
    models = {
      name: {"by_angle": {"unshifted": [low, 0.9], "worst": [low / 2, 0.5]}}
      for name, low in (("a", 0.2), ("b", 0.4))
    }
    found = NAMED | {
      "models": models, "angles": [-30, 0], "num_classes": 5,
      "shifts": [0, 3.0],
    }  # fmt: skip
    (axes,) = drawn(change_figures.angles, "s", found, ANYWHERE).axes
    bars = {c.get_label(): c for c in axes.containers}
    self.assertEqual(
      list(bars), ["a, unshifted", "a, worst", "b, unshifted", "b, worst"]
    )
    np.testing.assert_allclose(
      bars["b, worst"].lines[0].get_xydata(), [[-30, 20], [0, 50]]
    )
    np.testing.assert_allclose(heights(bars["b, worst"])[0], [20 - 2, 20 + 2])
    chance = [x for x in axes.lines if x.get_label() == "chance"]
    np.testing.assert_allclose(chance[0].get_ydata(), 20)
    self.assertIn("at most 3 pixels; n = 400", axes.get_title(loc="left"))

  def test_maps(self):
    """The lowest frequencies down are on top; all maps have one scale."""
    values = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    one = {"map": values, "clean": 0.125, "white": 0.25}
    found = NAMED | {"models": {"m": one}, "extent": (2, 1), "eps": 4.0}
    axes, _ = drawn(change_figures.maps, "f", found, ANYWHERE).axes
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), 100 * np.array(values))
    self.assertEqual(image.get_extent(), [-1.5, 1.5, 2.5, -2.5])
    self.assertEqual(image.get_clim(), (0, 100))
    self.assertIn("clean 12.5, white noise 25.0", axes.get_xlabel())

  def test_features(self):
    """What lies below the panel is at its edge, an arrowhead, and counted."""
    kinds = [kind for kind, *_ in features_figure._FEATURES]
    table = {
      "name": "t", "rho": [0.5, 0.4, 0.3, 0.0], "gamma": [0.4, -0.5, -9.0, 0.0],
      "kind": [kinds[0], kinds[1], kinds[1], kinds[2]],
      "rho_standard_error": [0.01, 0.02, 0.03, 0.04],
      "gamma_standard_error": [0.05, 0.06, 0.07, 0.08],
    }  # fmt: skip
    found = NAMED | {"features": [table], "attack": {"norm": "l2", "eps": 0.5}}
    (axes,) = drawn(features_figure.features, "u", found, ANYWHERE).axes
    self.assertIn("1 robust, 2 non-robust, 1 useless", axes.get_title())
    dots = {
      c.get_label(): np.asarray(c.get_offsets())
      for c in axes.collections
      if hasattr(c, "get_sizes") and c.get_label() in
      [name for _, name, *_ in features_figure._FEATURES]
    }  # fmt: skip
    np.testing.assert_allclose(dots["robust"], [[0.5, 0.4]])
    np.testing.assert_allclose(dots["useful, non-robust"], [[0.4, -0.5]])
    np.testing.assert_allclose(dots["useless"], [[0, 0]])
    segments = [
      part
      for c in axes.collections
      if hasattr(c, "get_segments")
      for part in c.get_segments()
    ]
    sizes = [np.ptp(part, axis=0).tolist() for part in segments]
    np.testing.assert_allclose(sizes[:2], [[0.02, 0], [0, 0.1]], atol=1e-9)
    every = np.concatenate(
      [np.asarray(c.get_offsets()) for c in axes.collections]
    )
    self.assertTrue((every == [0.3, -1.2]).all(axis=1).any())
    self.assertEqual(axes.get_ylim()[0], -1.25)


class TheoryTest(absltest.TestCase):
  def test_two_features(self):
    x = np.array([[2.0, 0.5], [1.0, -0.5], [-1.5, 0.0], [-3.0, 1.0]])
    y = np.array([1, 1, -1, -1])
    fits = [
      {"name": name, "weights": weights, "bias": 2.0, "accuracy": 1.0,
       "robust_accuracy": 0.75}
      for name, weights in (("a", [1.0, 0.0]), ("b", [0.0, 4.0]))
    ]  # fmt: skip
    (axes,) = theory_figures.two_features(x, y, fits, 0.25).axes
    blue, red = (np.asarray(c.get_offsets()) for c in axes.collections)
    np.testing.assert_array_equal(blue, x[:2])
    np.testing.assert_array_equal(red, x[2:])
    # w'x + b = 0: x_1 = -2, and x_2 = -1/2.
    a, b = [line for line in axes.lines if hasattr(line, "get_xy1")]
    self.assertEqual((a.get_xy1()[0], a.get_xy2()[0]), (-2.0, -2.0))
    self.assertEqual((b.get_xy1()[1], b.get_xy2()[1]), (-0.5, -0.5))
    self.assertEqual(a.get_label(), "a: 100% accurate, 75% robust")
    circles = [(p.get_center(), p.get_radius()) for p in axes.patches]
    self.assertEqual(
      [(tuple(map(float, centre)), radius) for centre, radius in circles],
      [((1.0, -0.5), 0.25), ((-1.5, 0.0), 0.25)],
    )

  def test_lines(self):
    eps = np.array([0.1, 1.0, 10.0])
    learned = np.array([[1.0, 4.0], [2.0, 5.0], [51.0, 52.0]])
    (axes,) = theory_figures.eigenvalues(
      eps, learned, np.array([1.0, 4.0])
    ).axes
    four, one, limit = axes.lines
    self.assertEqual(
      (four.get_label(), one.get_label()), ("$s = 4$", "$s = 1$")
    )
    np.testing.assert_array_equal(four.get_ydata(), learned[:, 1])
    np.testing.assert_array_equal(one.get_ydata(), learned[:, 0])
    # eps^2 / d, where it is seen.
    np.testing.assert_allclose(limit.get_xydata(), [[1, 0.5], [10, 50]])
    bounds = {"lower": eps, "tight_lower": 2 * eps, "tight_upper": 4 * eps,
              "upper": 5 * eps}  # fmt: skip
    (axes,) = theory_figures.multiplier(eps, 3 * eps, bounds).axes
    found = {line.get_label().split(",")[0]: line for line in axes.lines}
    np.testing.assert_array_equal(found[r"$\lambda$"].get_ydata(), 3 * eps)
    wide, narrow = (band(c) for c in axes.collections)
    np.testing.assert_allclose(wide, np.stack([eps, 5 * eps], 1))
    np.testing.assert_allclose(narrow, np.stack([2 * eps, 4 * eps], 1))
    worst = np.array([0.5, 0.7, 0.9])
    (axes,) = theory_figures.alignments(eps, worst, worst + 0.05, [1, 2]).axes
    given, least, begin = axes.lines
    np.testing.assert_allclose(given.get_ydata(), worst + 0.05)
    np.testing.assert_array_equal(least.get_ydata(), worst)
    np.testing.assert_array_equal(begin.get_ydata(), [0.5, 0.5])
    dims, curves = [2, 4], [[0.4, 0.2], [0.1, 0.05]]
    (axes,) = theory_figures.gaps(dims, [0.5, 1.0], curves).axes
    for line, want in zip(axes.lines, curves, strict=False):
      np.testing.assert_array_equal(line.get_ydata(), want)
    # Falls as 1 / d, above all of them.
    np.testing.assert_allclose(axes.lines[2].get_ydata(), [0.64, 0.32])

  def test_metrics(self):
    panel = {"eps": 1.0, "mean": [3.0, 4.0], "cov": [16.0, 1.0], "cosine": 0.5}
    x, y = np.zeros((2, 2)), np.array([1, -1])
    (axes,) = theory_figures.metrics(x, y, [panel]).axes
    found = [(*p.center, p.width, p.height) for p in axes.patches]
    # Of the circle's area, 9 pi, with axes as 4 to 1.
    want = [(3, 4, 6, 6), (3, 4, 12, 3), (-3, -4, 6, 6), (-3, -4, 12, 3)]
    np.testing.assert_allclose(found, want)
    line = next(x for x in axes.lines if hasattr(x, "get_xy1"))
    direction = np.subtract(line.get_xy2(), line.get_xy1())
    self.assertAlmostEqual(float(direction @ [3 / 16, 4.0]), 0.0)


class GridsTest(parameterized.TestCase):
  def test_pixels_are_rounded_to_the_nearest(self):
    found = picture_figures.as_pixels([-1.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])
    np.testing.assert_array_equal(found, [0, 0, 1, 255, 255])
    self.assertEqual(found.dtype, np.uint8)

  def test_which_picture_stands_where(self):
    """Each picture's number, written into its pixels."""
    numbers = iter(range(1, 256))

    def pictures(*shape):
      count = int(np.prod(shape))
      values = np.array([next(numbers) for _ in range(count)], np.uint8)
      return np.broadcast_to(values.reshape(*shape, 1, 1, 1), (*shape, 2, 2, 1))

    arrays = {"original": pictures(3)}
    for start in picture_figures.STARTS:
      arrays[f"start-{start}"] = pictures(3)
      for model in ("m", "n"):
        arrays[f"{model}-frames-{start}"] = pictures(2, 3)
        arrays[f"{model}-feature-{start}"] = pictures(3)
    for model in ("m", "n"):
      arrays |= {f"{model}-highest": pictures(3),
                 f"{model}-pixels": pictures(2, 2),
                 f"{model}-interpolation": pictures(2, 2)}  # fmt: skip
    result = {"models": {"m": 0, "n": 0}, "classes": ["a", "b", "c"],
              "inversion": {"frame_steps": [0, 9]}}  # fmt: skip
    with mock.patch.object(picture_figures, "grid") as grid:
      picture_figures._inversion(result, arrays)
      picture_figures._frames(result, arrays, "image")
      picture_figures._interpolation(result, arrays)
      picture_figures._features(result, arrays)
    inversion, frames, between, features = (
      (call.args[0][..., 0, 0, 0], *call.args[1:])
      for call in grid.call_args_list
    )

    def number(name):
      return arrays[name][..., 0, 0, 0]

    cells, rows, columns = inversion
    self.assertEqual(columns, ["a", "b", "c"])
    for row, want in (
      ("original", number("original")), ("start: noise", number("start-noise")),
      ("n, from noise", number("n-frames-noise")[-1]),
      ("m, from another image", number("m-frames-image")[-1]),
    ):  # fmt: skip
      np.testing.assert_array_equal(cells[rows.index(row)], want)
    cells, rows, columns = frames
    self.assertEqual(rows, ["a", "b", "c"])
    for column, want in (
      ("original", number("original")),
      ("m, step 9", number("m-frames-image")[1]),
      ("n, step 0", number("n-frames-image")[0]),
    ):  # fmt: skip
      np.testing.assert_array_equal(cells[:, columns.index(column)], want)
    cells, rows, columns = between
    self.assertEqual(
      rows, ["a to b: pixels", "m", "n", "c to a: pixels", "m", "n"]
    )
    self.assertEqual(columns, ["0.00", "1.00"])
    np.testing.assert_array_equal(cells[3], number("m-pixels")[:, 1])
    np.testing.assert_array_equal(cells[2], number("n-interpolation")[:, 0])
    cells, rows, columns = features
    for column, want in (
      ("start: another image", number("start-image")),
      ("n: highest in the set", number("n-highest")),
      ("m: from noise", number("m-feature-noise")),
      ("n: from another image", number("n-feature-image")),
    ):  # fmt: skip
      np.testing.assert_array_equal(cells[:, columns.index(column)], want)

  def test_a_stage_stands_behind_all_that_it_works_on(self):
    stages = [
      {"name": name, "kind": "k", "parents": parents, "seconds": 1.6}
      for name, parents in (("a", []), ("b", []), ("c", ["b"]),
                            ("d", ["a"]), ("e", ["a", "c"]))
    ]  # fmt: skip
    found = stage_graph.layout(stages)
    at = {box.name: (box.x, box.y) for box in found.boxes}
    wide, high = stage_graph.WIDTH + 40, stage_graph.HEIGHT + 12
    # d before c: it is beside a, which is above b.
    want = {"a": (0, 0), "b": (0, 1), "d": (1, 0), "c": (1, 1), "e": (2, 0)}
    self.assertEqual(
      at, {k: (1 + x * wide, 1 + y * high) for k, (x, y) in want.items()}
    )
    self.assertEqual(found.boxes[0].about, "k, 2 s")
    half = stage_graph.HEIGHT // 2
    self.assertIn(
      (at["b"][0] + stage_graph.WIDTH, at["b"][1] + half, at["c"][0],
       at["c"][1] + half), found.arrows,
    )  # fmt: skip
    self.assertLen(found.arrows, 4)
    self.assertEqual(found.width, 2 * wide + stage_graph.WIDTH + 2)
    self.assertEqual(found.height, high + stage_graph.HEIGHT + 2)

  def test_colours_are_told_apart(self):
    self.assertLen(set(map(matplotlib.colors.to_rgb, figures.COLOURS)), 8)


if __name__ == "__main__":
  absltest.main()
