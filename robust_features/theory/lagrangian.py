r"""Theorem 1: an adversary that pays c/2 ||delta||^2 for its perturbation.

Its best answer is (c Sigma - I)^-1 v, the same as under a bound on the norm
but with a multiplier that is given. What it gains at the true parameters
measures how far the data's metric is from the adversary's.

Reference: arXiv:1905.02175, sections 4 and E.3.2.
"""

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, spectrum, validation
from robust_features.theory.precision import Array


def _check_penalty(cov, c) -> None:
  validation.check_covariance("cov", cov)
  validation.check_radius("c", c)
  if precision.is_traced(cov, c):
    return
  matrix = np.asarray(cov, np.float64)
  values = matrix if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)
  bound = 1 / values.min()
  if not float(c) > bound:
    raise ValueError(
      f"c must be above 1 / sigma_min(cov) = {bound}, or the adversary gains "
      f"without bound; got {c!r}"
    )


def _check_perturbation(v, cov, c) -> None:
  _check_penalty(cov, c)
  validation.check_batch("v", v, np.shape(cov)[0])


@precision.float64(_check_perturbation)
def lagrangian_perturbation(v, cov, c) -> Array:
  """Returns argmax of NLL(x + delta) - c/2 ||delta||^2, (c Sigma - I)^-1 v.

  Args:
    v: `[..., D]`, the samples minus the learned mean.
    cov: `[D]` or `[D, D]`, the learned covariance.
    c: Weight of the penalty, above 1 / sigma_min(cov).

  Raises:
    ValueError: If c is too small for a maximum to exist, or for bad arrays.

  Reference: arXiv:1905.02175, section E.3.2, whose print lacks the v.
  """

  def solve(row):
    if cov.ndim == 1:
      return row / (c * cov - 1)
    return jnp.linalg.solve(c * cov - jnp.eye(row.size, dtype=row.dtype), row)

  return jax.vmap(solve)(v.reshape(-1, v.shape[-1])).reshape(v.shape)


@precision.float64(_check_penalty)
def lagrangian_vulnerability(cov, c) -> Array:
  """Returns how far the penalised adversary raises the expected NLL.

  L_adv - L = 1/2 (tr[(I + (c Sigma_* - I)^-1)^2] - d) at the true parameters.
  For a fixed trace it is least where Sigma_* is a multiple of the identity.

  Args:
    cov: `[D]` or `[D, D]`, the true covariance Sigma_*.
    c: Weight of the penalty c/2 ||delta||^2, above 1 / sigma_min(Sigma_*).

  Returns:
    A scalar, in nats.

  Raises:
    ValueError: If c <= 1 / sigma_min, where the adversary gains without bound,
      or `cov` is no covariance.

  Reference: arXiv:1905.02175, Theorem 1, with the NLL's 1/2 restored.
  """
  q = 1 / (c * spectrum.eigenvalues(cov) - 1)
  return jnp.sum(q * (2 + q)) / 2  # (1 + q)^2 - 1 without cancellation.
