"""The experiment of configs/gaussian.py: its rows, files and failures."""

import io
import json
import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from configs import gaussian as gaussian_config
from robust_features.study import theory_study
from robust_features.theory import checks, precision, validation
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

  def test_table(self):
    text = rows.table(
      [CLAIM.equals(1.0, 1.0, 0.0), CLAIM.equals(1.0, 2.0, 0.0)]
    )
    self.assertIn(
      "| Lemma 0 | one is one | `one` | 1 | 1 | 0 | 0 | pass |", text
    )
    self.assertIn("FAIL", text)


def _check_third(x, sign):
  del sign
  validation.check_radius("x", x)


@precision.float64(_check_third, static=("sign",))
def _third(x, sign="plus"):
  return x / 3 if sign == "plus" else -x / 3


class PrecisionTest(absltest.TestCase):
  def test_float64_for_the_call_only(self):
    out = _third(1.0)
    self.assertIsInstance(out, np.ndarray)
    self.assertEqual(float(out), 1 / 3)
    self.assertEqual(jnp.ones(1).dtype, jnp.float32)
    with jax.enable_x64(True):
      self.assertIsInstance(_third(1.0), jax.Array)

  def test_a_trace_keeps_its_precision(self):
    self.assertEqual(jax.jit(_third)(2.0).dtype, jnp.float32)

  def test_arguments_are_checked_as_given(self):
    with self.assertRaisesRegex(ValueError, "x must be >= 0, got -1"):
      _third(x=-1)

  def test_static_arguments_are_no_arrays(self):
    self.assertEqual(float(_third(1, sign="minus")), -1 / 3)


class StudyTest(absltest.TestCase):
  def test_every_statement_passes(self):
    found = checks.run(
      theory_study._make_maximize, seed=1, num_samples=2000, num_draws=50
    )
    self.assertEqual([row for row in found if not row.passed], [])
    names = {row.name for row in found}
    self.assertLessEqual({f"Lemma {i}" for i in range(1, 9)}, names)
    self.assertLessEqual({f"Theorem {i}" for i in range(1, 4)}, names)
    self.assertLessEqual({"Section 2", "Section 4", "Danskin"}, names)

  def _run(self, workdir, found):
    """Runs the experiment on next to nothing; returns what it printed."""
    config = gaussian_config.get_config("smoke")
    config.gap.dims = (2, 4)
    config.gap.num_samples = 40
    config.usefulness.data.num_train = 60
    config.usefulness.width = 4
    config.usefulness.num_steps = 3
    stack = mock.patch.object(checks, "run", return_value=found)
    with stack, mock.patch("sys.stdout", new=io.StringIO()) as out:
      try:
        return theory_study.run(config, workdir), out.getvalue()
      except theory_study.ChecksFailedError as error:
        return error, out.getvalue()

  def test_files(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    workdir = pathlib.Path(folder.name) / "new"
    bad = [CLAIM.equals(1.0, 1.0, 0.0), CLAIM.equals(np.nan, 2.0, 0.0)]
    result, printed = self._run(workdir, bad)
    # A failed row is written, printed and raised.
    self.assertIsInstance(result, theory_study.ChecksFailedError)
    self.assertIn("Lemma 0: one is one", str(result))
    self.assertIn("FAIL", printed)
    results = json.loads((workdir / "results.json").read_text())
    self.assertFalse(results["passed"])
    self.assertEqual(results["rows"][1]["value"], "nan")
    self.assertEqual((workdir / "results.md").read_text(), printed)
    for name in results["figures"]:
      png = (workdir / "figures" / f"{name}.png").read_bytes()
      pdf = (workdir / "figures" / f"{name}.pdf").read_bytes()
      self.assertTrue(png.startswith(b"\x89PNG"), name)
      self.assertTrue(pdf.startswith(b"%PDF"), name)
    self.assertEqual(
      results["figures"],
      [
        "alignment",
        "eigenvalues",
        "figure14",
        "figure4",
        "gap",
        "lambda",
        "usefulness",
      ],
    )
    self.assertEqual(list(workdir.rglob(".*")), [])  # No temporary files.
    learned = [r for r in results["rows"] if r["name"] == "Figure 14"]
    self.assertLen(learned, 3)
    self.assertTrue(all(row["passed"] for row in learned))

  def test_unknown_variant(self):
    with self.assertRaisesRegex(ValueError, "variant must be .* got 'tiny'"):
      gaussian_config.get_config("tiny")


if __name__ == "__main__":
  absltest.main()
