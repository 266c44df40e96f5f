"""Checks of the adversary's side: Lemmas 1 and 2, Theorem 1."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import adversary, lagrangian, spectrum
from robust_features.theory.checks.rows import Claim, Row
from robust_features.theory.gaussian import GaussianModel


def random_covariance(rng: np.random.Generator, dim: int) -> np.ndarray:
  """Returns a full covariance `[dim, dim]`, condition number about 100."""
  q, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
  return (q * np.geomspace(0.1, 10.0, dim)) @ q.T


def gain(delta, v, cov) -> jax.Array:
  """Returns by how much delta raises the NLL of one sample, `[D]` each."""
  pull = spectrum.solve(cov, delta)
  return jnp.sum(pull * v) + jnp.sum(pull * delta) / 2


def check_lemma_1(seed: int) -> list[Row]:
  """Checks the per-sample perturbation."""
  rng = np.random.default_rng(seed)
  cov, eps = random_covariance(rng, 5), 1.7
  v = rng.normal(size=(64, 5)) @ np.linalg.cholesky(cov).T
  delta = np.asarray(adversary.optimal_perturbation(v, cov, eps))
  gains = jax.jit(jax.vmap(gain, (0, 0, None)))
  slopes = jax.jit(jax.vmap(jax.grad(gain), (0, 0, None)))
  gradient = np.asarray(slopes(delta, v, cov))
  along = np.sum(gradient * delta, axis=1, keepdims=True) / eps**2
  lam = along[:, 0]
  claim = Claim("Lemma 1", "", "optimal_perturbation")._replace
  return [
    claim(statement="||delta|| = eps").equals(
      np.linalg.norm(delta, axis=1), np.full(64, eps), 1e-12
    ),
    claim(statement="gradient parallel to delta (autodiff)").equals(
      gradient, along * delta, 1e-12
    ),
    claim(statement="multiplier >= 1/sigma_min: the global maximum").at_least(
      lam, 1 / np.linalg.eigvalsh(cov).min()
    ),
    claim(statement="no ascent from 32 random starts does better").at_least(
      gains(delta, v, cov), _ascend(rng, v, cov, eps), 1e-12
    ),
    claim(
      statement="derivative along (v, cov, eps) is the difference's"
    ).equals(*_perturbation_slopes(rng, v[0], cov, eps), 1e-6),
    *_lemma_1_limits(rng, claim),
  ]


def _ascend(rng, v, cov, eps, num_starts=32, num_steps=200):
  """Returns the best gain `[N]` of normalised fixed-point ascent."""

  rows = jnp.asarray(np.repeat(v, num_starts, axis=0))

  def step(_, delta):
    gradient = jax.vmap(jax.grad(gain), (0, 0, None))(delta, rows, cov)
    return eps * gradient / jnp.linalg.norm(gradient, axis=1, keepdims=True)

  @jax.jit
  def ascend(start):
    delta = jax.lax.fori_loop(0, num_steps, step, start)
    return jax.vmap(gain, (0, 0, None))(delta, rows, cov)

  gains = np.asarray(ascend(rng.normal(size=rows.shape)))
  return gains.reshape(len(v), num_starts).max(axis=1)


def _perturbation_slopes(rng, v, cov, eps, h=1e-6):
  """Returns a directional derivative by autodiff and by differences."""
  direction = rng.normal(size=cov.shape)
  moves = (rng.normal(size=v.shape), direction + direction.T, 0.3)
  point = (v, cov, np.asarray(eps))
  moves = tuple(np.asarray(part) for part in moves)
  fn = adversary.optimal_perturbation
  slope = jax.jit(lambda p, m: jax.jvp(fn, p, m)[1])(point, moves)
  ends = [
    fn(*(p + sign * h * m for p, m in zip(point, moves, strict=True)))
    for sign in (1.0, -1.0)
  ]
  return slope, np.asarray(ends[0] - ends[1]) / (2 * h)


def _lemma_1_limits(rng, claim) -> list[Row]:
  cov = np.array([4.0, 1.0, 0.25])
  hard = np.array([0.6, 0.2, 0.0])  # Short, and orthogonal to the weakest axis.
  near = hard + np.array([0.0, 0.0, 1e-9])
  fn = adversary.optimal_perturbation
  v = rng.normal(size=3)
  scaled = v / cov
  wide = rng.normal(size=4096)
  spread = rng.uniform(0.5, 2.0, size=4096)
  delta = np.asarray(fn(wide, spread, 1.0))
  gradient = (wide + delta) / spread
  return [
    claim(statement="hard case: v orthogonal to the weakest axis").equals(
      fn(hard, cov, 3.0), fn(near, cov, 3.0), 1e-8
    ),
    claim(statement="eps to 0: delta / eps follows Sigma^-1 v").equals(
      fn(v, cov, 1e-7) / 1e-7, scaled / np.linalg.norm(scaled), 1e-6
    ),
    claim(statement="eps to infinity: delta lies on the weakest axis").equals(
      fn(v, cov, 1e8) / 1e8, [0.0, 0.0, np.sign(v[2])], 1e-6
    ),
    claim(statement="isotropic: delta = eps v / ||v||").equals(
      fn(v, np.full(3, 2.0), 1.5), 1.5 * v / np.linalg.norm(v), 1e-12
    ),
    claim(statement="d = 1: delta = eps sign(v)").equals(
      fn([[-0.3], [2.0]], [3.0], 0.7), [[-0.7], [0.7]], 1e-12
    ),
    claim(statement="d = 4096: gradient parallel to delta").equals(
      gradient, np.sum(gradient * delta) * delta, 1e-12
    ),
  ]


def expected_gain(operator, cov, cov_true) -> jax.Array:
  """Returns by how much delta = M v raises the expected NLL, M `[D, D]`."""
  pulled = jnp.linalg.solve(cov, operator)
  linear = jnp.sum(pulled * cov_true.T)
  return linear + jnp.sum(pulled * (operator @ cov_true)) / 2


def check_lemma_2(seed: int, num: int) -> list[Row]:
  """Checks the linear operator, for covariances that do not commute."""
  rng = np.random.default_rng(seed)
  cov, true, eps = random_covariance(rng, 4), random_covariance(rng, 4), 0.8
  out = adversary.optimal_operator(cov, true, eps)
  matrix = np.asarray(out.matrix)
  gradient = jax.jit(jax.grad(expected_gain))(matrix, cov, true)
  others = rng.normal(size=(256, 4, 4))
  norms = np.sqrt(np.einsum("nij,jk,nik->n", others, true, others))
  others = eps * others / norms[:, None, None]
  v = rng.normal(size=(num, 4)) @ np.linalg.cholesky(true).T
  gains = jax.jit(jax.vmap(expected_gain, (0, None, None)))
  best = gains(matrix[None], cov, true)
  claim = Claim("Lemma 2", "", "optimal_operator")._replace
  return [
    claim(statement="gradient is lam M Sigma_* (autodiff)").equals(
      gradient, float(out.lam) * matrix @ true, 1e-12
    ),
    claim(statement="tr(Sigma_* M^2) = eps^2").equals(
      np.trace(true @ matrix @ matrix), eps**2, 1e-12
    ),
    claim(statement="E||M v||^2 = eps^2, sampled").sampled(
      ((v @ matrix) ** 2).sum(axis=1), eps**2
    ),
    claim(statement="lam > 1 / sigma_min(Sigma)").at_least(
      out.lam, 1 / np.linalg.eigvalsh(cov).min()
    ),
    claim(statement="256 random operators of the same size gain less").at_least(
      best, gains(others, cov, true)
    ),
    claim(statement="a diagonal covariance is the rotated full one").equals(
      *_rotated_operator(rng, eps), 1e-12
    ),
  ]


def _rotated_operator(rng, eps):
  q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
  s, true = np.array([3.0, 1.0, 0.5, 2.0]), np.array([1.0, 2.0, 0.7, 0.2])
  full = adversary.optimal_operator((q * s) @ q.T, (q * true) @ q.T, eps)
  diagonal = adversary.optimal_operator(s, true, eps)
  return full.matrix, (q * np.asarray(diagonal.matrix)) @ q.T


def check_theorem_1(seed: int, num: int) -> list[Row]:
  """Checks the penalised adversary."""
  rng = np.random.default_rng(seed)
  cov = random_covariance(rng, 4)
  c = 1.5 / np.linalg.eigvalsh(cov).min()
  v = rng.normal(size=(num, 4)) @ np.linalg.cholesky(cov).T
  delta = np.asarray(lagrangian.lagrangian_perturbation(v, cov, c))

  def penalised(delta, v):
    return gain(delta, v, cov) - c / 2 * jnp.sum(delta**2)

  slope = jax.jit(jax.vmap(jax.grad(penalised)))(delta[:64], v[:64])
  slope = np.asarray(slope)
  model = GaussianModel(np.zeros(4), cov)
  raised = np.asarray(model.nll(v + delta)) - np.asarray(model.nll(v))
  spectra = rng.dirichlet(np.ones(4), size=256) * 4 * 0.5 + 0.5  # Trace 4.
  vulnerability = lagrangian.lagrangian_vulnerability
  losses = jax.jit(jax.vmap(lambda s: vulnerability(s, 2.5)))(spectra)
  flat = jax.grad(vulnerability)(jnp.ones(4), 2.5)
  claim = Claim("Theorem 1", "", "lagrangian_vulnerability")._replace
  return [
    claim(
      statement="delta is stationary (autodiff)",
      function="lagrangian_perturbation",
    ).equals(1 + slope, np.ones_like(slope), 1e-11),
    claim(statement="L_adv - L, sampled").sampled(
      raised, vulnerability(cov, c)
    ),
    claim(statement="least for Sigma_* = (k/d) I: 256 others").at_least(
      losses, vulnerability(np.ones(4), 2.5)
    ),
    claim(statement="equal slopes at the identity (autodiff)").equals(
      flat, np.full(4, -(2.5**2) / 1.5**3), 1e-12
    ),
    claim(
      statement="c to infinity: no vulnerability, as tr(Sigma^-1) / c"
    ).equals(vulnerability(cov, 1e9) * 1e9, np.trace(np.linalg.inv(cov)), 1e-6),
  ]
