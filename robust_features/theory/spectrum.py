"""The eigenbasis of a covariance: a diagonal one costs nothing.

Every statement of the section holds in the eigenbasis of a covariance. A
covariance is a vector `[D]` when it is diagonal and a matrix `[D, D]` when it
is full; functions take either and give back the same kind.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_features.theory.precision import Array


class Spectrum(NamedTuple):
  """Eigenvalues of a covariance, and its eigenvectors unless it is diagonal.

  Attributes:
    values: `[D]` eigenvalues, in the order of the axes if diagonal.
    vectors: `[D, D]` with eigenvectors as columns, or None.
  """

  values: jax.Array
  vectors: jax.Array | None

  def rotate(self, x: jax.Array) -> jax.Array:
    """Returns the vector `[D]` in the eigenbasis."""
    return x if self.vectors is None else x @ self.vectors

  def unrotate(self, x: jax.Array) -> jax.Array:
    """Returns the vector `[D]` of the eigenbasis in the original axes."""
    return x if self.vectors is None else self.vectors @ x

  def compose(self, values: jax.Array) -> jax.Array:
    """Returns the operator with these eigenvalues, `[D]` or `[D, D]`."""
    if self.vectors is None:
      return values
    return (self.vectors * values[None, :]) @ self.vectors.T

  def diagonal(self, cov: jax.Array) -> jax.Array:
    """Returns the diagonal `[D]` of another covariance in this eigenbasis."""
    if self.vectors is None:
      return cov if cov.ndim == 1 else jnp.diagonal(cov)
    if cov.ndim == 1:
      return jnp.square(self.vectors).T @ cov
    return jnp.sum(self.vectors * (cov @ self.vectors), axis=0)


def decompose(cov: jax.Array) -> Spectrum:
  """Returns the spectrum of a diagonal `[D]` or full `[D, D]` covariance."""
  if cov.ndim == 1:
    return Spectrum(cov, None)
  return Spectrum(*jnp.linalg.eigh((cov + cov.T) / 2))


def eigenvalues(cov: jax.Array) -> jax.Array:
  """Returns the eigenvalues `[D]`; differentiable where some are equal."""
  return cov if cov.ndim == 1 else jnp.linalg.eigvalsh((cov + cov.T) / 2)


def apply(operator: jax.Array, x: jax.Array) -> jax.Array:
  """Returns a diagonal `[D]` or full `[D, D]` operator applied to `[D]`."""
  return operator * x if operator.ndim == 1 else operator @ x


def solve(cov: jax.Array, x: jax.Array) -> jax.Array:
  """Returns cov^-1 x, `[D]`."""
  return x / cov if cov.ndim == 1 else jnp.linalg.solve(cov, x)


def trace(operator: Array) -> jax.Array:
  """Returns the trace of a diagonal `[D]` or full `[D, D]` operator."""
  return jnp.sum(operator) if operator.ndim == 1 else jnp.trace(operator)
