"""What a figure shows, read off its axes."""

import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest

from robust_features.study import paper
from robust_features.study.report import figures


class TransferTest(absltest.TestCase):
  def test_every_point_is_drawn_with_its_name(self):
    printed = list(paper.TRANSFER["transfer"])
    ours = [
      {"architecture": name, "learner_accuracy": x, "untargeted": y,
       "targeted": y / 2}
      for name, x, y in (("mlp", 0.2, 0.3), ("cnn4", 0.1, 0.5))
    ]  # fmt: skip
    with mock.patch.object(figures, "save") as save:
      figures.transfer("t", {"paper": printed, "rows": ours}, pathlib.Path("x"))
    figure, _, name = save.call_args.args
    self.assertEqual(name, "t")
    self.assertLen(figure.axes, 2)
    for axes, kind in zip(figure.axes, ("untargeted", "targeted"), strict=True):
      self.assertStartsWith(axes.get_ylabel(), kind)
      for line, points in zip(axes.lines, (printed, ours), strict=True):
        want = sorted((100 * p["learner_accuracy"], 100 * p[kind])
                      for p in points)  # fmt: skip
        np.testing.assert_allclose(sorted(line.get_xydata().tolist()), want)
      names = [text.get_text() for text in axes.texts]
      self.assertCountEqual(names, [p["architecture"] for p in printed + ours])

  def test_without_the_paper(self):
    row = {"architecture": "mlp", "learner_accuracy": 0.2, "untargeted": 0.3,
           "targeted": 0.1}  # fmt: skip
    with mock.patch.object(figures, "save") as save:
      figures.transfer("t", {"paper": [], "rows": [row]}, pathlib.Path("x"))
    for axes in save.call_args.args[0].axes:
      self.assertLen(axes.lines, 1)


if __name__ == "__main__":
  absltest.main()
