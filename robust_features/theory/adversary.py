r"""The adversary's best answer to a Gaussian model: Lemmas 1 and 2.

The loss is the negative log-likelihood of N(mu, Sigma),

  NLL(x) = 1/2 v' Sigma^-1 v + 1/2 log det(2 pi Sigma),     v = x - mu,

and two adversaries may raise it:

  Lemma 1    ||delta|| = eps for every sample
  Lemma 2    E||M v||^2 = eps^2 for one linear operator M, delta = M v

Both answers are (lam Sigma - I)^-1 v; only lam differs. The maximiser asks for
lam > 1 / sigma_min(Sigma), so with m = lam sigma_min - 1 and r_i = S_i /
sigma_min the denominators lam S_i - 1 = (r_i - 1) + m r_i are sums of positive
terms and nothing cancels. What is left is one equation in m,

  sum_i a_i^2 / ((r_i - 1) + m r_i)^2 = eps^2,

with a = v for Lemma 1 and a_i^2 = (Sigma_*)_ii for Lemma 2.

Reference: arXiv:1905.02175, sections E.3.1 and E.3.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, spectrum, validation
from robust_features.theory.precision import Array

_MAX_STEPS = 256


class Operator(NamedTuple):
  """The adversary's best linear operator, delta = matrix @ (x - mu).

  Attributes:
    matrix: `[D]` if both covariances are diagonal or the learned one is, else
      `[D, D]`.
    lam: The multiplier of the norm constraint; inf at eps = 0.
  """

  matrix: Array
  lam: Array


def secular_root(
  a: jax.Array, ratio: jax.Array, excess: jax.Array, eps: jax.Array
) -> jax.Array:
  """Returns m >= 0 with sum (a / (excess + m ratio))^2 = eps^2; 0 if hard.

  The reciprocal norm is concave and rising in m, so Newton's steps on it from
  below rise to the root without ever passing it (More and Sorensen, 1983).

  Args:
    a: `[D]` numerators.
    ratio: `[D]`, S / sigma_min, at least 1.
    excess: `[D]`, ratio - 1 computed without cancellation.
    eps: Radius, above 0.

  Returns:
    The root, or 0 in the hard case: all of `a` that is orthogonal to the
    weakest direction is too short, and nothing lies along that direction.
  """
  a = jnp.abs(a) / eps
  # No single term may exceed the whole norm: a lower bound of the root.
  start = jnp.maximum(jnp.max((a - excess) / ratio), 0)
  tiny = 4 * jnp.finfo(a.dtype).eps

  def step(m):
    denominator = excess + m * ratio
    alive = a > 0
    safe = jnp.where(alive, denominator, 1)
    term = jnp.where(alive, a / safe, 0)
    norm = jnp.sqrt(jnp.sum(term**2))
    slope = jnp.sum(term**2 * jnp.where(alive, ratio / safe, 0))
    return (norm - 1) * norm**2 / jnp.where(slope > 0, slope, 1)

  def proceed(carry):
    m, change, count = carry
    return (change > tiny * m) & (count < _MAX_STEPS)

  def advance(carry):
    m, change, count = carry
    m = m + change
    return m, step(m), count + 1

  first = (start, step(start), jnp.zeros((), jnp.int32))
  return jax.lax.while_loop(proceed, advance, first)[0]


def _ratios(values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns S / sigma_min and S / sigma_min - 1, both `[D]`."""
  smallest = jnp.min(values)
  return values / smallest, (values - smallest) / smallest


# --- Lemma 1 -----------------------------------------------------------------


def _check_perturbation(v, cov, eps) -> None:
  validation.check_covariance("cov", cov)
  validation.check_batch("v", v, np.shape(cov)[0])
  validation.check_radius("eps", eps, np.shape(v)[:-1])


@precision.float64(_check_perturbation)
def optimal_perturbation(v, cov, eps) -> Array:
  """Returns the perturbation of norm eps that raises the NLL most (Lemma 1).

  The global maximiser of delta' Sigma^-1 v + 1/2 delta' Sigma^-1 delta on the
  sphere, which is that in the ball. In the hard case (`v` orthogonal to the
  weakest direction, and short) two maximisers tie; the one along the positive
  weakest direction is returned, and derivatives are those on its side.

  Args:
    v: `[..., D]`, the samples minus the learned mean.
    cov: `[D]` or `[D, D]`, the learned covariance.
    eps: Radius, a number or `[...]`.

  Returns:
    `[..., D]`, of l2 norm eps, differentiable in all three arguments.

  Raises:
    ValueError: If a shape is wrong, a number not finite, `cov` not symmetric
      positive definite or eps negative.

  Reference: arXiv:1905.02175, Lemma 1, a trust-region problem.
  """
  rows = v.reshape(-1, v.shape[-1])
  radii = jnp.broadcast_to(eps, v.shape[:-1]).reshape(-1)
  deltas = jax.vmap(_perturbation, (0, None, 0))(rows, cov, radii)
  return deltas.reshape(v.shape)


@jax.custom_jvp
def _perturbation(v, cov, eps):
  basis = spectrum.decompose(cov)
  delta, _ = _trust_region(basis.rotate(v), basis.values, eps)
  return basis.unrotate(delta)


def _trust_region(v, values, eps):
  """Returns delta and m in the eigenbasis, `[D]` and scalar."""
  ratio, excess = _ratios(values)
  radius = jnp.where(eps > 0, eps, 1)
  m = secular_root(v, ratio, excess, radius)
  denominator = excess + m * ratio
  delta = jnp.where(v == 0, 0, v / jnp.where(denominator > 0, denominator, 1))
  missing = jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(delta**2), 0))
  weakest = jnp.arange(v.size) == jnp.argmin(values)
  delta = jnp.where((m == 0) & weakest, delta + missing, delta)
  return jnp.where(eps > 0, delta, 0), m


@_perturbation.defjvp
def _perturbation_jvp(primals, tangents):
  """Differentiates (lam Sigma - I) delta = v and delta' delta = eps^2.

  Both are linear in the unknown tangents once rotated; multiplying by m before
  dividing keeps them finite as m falls to 0.
  """
  v, cov, eps = primals
  v_dot, cov_dot, eps_dot = tangents
  basis = spectrum.decompose(cov)
  delta, m = _trust_region(basis.rotate(v), basis.values, eps)
  ratio, excess = _ratios(basis.values)
  lam = (1 + m) / jnp.min(basis.values)
  moved = spectrum.apply(cov_dot, basis.unrotate(delta))
  known = basis.rotate(v_dot) - lam * basis.rotate(moved)

  denominator = excess + m * ratio
  stuck = denominator == 0  # The weakest directions in the hard case.
  safe = jnp.where(stuck, 1, denominator)
  weight = jnp.where(stuck | (excess == 0), 1, m / safe)
  scale = jnp.sum(weight * basis.values * delta**2)
  pull = jnp.sum(weight * delta * known) - m * eps * eps_dot
  lam_dot = pull / jnp.where(scale > 0, scale, 1)
  free = (known - lam_dot * basis.values * delta) / safe
  free = jnp.where(stuck, 0, free)
  # What the others leave of the norm's change goes along the stuck ones.
  stuck_norm = jnp.sum(jnp.where(stuck, delta**2, 0))
  rest = eps * eps_dot - jnp.sum(delta * free)
  held = delta * rest / jnp.where(stuck_norm > 0, stuck_norm, 1)
  delta_dot = jnp.where(stuck, held, free)

  direction = basis.rotate(v) / basis.values
  length = jnp.sqrt(jnp.sum(direction**2))
  at_zero = eps_dot * direction / jnp.where(length > 0, length, 1)
  delta_dot = jnp.where(eps > 0, delta_dot, at_zero)
  return basis.unrotate(delta), basis.unrotate(delta_dot)


# --- Lemma 2 -----------------------------------------------------------------


def _check_operator(cov, cov_true, eps) -> None:
  validation.check_covariance("cov", cov)
  validation.check_covariance("cov_true", cov_true, np.shape(cov)[0])
  validation.check_radius("eps", eps)


@precision.float64(_check_operator)
def optimal_operator(cov, cov_true, eps) -> Operator:
  """Returns the linear operator that raises the expected NLL most (Lemma 2).

  M = (lam Sigma - I)^-1 with tr(Sigma_* M^2) = eps^2 and
  lam > 1 / sigma_min(Sigma): the maximiser over all operators, commuting with
  Sigma_* or not. Differentiable in all three arguments.

  Args:
    cov: `[D]` or `[D, D]`, the learned covariance Sigma.
    cov_true: `[D]` or `[D, D]`, the covariance Sigma_* of the data about the
      learned mean.
    eps: Root mean square norm of the perturbation, >= 0.

  Raises:
    ValueError: If a shape is wrong, a number not finite, a covariance not
      symmetric positive definite or eps negative.

  Reference: arXiv:1905.02175, Lemma 2, with eps^2 where (27) has eps.
  """
  return _operator(cov, cov_true, eps)


@jax.custom_jvp
def _operator(cov, cov_true, eps):
  basis = spectrum.decompose(cov)
  ratio, excess = _ratios(basis.values)
  reach = jnp.sqrt(basis.diagonal(cov_true))
  m = secular_root(reach, ratio, excess, jnp.where(eps > 0, eps, 1))
  matrix = jnp.where(eps > 0, 1 / (excess + m * ratio), 0)
  lam = jnp.where(eps > 0, (1 + m) / jnp.min(basis.values), jnp.inf)
  return Operator(basis.compose(matrix), lam)


@_operator.defjvp
def _operator_jvp(primals, tangents):
  """Uses dM = -M (dlam Sigma + lam dSigma) M, and the constraint for dlam."""
  cov, cov_true, eps = primals
  cov_dot, cov_true_dot, eps_dot = tangents
  out = _operator(cov, cov_true, eps)
  lam = jnp.where(eps > 0, out.lam, 1)
  matrix, square = out.matrix, _product(out.matrix, out.matrix)
  # The derivative of tr(Sigma_* M^2) along -M X M is -tr(pull X).
  sandwich = _product(_product(square, cov_true), matrix)
  pull = sandwich + sandwich.T
  gain = spectrum.trace(_product(cov_true_dot, square))
  loss = lam * spectrum.trace(_product(pull, cov_dot))
  scale = spectrum.trace(_product(pull, cov))
  lam_dot = (gain - loss - 2 * eps * eps_dot) / jnp.where(eps > 0, scale, 1)
  change = lam_dot * cov + lam * cov_dot
  matrix_dot = -_product(_product(matrix, change), matrix)
  return out, Operator(matrix_dot, lam_dot)


def _product(a: Array, b: Array) -> Array:
  """Returns a @ b where either may be a diagonal."""
  if a.ndim == 1:
    return a * b if b.ndim == 1 else a[:, None] * b
  return a * b[None, :] if b.ndim == 1 else a @ b
