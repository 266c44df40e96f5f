"""Lemma 3, Danskin's theorem and adversarial training on samples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized
from scipy import optimize, stats

from robust_features.theory import adversary, linear, mle, robust

SAMPLES = np.random.default_rng(0).normal(size=(64, 3)) * [5.0, 0.7, 1.4]
SAMPLES = SAMPLES + np.array([-10.0, 1.0, 0.0])
MIXED = SAMPLES @ np.array([[1.0, 0.3, 0.0], [0.0, 1.0, -0.4], [0.2, 0, 1.0]])


class ConvexLossTest(parameterized.TestCase):
  def test_nll_is_scipys(self):
    S, mu = np.array([2.0, 0.7, 1.5]), np.array([1.0, -1.0, 0.3])
    with jax.enable_x64(True):
      got = mle.nll(jnp.asarray(mu / S), jnp.asarray(1 / S), SAMPLES)
    want = -stats.multivariate_normal(mu, np.diag(S)).logpdf(SAMPLES).mean()
    np.testing.assert_allclose(got, want, rtol=1e-12)

  def test_operator_loss_is_the_nll_of_moved_samples(self):
    # Around the learned mean the perturbation is M v, with N = M sqrt(E v^2).
    S, mu = np.array([2.0, 0.7, 1.5]), np.array([-9.0, 1.0, 0.3])
    M = np.array([0.2, 0.7, 0.0])
    moved = SAMPLES + M * (SAMPLES - mu)
    reach = M * np.sqrt(((SAMPLES - mu) ** 2).mean(axis=0))
    mean, variance = SAMPLES.mean(axis=0), SAMPLES.var(axis=0)
    with jax.enable_x64(True):
      m, T = jnp.asarray(mu / S), jnp.asarray(1 / S)
      got = mle.operator_loss(m, T, mean, variance, jnp.asarray(reach))
      want = mle.nll(m, T, moved)
    np.testing.assert_allclose(got, want, rtol=1e-12)

  def test_convex_along_random_lines(self):
    rng = np.random.default_rng(1)
    loss = jax.jit(jax.vmap(mle.operator_loss))
    with jax.enable_x64(True):
      m, T = rng.normal(size=(2, 50, 3)), rng.uniform(0.1, 3, size=(2, 50, 3))
      data = (
        rng.normal(size=(50, 3)),
        rng.uniform(0.1, 2, size=(50, 3)),
        rng.uniform(0, 2, size=(50, 3)),
      )
      middle = loss(m.mean(axis=0), T.mean(axis=0), *data)
      ends = (loss(m[0], T[0], *data) + loss(m[1], T[1], *data)) / 2
      room = np.asarray(ends - middle)
    self.assertGreater(room.min(), 0.0)


class AdversarialMleTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.5, 10.0)
  def test_lands_on_the_robust_parameters(self, eps):
    out = mle.adversarial_mle(SAMPLES, eps)
    mean, variance = SAMPLES.mean(axis=0), SAMPLES.var(axis=0)
    want = robust.robust_parameters(mean, variance, eps)
    np.testing.assert_allclose(out.mean, mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out.cov, want.cov, rtol=1e-6)
    self.assertLess(out.gradient_norm, 1e-8)

  def test_full_covariance_lands_on_the_rotated_ones(self):
    out = mle.adversarial_mle(MIXED, 1.5, covariance="full")
    mean, cov = MIXED.mean(axis=0), np.cov(MIXED.T, bias=True)
    want = robust.robust_parameters(mean, cov, 1.5)
    np.testing.assert_allclose(out.mean, mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out.cov, want.cov, rtol=1e-5, atol=1e-6)

  def test_plain_gradient_descent_lands_there_too(self):
    out = mle.adversarial_mle(SAMPLES, 0.5, num_steps=4000, tx=optax.sgd(0.05))
    variance = SAMPLES.var(axis=0)
    want = robust.robust_parameters(np.zeros(3), variance, 0.5)
    np.testing.assert_allclose(out.cov, want.cov, rtol=1e-6)

  def test_steps_out_of_the_domain_are_reported(self):
    with self.assertRaisesRegex(ValueError, "tx must keep .* loss of inf"):
      mle.adversarial_mle(SAMPLES, 0.5, num_steps=4000, tx=optax.sgd(0.5))

  def test_per_sample_problem_is_the_minimum_that_scipy_finds(self):
    x = SAMPLES[:8] - SAMPLES[:8].mean(axis=0)
    x = np.concatenate([x, -x])
    eps = 0.8

    def loss(log):
      S = np.exp(log)
      delta = np.asarray(adversary.optimal_perturbation(x, S, eps))
      terms = (x + delta) ** 2 / S + np.log(2 * np.pi * S)
      return terms.sum(axis=1).mean() / 2

    found = optimize.minimize(
      loss,
      np.log(x.var(axis=0)),
      method="Nelder-Mead",
      options={"xatol": 1e-6, "fatol": 1e-10},
    )
    out = mle.adversarial_mle(x, eps, adversary="sample")
    np.testing.assert_allclose(out.cov, np.exp(found.x), rtol=1e-4)
    np.testing.assert_allclose(out.loss, found.fun, rtol=1e-8)
    np.testing.assert_allclose(out.mean, np.zeros(3), atol=1e-6)

  @parameterized.parameters(
    ({"adversary": "linf"}, "adversary must be one of .* got 'linf'"),
    ({"covariance": "spherical"}, "covariance must be one of .* got 'spher"),
  )
  def test_bad_choice(self, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      mle.adversarial_mle(SAMPLES, 1.0, **kwargs)

  def test_bad_samples(self):
    with self.assertRaisesRegex(ValueError, r"samples must be \[N, D\]"):
      mle.adversarial_mle(SAMPLES[0], 1.0)
    with self.assertRaisesRegex(ValueError, "samples' covariance .* got 0.0"):
      mle.adversarial_mle(np.ones((5, 2)), 1.0)
    with self.assertRaisesRegex(ValueError, "eps must be >= 0, got -1"):
      mle.adversarial_mle(SAMPLES, -1.0)


class LinearTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(4)
    self.y = rng.choice([-1, 1], size=80)
    noise = rng.normal(size=(80, 2)) * [1.2, 0.3]
    self.x = self.y[:, None] * np.array([3.0, 0.5]) + noise

  def test_radius_zero_is_least_squares(self):
    out = linear.fit_linear(self.x, self.y)
    design = np.column_stack([self.x, np.ones(80)])
    want = np.linalg.lstsq(design, self.y.astype(float), rcond=None)[0]
    np.testing.assert_allclose([*out.weights, out.bias], want, rtol=1e-7)

  @parameterized.parameters("l2", "linf")
  def test_is_the_minimum_that_scipy_finds(self, norm):
    eps, order = 0.6, 2 if norm == "l2" else 1

    def loss(p):
      residual = np.abs(self.y - self.x @ p[:2] - p[2])
      return ((residual + eps * np.linalg.norm(p[:2], order)) ** 2).mean()

    out = linear.fit_linear(self.x, self.y, eps, norm=norm)
    found = optimize.minimize(
      loss, [0.2, 0.2, 0.0], method="Nelder-Mead", options={"fatol": 1e-12}
    )
    self.assertLess(out.loss, found.fun + 1e-4)
    np.testing.assert_allclose(
      out.loss, loss(np.append(out.weights, out.bias)), rtol=1e-10
    )

  @parameterized.parameters(("l2", 5.0), ("linf", 7.0))
  def test_margins(self, norm, length):
    fit = linear.LinearClassifier(np.array([3.0, -4.0]), np.float64(2.0), 0.0)
    got = linear.margins(fit, [[1.0, 1.0], [0.0, 1.0]], [1, -1], norm)
    np.testing.assert_allclose(got, [1 / length, 2 / length])

  def test_bad_input(self):
    with self.assertRaisesRegex(
      ValueError, r"y must hold -1 and \+1 only, got 0"
    ):
      linear.fit_linear(self.x, np.zeros(80))
    with self.assertRaisesRegex(ValueError, "norm must be one of .* got 'l1'"):
      linear.fit_linear(self.x, self.y, norm="l1")


if __name__ == "__main__":
  absltest.main()
