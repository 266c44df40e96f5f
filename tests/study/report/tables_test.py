"""The one printer of tables: what its columns and notes say, to the letter."""

import math

from absl.testing import absltest, parameterized

from robust_features.study.report import tables


def row(confusion=((9, 1), (2, 8)), **changes):
  return {
    "title": "t", "accuracy": 0.85, "robust_accuracy": {}, "paper": None,
    "shifted_accuracy": {}, "confusion": [list(seen) for seen in confusion],
    "class_names": ["a", "b"], "num_examples": 20,
    "attack": {"name": "pgd", "num_steps": 7},
  } | changes  # fmt: skip


def values(found, of):
  return [(column.title, column.value(of)) for column in found]


class CellsTest(parameterized.TestCase):
  def test_percent(self):
    self.assertEqual(tables.percent(None), "-")
    self.assertEqual(tables.percent(0.0), "0.00")
    self.assertEqual(tables.percent(0.123456), "12.35")

  def test_standard_error(self):
    self.assertIsNone(tables.standard_error(None, 10))
    self.assertEqual(tables.standard_error(0.0, 10), 0.0)
    self.assertAlmostEqual(tables.standard_error(0.2, 25), math.sqrt(0.0064))

  def test_aligned(self):
    rows = [["model", "n"], ["a", "1"], ["longer", "1,000"]]
    found = tables.aligned(rows)
    self.assertEqual(
      found.splitlines(),
      ["| model  |     n |", "| ------ | ----: |", "| a      |     1 |",
       "| longer | 1,000 |"],
    )  # fmt: skip
    self.assertEqual((found.rows, found.num_words), (rows, 1))
    words = tables.aligned(rows, 2).splitlines()
    self.assertEqual(words[1:3], ["| ------ | ----- |", "| a      | 1     |"])

  def test_radii_ascend_as_numbers(self):
    rows = [row(robust_accuracy={"10.0": 0.1, "0.5": 0.2}),
            row(robust_accuracy={"2.0": 0.3, "0.5": 0.4})]  # fmt: skip
    self.assertEqual(tables.radii(rows), ["0.5", "2.0", "10.0"])

  def test_shifts(self):
    found = [tables.shifted(shift) for shift in (0, 1, -1)]
    self.assertEqual(found, ["y", "y+1", "y-1"])


class ColumnsTest(absltest.TestCase):
  def test_classes(self):
    of = row(((3, 1), (0, 0)), class_names=["a", "b"])
    self.assertEqual(tables.class_accuracies(of), [0.75, None])
    self.assertEqual(tables.largest_class(row(((3, 3), (0, 2)))), 0.75)
    # A prediction of a class that the set does not have is in no row's name.
    of = row(((3, 0, 1), (0, 4, 0), (0, 0, 0)), class_names=["a", "b"])
    self.assertEqual(tables.class_accuracies(of), [0.75, 1.0])

  def test_uneven_is_more_than_twice_an_equal_share(self):
    names = ["a", "b", "c", "d"]
    for first, uneven in ((6, False), (7, True)):
      sizes = (first, 2, 2, 2)
      confusion = [[n if i == j else 0 for j in range(4)]
                   for i, n in enumerate(sizes)]  # fmt: skip
      of = row(confusion, class_names=names)
      self.assertEqual(tables.is_uneven(of), uneven)
      shown = [column.title for column in tables.columns([of])]
      extra = ["largest class", "mean of classes"] if uneven else []
      self.assertEqual(shown, ["accuracy", *extra])
    of = row([[7, 0, 0, 0], [1, 1, 0, 0], [0] * 4, [0, 0, 0, 2]],
             class_names=names)  # fmt: skip
    self.assertEqual(
      values(tables.columns([of]), of),
      [("accuracy", 0.85), ("largest class", 7 / 11),
       ("mean of classes", (1 + 0.5 + 1) / 3)],
    )  # fmt: skip

  def test_order_and_what_was_not_measured(self):
    one = row(shifted_accuracy={"-1": 0.1, "1": 0.2},
              robust_accuracy={"0.5": 0.3})  # fmt: skip
    other = row(robust_accuracy={"0.25": 0.4}, num_conflicts=9,
                cues={"shape": 0.5, "texture": 0.6})  # fmt: skip
    found = tables.columns([one, other])
    self.assertEqual(
      values(found, one),
      [("accuracy", 0.85), ("y+1", 0.2), ("y-1", 0.1), ("eps=0.25", None),
       ("eps=0.5", 0.3), ("follows shape", None), ("follows texture", None)],
    )  # fmt: skip
    self.assertEqual(
      [value for _, value in values(found, other)],
      [0.85, None, None, 0.4, None, 0.5, 0.6],
    )
    self.assertEqual(
      [column.count for column in found],
      5 * ["num_examples"] + 2 * ["num_conflicts"],
    )

  def test_the_papers(self):
    printed = {"accuracy": 0.9, "robust_accuracy": {"0.5": 0.0}}
    one = row(paper=printed, robust_accuracy={"0.25": 0.1, "0.5": 0.2})
    self.assertEmpty(tables.papers_columns([row()]))
    found = tables.papers_columns([one, row()])
    self.assertEqual(
      values(found, one),
      [("paper", 0.9), ("paper eps=0.25", None), ("paper eps=0.5", 0.0)],
    )
    self.assertEqual([value for _, value in values(found, row())], 3 * [None])
    text = tables.table({"rows": [one, row(title="u")]}).splitlines()
    self.assertRegex(text[0], r"model \| accuracy \| eps=0.25 .* paper eps=0.5")
    self.assertRegex(text[2], r"t +\| +85.00 .* 90.00 \| +- \| +0.00 \|$")
    self.assertRegex(text[3], r"u +\| +85.00 \| +- .* - \|$")


class NotesTest(absltest.TestCase):
  def test_the_worst_of_rows_under_one_attack(self):
    def of(zero, bad, **changes):
      attack = {"name": "pgd", "zero_gradient_fraction": zero,
                "nonfinite_gradient_fraction": bad}  # fmt: skip
      return row(attack=attack, **changes)

    rows = [of(0.01, 0.0), of(0.5, 0.25), of(0.02, 0.125)]
    rows += [row(num_examples=5, accuracy=0.2, robust_accuracy={"1": 0.5})]
    lines = tables.notes({"rows": rows, "seed": 4})
    self.assertEqual(
      lines[0],
      "attack: name pgd; examples that met a zero gradient: at most 50.00%",
    )
    self.assertStartsWith(lines[1], "warning: at most 25.00% of the examples")
    self.assertEqual(
      lines[2],
      "attack: name pgd, num_steps 7; examples that met a zero gradient: at "
      "most 0.00%",
    )
    self.assertEqual(lines[3], "percent correct of 5, 20 test images; seed 4")
    error = 100 * math.sqrt(0.25 / 5)
    self.assertEqual(
      lines[4], f"standard error of a number: at most {error:.2f}"
    )
    self.assertLen(lines, 5)


if __name__ == "__main__":
  absltest.main()
