"""Carlini and Wagner's l2 attack: the smallest perturbation it can find.

Minimises ||x' - x||^2 + c * max(margin, 0) over x' = (tanh(w) + 1) / 2, so that
the box needs no clipping, by Adam; c is found by bisection for every example.

Reference: arXiv:1608.04644, section VI.A; arXiv:1905.02175, appendix D.2.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from robust_features.attacks import geometry, losses


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["num_steps", "num_searches", "learning_rate", "initial_c"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class CarliniWagnerConfig:
  """Settings; all may be traced.

  Attributes:
    num_steps: Steps of Adam for each c.
    num_searches: Values of c tried.
    learning_rate: Adam's, in units of w.
    initial_c: The first c.
  """

  num_steps: int = 1000
  num_searches: int = 9
  learning_rate: float = 0.01
  initial_c: float = 0.01

  def __post_init__(self):
    for name in ("num_steps", "num_searches"):
      value = getattr(self, name)
      if isinstance(value, (bool, str, float)) or (
        isinstance(value, int) and value < 1
      ):
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    for name in ("learning_rate", "initial_c"):
      value = getattr(self, name)
      if isinstance(value, (bool, str)) or (
        isinstance(value, (int, float)) and not 0 < value < math.inf
      ):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


class CarliniWagnerResult(NamedTuple):
  """What was found.

  Attributes:
    x_adv: `[B, H, W, C]`, the nearest misclassified image; `x` where none was.
    distance: `[B]`, its l2 distance; 0 where `x` is misclassified already, inf
      where nothing was found.
    nonfinite_gradients: `[B]` int32, steps whose gradient was not finite
      somewhere; these entries were taken for zero.
  """

  x_adv: jax.Array
  distance: jax.Array
  nonfinite_gradients: jax.Array


def minimize_distance(
  logits_fn: Callable[[jax.Array], jax.Array],
  x: jax.Array,
  y: jax.Array,
  cfg: CarliniWagnerConfig,
) -> CarliniWagnerResult:
  """Searches the nearest image of another class for every example.

  Args:
    logits_fn: `[B, H, W, C]` -> `[B, K]`.
    x: `[B, H, W, C]` float32 images in [0, 1].
    y: `[B]` integer labels.
    cfg: Steps and bisection.

  Raises:
    ValueError: If images are not float32 `[B, H, W, C]` in [0, 1] (their range
      is looked at outside `jit` only).
  """
  geometry.check_images(x)
  chex.assert_equal_shape_prefix([x, y], 1)
  chex.assert_type(y, int)

  def to_image(w):
    return 0.5 * (jnp.tanh(w) + 1.0)

  def square(z):
    return jnp.square(z - x).sum(axis=(1, 2, 3))

  w_start = jnp.arctanh((2.0 * x - 1.0) * (1.0 - 1e-6))
  adam = optax.adam(cfg.learning_rate)

  def total_loss(w, c):
    z = to_image(w)
    margin = losses.cw_margin(logits_fn(z), y)
    loss = square(z) + c * jnp.maximum(-margin, 0.0)
    return loss.sum(), (z, margin)

  def step(_, carry):
    w, state, best, c, found, count = carry
    grad, (z, margin) = jax.grad(total_loss, has_aux=True)(w, c)
    grad, bad = geometry.finite(grad)
    best = _nearer(best, z, jnp.where(margin > 0, square(z), jnp.inf))
    updates, state = adam.update(grad, state)
    w = optax.apply_updates(w, updates)
    count += bad.astype(jnp.int32)
    return w, state, best, c, found | (margin > 0), count

  def search(_, carry):
    best, c, low, high, count = carry
    none = jnp.zeros(len(x), bool)
    start = (w_start, adam.init(w_start), best, c, none, count)
    *_, best, _, found, count = jax.lax.fori_loop(0, cfg.num_steps, step, start)
    high = jnp.where(found, jnp.minimum(high, c), high)
    low = jnp.where(found, low, jnp.maximum(low, c))
    middle = 0.5 * (low + jnp.where(jnp.isinf(high), low, high))
    c = jnp.where(jnp.isinf(high), 10.0 * c, middle)
    return best, c, low, high, count

  wrong = losses.cw_margin(logits_fn(x), y) > 0
  best = (x, jnp.where(wrong, jnp.float32(0.0), jnp.float32(jnp.inf)))
  c = jnp.full(len(x), cfg.initial_c, jnp.float32)
  count = jnp.zeros(len(x), jnp.int32)
  carry = (best, c, jnp.zeros_like(c), jnp.full_like(c, jnp.inf), count)
  (x_adv, squares), *_, count = jax.lax.fori_loop(
    0, cfg.num_searches, search, carry
  )
  return CarliniWagnerResult(x_adv, jnp.sqrt(squares), count)


def _nearer(best, z, squares):
  """Returns, per example, the (image, squared distance) that is nearer."""
  old_z, old = best
  wins = squares < old
  z = jnp.where(wins[:, None, None, None], z, old_z)
  return z, jnp.where(wins, squares, old)
