r"""Gradient and mean: Theorem 3 and Lemmas 6 to 8.

The classifier's input gradient is Sigma^-1 mu. Its cosine with mu depends on
mu, but is never below 2 sqrt(k) / (1 + k) for k the condition number of Sigma
(Kantorovich's inequality). Robust training lowers k (Lemmas 6 and 7), so the
worst case improves, strictly unless Sigma_* is a multiple of the identity.

Reference: arXiv:1905.02175, Theorem 3 and section E.3.7.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, spectrum, validation
from robust_features.theory.precision import Array


class WorstCase(NamedTuple):
  """The least cosine of gradient and mean, and a mean that attains it.

  Attributes:
    cosine: Scalar in (0, 1].
    mean: `[D]`, of unit length.
  """

  cosine: Array
  mean: Array


def _check_covariance(cov) -> None:
  validation.check_covariance("cov", cov)


@precision.float64(_check_covariance)
def condition_number(cov) -> Array:
  """Returns the largest eigenvalue over the smallest.

  Args:
    cov: `[D]` or `[D, D]`.

  Raises:
    ValueError: If `cov` is not symmetric positive definite.
  """
  s = spectrum.eigenvalues(cov)
  return jnp.max(s) / jnp.min(s)


def _check_alignment(mean, cov) -> None:
  validation.check_vector("mean", mean)
  validation.check_covariance("cov", cov, np.shape(mean)[0])
  if not precision.is_traced(mean) and not np.any(np.asarray(mean)):
    raise ValueError(f"mean must not be zero, got {mean!r}")


@precision.float64(_check_alignment)
def alignment(mean, cov) -> Array:
  """Returns the cosine between the mean and the gradient Sigma^-1 mu.

  Args:
    mean: `[D]`, not zero.
    cov: `[D]` or `[D, D]`.

  Raises:
    ValueError: If the mean is zero, a shape is wrong, a number not finite or
      `cov` not symmetric positive definite.
  """
  gradient = spectrum.solve(cov, mean)
  lengths = jnp.sqrt(jnp.sum(mean**2)) * jnp.sqrt(jnp.sum(gradient**2))
  return jnp.sum(mean * gradient) / lengths


@precision.float64(_check_covariance)
def worst_case_alignment(cov) -> WorstCase:
  """Returns min over means of cos(mu, Sigma^-1 mu), and the mean (Lemma 8).

  The mean lies in the plane of the extreme axes, with weights sqrt(S_max) and
  sqrt(S_min) on them.

  Args:
    cov: `[D]` or `[D, D]`, the learned covariance.

  Raises:
    ValueError: If `cov` is not symmetric positive definite.

  Reference: arXiv:1905.02175, Theorem 3 and Lemma 8.
  """
  basis = spectrum.decompose(cov)
  high, low = jnp.argmax(basis.values), jnp.argmin(basis.values)
  largest, smallest = basis.values[high], basis.values[low]
  total = largest + smallest
  weights = jnp.zeros_like(basis.values)
  weights = weights.at[high].set(jnp.sqrt(largest / total))
  # Where all eigenvalues are equal the two axes are one, and any mean will do.
  weak = jnp.where(high == low, 1, jnp.sqrt(smallest / total))
  weights = weights.at[low].set(weak)
  cosine = 2 * jnp.sqrt(largest) * jnp.sqrt(smallest) / total
  return WorstCase(cosine, basis.unrotate(weights))
