"""The kinds `statements` and `usefulness`: rows, files and failures."""

import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from configs import gaussian
from robust_features import recipes
from robust_features.study import run, settings
from robust_features.study.kinds import usefulness
from robust_features.study.parse import parse
from robust_features.theory import checks
from robust_features.theory.checks import rows

CLAIM = rows.Claim("Lemma 0", "|one| is one", "one")
FIGURES = ("alignment", "eigenvalues", "figure14", "figure4", "gap", "lambda")


def _config():
  """Returns the study on next to nothing."""
  config = gaussian.get_config("smoke")
  config.stages.theory.gap.dims = (2, 4)
  config.stages.theory.gap.num_samples = 40
  return config


class StatementsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    """Runs it once, with a statement that fails among the theory's."""
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.workdir = pathlib.Path(folder) / "run"
    bad = [CLAIM.equals(1.0, 1.0, 0.0), CLAIM.equals(np.nan, 2.0, 0.0)]
    with mock.patch.object(checks, "run", return_value=bad):
      try:
        run.run(_config(), cls.workdir)
        cls.error = None
      except run.FailedError as error:
        cls.error = error
    cls.results = json.loads((cls.workdir / "results.json").read_text())

  def test_a_failed_row_is_written_and_then_raised(self):
    self.assertEqual(str(self.error), "1 checks failed: Lemma 0: |one| is one")
    found = self.results["statements"]["theory"]["statements"]
    self.assertEqual([row["passed"] for row in found[:2]], [True, False])
    self.assertEqual(found[1]["value"], "nan")
    text = (self.workdir / "results.md").read_text()
    self.assertRegex(text, r"\| Lemma 0 .*\\\|one\\\| is one .* FAIL \|")
    self.assertIn("6 of 7 checks passed.", text)

  def test_a_finished_stage_fails_again(self):
    no_work = mock.patch.object(checks, "run", side_effect=AssertionError)
    with no_work, self.assertRaises(run.FailedError):
      run.run(_config(), self.workdir)

  def test_figures_are_drawn_from_the_results(self):
    for name in (*(f"theory_{name}" for name in FIGURES), "usefulness"):
      png = (self.workdir / "figures" / f"{name}.png").read_bytes()
      pdf = (self.workdir / "figures" / f"{name}.pdf").read_bytes()
      self.assertTrue(png.startswith(b"\x89PNG"), name)
      self.assertTrue(pdf.startswith(b"%PDF"), name)

  def test_what_the_figures_show_is_checked(self):
    found = self.results["statements"]["theory"]["statements"]
    learned = [row for row in found if row["name"] == "Figure 14"]
    self.assertLen(learned, 3)
    self.assertTrue(all(row["passed"] for row in learned))

  def test_usefulness_of_every_model_beside_the_datas(self):
    found = self.results["usefulness"]["usefulness"]
    self.assertEqual(
      [table["name"] for table in found["features"]],
      ["singular vectors", "standard", "robust"],
    )
    self.assertEqual(found["num_examples"], 32)
    for table in found["features"]:
      rho, gamma = np.asarray(table["rho"]), np.asarray(table["gamma"])
      self.assertTrue((gamma <= rho + 1e-5).all())
      self.assertAlmostEqual(table["kept"], gamma.mean() / rho.mean(), 5)
    self.assertTrue(all(row["passed"] for row in found["statements"]))


class UsefulnessTest(parameterized.TestCase):
  def _table(self, rho, gamma):
    rho, gamma = (np.asarray(values) for values in (rho, gamma))
    table = mock.Mock()
    table.rho.value, table.gamma.value = rho, gamma
    return table

  def _stage(self, **changes):
    section = recipes.usefulness_stage(
      ("standard", "robust"), recipes.attack("l2", 0.1, 0.1, 1), **changes
    )
    del section["kind"]
    return settings.build(usefulness.Stage, section, "stages.u")

  @parameterized.parameters((0.2, True), (0.05, False))
  def test_each_model_must_keep_more_than_the_one_before(self, gamma, passed):
    found = {
      "standard": self._table([0.5, 0.5], [0.1, 0.1]),
      "robust": self._table([0.5, 0.5], [gamma, gamma]),
    }
    rows = usefulness._claims(found, self._stage(ascending=True))
    self.assertLen(rows, 3)
    self.assertEqual(rows[0].passed, passed)
    self.assertLen(usefulness._claims(found, self._stage()), 2)

  def test_refused_before_any_work(self):
    config = gaussian.get_config()
    config.stages.usefulness.models = ()
    with self.assertRaisesRegex(
      ValueError, "stages.usefulness.models must name at least one stage"
    ):
      parse(config)

  @parameterized.parameters(
    ("usefulness.attack.num_steps", 0, "at least 1"),
    ("usefulness.num_examples", -1, "at least 0, got -1"),
    ("usefulness.coordinates", (0, -1), "at least 0, got -1"),
    ("usefulness.batch_size", 0, "at least 1, got 0"),
    ("theory.checks.num_samples", 1, "at least 2, got 1"),
    ("theory.checks.num_draws", 0, "at least 1, got 0"),
    ("theory.metrics.mean", (1.0,), r"hold 2 numbers, got \(1.0,\)"),
    ("theory.metrics.mean", (1.0, np.inf), "finite"),
    ("theory.metrics.cov", (1.0, 0.0), "above 0"),
    ("theory.metrics.cov", (1.0,), "hold 2 numbers"),
    ("theory.metrics.eps", (), r"hold some numbers, got \(\)"),
    ("theory.metrics.eps", (1.0, -0.5), "at least 0"),
    ("theory.metrics.eps", (np.nan,), "finite"),
    ("theory.metrics.num_samples", 0, "above 0, got 0"),
    ("theory.path.mean", (), "hold some numbers"),
    ("theory.path.spectrum", (2.0, 0.0), "above 0"),
    ("theory.path.least_eps", 0.0, "above 0"),
    ("theory.path.most_eps", 1e-2, "above least_eps 0.01, got 0.01"),
    ("theory.path.most_eps", np.inf, "finite"),
    ("theory.path.num_eps", 0, "above 0"),
    ("theory.two_features.mean", (1.0, 2.0, 3.0), "hold 2 numbers"),
    ("theory.two_features.deviation", (1.0, -1.0), "above 0"),
    ("theory.two_features.deviation", (1.0, 1.0, 1.0), "hold 2 numbers"),
    ("theory.two_features.cut", np.nan, "finite"),
    ("theory.two_features.eps", 0.0, "above 0"),
    ("theory.two_features.num_samples", -1, "above 0"),
    ("theory.gap.variances", (0.0,), "above 0"),
    ("theory.gap.eps_per_root_dim", (), "hold some numbers"),
    ("theory.gap.dims", (2, 0), "above 0"),
    ("theory.gap.num_samples", 1, "at least 2, got 1"),
  )
  def test_a_number_that_cannot_be(self, field, value, message):
    config = gaussian.get_config()
    *parents, last = field.split(".")
    section = config.stages
    for part in parents:
      section = section[part]
    section[last] = value
    with self.assertRaisesRegex(
      ValueError, f"^stages.{field} must .*{message}"
    ):
      parse(config)


if __name__ == "__main__":
  absltest.main()
