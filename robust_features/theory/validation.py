"""Checks of what a user hands to the theory: each names the argument."""

import math
from typing import Any

import numpy as np

from robust_features.theory import precision

NORMS = ("l2", "linf")


def check_vector(name: str, value: Any, dim: int | None = None) -> None:
  """Raises ValueError unless `value` is a finite vector `[dim]`."""
  shape = np.shape(value)
  if len(shape) != 1 or not shape[0]:
    raise ValueError(f"{name} must have shape [D], got shape {shape!r}")
  if dim is not None and shape[0] != dim:
    raise ValueError(f"{name} must have shape [{dim}], got shape {shape!r}")
  check_finite(name, value)


def check_batch(name: str, value: Any, dim: int | None = None) -> None:
  """Raises ValueError unless `value` is finite and `[..., dim]`."""
  shape = np.shape(value)
  if (
    not shape or not math.prod(shape) or (dim is not None and shape[-1] != dim)
  ):
    raise ValueError(
      f"{name} must have shape [..., {dim or 'D'}], got shape {shape!r}"
    )
  check_finite(name, value)


def check_finite(name: str, value: Any) -> None:
  """Raises ValueError if a concrete `value` holds a NaN or an infinity."""
  if precision.is_traced(value):
    return
  array = np.asarray(value, np.float64)
  bad = np.argwhere(~np.isfinite(array))
  if len(bad):  # Of a number it has one row and no columns.
    index = tuple(bad[0].tolist())
    where = f" at {index}" if index else ""
    raise ValueError(f"{name} must be finite, got {array[index]}{where}")


def check_covariance(name: str, cov: Any, dim: int | None = None) -> None:
  """Raises ValueError unless `cov` is a diagonal `[D]` or a full `[D, D]`
  positive definite matrix; inside a trace only shapes are checked.
  """
  shape = np.shape(cov)
  square = len(shape) == 2 and shape[0] == shape[1]
  if not (len(shape) == 1 or square) or not shape[0]:
    raise ValueError(
      f"{name} must have shape [D] or [D, D], got shape {shape!r}"
    )
  if dim is not None and shape[0] != dim:
    raise ValueError(
      f"{name} must have shape [{dim}] or [{dim}, {dim}], got shape {shape!r}"
    )
  check_finite(name, cov)
  if precision.is_traced(cov):
    return
  if len(shape) == 1:
    smallest = np.asarray(cov, np.float64).min()
    if not smallest > 0:
      raise ValueError(f"{name} must be positive, got {smallest}")
  else:
    _check_matrix(name, np.asarray(cov))


def _check_matrix(name: str, cov: np.ndarray) -> None:
  matrix = cov.astype(np.float64)
  kind = cov.dtype if np.issubdtype(cov.dtype, np.floating) else np.float64
  gap = np.abs(matrix - matrix.T)
  if gap.max() > np.sqrt(np.finfo(kind).eps) * np.abs(matrix).max():
    i, j = np.unravel_index(gap.argmax(), gap.shape)
    raise ValueError(
      f"{name} must be symmetric, got {matrix[i, j]} at ({i}, {j}) and "
      f"{matrix[j, i]} at ({j}, {i})"
    )
  try:
    np.linalg.cholesky((matrix + matrix.T) / 2)
  except np.linalg.LinAlgError:
    smallest = np.linalg.eigvalsh(matrix).min()
    raise ValueError(
      f"{name} must be positive definite, got a smallest eigenvalue of "
      f"{smallest}"
    ) from None


def check_radius(name: str, value: Any, shape: tuple[int, ...] = ()) -> None:
  """Raises ValueError unless `value` is finite, at least 0, and a number or
  an array of the given shape.
  """
  if isinstance(value, (str, bool)) or np.shape(value) not in ((), shape):
    raise ValueError(f"{name} must be a number >= 0, got {value!r}")
  check_finite(name, value)
  if not precision.is_traced(value):
    smallest = np.asarray(value, np.float64).min()
    if smallest < 0:
      raise ValueError(f"{name} must be >= 0, got {smallest}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def check_signs(name: str, value: Any, num: int) -> None:
  """Raises ValueError unless `value` is `[num]` of -1 and +1."""
  if np.shape(value) != (num,):
    raise ValueError(f"{name} must have shape [{num}], got {np.shape(value)!r}")
  if precision.is_traced(value):
    return
  array = np.asarray(value, np.float64)
  bad = array[np.abs(array) != 1]
  if bad.size:
    raise ValueError(f"{name} must hold -1 and +1 only, got {bad[0]}")
