r"""What adversarial training learns: Lemmas 4 and 5 and Theorem 2.

Against the linear operator of Lemma 2 the learner keeps the true mean and
learns, in the eigenbasis of Sigma_* with eigenvalues s,

  S = s/2 + tau + sqrt(s tau + s^2/4) = s (1 + M)^2,        tau = 1 / lam,
  sum_i s_i M_i^2 = eps^2,                M = 1 / (lam S - 1).

Both meet in one equation for tau. With t = tau / s and r = sqrt(t + 1/4) the
operator is M = r - 1/2 = t / (r + 1/2), so that

  phi(tau) = sqrt(sum s M^2) = tau sqrt(sum 1 / (s (r + 1/2)^2)) = eps.

The slope of log phi in log tau lies between 1/2 and 1 whatever the spectrum:
that brackets the root from any start, and phi is smooth down to tau = 0, which
is eps = 0.

Reference: arXiv:1905.02175, sections E.3.5 to E.3.8, with eps^2 where (27) and
the bounds print eps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, spectrum, validation
from robust_features.theory.precision import Array

_MAX_STEPS = 100


class RobustParameters(NamedTuple):
  """What the robust learner ends with.

  Attributes:
    mean: `[D]`, the true mean.
    cov: `[D]` or `[D, D]` like the covariance given.
    lam: The multiplier of the adversary's constraint; inf at eps = 0.
  """

  mean: Array
  cov: Array
  lam: Array


class LambdaBounds(NamedTuple):
  """Bounds of lambda; the tight ones know Sigma_r, the loose ones need not.

  lower <= tight_lower <= lambda <= tight_upper <= upper. All are scalars, and
  inf at eps = 0.
  """

  lower: Array
  tight_lower: Array
  tight_upper: Array
  upper: Array


def _check_parameters(mean, cov, eps) -> None:
  validation.check_vector("mean", mean)
  validation.check_covariance("cov", cov, np.shape(mean)[0])
  validation.check_radius("eps", eps)


@precision.float64(_check_parameters)
def robust_parameters(mean, cov, eps) -> RobustParameters:
  """Returns the parameters that minimise the worst expected NLL (Lemma 4).

  The implicit equation is solved to the last digits of float64, for eps from
  0 and 1e-6 to 1e6 and condition numbers up to 1e12 (of a diagonal `cov`; the
  small eigenvalues of a full one carry the rounding of its entries). It is
  differentiated implicitly, also where eigenvalues coincide and at eps = 0.

  Args:
    mean: `[D]`, the true mean mu_*.
    cov: `[D]` or `[D, D]`, the true covariance Sigma_*.
    eps: Root mean square l2 norm of the perturbation, >= 0.

  Raises:
    ValueError: If a shape is wrong, a number not finite, `cov` not symmetric
      positive definite or eps negative.

  Reference: arXiv:1905.02175, Theorem 2 and Lemma 4.
  """
  tau = solve_tau(spectrum.eigenvalues(cov), eps)
  return RobustParameters(mean, _spread(cov, tau), 1 / tau)


def _learned(s: jax.Array, tau: jax.Array) -> jax.Array:
  """Returns the learned eigenvalues S `[D]` of the true ones s."""
  return s / 2 + tau + jnp.sqrt(s * tau + s**2 / 4)


def _phi(s: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns phi / tau and the slope of log phi in log tau."""
  r = jnp.sqrt(tau / s + 0.25)
  terms = 1 / (s * (r + 0.5) ** 2)
  total = jnp.sum(terms)
  return jnp.sqrt(total), jnp.sum(terms * (0.5 + 0.25 / r)) / total


@jax.custom_jvp
def solve_tau(s: jax.Array, eps: jax.Array) -> jax.Array:
  """Returns tau = 1 / lambda >= 0 with phi(tau) = eps.

  Newton's method on log phi against log tau, kept inside its bracket.

  Args:
    s: `[D]`, eigenvalues of Sigma_*, positive.
    eps: Radius, >= 0.
  """
  scale = jnp.max(s)  # Makes the equation free of units.
  s = s / scale
  radius = jnp.where(eps > 0, eps / jnp.sqrt(scale), 1)
  tiny = 2 * jnp.finfo(s.dtype).eps

  def newton(tau):
    """Returns by how much to multiply tau, and the error of log phi."""
    ratio, slope = _phi(s, tau)
    error = jnp.log(radius / (tau * ratio))
    return error / slope, error

  def proceed(carry):
    _, _, _, change, count = carry
    return (jnp.abs(change) > tiny) & (count < _MAX_STEPS)

  def advance(carry):
    tau, low, high, change, count = carry
    proposal = tau * jnp.exp(change)
    inside = (proposal > low) & (proposal < high)
    tau = jnp.where(inside, proposal, jnp.sqrt(low) * jnp.sqrt(high))
    change, error = newton(tau)
    low = jnp.where(error >= 0, tau, low)
    high = jnp.where(error <= 0, tau, high)
    return tau, low, high, change, count + 1

  step = radius / jnp.sqrt(jnp.sum(s))  # M of an isotropic covariance.
  start = jnp.mean(s) * (step + step**2)
  change, error = newton(start)
  # With a slope in [1/2, 1] the root is within twice the error.
  low = start * jnp.exp(jnp.minimum(2 * error, 0) - 1)
  high = start * jnp.exp(jnp.maximum(2 * error, 0) + 1)
  carry = (start, low, high, change, jnp.zeros((), jnp.int32))
  tau = jax.lax.while_loop(proceed, advance, carry)[0]
  return jnp.where(eps > 0, tau * scale, 0)


@solve_tau.defjvp
def _solve_tau_jvp(primals, tangents):
  """Differentiates phi(tau, s) = eps; every term is finite at tau = 0."""
  (s, eps), (s_dot, eps_dot) = primals, tangents
  tau = solve_tau(s, eps)
  ratio, slope = _phi(s, tau)
  r = jnp.sqrt(tau / s + 0.25)
  phi_s = -tau / (4 * ratio * r * (s * (r + 0.5)) ** 2)
  return tau, (eps_dot - jnp.sum(phi_s * s_dot)) / (ratio * slope)


@jax.custom_jvp
def _spread(cov: jax.Array, tau: jax.Array) -> jax.Array:
  """Returns Sigma_r, the function S(s, tau) of the matrix Sigma_*."""
  basis = spectrum.decompose(cov)
  return basis.compose(_learned(basis.values, tau))


@_spread.defjvp
def _spread_jvp(primals, tangents):
  """Differentiates a matrix function by divided differences.

  (S_i - S_j) / (s_i - s_j) is written without a difference, so that equal
  eigenvalues are no special case (the derivative of an eigenvector would be).
  """
  (cov, tau), (cov_dot, tau_dot) = primals, tangents
  basis = spectrum.decompose(cov)
  s = basis.values
  root = jnp.sqrt(s * tau + s**2 / 4)
  along_tau = basis.compose(1 + s / (2 * root)) * tau_dot
  out = basis.compose(_learned(s, tau))
  if basis.vectors is None:
    return out, (0.5 + (tau + s / 2) / (2 * root)) * cov_dot + along_tau
  q = basis.vectors
  sums = s[:, None] + s[None, :]
  divided = 0.5 + (tau + sums / 4) / (root[:, None] + root[None, :])
  cov_dot = (cov_dot + cov_dot.T) / 2
  return out, q @ (divided * (q.T @ cov_dot @ q)) @ q.T + along_tau


# --- Lemma 5 and Theorem 2's bounds ------------------------------------------


def _check_covariance(cov) -> None:
  validation.check_covariance("cov", cov)


@precision.float64(_check_covariance)
def admissible_radius(cov) -> Array:
  """Returns an eps_0 below which the adversary's operator must be positive.

  For eps < sqrt(sigma_min(Sigma_*)) no lam > 0 that meets the constraint
  leaves M = (lam Sigma - I)^-1 with a negative eigenvalue.

  Args:
    cov: `[D]` or `[D, D]`, the true covariance Sigma_*.

  Raises:
    ValueError: If `cov` is no covariance.

  Reference: arXiv:1905.02175, Lemma 5, in units of eps and not of eps^2.
  """
  return jnp.sqrt(jnp.min(spectrum.eigenvalues(cov)))


def _check_bounds(cov, eps) -> None:
  validation.check_covariance("cov", cov)
  validation.check_radius("eps", eps)


@precision.float64(_check_bounds)
def lambda_bounds(cov, eps) -> LambdaBounds:
  """Returns the bounds of Theorem 2 on lambda, with their constants.

  Args:
    cov: `[D]` or `[D, D]`, the true covariance Sigma_*.
    eps: Radius, >= 0.

  Raises:
    ValueError: If `cov` is no covariance or eps is negative.

  Reference: arXiv:1905.02175, sections E.3.7 and E.3.8, with eps^2 put right.
  """
  s = spectrum.eigenvalues(cov)
  learned = _learned(s, solve_tau(s, eps))
  frobenius = jnp.sqrt(jnp.sum(s**2))
  below = 1 + jnp.sqrt(s.size * jnp.min(s)) / eps
  above = 1 + jnp.sqrt(s.size * frobenius) / eps
  return LambdaBounds(
    lower=s.size / 2 / (eps**2 + jnp.sum(s)) * below,
    tight_lower=s.size / jnp.sum(learned) * below,
    tight_upper=above / jnp.min(learned),
    upper=above / jnp.min(s),
  )
