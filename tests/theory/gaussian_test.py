"""The Gaussian model: sampling, likelihood, accuracies, being a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from scipy import stats

from robust_features.theory import gaussian
from robust_features.theory.gaussian import GaussianModel

MEAN = np.array([1.2, 0.4, -0.2])
_ROOT = np.array([[1.5, 0.2, 0.0], [0.2, 0.8, -0.3], [0.0, -0.3, 0.5]])
FULL = _ROOT @ _ROOT.T
NUM = 40_000


class GaussianModelTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("diagonal", np.array([2.0, 0.5, 1.0])), ("full", FULL)
  )
  def test_samples_have_its_moments(self, cov):
    x, y = GaussianModel(MEAN, cov).sample(jax.random.key(0), NUM)
    self.assertEqual((x.shape, x.dtype), ((NUM, 3), jnp.float32))
    self.assertEqual((y.shape, y.dtype), ((NUM,), jnp.int32))
    x, y = np.asarray(x, np.float64), np.asarray(y)
    self.assertEqual(set(y), {-1, 1})
    self.assertLess(abs(y.mean()), 4 / np.sqrt(NUM))
    v = y[:, None] * x
    matrix = np.diag(cov) if cov.ndim == 1 else cov
    error = np.sqrt(np.diag(matrix) / NUM)
    np.testing.assert_array_less(np.abs(v.mean(axis=0) - MEAN), 4 * error)
    products = np.einsum("ni,nj->nij", v - MEAN, v - MEAN)
    error = products.std(axis=0) / np.sqrt(NUM)
    np.testing.assert_array_less(
      np.abs(products.mean(axis=0) - matrix), 4 * error
    )

  @parameterized.named_parameters(
    ("diagonal", np.array([2.0, 0.5, 1.0])), ("full", FULL)
  )
  def test_nll_is_scipys(self, cov):
    model = GaussianModel(MEAN, cov)
    x = np.random.default_rng(0).normal(size=(5, 3))
    y = np.array([1, -1, -1, 1, 1])
    matrix = np.diag(cov) if cov.ndim == 1 else cov
    want = [
      -stats.multivariate_normal(label * MEAN, matrix).logpdf(row)
      for row, label in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(model.nll(x, y), want, rtol=1e-12)
    np.testing.assert_allclose(model.nll(x), model.nll(x, np.ones(5)))
    # The classifier is the likelihood test.
    likelier = np.where(model.nll(x, -np.ones(5)) > model.nll(x), 1, -1)
    np.testing.assert_array_equal(model.classify(x), likelier)

  def test_expected_nll_of_itself_is_the_entropy(self):
    model = GaussianModel(MEAN, FULL)
    entropy = stats.multivariate_normal(MEAN, FULL).entropy()
    np.testing.assert_allclose(model.expected_nll(), entropy, rtol=1e-12)
    other = GaussianModel(np.zeros(3), np.array([2.0, 1.0, 1.0]))
    # Kullback-Leibler divergence, written out.
    inverse = np.diag([0.5, 1.0, 1.0])
    divergence = (
      np.trace(inverse @ FULL) + MEAN @ inverse @ MEAN - 3
      + np.log(2.0) - np.linalg.slogdet(FULL)[1]
    ) / 2  # fmt: skip
    np.testing.assert_allclose(
      other.expected_nll(model), entropy + divergence, rtol=1e-12
    )

  def test_accuracy_of_one_axis(self):
    model = GaussianModel([2.0, 0.0], [4.0, 1.0])
    np.testing.assert_allclose(model.accuracy(), stats.norm.cdf(1.0))
    for norm in ("l2", "linf"):
      got = model.robust_accuracy(1.0, norm)
      np.testing.assert_allclose(got, stats.norm.cdf(0.5))

  @parameterized.parameters(("l2", 2), ("linf", 1))
  def test_robust_accuracy_of_another_models_classifier(self, norm, dual):
    truth = GaussianModel(MEAN, FULL)
    learned = GaussianModel([1.0, 1.0, -1.0], [2.0, 1.0, 4.0])
    w = np.array([0.5, 1.0, -0.25])
    margin = w @ MEAN - 0.3 * np.linalg.norm(w, dual)
    want = stats.norm.cdf(margin / np.sqrt(w @ FULL @ w))
    got = learned.robust_accuracy(0.3, norm, truth)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(learned.weights(), w)

  def test_no_mean_is_a_coin(self):
    model = GaussianModel([0.0, 0.0], [1.0, 1.0])
    self.assertEqual(model.accuracy(), 0.5)

  def test_robust_training_trades_accuracy_for_robustness(self):
    truth = GaussianModel([-10.0, 1.0], [25.0, 0.5])
    learned = gaussian.robust_parameters(truth.mean, truth.cov, 5.0)
    robust = GaussianModel(learned.mean, learned.cov)
    self.assertLess(robust.accuracy(truth), truth.accuracy())
    self.assertGreater(
      robust.robust_accuracy(2.0, truth=truth), truth.robust_accuracy(2.0)
    )

  def test_is_a_pytree(self):
    def shifted(model, step):
      return GaussianModel(model.mean + step, model.cov)

    with jax.enable_x64(True):
      model = GaussianModel(MEAN, FULL)
      out = jax.jit(shifted)(model, 1.0)
      np.testing.assert_allclose(out.mean, MEAN + 1)
      many = jax.vmap(shifted, (None, 0))(model, jnp.arange(3.0))
      self.assertEqual(np.shape(many.mean), (3, 3))
      slope = jax.grad(lambda m: GaussianModel(m, FULL).accuracy())(
        jnp.asarray(MEAN)
      )
      h = 1e-6
      ends = [
        GaussianModel(MEAN + s * h * np.eye(3)[1], FULL).accuracy()
        for s in (1, -1)
      ]
      difference = float(ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(slope[1], difference, rtol=1e-6)

  def test_is_frozen(self):
    with self.assertRaises(AttributeError):
      GaussianModel(MEAN, FULL).mean = np.zeros(3)  # pyright: ignore

  @parameterized.parameters(
    (np.ones((2, 2)), np.ones(2), r"mean must have shape \[D\]"),
    (np.ones(2), np.ones(3), r"cov must have shape \[2\] or \[2, 2\]"),
    (np.ones(2), np.ones((2, 2, 2)), r"cov must have shape \[D\] or"),
    (np.ones(2), [1.0, 0.0], r"cov must be positive, got 0\.0"),
    (np.ones(2), [[1.0, 0.5], [0.0, 1.0]], r"cov must be symmetric, got 0\.5"),
    ([1.0, np.nan], np.ones(2), r"mean must be finite, got nan at \(1,\)"),
  )
  def test_bad_parameters(self, mean, cov, message):
    with self.assertRaisesRegex(ValueError, message):
      GaussianModel(mean, cov)

  def test_bad_arguments(self):
    model = GaussianModel(MEAN, FULL)
    with self.assertRaisesRegex(ValueError, "num must be .* got 0"):
      model.sample(jax.random.key(0), 0)
    with self.assertRaisesRegex(ValueError, "norm must be one of .* got 'l1'"):
      model.robust_accuracy(1.0, "l1")
    with self.assertRaisesRegex(ValueError, "eps must be >= 0, got -1"):
      model.robust_accuracy(-1.0)
    with self.assertRaisesRegex(ValueError, "truth must have 3 dimensions"):
      model.accuracy(GaussianModel([1.0], [1.0]))
    with self.assertRaisesRegex(ValueError, r"y must hold .* got 2"):
      model.nll(np.zeros((2, 3)), [1, 2])
    with self.assertRaisesRegex(ValueError, r"x must have shape \[N, D\]"):
      model.classify(np.zeros(3))

  def test_all_statements_can_be_imported_from_here(self):
    for name in gaussian.__all__:
      self.assertTrue(hasattr(gaussian, name), name)


if __name__ == "__main__":
  absltest.main()
