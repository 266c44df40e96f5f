"""Tables of several runs as one."""

from absl.testing import absltest, parameterized

from robust_features.study.report import spread, tables


def table(*rows, words=1):
  """Returns a table with the header a, b."""
  return tables.aligned([["a", "b"], *map(list, rows)], words)


class SpreadTest(parameterized.TestCase):
  @parameterized.parameters(
    (("1.00", "2.00", "6.00"), "3.00 ± 2.65"),
    (("5", "5", "5"), "5"),
    (("1,000", "3,000"), "2,000 ± 1414"),
    (("-1.5", "0.5"), "-0.5 ± 1.4"),
    (("10%", "30%"), "20 ± 14"),
    (("1e-3", "3e-3"), "2.0e-03 ± 1.4e-03"),
    (("yes", "no", "yes"), "yes, no"),
    (("-", "0.5"), "-, 0.5"),
  )
  def test_cells(self, column, wanted):
    runs = [[("t", [table(("row", cell))])] for cell in column]
    ((title, found),) = spread.merge(runs)
    self.assertEqual((title, found.rows), ("t", [["a", "b"], ["row", wanted]]))

  def test_tables_and_rows_keep_their_places(self):
    def run(shift):
      one = table(("row", f"{shift}"), ("row", f"{shift + 10}"))
      other = table(("x", "y"), words=2)
      return [("t", ["words", one, other]), ("u", ["no table"])]

    found = spread.merge([run(0), run(2)])
    self.assertEqual([title for title, _ in found], ["t", "t"])
    self.assertEqual(found[0][1].rows[1:],
                     [["row", "1 ± 1"], ["row", "11 ± 1"]])  # fmt: skip
    self.assertEqual(found[1][1].num_words, 2)

  def test_a_row_that_one_run_lacks(self):
    runs = [[("t", [table(("x", "1"), ("y", "2"))])],
            [("t", [table(("y", "4"))])]]  # fmt: skip
    ((_, found),) = spread.merge(runs)
    self.assertEqual(found.rows[1:], [["x", "1"], ["y", "3 ± 1"]])


if __name__ == "__main__":
  absltest.main()
