"""What a figure shows, read off its axes."""

import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest

from robust_features.study import paper
from robust_features.study.report import figures, grids
from tests.study.report import report_test

NAMED = {"study": "toy", "seed": 4}


def drawn(module, function, *args):
  """Returns the figure that a function would save."""
  with mock.patch.object(module, "save") as save:
    function(*args)
  return save.call_args.args[0]


class FiguresTest(absltest.TestCase):
  def test_accuracies(self):
    found = report_test.results()
    figure = drawn(figures, figures.accuracies, found["rows"], pathlib.Path())
    (axes,) = figure.axes
    # Not measured: eps 0.5 of the second row, 1.0 of the first. Zero: one.
    texts = [text.get_text() for text in axes.texts]
    self.assertCountEqual(texts, ["0", "n/a", "n/a"])
    self.assertEqual(
      axes.get_title(loc="left"), "toy: pgd, l2, 100 steps; n = 1000; seed 4"
    )
    labels = axes.get_legend_handles_labels()[1]
    self.assertContainsSubset(["chance", "the paper's", "ε = 1.0"], labels)
    # An error bar for each of 2 x 4 bars.
    self.assertLen(axes.containers, 8)

  def test_bars_are_percent_and_the_papers_lie_across_them(self):
    found = report_test.results()
    figure = drawn(figures, figures.accuracies, found["rows"], pathlib.Path())
    (axes,) = figure.axes
    bars = [c for c in axes.containers if hasattr(c, "patches")]
    heights = {b.get_label(): [p.get_height() for p in b] for b in bars}
    want = {"clean": [90, 85.12], "ε = 0.25": [5, 75], "ε = 0.5": [0, 0],
            "ε = 1.0": [0, 30]}  # fmt: skip
    for label, values in want.items():
      np.testing.assert_allclose(heights[label], values, err_msg=label)
    # Standard errors of 1,000 images, the second row's of eps 0.25.
    (quarter,) = (b for b in bars if b.get_label() == "ε = 0.25")
    error = quarter.errorbar.lines[2][0].get_segments()[1]
    high = 100 * np.sqrt(0.75 * 0.25 / 1000)
    np.testing.assert_allclose(np.ptp(error, axis=0), [0, 2 * high])
    lines = np.concatenate(
      [c.get_segments() for c in axes.collections
       if len(c.get_segments()) == 1 and c.get_linewidth() == 1.5]
    )  # fmt: skip
    np.testing.assert_allclose(np.sort(lines[:, 0, 1]), [4.49, 95.25])
    wide = quarter.patches[0].get_width()
    np.testing.assert_allclose(np.ptp(lines[:, :, 0], axis=1), wide)

  def test_a_sweep_starts_where_there_are_no_steps(self):
    sweep = report_test.results()["step_sweeps"]["sweep"]
    figure = drawn(figures, figures.step_sweep, "s", sweep, pathlib.Path())
    (axes,) = figure.axes
    curve = axes.containers[0].lines[0]
    np.testing.assert_allclose(curve.get_xydata(), [[0, 90], [100, 10]])
    title = axes.get_title(loc="left")
    self.assertEqual(title, "toy, s: l2, ε = 0.5; n = 50; seed 4")

  def test_curves_say_what_is_under_attack(self):
    found = report_test.results()["models"]
    figure = drawn(figures, figures.curves, found, pathlib.Path())
    labels = figure.axes[0].get_legend_handles_labels()[1]
    self.assertEqual(
      labels, ["training set, under attack", "held out of D", "chance"]
    )
    self.assertIn("n = 8 held out; seed 4", figure.get_suptitle())

  def test_a_grid_names_every_class_twice(self):
    images = np.zeros((12, 2, 2, 1))
    shown = {
      "original": images, "start": images, "constructed": images + 0.1,
      "old": np.arange(12), "new": (np.arange(12) + 1) % 12,
    }  # fmt: skip
    shown["new"][3] = 3
    names = [f"class{i}" for i in range(12)]
    found = NAMED | {"class_names": names, "num_examples": 1234}
    figure = drawn(figures, grids.examples, "d", found, shown, pathlib.Path())
    (first, second) = figure.axes  # Ten classes, and two below.
    pictures = [axes.images[0].get_array() for axes in (first, second)]
    # Three rows of 2 pixels and a gap of one: no start, as it is the original.
    self.assertEqual([p.shape for p in pictures], [(9, 30, 3), (9, 6, 3)])
    np.testing.assert_allclose(
      pictures[1][:, :3, 0],
      [[0, 0, 1], [0, 0, 1], [1, 1, 1], [0.1, 0.1, 1], [0.1, 0.1, 1],
       [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
    )  # fmt: skip
    self.assertEqual(
      [text.get_text() for text in first.get_yticklabels()],
      ["original", "constructed", "difference\nx 5"],
    )
    for axes, part in ((first, slice(10)), (second, slice(10, 12))):
      self.assertEqual(axes.get_xlim(), (0, 10))
      above, below = (
        [text.get_text() for text in ruler.get_xticklabels()]
        for ruler in axes.child_axes
      )
      self.assertEqual(above, names[part])
      wanted = [f"→ class{(i + 1) % 12}" for i in range(12)]
      wanted[3] = "label kept"
      self.assertEqual(below, wanted[part])
    self.assertIn("one of 1,234 for each class; seed 4", figure.get_suptitle())


class ChanceAndErrorsTest(absltest.TestCase):
  def chance(self, axes):
    (line,) = (x for x in axes.lines if x.get_label() == "chance")
    return set(line.get_ydata())

  def test_of_two_classes_it_is_half(self):
    found = report_test.results()
    sweep = found["step_sweeps"]["sweep"]
    for function, args in (
      (figures.accuracies, (found["rows"],)),
      (figures.step_sweep, ("s", sweep)),
      (figures.curves, (found["models"],)),
    ):
      figure = drawn(figures, function, *args, pathlib.Path())
      self.assertEqual(self.chance(figure.axes[0]), {50.0})
    found = report_test.transfer() | NAMED
    figure = drawn(figures, figures.transfer, "t", found, pathlib.Path())
    across = {x for x in figure.axes[0].lines if x.get_label() == "chance"}
    self.assertEqual([set(x.get_xdata()) for x in across], [{10.0}])

  def test_errors_of_a_sweep(self):
    sweep = report_test.results()["step_sweeps"]["sweep"]
    figure = drawn(figures, figures.step_sweep, "s", sweep, pathlib.Path())
    bars = figure.axes[0].containers[0].lines[2][0].get_segments()
    error = 100 * np.sqrt(0.9 * 0.1 / 50)
    for bar, middle in zip(bars, (90, 10), strict=True):
      np.testing.assert_allclose(bar[:, 1], [middle - error, middle + error])

  def test_curves_and_their_band(self):
    found = report_test.results()["models"]
    figure = drawn(figures, figures.curves, found, pathlib.Path())
    axes = figure.axes[0]
    train, held_out = axes.lines[:2]
    np.testing.assert_allclose(train.get_xydata(), [[1, 50], [2, 75]])
    np.testing.assert_allclose(held_out.get_xydata(), [[1, 40], [2, 62.5]])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    values = np.array([0.4, 0.625])
    error = np.sqrt(values * (1 - values) / 8)
    np.testing.assert_allclose(heights.min(), 100 * (values - error).min())
    np.testing.assert_allclose(heights.max(), 100 * (values + error).max())
    self.assertEqual(axes.get_ylim(), (0, 102))


class TransferTest(absltest.TestCase):
  def test_every_point_is_drawn_with_its_name(self):
    printed = list(paper.TRANSFER["transfer"])
    ours = [
      {"architecture": name, "learner_accuracy": x, "untargeted": y,
       "targeted": y / 2, "accuracy": 0.9}
      for name, x, y in (("mlp", 0.2, 0.3), ("cnn4", 0.1, 0.5))
    ]  # fmt: skip
    found = report_test.transfer() | NAMED | {"paper": printed, "rows": ours}
    figure = drawn(figures, figures.transfer, "t", found, pathlib.Path())
    self.assertIn("n = 500 attacked, 1000 tested; seed 4",
                  figure.get_suptitle())  # fmt: skip
    self.assertLen(figure.axes, 2)
    for axes, kind in zip(figure.axes, ("untargeted", "targeted"), strict=True):
      self.assertStartsWith(axes.get_ylabel(), kind)
      for line, points in zip(axes.lines[:2], (printed, ours), strict=True):
        want = sorted((100 * p["learner_accuracy"], 100 * p[kind])
                      for p in points)  # fmt: skip
        np.testing.assert_allclose(sorted(line.get_xydata().tolist()), want)
      names = [text.get_text() for text in axes.texts]
      self.assertCountEqual(names, [p["architecture"] for p in printed + ours])
      # Of 1,000 tested images, and of the 450 attacked that it has right.
      across, up = (bar.get_segments()[0] for bar in axes.collections[:2])
      x, y = 0.2, ours[0][kind]
      wide = 100 * np.sqrt(x * (1 - x) / 1000)
      high = 100 * np.sqrt(y * (1 - y) / 450)
      np.testing.assert_allclose(np.ptp(across, axis=0), [2 * wide, 0])
      np.testing.assert_allclose(np.ptp(up, axis=0), [0, 2 * high])

  def test_without_the_paper(self):
    row = {"architecture": "mlp", "learner_accuracy": 0.2, "untargeted": 0.3,
           "targeted": 0.1, "accuracy": 0.9}  # fmt: skip
    found = report_test.transfer() | NAMED | {"paper": [], "rows": [row]}
    figure = drawn(figures, figures.transfer, "t", found, pathlib.Path())
    for axes in figure.axes:
      self.assertEqual(axes.get_legend_handles_labels()[1], ["ours", "chance"])


if __name__ == "__main__":
  absltest.main()
