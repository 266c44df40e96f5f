"""Rows of the table of checks, and all of the checks."""

import numpy as np
from absl.testing import absltest, parameterized

from robust_features.study.kinds import statements
from robust_features.theory import checks
from robust_features.theory.checks import rows

CLAIM = rows.Claim("Lemma 0", "one is one", "one")


class RowTest(parameterized.TestCase):
  @parameterized.parameters(
    (1.0 + 1e-9, 1.0, True), (1.1, 1.0, False), (np.nan, 1.0, False)
  )
  def test_equals(self, value, reference, passed):
    row = CLAIM.equals(value, reference, 1e-6)
    self.assertEqual(row.passed, passed)

  def test_reports_the_worst_entry(self):
    row = CLAIM.equals([1.0, 2.5, 3.0], [1.0, 2.0, 4.0], 0.3)
    self.assertEqual((row.value, row.reference), (3.0, 4.0))
    self.assertAlmostEqual(row.error, 0.25)

  def test_at_least(self):
    self.assertTrue(CLAIM.at_least([2.0, 3.0], [1.0, 3.0]).passed)
    self.assertFalse(CLAIM.at_least([2.0, 2.9], [1.0, 3.0]).passed)
    self.assertFalse(CLAIM.at_least(3.0, 3.0, -1e-9).passed)  # Strictly.
    self.assertFalse(CLAIM.at_least(np.nan, 1.0).passed)

  def test_sampled(self):
    draws = np.tile([0.0, 2.0], 50)
    error = draws.std(ddof=1) / 10
    self.assertTrue(CLAIM.sampled(draws, 1 + 3.9 * error).passed)
    self.assertFalse(CLAIM.sampled(draws, 1 + 4.1 * error).passed)


class ChecksTest(absltest.TestCase):
  def test_every_statement_passes(self):
    found = checks.run(
      statements.make_maximize, seed=1, num_samples=2000, num_draws=50
    )
    self.assertEqual([row for row in found if not row.passed], [])
    names = {row.name for row in found}
    self.assertLessEqual({f"Lemma {i}" for i in range(1, 9)}, names)
    self.assertLessEqual({f"Theorem {i}" for i in range(1, 4)}, names)
    self.assertLessEqual({"Section 2", "Section 4", "Danskin"}, names)


if __name__ == "__main__":
  absltest.main()
