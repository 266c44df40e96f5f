"""A row of the table: what is asked for, kept and said, by hand."""

import pathlib
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest
from kind_stages import stage, study

from robust_features import evaluate, recipes
from robust_features.data import dataset as ds
from robust_features.data import planted
from robust_features.study import paper
from robust_features.study.kinds import KINDS
from robust_features.study.kinds import evaluate as evaluate_kind
from robust_features.study.report import figures


class RowTest(absltest.TestCase):
  CONFUSION = ((3, 1, 0), (0, 2, 1), (2, 0, 1))

  def row(self, asked, **changed):
    found = evaluate.Evaluation(
      accuracy=0.6, robust_accuracy={0.25: 0.5, 0.5: 0.25},
      class_robust_accuracy={0.25: [0.5, None, 0.0]},
      confusion=list(map(list, self.CONFUSION)),
      attack={"name": "pgd"}, num_examples=10, seconds=1.5,
    )  # fmt: skip
    made = stage(
      recipes.evaluate_stage("m", "t", recipes.evaluation(), **changed)
    )
    with mock.patch.object(evaluate, "evaluate", return_value=found) as called:
      result = KINDS["evaluate"].run(asked, "name", made, pathlib.Path("f"))
    return made, result, called.call_args

  def test_what_an_evaluation_found(self):
    data = toys.dataset(10)
    made, result, called = self.row(
      study(D=data), label_shift=1, label_shifts=(1, -1, 0)
    )
    model, variables, labelled, cfg, key, name = called.args
    self.assertEqual((model, variables, name), ("net", "weights", "name"))
    np.testing.assert_array_equal(labelled.labels, (data.labels + 1) % 3)
    self.assertEqual(cfg, made.evaluate)
    self.assertEqual(key, jax.random.key(len("name")))
    self.assertEqual(
      called.kwargs["measured"].directory, pathlib.Path("f/parts")
    )
    # Rows of the counts are labels y + 1: y - 1 is one further than they are.
    self.assertEqual(
      result.pop("shifted_accuracy"), {"1": 0.6, "-1": 0.4, "0": 0.0}
    )
    self.assertEqual(
      result,
      {"accuracy": 0.6, "robust_accuracy": {"0.25": 0.5, "0.5": 0.25},
       "class_robust_accuracy": {"0.25": [0.5, None, 0.0]},
       "confusion": list(map(list, self.CONFUSION)),
       "attack": {"name": "pgd"}, "num_examples": 10, "seconds": 1.5},
    )  # fmt: skip

  def test_cues_of_planted_images_alone(self):
    asked = study(D=toys.dataset(10))
    asked.plan.data = {"D": mock.Mock(source="planted", seed=7)}
    conflict = planted.conflict(6, 8)
    predicted = conflict.extras["texture"].copy()
    predicted[:2] = (predicted[:2] + 1) % 10
    with (
      mock.patch.object(evaluate_kind, "NUM_CONFLICTS", 6),
      mock.patch.object(
        evaluate, "predict", return_value=np.eye(10)[predicted]
      ) as seen,
    ):
      _, result, _ = self.row(asked)
      np.testing.assert_array_equal(seen.call_args.args[2], conflict.images)
      asked.plan.data["D"].source = "digits"
      _, other, _ = self.row(asked)
    self.assertAlmostEqual(result["cues"]["texture"], 4 / 6)
    self.assertEqual(result["num_conflicts"], 6)
    self.assertNotIn("cues", other)
    self.assertEqual(evaluate_kind.NUM_CONFLICTS, 2000)

  def test_what_stands_beside_it(self):
    asked = study(D=ds.make(toys.dataset(3).images, [0, 1, 1], ("a", "b")))
    asked.require.side_effect = {
      "m": {"seconds": 61.0, "digest": "f00d"}, "s": {"accuracy": 0.5},
    }.__getitem__  # fmt: skip
    made = stage(recipes.evaluate_stage(
      "m", "title", recipes.evaluation(), paper="standard", control_of="c",
      split="validation",
    ))  # fmt: skip
    for applies, want in ((True, paper.ROWS["standard"]), (False, None)):
      with mock.patch.object(paper, "applies", return_value=applies):
        found = KINDS["evaluate"].present(asked, "s", made)
      self.assertEqual(
        found,
        {"accuracy": 0.5, "name": "s", "title": "title", "control_of": "c",
         "class_names": ["a", "b"], "paper": want, "train_seconds": 61.0,
         "model_digest": "f00d"},
      )  # fmt: skip
    asked.dataset.assert_called_with("D", "validation")

  def test_what_attacks_nothing(self):
    for changed in ({"num_steps": 0}, {"step_ratio": 0.0}):
      for more, fine in (
        ({}, False), ({"num_restarts": 2}, True), ({"eps": ()}, True),
        ({"eps": (0.0,)}, True),
      ):  # fmt: skip
        made = recipes.evaluate_stage(
          "m", "t", recipes.evaluation(**(changed | more))
        )
        if fine:
          found = stage(made)
          self.assertEqual(
            KINDS["evaluate"].radii(found), [("evaluate", found.evaluate)]
          )
          continue
        (name,) = changed
        with self.assertRaisesRegex(ValueError, f"evaluate.{name} must be"):
          stage(made)

  def test_a_control_is_that_of_a_row(self):
    plan = mock.Mock(**{"config.table": ("a",)})
    for of, fine in (("", True), ("a", True), ("b", False)):
      made = stage(
        recipes.evaluate_stage("m", "t", recipes.evaluation(), control_of=of)
      )
      if fine:
        KINDS["evaluate"].check(plan, "s", made)
        continue
      with self.assertRaisesRegex(ValueError, "s.control_of must .* got 'b'"):
        KINDS["evaluate"].check(plan, "s", made)


def row(name, accuracy, **changed):
  return {
    "name": name, "title": name.upper(), "accuracy": accuracy,
    "robust_accuracy": {}, "class_robust_accuracy": {}, "num_examples": 100,
    "class_names": ["x", "y"], "confusion": [[5, 5], [0, 10]],
    "control_of": "",
  } | changed  # fmt: skip


class ReportTest(absltest.TestCase):
  def test_one_figure_of_all_rows(self):
    where = pathlib.Path("run")
    with mock.patch.object(figures, "accuracies", return_value="p") as draw:
      self.assertEqual(KINDS["evaluate"].draw([1, 2], where), ["p"])
    draw.assert_called_once_with([1, 2], where / "figures")

  def test_claims_and_controls(self):
    """Clear is what lies above by more than two standard errors of both."""
    rows = [
      row("a", 0.5, control_of="b", robust_accuracy={"1.0": 0.1, "0.5": 0.2}),
      row("b", 0.75, num_examples=300, robust_accuracy={"0.5": 0.3}),
      row("c", 0.64, control_of="b", num_examples=300),
      row("d", 0.9, control_of="b", num_examples=300),
    ]
    ((title, (table, _, note)),) = KINDS["evaluate"].report(rows)
    self.assertEqual(title, "Claims and controls")
    self.assertEqual(
      table.rows,
      [["claim", "accuracy", "control", "accuracy", "difference",
        "standard error", "stands clear"],
       # The roots of 0.25 / 100 + 0.1875 / 300 and so on.
       ["B", "75.00", "A", "50.00", "25.00", "5.59", "yes"],
       ["B, eps=0.5", "30.00", "A", "20.00", "10.00", "4.80", "yes"],
       ["B", "75.00", "C", "64.00", "11.00", "3.73", "yes"],
       ["B", "75.00", "D", "90.00", "-15.00", "3.04", "no"]],
    )  # fmt: skip
    self.assertIn("those between seeds are not in it", note)
    self.assertEmpty(KINDS["evaluate"].report(rows[1:2]))
    self.assertEmpty(KINDS["evaluate"].report({}))

  def test_just_two_standard_errors_are_not_clear(self):
    """An accuracy of none has no error; a half of four one of a quarter."""
    for number, want in ((4, "no"), (5, "yes")):
      rows = [row("a", 0.0, control_of="b"), row("b", 0.5, num_examples=number)]
      ((_, (table, *_)),) = KINDS["evaluate"].report(rows)
      self.assertEqual(table.rows[1][-1], want)

  def test_each_class_of_uneven_sets_alone(self):
    """Sets of other classes have a table of their own."""
    skewed = {"confusion": [[18, 2, 0], [1, 1, 0], [0, 0, 0]],
              "class_names": ["x", "y", "z"]}  # fmt: skip
    other = {"confusion": [[0, 9, 0, 0]] + [[0] * 4] * 3,
             "class_names": ["p", "q", "r", "s"]}  # fmt: skip
    rows = [
      row("even", 0.5),
      row("a", 0.5, **skewed, class_robust_accuracy={"0.5": [0.25, 1.0, None]}),
      row("o", 0.5, **other), row("b", 0.5, **skewed),
    ]  # fmt: skip
    ((title, (first, blank, second)),) = KINDS["evaluate"].report(rows)
    self.assertEqual(title, "Accuracy of each class")
    self.assertEqual(
      first.rows,
      [["model", "x", "y", "z"], ["A", "90.00", "50.00", "-"],
       ["A, eps=0.5", "25.00", "100.00", "-"], ["B", "90.00", "50.00", "-"]],
    )  # fmt: skip
    self.assertEqual(blank, "")
    self.assertEqual(
      second.rows,
      [["model", "p", "q", "r", "s"], ["O", "0.00", "-", "-", "-"]],
    )


if __name__ == "__main__":
  absltest.main()
