"""Lemmas 4 and 5, Theorems 2 and 3: what the robust learner ends with."""

import functools
import itertools
import time

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st
from scipy import optimize

from robust_features.theory import alignment, robust
from robust_features.theory.checks import learning

SPECTRUM = np.array([25.0, 0.5, 2.0])
ZERO = np.zeros(3)
_Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))

positive = st.floats(1e-3, 1e3)
spectra = st.lists(positive, min_size=3, max_size=3).map(np.array)


def _worst_nll(S, s, eps):
  """max over diagonal M of E[NLL] at Sigma = diag(S), in NumPy and scipy."""
  excess = S / S.min() - 1

  def error(u):
    return np.log((s / (excess + np.exp(u) * S) ** 2).sum() / eps**2)

  M = 1 / (excess + np.exp(optimize.brentq(error, -40, 40, xtol=1e-13)) * S)
  return ((1 + M) ** 2 * s / S + np.log(2 * np.pi * S)).sum() / 2


class RobustParametersTest(parameterized.TestCase):
  @parameterized.parameters(*learning.GOLDEN)
  def test_known_values(self, s, eps, lam, learned):
    # From the errata: both equations solved together, and by direct
    # minimisation of max_M E[NLL].
    out = robust.robust_parameters([-10.0, 1.0], s, eps)
    np.testing.assert_allclose(out.lam, lam, rtol=0, atol=6e-11)
    np.testing.assert_allclose(out.cov, learned, rtol=3e-8)
    np.testing.assert_array_equal(out.mean, [-10.0, 1.0])
    self.assertEqual(out.cov.dtype, np.float64)

  @parameterized.parameters(0.3, 2.0, 20.0)
  def test_is_the_minimum_that_scipy_finds(self, eps):
    found = optimize.minimize(
      lambda log: _worst_nll(np.exp(log), SPECTRUM, eps),
      np.log(SPECTRUM + eps),
      method="Nelder-Mead",
      options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000},
    )
    out = robust.robust_parameters(ZERO, SPECTRUM, eps)
    np.testing.assert_allclose(out.cov, np.exp(found.x), rtol=1e-5)
    value = _worst_nll(out.cov, SPECTRUM, eps)
    np.testing.assert_allclose(value, found.fun, rtol=1e-12)

  @parameterized.product(
    eps=(1e-6, 1e-3, 1.0, 1e3, 1e6), condition=(1.0, 1e6, 1e12)
  )
  def test_multiplier_to_float64_accuracy(self, eps, condition):
    root = np.sqrt(condition)
    s = np.geomspace(1 / root, root, 5)
    lam = robust.robust_parameters(np.zeros(5), s, eps).lam
    self.assertLess(learning.exact_lambda_error(s, lam, eps), 4e-15)

  @hypothesis.settings(max_examples=30, deadline=None)
  @hypothesis.given(spectra, positive, st.floats(1e-2, 1e2))
  def test_units_cancel(self, s, eps, unit):
    one = robust.robust_parameters(ZERO, s, eps)
    other = robust.robust_parameters(ZERO, s * unit**2, eps * unit)
    np.testing.assert_allclose(other.cov, one.cov * unit**2, rtol=1e-12)
    np.testing.assert_allclose(other.lam, one.lam / unit**2, rtol=1e-12)

  @hypothesis.settings(max_examples=30, deadline=None)
  @hypothesis.given(spectra, positive)
  def test_operator_is_positive_and_meets_its_budget(self, s, eps):
    out = robust.robust_parameters(ZERO, s, eps)
    M = np.sqrt(out.cov / s) - 1
    self.assertTrue((M >= 0).all())
    budget = np.sqrt((s * M**2).sum())
    np.testing.assert_allclose(budget, eps, rtol=1e-8, atol=1e-11)
    if eps > 1:
      np.testing.assert_allclose(M * (out.lam * out.cov - 1), 1.0, rtol=1e-5)

  @parameterized.parameters(1e-3, 1.0, 50.0)
  def test_one_dimension_and_isotropic(self, eps):
    one = robust.robust_parameters([0.0], [2.0], eps)
    np.testing.assert_allclose(one.cov, [(np.sqrt(2) + eps) ** 2], rtol=1e-14)
    np.testing.assert_allclose(
      one.lam, 1 / (eps**2 + eps * np.sqrt(2)), rtol=1e-14
    )
    many = robust.robust_parameters(np.zeros(8), np.full(8, 2.0), eps)
    expected = 2 * (1 + eps / 4) ** 2
    np.testing.assert_allclose(many.cov, np.full(8, expected), rtol=1e-14)

  def test_full_covariance_is_the_rotated_diagonal(self):
    full = (_Q * SPECTRUM) @ _Q.T
    out = robust.robust_parameters(ZERO, full, 1.5)
    diagonal = robust.robust_parameters(ZERO, SPECTRUM, 1.5)
    np.testing.assert_allclose(
      out.cov, (_Q * diagonal.cov) @ _Q.T, rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(out.lam, diagonal.lam, rtol=1e-12)

  def test_a_million_dimensions_in_under_a_second(self):
    s = np.geomspace(1e-6, 1e6, 1_000_000)
    mean = np.zeros_like(s)
    robust.robust_parameters(mean, s, 1.0)
    seconds = []
    for eps in (1e-6, 1.0, 1e6):
      # Processor time of all threads: a busy machine must not fail the test.
      start = time.process_time()
      out = robust.robust_parameters(mean, s, eps)
      seconds.append(time.process_time() - start)
      M = (s / out.lam) / s  # t of the module's docstring.
      M = M / s / (np.sqrt(1 / (out.lam * s) + 0.25) + 0.5)
      np.testing.assert_allclose(np.sqrt((s * M**2).sum()), eps, rtol=1e-12)
    self.assertLess(max(seconds), 1.0)

  def test_float32_without_asking_for_more(self):
    learned = jax.jit(lambda s, e: robust.robust_parameters(s, s, e))
    s = jnp.asarray(SPECTRUM, jnp.float32)
    out = learned(s, jnp.float32(1.5))
    exact = robust.robust_parameters(ZERO, SPECTRUM, 1.5)
    self.assertEqual(out.cov.dtype, jnp.float32)
    np.testing.assert_allclose(out.cov, exact.cov, rtol=2e-6)
    np.testing.assert_allclose(out.lam, exact.lam, rtol=2e-6)
    self.assertEqual(jnp.ones(()).dtype, jnp.float32)  # Nothing global.

  @parameterized.parameters(
    ([0.0, 0.0], [1.0, 2.0, 3.0], 1.0, r"cov must have shape \[2\]"),
    ([[0.0]], [1.0], 1.0, r"mean must have shape \[D\], got shape \(1, 1\)"),
    ([], [], 1.0, r"mean must have shape \[D\]"),
    ([0.0, np.inf], [1.0, 1.0], 1.0, r"mean must be finite, got inf at \(1,\)"),
    ([0.0, 0.0], [1.0, -3.0], 1.0, r"cov must be positive, got -3\.0"),
    ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], 1.0, r"positive definite, .* -1\.?"),
    ([0.0, 0.0], [[1.0, 0.3], [0.2, 1.0]], 1.0, r"symmetric, got 0\.3 at"),
    ([0.0, 0.0], [1.0, 1.0], -1e-9, r"eps must be >= 0, got -1e-09"),
    ([0.0, 0.0], [1.0, 1.0], np.nan, r"eps must be finite, got nan"),
  )
  def test_bad_input(self, mean, cov, eps, message):
    with self.assertRaisesRegex(ValueError, message):
      robust.robust_parameters(mean, cov, eps)


class DerivativeTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("diagonal", SPECTRUM),
    ("full", (_Q * SPECTRUM) @ _Q.T),
    ("isotropic", np.full(3, 2.0)),
    ("full_isotropic", 2.0 * np.eye(3)),
    ("full_repeated", (_Q * np.array([2.0, 2.0, 5.0])) @ _Q.T),
  )
  def test_is_the_difference(self, cov):
    rng = np.random.default_rng(3)
    move = rng.normal(size=cov.shape) * 0.3
    move = move + move.T
    h = 1e-6

    def learn(cov, eps):
      out = robust.robust_parameters(ZERO, cov, eps)
      return out.cov, out.lam

    with jax.enable_x64(True):
      point = (jnp.asarray(cov), jnp.asarray(1.5))
      moves = (jnp.asarray(move), jnp.asarray(0.4))
      _, slope = jax.jvp(learn, point, moves)
      up = learn(cov + h * move, 1.5 + h * 0.4)
      down = learn(cov - h * move, 1.5 - h * 0.4)
      pulled = jax.jit(jax.grad(lambda c, e: learn(c, e)[0].sum(), (0, 1)))(
        *point
      )
      inner = jnp.sum(pulled[0] * moves[0]) + pulled[1] * moves[1]
      slope, up, down, inner = jax.device_get((slope, up, down, inner))
    for got, a, b in zip(slope, up, down, strict=True):
      np.testing.assert_allclose(got, (a - b) / (2 * h), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(inner, slope[0].sum(), rtol=1e-9)

  def test_at_radius_zero(self):
    with jax.enable_x64(True):
      slope = jax.jacfwd(
        lambda e: robust.robust_parameters(ZERO, SPECTRUM, e).cov
      )(jnp.asarray(0.0))
    expected = 2 / np.sqrt((1 / SPECTRUM).sum())
    np.testing.assert_allclose(slope, np.full(3, expected), rtol=1e-12)

  def test_vmap_is_a_loop(self):
    radii = np.array([0.0, 1e-3, 1.0, 1e4])
    with jax.enable_x64(True):
      learn = functools.partial(robust.robust_parameters, ZERO, SPECTRUM)
      together = jax.jit(jax.vmap(learn))(jnp.asarray(radii))
      for i, eps in enumerate(radii):
        alone = learn(float(eps))
        np.testing.assert_allclose(together.cov[i], alone.cov, rtol=1e-14)
        np.testing.assert_allclose(together.lam[i], alone.lam, rtol=1e-14)

  def test_second_derivative(self):
    # lam = 1 / (eps^2 + eps sqrt(s)) in one dimension.
    def lam(eps):
      return robust.robust_parameters([0.0], [4.0], eps).lam

    with jax.enable_x64(True):
      got = jax.grad(jax.grad(lam))(jnp.asarray(1.0))
      want = jax.grad(jax.grad(lambda e: 1 / (e**2 + 2 * e)))(jnp.asarray(1.0))
    np.testing.assert_allclose(got, want, rtol=1e-12)


class BoundsTest(parameterized.TestCase):
  @hypothesis.settings(max_examples=60, deadline=None)
  @hypothesis.given(spectra, st.floats(1e-3, 1e3))
  def test_hold(self, s, eps):
    bounds = robust.lambda_bounds(s, eps)
    lam = robust.robust_parameters(ZERO, s, eps).lam
    chain = [bounds.lower, bounds.tight_lower, lam, bounds.tight_upper]
    chain.append(bounds.upper)
    for below, above in itertools.pairwise(chain):
      self.assertLessEqual(below, above * (1 + 1e-12))

  def test_values(self):
    # By hand at s = (4, 1), eps = 2: d smin = 2, ||s||_F = sqrt(17).
    bounds = robust.lambda_bounds([4.0, 1.0], 2.0)
    np.testing.assert_allclose(bounds.lower, 1 / 9 * (1 + np.sqrt(2) / 2))
    upper = 1 + np.sqrt(2 * np.sqrt(17)) / 2
    np.testing.assert_allclose(bounds.upper, upper)
    learned = robust.robust_parameters(np.zeros(2), [4.0, 1.0], 2.0).cov
    np.testing.assert_allclose(
      bounds.tight_lower, 2 / learned.sum() * (1 + np.sqrt(2) / 2)
    )
    np.testing.assert_allclose(bounds.tight_upper, upper / learned.min())

  def test_tight_where_isotropic(self):
    # Lower and exact agree for Sigma_* = s I.
    lam = robust.robust_parameters(ZERO, np.full(3, 2.0), 1.5).lam
    bounds = robust.lambda_bounds(np.full(3, 2.0), 1.5)
    np.testing.assert_allclose(bounds.tight_lower, lam, rtol=1e-12)

  def test_admissible_radius(self):
    np.testing.assert_allclose(robust.admissible_radius([4.0, 0.25]), 0.5)
    np.testing.assert_allclose(
      robust.admissible_radius(np.diag([4.0, 0.25])), 0.5
    )


class AlignmentTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 10.0, 1e6, 1e12)
  def test_bound_by_condition_number(self, kappa):
    worst = alignment.worst_case_alignment([1.0, kappa, np.sqrt(kappa)])
    expected = 2 * np.sqrt(kappa) / (1 + kappa)
    np.testing.assert_allclose(worst.cosine, expected, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(worst.mean), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
      alignment.alignment(worst.mean, [1.0, kappa, np.sqrt(kappa)]),
      expected,
      rtol=1e-12,
    )

  def test_is_the_least_that_scipy_finds(self):
    cov = (_Q * SPECTRUM) @ _Q.T
    inverse = np.linalg.inv(cov)

    def cosine(mu):
      g = inverse @ mu
      return mu @ g / np.linalg.norm(mu) / np.linalg.norm(g)

    rng = np.random.default_rng(0)
    found = min(
      optimize.minimize(cosine, rng.normal(size=3), tol=1e-12).fun
      for _ in range(4)
    )
    worst = alignment.worst_case_alignment(cov)
    np.testing.assert_allclose(worst.cosine, found, rtol=1e-8)
    np.testing.assert_allclose(cosine(worst.mean), found, rtol=1e-8)

  @hypothesis.settings(max_examples=30, deadline=None)
  @hypothesis.given(spectra, st.floats(1e-2, 1e2))
  def test_robust_learning_aligns(self, s, eps):
    hypothesis.assume(s.max() > 1.01 * s.min())
    learned = robust.robust_parameters(ZERO, s, eps).cov
    self.assertLess(
      alignment.condition_number(learned), alignment.condition_number(s)
    )
    self.assertGreater(
      alignment.worst_case_alignment(learned).cosine,
      alignment.worst_case_alignment(s).cosine,
    )

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, "mean must not be zero"):
      alignment.alignment([0.0, 0.0], [1.0, 2.0])
    with self.assertRaisesRegex(ValueError, "cov must be positive, got 0"):
      alignment.worst_case_alignment([0.0, 2.0])


if __name__ == "__main__":
  absltest.main()
