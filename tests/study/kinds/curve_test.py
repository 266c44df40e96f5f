"""Accuracies while networks train: whose they are, peaks, epochs, errors."""

import pathlib
from unittest import mock

from absl.testing import absltest

from robust_features.study.kinds import KINDS, curve

# Evaluated in some epochs alone; accuracies by what is added to a label.
HISTORIES = {
  "first": [
    {"epoch": 2, "train_accuracy": 0.5, "validation_shifted": [0.2, 0.7, 0.1]},
    {"epoch": 5, "train_accuracy": 0.6, "validation_shifted": [0.6, 0.3, 0.1]},
    {"epoch": 6, "train_accuracy": 0.9, "validation_shifted": [0.6, 0.0, 0.4]},
  ],
  "control": [
    {"epoch": 4, "train_accuracy": 1.0, "validation_shifted": [0.9, 0.1, 0.0]}
  ],
}


class CurveTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    study = mock.Mock()
    study.require.side_effect = lambda name: {"history": HISTORIES[name]}
    study.plan.nodes = {
      name: mock.Mock(stage=mock.Mock(validation=f"of {name}"))
      for name in HISTORIES
    }
    for splits, num in (("validation", 40), ("test", 70), ("train", 90)):
      getattr(study.splits.return_value, splits).num_examples = num
    study.num_classes.return_value = 3
    self.study = study
    self.found = KINDS["curve"].run(
      study, "over", curve.Stage(tuple(HISTORIES), (0, 1, -1)), pathlib.Path()
    )["models"]

  def test_whose_they_are(self):
    self.assertEqual(list(self.found), ["first", "control"])
    self.assertEqual(
      self.found["first"],
      {
        "epochs": [2, 5, 6],
        "accuracy": {
          "0": [0.2, 0.6, 0.6], "1": [0.7, 0.3, 0.0], "-1": [0.1, 0.1, 0.4],
        },
        "train_accuracy": 0.9,
        "num_validation": 40,
        "num_classes": 3,
      },
    )  # fmt: skip
    for ask in (self.study.splits, self.study.num_classes):
      self.assertEqual(
        ask.call_args_list, [mock.call("of first"), mock.call("of control")]
      )

  def test_what_is_reported(self):
    """A peak is the first of equals; 0.6 has the largest error of all, 7.75."""
    ((title, (table, _, note)),) = curve._report({"o": {"models": self.found}})
    self.assertEqual(title, "o: accuracy while they train")
    rows = [[str(cell) for cell in row] for row in table.rows]
    self.assertEqual(rows[0][:2], ["model", "its training set"])
    self.assertEqual(rows[0][2::3], ["y: peak", "y+1: peak", "y-1: peak"])
    self.assertEqual(
      " ".join(rows[1]),
      "first 90.00 60.00 5 60.00 70.00 2 0.00 40.00 6 40.00",
    )
    self.assertEqual(
      " ".join(rows[2]),
      "control 100.00 90.00 4 90.00 10.00 4 10.00 0.00 4 0.00",
    )
    self.assertIn("percent correct of 40 clean images, held out", note)
    self.assertIn("at most 7.75, and the largest of 1, 3 evaluations", note)


if __name__ == "__main__":
  absltest.main()
