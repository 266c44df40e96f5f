"""Per-example losses of logits, for attacks and training.

Every function maps logits `[B, K]` and labels `[B]` to float32 values `[B]`;
an attack climbs them. Nothing is averaged here: an image's attack must not
depend on its batch. Labels that are no class raise ValueError, or where they
are traced, and have no values yet, give NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import core


def _classes(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the labels, or raises ValueError unless they are classes.

  What is traced has no values to look at; there, no class gives NaN, once an
  index below zero, which JAX counts from the last, is moved beyond all.
  """
  if y.shape != logits.shape[:1] or not jnp.issubdtype(y.dtype, jnp.integer):
    raise ValueError(
      f"y must be {logits.shape[0]} integers, got {y.dtype} of shape {y.shape}"
    )
  if isinstance(y, core.Tracer):
    return jnp.where(y < 0, jnp.iinfo(y.dtype).max, y)
  if not y.size:
    return y
  labels = np.asarray(y)
  if labels.min() < 0 or labels.max() >= logits.shape[1]:
    raise ValueError(
      f"y must be in [0, {logits.shape[1]}), got values from {labels.min()} to "
      f"{labels.max()}"
    )
  return y


def _at(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the logit of class `y` of every row, `[B]`."""
  classes = _classes(logits, y)
  return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def _largest_other(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the largest logit of a class that is not `y`, `[B]`."""
  is_y = jax.nn.one_hot(y, logits.shape[1], dtype=bool)
  return jnp.where(is_y, -jnp.inf, logits).max(axis=1)


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the cross-entropy in nats, `[B]`."""
  y = _classes(logits, y)
  logits = logits.astype(jnp.float32)
  return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def cw_margin(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns max_{j != y} z_j - z_y, above zero where y is not predicted.

  Its gradient does not vanish where the model is sure, unlike cross-entropy's.

  Reference: arXiv:1608.04644, section VI.A (f_6 without its floor).
  """
  logits = logits.astype(jnp.float32)
  return _largest_other(logits, y) - _at(logits, y)


def dlr(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the difference of logits ratio, invariant to shift and scale.

  Raises:
    ValueError: With fewer than three classes, where it is not defined.

  Reference: arXiv:2003.01690, equation 6.
  """
  _require_classes(logits, 3, "dlr")
  logits = logits.astype(jnp.float32)
  ordered = jnp.sort(logits, axis=1)
  spread = ordered[:, -1] - ordered[:, -3]
  return cw_margin(logits, y) / jnp.maximum(spread, 1e-12)


def dlr_targeted(
  logits: jax.Array, y: jax.Array, target: jax.Array
) -> jax.Array:
  """Returns the targeted difference of logits ratio, (z_t - z_y) / spread.

  Raises:
    ValueError: With fewer than four classes, where it is not defined.

  Reference: arXiv:2003.01690, equation 7.
  """
  _require_classes(logits, 4, "dlr_targeted")
  logits = logits.astype(jnp.float32)
  ordered = jnp.sort(logits, axis=1)
  spread = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4])
  return (_at(logits, target) - _at(logits, y)) / jnp.maximum(spread, 1e-12)


def cw_margin_targeted(
  logits: jax.Array, y: jax.Array, target: jax.Array
) -> jax.Array:
  """Returns z_t - z_y, which any two classes have."""
  logits = logits.astype(jnp.float32)
  return _at(logits, target) - _at(logits, y)


# (logits, y) -> [B]
LOSSES = {
  "cross_entropy": cross_entropy,
  "cw_margin": cw_margin,
  "dlr": dlr,
}
# (logits, y, target) -> [B]
TARGETED_LOSSES = {
  "dlr_targeted": dlr_targeted,
  "cw_margin_targeted": cw_margin_targeted,
}


def _require_classes(logits: jax.Array, least: int, name: str) -> None:
  if logits.shape[1] < least:
    raise ValueError(
      f"{name} needs at least {least} classes, got {logits.shape[1]}; "
      "use cw_margin instead"
    )
