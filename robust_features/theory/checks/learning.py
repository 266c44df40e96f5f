"""Checks of the learner's side: Lemmas 3 to 5, Theorem 2, Danskin."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import adversary, mle, robust
from robust_features.theory.checks.adversary import random_covariance
from robust_features.theory.checks.rows import Claim, Row

# s, eps, lambda, S: worked out apart from this code, by a bracketed search.
GOLDEN = (
  ((25.0, 0.5), 1.0, 0.6308210485, (28.0809811, 2.7599614)),
  ((25.0, 0.5), 10.0, 0.0146837946, (123.716174, 74.192976)),
)


def check_lemma_3(seed: int) -> list[Row]:
  """Checks convexity in T = Sigma^-1, m = Sigma^-1 mu by Hessians."""
  rng = np.random.default_rng(seed)
  dim = 3
  z = jnp.asarray(rng.normal(size=(8, dim)))
  mean, variance = jnp.asarray(rng.normal(size=dim)), jnp.ones(dim)

  def least(loss):
    """Returns the smallest Hessian eigenvalue over its size, `[64]`."""

    def at(point):
      values = jnp.linalg.eigvalsh(jax.hessian(loss)(point))
      return values[0] / jnp.max(jnp.abs(values))

    return jax.jit(jax.vmap(at))(points)

  m = rng.normal(size=(64, dim)) * 2
  spread = rng.uniform(0.1, 4.0, size=(64, dim))
  points = jnp.asarray(np.concatenate([m, spread], axis=1))
  reach = jnp.asarray(rng.uniform(0.0, 2.0, size=dim))

  def plain(p):
    """In (mu, Sigma), where the NLL is not convex."""
    return mle.nll(p[:dim] / p[dim:], 1 / p[dim:], z)

  claim = Claim("Lemma 3", "", "mle.nll")._replace
  return [
    claim(statement="NLL convex in (m, T): least Hessian eigenvalue").at_least(
      least(lambda p: mle.nll(p[:dim], p[dim:], z)), 0.0, 1e-12
    ),
    claim(
      statement="the same with a linear perturbation held fixed",
      function="mle.operator_loss",
    ).at_least(
      least(
        lambda p: mle.operator_loss(p[:dim], p[dim:], mean, variance, reach)
      ),
      0.0,
      1e-12,
    ),
    claim(statement="not convex in (mu, Sigma): some eigenvalue < 0").at_least(
      -least(plain).min(), 0.01
    ),
  ]


def worst_nll(S, s, eps) -> jax.Array:
  """Returns max over M of the expected NLL at Sigma = S, both `[D]`."""
  reach = adversary.optimal_operator(S, s, eps).matrix * jnp.sqrt(s)
  zero = jnp.zeros_like(s)
  return mle.operator_loss(zero, 1 / S, zero, s, reach)


def check_danskin(seed: int) -> list[Row]:
  """Checks that descent against the frozen adversary is the right descent."""
  rng = np.random.default_rng(seed)
  s, S = jnp.asarray([25.0, 0.5, 2.0]), jnp.asarray([20.0, 3.0, 1.0])
  eps = 1.5
  reach = adversary.optimal_operator(S, s, eps).matrix * jnp.sqrt(s)
  zero = jnp.zeros(3)

  def frozen(S):
    return mle.operator_loss(zero, 1 / S, zero, s, reach)

  whole = jax.jit(jax.grad(worst_nll))(S, s, eps)
  x = rng.normal(size=(256, 3)) * np.sqrt(s) + np.array([-10.0, 1.0, 0.0])
  rows = [
    Claim(
      "Danskin", "d max_M = d at the maximiser (autodiff)", "optimal_operator"
    ).equals(jax.jit(jax.grad(frozen))(S), whole, 1e-12),
    Claim(
      "Danskin",
      "the same for the adversary of every sample",
      "optimal_perturbation",
    ).equals(*_sample_slopes(jnp.asarray(x), eps), 1e-12),
  ]
  fit = mle.adversarial_mle(x, eps)
  closed = robust.robust_parameters(x.mean(axis=0), x.var(axis=0), eps)
  claim = Claim("Theorem 2", "", "adversarial_mle")._replace
  return [
    *rows,
    claim(statement="adversarial training finds Sigma_r").equals(
      np.asarray(fit.cov) / np.asarray(closed.cov), np.ones(3), 1e-6
    ),
    claim(statement="adversarial training finds mu_r = mu_*").equals(
      fit.mean, x.mean(axis=0), 1e-6
    ),
  ]


def _sample_slopes(x, eps):
  """Returns the gradients in (m, T) with the perturbations frozen, and not."""
  m, T = jnp.asarray([-0.2, 1.0, 0.1]), jnp.asarray([0.05, 0.6, 0.3])

  def loss(m, T, delta):
    return mle.nll(m, T, x + delta)

  def whole(m, T):
    return loss(m, T, mle.sample_perturbations(m, T, x, eps))

  delta = mle.sample_perturbations(m, T, x, eps)
  frozen = jax.jit(jax.grad(loss, (0, 1)))(m, T, delta)
  return np.stack(frozen), np.stack(jax.jit(jax.grad(whole, (0, 1)))(m, T))


def exact_lambda_error(s, lam, eps) -> float:
  """Returns |phi(1 / lam) / eps - 1| in 60-digit arithmetic."""
  with decimal.localcontext() as context:
    context.prec = 60
    lam, eps = decimal.Decimal(float(lam)), decimal.Decimal(eps)
    total = decimal.Decimal(0)
    for value in s:
      value = decimal.Decimal(float(value))
      learned = value / 2 + 1 / lam + (value / lam + value**2 / 4).sqrt()
      total += value / (lam * learned - 1) ** 2
    return float(abs(total.sqrt() / eps - 1))


def check_lemma_4(seed: int) -> list[Row]:
  """Checks the robust parameters."""
  claim = Claim("Lemma 4", "", "robust_parameters")._replace
  rows = []
  for s, eps, lam, learned in GOLDEN:
    out = robust.robust_parameters(np.zeros(2), s, eps)
    rows.append(
      claim(statement=f"known values, s = {s}, eps = {eps:g}").equals(
        np.append(out.cov / np.array(learned), out.lam / lam), np.ones(3), 3e-8
      )
    )
  radii = 10.0 ** np.arange(-6, 7, 3)
  wide = np.geomspace(1e-6, 1e6, 5)
  errors = [
    exact_lambda_error(
      wide, robust.robust_parameters(np.zeros(5), wide, float(eps)).lam, eps
    )
    for eps in radii
  ]
  rows.append(
    claim(
      statement="implicit equation, eps 1e-6 .. 1e6, condition 1e12"
    ).equals(1 + np.array(errors), np.ones(5), 4e-15)
  )
  return [*rows, *_lemma_4_optimum(seed, claim), *_lemma_4_limits(claim)]


def _lemma_4_optimum(seed, claim) -> list[Row]:
  rng = np.random.default_rng(seed)
  s, eps = jnp.asarray([25.0, 0.5, 2.0, 2.0]), 1.5
  zero = np.zeros(4)
  best = robust.robust_parameters(zero, s, eps)
  slope = jax.jit(jax.grad(lambda log: worst_nll(jnp.exp(log), s, eps)))(
    jnp.log(best.cov)
  )
  learned = np.asarray(best.cov)
  moved = learned[None, :] * np.exp(0.3 * rng.normal(size=(128, 4)))
  losses = jax.jit(jax.vmap(worst_nll, (0, None, None)))(moved, s, eps)
  full = jnp.asarray(random_covariance(rng, 4))
  values, vectors = jnp.linalg.eigh(full)
  rotated = robust.robust_parameters(zero, values, eps).cov
  direction = rng.normal(size=(4, 4))
  moves = (jnp.asarray(direction + direction.T), jnp.asarray(0.4))

  def learn(cov, eps):
    return robust.robust_parameters(zero, cov, eps).cov

  point = (full, jnp.asarray(eps))
  derivative = jax.jit(lambda p, m: jax.jvp(learn, p, m)[1])(point, moves)
  h = 1e-6
  ends = [
    learn(full + sign * h * moves[0], eps + sign * h * 0.4)
    for sign in (1.0, -1.0)
  ]
  return [
    claim(statement="minimises max_M E[NLL]: zero gradient (autodiff)").equals(
      1 + slope, np.ones(4), 1e-12
    ),
    claim(statement="128 other covariances are worse").at_least(
      losses, worst_nll(best.cov, s, eps)
    ),
    claim(statement="a full covariance is the rotated diagonal one").equals(
      learn(full, eps), (vectors * rotated[None, :]) @ vectors.T, 1e-12
    ),
    claim(
      statement="implicit derivative along (cov, eps) is the difference's"
    ).equals(derivative, (ends[0] - ends[1]) / (2 * h), 1e-7),
  ]


def _lemma_4_limits(claim) -> list[Row]:
  s = np.array([25.0, 0.5, 2.0])
  zero = np.zeros(3)
  fn = robust.robust_parameters
  small, large = fn(zero, s, 1e-7), fn(zero, s, 1e8)
  wide = np.random.default_rng(0).uniform(0.5, 2.0, size=4096)
  out = fn(np.zeros(4096), wide, 3.0)
  return [
    claim(
      statement="eps to 0: Sigma_r = Sigma_* + 2 eps / ||s^-1/2|| I"
    ).equals(
      (small.cov - s) / 1e-7, np.full(3, 2 / np.sqrt((1 / s).sum())), 1e-6
    ),
    claim(statement="eps = 0: Sigma_r = Sigma_*").equals(
      fn(zero, s, 0.0).cov, s, 0.0
    ),
    claim(statement="eps to infinity: Sigma_r = eps^2 / d I").equals(
      large.cov / 1e16 * 3, np.ones(3), 1e-6
    ),
    claim(statement="isotropic: s (1 + eps / sqrt(d s))^2").equals(
      fn(zero, np.full(3, 2.0), 1.5).cov,
      np.full(3, 2 * (1 + 1.5 / np.sqrt(6)) ** 2),
      1e-14,
    ),
    claim(statement="d = 1: (sqrt(s) + eps)^2").equals(
      fn([0.0], [2.0], 1.5).cov, [(np.sqrt(2.0) + 1.5) ** 2], 1e-14
    ),
    claim(statement="d = 4096: the constraint holds").equals(
      jnp.sqrt(jnp.sum(wide * (jnp.sqrt(out.cov / wide) - 1) ** 2)), 3.0, 1e-12
    ),
    claim(statement="the mean is the true mean").equals(
      fn([1.0, -2.0, 3.0], s, 2.0).mean, [1.0, -2.0, 3.0], 0.0
    ),
  ]


def check_bounds(seed: int, num_draws: int) -> list[Row]:
  """Checks Lemma 5 and the bounds of Theorem 2 on random spectra."""
  rng = np.random.default_rng(seed)
  dim = 6
  s = jnp.asarray(np.exp(rng.uniform(-5, 5, size=(num_draws, dim))))
  eps = jnp.asarray(np.exp(rng.uniform(-6, 6, size=num_draws)))

  @jax.jit
  @jax.vmap
  def bound(s, eps):
    lam = robust.robust_parameters(s, s, eps).lam
    return robust.lambda_bounds(s, eps), lam

  bounds, lam = bound(s, eps)
  claim = Claim("Theorem 2", "", "lambda_bounds")._replace
  sizes = f"{num_draws} draws, d = {dim}"
  return [
    Claim(
      "Lemma 5",
      "no other lam > 0 reaches eps^2 below sigma_min(Sigma_*)",
      "admissible_radius",
    ).at_least(*_other_multipliers(rng)),
    claim(
      statement=f"lambda above the bound knowing Sigma_r, {sizes}"
    ).at_least(lam, bounds.tight_lower),
    claim(statement="which is above the one knowing Sigma_* only").at_least(
      bounds.tight_lower, bounds.lower
    ),
    claim(statement="lambda below the bound knowing Sigma_r").at_least(
      bounds.tight_upper, lam
    ),
    claim(statement="which is below the one knowing Sigma_* only").at_least(
      bounds.upper, bounds.tight_upper
    ),
  ]


def _other_multipliers(rng):
  """Returns tr(Sigma_* M^2) on a grid of lam that leave M indefinite, and
  sigma_min(Sigma_*), the eps^2 that it must not fall below.
  """
  s = np.exp(rng.uniform(-2, 2, size=6))
  radius = float(robust.admissible_radius(s))
  S = np.asarray(robust.robust_parameters(s, s, 0.9 * radius).cov)
  grid = np.linspace(0.0, 1.0, 4001)[1:-1] / S.min()
  totals = (s / (grid[:, None] * S - 1) ** 2).sum(axis=1)
  return totals, radius**2
