"""Lemmas 1 and 2 and Theorem 1 against scipy and against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from scipy import optimize

from robust_features.theory import adversary, lagrangian

_RNG = np.random.default_rng(0)
_ROOT = _RNG.normal(size=(3, 3)) + np.eye(3)
FULL = _ROOT @ _ROOT.T
DIAGONAL = np.array([4.0, 0.5, 1.5])
POINTS = _RNG.normal(size=(4, 3)) * 2


def _gain(delta, v, cov):
  """The rise of the NLL, with the 1/2, in NumPy."""
  matrix = np.diag(cov) if np.ndim(cov) == 1 else cov
  inverse = np.linalg.inv(matrix)
  return ((v + delta) @ inverse @ (v + delta) - v @ inverse @ v) / 2


class OptimalPerturbationTest(parameterized.TestCase):
  @parameterized.product(cov=(FULL, DIAGONAL), eps=(0.3, 5.0))
  def test_is_the_best_that_scipy_finds(self, cov, eps):
    deltas = adversary.optimal_perturbation(POINTS, cov, eps)
    for v, delta in zip(POINTS, deltas, strict=True):
      best = -np.inf
      for start in np.vstack([np.eye(3), -np.eye(3)]):

        def loss(u, v=v):
          return -_gain(eps * u / np.linalg.norm(u), v, cov)

        best = max(best, -optimize.minimize(loss, start + 0.1).fun)
      self.assertAlmostEqual(np.linalg.norm(delta), eps, places=12)
      np.testing.assert_allclose(_gain(delta, v, cov), best, rtol=1e-7)

  def test_the_gain_is_worth_a_number_known_by_hand(self):
    # v = 0: all of eps along the weakest axis, a gain of eps^2 / (2 s_min).
    delta = adversary.optimal_perturbation(np.zeros(3), DIAGONAL, 2.0)
    np.testing.assert_allclose(delta, [0.0, 2.0, 0.0], atol=1e-12)

  def test_hard_case_leaves_the_others_at_the_limit_multiplier(self):
    # lam = 1 / 0.5: delta_i = v_i / (2 s_i - 1), the rest along axis 1.
    delta = adversary.optimal_perturbation([0.7, 0.0, -0.4], DIAGONAL, 2.0)
    expected = np.array([0.7 / 7, 0.0, -0.4 / 2])
    expected[1] = np.sqrt(4 - (expected**2).sum())
    np.testing.assert_allclose(delta, expected, rtol=1e-12)

  def test_nearly_hard_case_approaches_the_hard_one(self):
    hard = adversary.optimal_perturbation([0.7, 0.0, -0.4], DIAGONAL, 2.0)
    near = adversary.optimal_perturbation([0.7, 1e-13, -0.4], DIAGONAL, 2.0)
    np.testing.assert_allclose(near, hard, rtol=1e-10)

  def test_a_batch_is_its_samples(self):
    radii = np.array([0.1, 0.0, 1.0, 30.0])
    together = adversary.optimal_perturbation(POINTS, FULL, radii)
    for v, eps, delta in zip(POINTS, radii, together, strict=True):
      alone = adversary.optimal_perturbation(v, FULL, float(eps))
      np.testing.assert_allclose(delta, alone, rtol=1e-12, atol=1e-14)

  def test_radius_zero_moves_nothing(self):
    delta = adversary.optimal_perturbation(POINTS, FULL, 0.0)
    np.testing.assert_array_equal(delta, np.zeros_like(POINTS))

  def test_far_scales(self):
    for eps in (1e-6, 1e6):
      cov = np.array([1e-6, 1.0, 1e6])
      delta = adversary.optimal_perturbation([1.0, -1.0, 1.0], cov, eps)
      gradient = (delta + np.array([1.0, -1.0, 1.0])) / cov
      lam = gradient @ delta / eps**2
      np.testing.assert_allclose(gradient, lam * delta, rtol=1e-9)
      self.assertGreaterEqual(lam * 1e-6, 1 - 1e-12)

  @parameterized.named_parameters(
    ("full", FULL, POINTS[0], 1.2),
    ("hard", DIAGONAL, np.array([0.7, 0.0, -0.4]), 2.0),
    ("isotropic", np.full(3, 2.0), POINTS[0], 1.2),
    ("full_isotropic", 2.0 * np.eye(3), POINTS[0], 1.2),
  )
  def test_derivative_is_the_difference(self, cov, v, eps):
    rng = np.random.default_rng(1)
    d_cov = rng.normal(size=cov.shape)
    d_cov = d_cov + d_cov.T
    # In the hard case on the side whose maximiser is returned.
    d_v = np.abs(rng.normal(size=3)) * np.where(v < 0, -1, 1)
    h = 1e-6
    with jax.enable_x64(True):
      point = (jnp.asarray(v), jnp.asarray(cov), jnp.asarray(eps))
      moves = (jnp.asarray(d_v), jnp.asarray(d_cov), jnp.asarray(0.7))
      fn = adversary.optimal_perturbation
      value, slope = jax.jvp(fn, point, moves)
      moved = fn(v + h * d_v, cov + h * d_cov, eps + h * 0.7)
      # Reverse mode is the transpose of forward mode.
      pulled = jax.grad(lambda *args: fn(*args) @ moves[0], (0, 1, 2))(*point)
      inner = sum(jnp.sum(a * b) for a, b in zip(pulled, moves, strict=True))
      slope, change = np.asarray(slope), np.asarray(moved - value)
    np.testing.assert_allclose(slope, change / h, atol=2e-4)
    np.testing.assert_allclose(inner, slope @ d_v, rtol=1e-10)

  def test_derivative_at_radius_zero(self):
    with jax.enable_x64(True):
      slope = jax.jacfwd(adversary.optimal_perturbation, 2)(
        jnp.asarray(POINTS[0]), jnp.asarray(DIAGONAL), jnp.asarray(0.0)
      )
    direction = POINTS[0] / DIAGONAL
    np.testing.assert_allclose(slope, direction / np.linalg.norm(direction))

  @parameterized.named_parameters(
    ("asymmetric", POINTS, [[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]], 1.0,
     r"cov must be symmetric, got 0\.5 at \(0, 1\)"),
    ("indefinite", POINTS, np.diag([1.0, -2.0, 1.0]), 1.0,
     r"cov must be positive definite, got a smallest eigenvalue of -2"),
    ("no_variance", POINTS, [1.0, 0.0, 1.0], 1.0, r"cov must be .* got 0\.0"),
    ("shape", POINTS, np.ones(2), 1.0, r"v must have .* got shape \(4, 3"),
    ("not_square", POINTS, np.ones((3, 2)), 1.0, r"cov must have .*\(3, 2\)"),
    ("eps", POINTS, DIAGONAL, -0.5, r"eps must be >= 0, got -0\.5"),
    ("eps_text", POINTS, DIAGONAL, "1", r"eps must be a number >= 0, got '1'"),
    ("eps_shape", POINTS, DIAGONAL, np.ones(2), r"eps must be a number"),
    ("nan", [np.nan, 0, 0], DIAGONAL, 1.0, r"v must be finite, got nan at \(0"),
    ("infinite", POINTS, [1.0, np.inf, 1.0], 1.0, r"cov must be .* got inf"),
  )  # fmt: skip
  def test_bad_input(self, v, cov, eps, message):
    with self.assertRaisesRegex(ValueError, message):
      adversary.optimal_perturbation(v, np.asarray(cov), eps)


class OptimalOperatorTest(parameterized.TestCase):
  @parameterized.product(eps=(0.2, 3.0))
  def test_is_the_best_that_scipy_finds(self, eps):
    true = np.array([1.0, 2.0, 0.3])
    inverse = np.linalg.inv(FULL)

    def operator(flat):
      matrix = flat.reshape(3, 3)
      size = np.sqrt(np.trace(matrix @ np.diag(true) @ matrix.T))
      return eps * matrix / size

    def gain(matrix):
      linear = np.trace(inverse @ matrix @ np.diag(true))
      return linear + np.trace(matrix.T @ inverse @ matrix @ np.diag(true)) / 2

    found = optimize.minimize(
      lambda flat: -gain(operator(flat)), np.eye(3).ravel(), tol=1e-12
    )
    out = adversary.optimal_operator(FULL, true, eps)
    np.testing.assert_allclose(gain(out.matrix), -found.fun, rtol=1e-8)
    np.testing.assert_allclose(out.matrix, operator(found.x), atol=1e-4)

  def test_solves_the_constraint_that_scipy_brackets(self):
    true, eps = np.array([1.0, 2.0, 0.3]), 0.9

    def excess(lam):
      return (true / (lam * DIAGONAL - 1) ** 2).sum() - eps**2

    lam = optimize.brentq(excess, 2.0 + 1e-9, 1e3, xtol=1e-14)
    out = adversary.optimal_operator(DIAGONAL, true, eps)
    np.testing.assert_allclose(out.lam, lam, rtol=1e-12)
    np.testing.assert_allclose(out.matrix, 1 / (lam * DIAGONAL - 1), rtol=1e-11)

  @parameterized.named_parameters(
    ("full_full", FULL, FULL + np.eye(3)),
    ("full_diagonal", FULL, DIAGONAL),
    ("diagonal_full", DIAGONAL, FULL),
    ("diagonal_diagonal", DIAGONAL, np.array([1.0, 2.0, 0.3])),
  )
  def test_derivative_is_the_difference(self, cov, true):
    rng = np.random.default_rng(2)
    moves = [rng.normal(size=np.shape(a)) for a in (cov, true)]
    moves = [m + m.T for m in moves] + [np.asarray(0.4)]
    point = (cov, true, np.asarray(0.8))
    h = 1e-6
    with jax.enable_x64(True):
      point = tuple(jnp.asarray(p) for p in point)
      moves = tuple(jnp.asarray(m) for m in moves)
      fn = adversary.optimal_operator
      _, slope = jax.jvp(fn, point, moves)
      up, down = (
        fn(*(p + s * h * m for p, m in zip(point, moves, strict=True)))
        for s in (1.0, -1.0)
      )
      slope, up, down = jax.device_get((slope, up, down))
    for got, a, b in zip(slope, up, down, strict=True):
      np.testing.assert_allclose(got, (a - b) / (2 * h), rtol=1e-6, atol=1e-7)

  def test_radius_zero(self):
    out = adversary.optimal_operator(DIAGONAL, DIAGONAL, 0.0)
    np.testing.assert_array_equal(out.matrix, np.zeros(3))
    self.assertEqual(out.lam, np.inf)

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, r"cov_true must have shape \[3\]"):
      adversary.optimal_operator(DIAGONAL, np.ones(2), 1.0)
    with self.assertRaisesRegex(
      ValueError, "cov_true must be positive, got -1"
    ):
      adversary.optimal_operator(DIAGONAL, [1.0, -1.0, 1.0], 1.0)


class LagrangianTest(parameterized.TestCase):
  @parameterized.named_parameters(("full", FULL), ("diagonal", DIAGONAL))
  def test_perturbation_is_the_best_that_scipy_finds(self, cov):
    c = 1.4 / (np.linalg.eigvalsh(cov) if cov.ndim == 2 else cov).min()
    v = POINTS[0]
    found = optimize.minimize(
      lambda d: c / 2 * d @ d - _gain(d, v, cov), np.zeros(3), tol=1e-12
    )
    delta = lagrangian.lagrangian_perturbation(v, cov, c)
    np.testing.assert_allclose(delta, found.x, rtol=1e-5, atol=1e-7)

  @parameterized.parameters(1.1, 2.0, 50.0)
  def test_vulnerability_of_one_dimension_by_hand(self, c):
    # delta = v / (c - 1): the NLL rises by ((c / (c - 1))^2 - 1) E[v^2] / 2.
    expected = ((c / (c - 1)) ** 2 - 1) / 2
    got = lagrangian.lagrangian_vulnerability([1.0], c)
    np.testing.assert_allclose(got, expected, rtol=1e-12)

  def test_vulnerability_is_the_mean_gain(self):
    # E over the Gaussian by Gauss-Hermite quadrature, exact for polynomials.
    c = 3.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    total = 0.0
    for s in DIAGONAL:
      v = np.sqrt(s) * nodes
      delta = v / (c * s - 1)
      total += weights @ (((v + delta) ** 2 - v**2) / (2 * s))
    got = lagrangian.lagrangian_vulnerability(DIAGONAL, c)
    np.testing.assert_allclose(got, total, rtol=1e-12)
    full = lagrangian.lagrangian_vulnerability(np.diag(DIAGONAL), c)
    np.testing.assert_allclose(full, total, rtol=1e-12)

  @parameterized.parameters(2.0, 1.0, 1.9999)
  def test_refuses_a_penalty_that_binds_nobody(self, c):
    with self.assertRaisesRegex(ValueError, r"c must be above .* = 2\.0.*got"):
      lagrangian.lagrangian_vulnerability(DIAGONAL, c)
    with self.assertRaisesRegex(ValueError, r"c must be above"):
      lagrangian.lagrangian_perturbation(POINTS, np.diag(DIAGONAL), c)


if __name__ == "__main__":
  absltest.main()
