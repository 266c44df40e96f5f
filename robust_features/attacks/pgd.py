"""Projected gradient ascent: the one optimiser of this code base.

Adversarial training, robust evaluation, the data sets made of adversarial
examples and representation inversion all climb an objective from images
`[B, H, W, C]` to values `[B]`, inside a ball around the image or inside the
whole box [0, 1], with steps of a fixed length:

  x <- clip(geometry.project(x + step_size * direction(grad)), 0, 1)

Reference: arXiv:1706.06083, section 2.1; arXiv:1905.02175, appendix C.3.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_features.attacks import geometry

STARTS = ("x", "random")

# x -> values [B], or (values [B], scores [B]): values are climbed, and the
# iterate of the highest score is kept.
ObjectiveFn = Callable[..., jax.Array | tuple[jax.Array, jax.Array]]


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["eps", "step_size", "num_steps"],
  meta_fields=["norm", "num_restarts", "start", "keep_best"],
)
@dataclasses.dataclass(frozen=True)
class AttackConfig:
  """Settings of `maximize`; the numbers may be traced, so one compilation
  serves every radius and step count.

  Attributes:
    norm: "l2" or "linf".
    eps: Radius of the ball in pixel units of [0, 1]; inf leaves the box alone.
    step_size: Length of a step in the same norm and units.
    num_steps: Gradient steps of each restart.
    num_restarts: Starting points, at least 1; the worst per example is kept.
    start: Where the first restart begins, "x" (the image, or `x_init`) or
      "random"; every later one begins at random in the ball.
    keep_best: Whether to return the best iterate rather than the last one.
  """

  norm: str
  eps: float
  step_size: float
  num_steps: int
  num_restarts: int = 1
  start: str = "x"
  keep_best: bool = True

  def __post_init__(self):
    _require(
      self.norm in geometry.NORMS,
      f"norm must be one of {geometry.NORMS}",
      self.norm,
    )
    _require(self.start in STARTS, f"start must be one of {STARTS}", self.start)
    for name in ("eps", "step_size"):
      value = getattr(self, name)
      if isinstance(value, (str, bool)) or (
        isinstance(value, (int, float)) and not value >= 0
      ):
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    for name, least in (("num_steps", 0), ("num_restarts", 1)):
      value = getattr(self, name)
      if isinstance(value, (str, float)) or (
        isinstance(value, int) and value < least
      ):
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    unbounded = isinstance(self.eps, float) and math.isinf(self.eps)
    if unbounded and (self.start == "random" or self.num_restarts > 1):
      raise ValueError("a random start needs a finite eps, got inf")

  def gradients(self) -> int:
    """Returns how many gradients an image costs."""
    return self.num_steps * self.num_restarts

  def forward_passes(self) -> float:
    """Returns the cost of an image in forward passes, two a gradient.

    The last iterate of every restart is scored once more.
    """
    return (2.0 * self.num_steps + 1.0) * self.num_restarts


def _require(condition: bool, message: str, value) -> None:
  if not condition:
    raise ValueError(f"{message}, got {value!r}")


class AttackResult(NamedTuple):
  """What `maximize` found.

  Attributes:
    x_adv: `[B, H, W, C]` float32, in the ball and in [0, 1].
    value: `[B]` float32, the score of `x_adv`.
    zero_gradients: `[B]` int32, steps that met a gradient of exactly zero: an
      attack that stands still proves nothing.
  """

  x_adv: jax.Array
  value: jax.Array
  zero_gradients: jax.Array


def maximize(
  objective_fn: ObjectiveFn,
  x: jax.Array,
  keys: jax.Array,
  cfg: AttackConfig,
  *,
  x_init: jax.Array | None = None,
  draws: bool = False,
) -> AttackResult:
  """Climbs an objective inside the ball about every image and inside [0, 1].

  Args:
    objective_fn: Maps `[B, H, W, C]` to values `[B]`, or to (values, scores):
      the gradient is that of the values, the iterate of the highest score is
      kept. No example's value may depend on another example.
    x: `[B, H, W, C]` float32 centres, in [0, 1].
    keys: `[B]` PRNG keys, used by random starts only.
    cfg: Norm, radius, steps.
    x_init: `[B, H, W, C]` first starting points where they are not `x`.
    draws: Whether `objective_fn` takes, after the images, the number of the
      call (int32, no two of a climb alike), to draw anew at each.

  Returns:
    The best point found for every example. Its value is at least that of the
    starting point if `cfg.keep_best`.
  """

  def evaluate(z, call):
    out = objective_fn(z, call) if draws else objective_fn(z)
    value, score = out if isinstance(out, tuple) else (out, out)
    return value.sum(), score

  def step(call, carry):
    z, best, zero_gradients = carry
    grad, score = jax.grad(evaluate, has_aux=True)(z, call)
    if cfg.keep_best:
      best = _better(best, (z, score))
    is_zero = (grad == 0).all(axis=(1, 2, 3))
    z = z + cfg.step_size * geometry.unit_direction(grad, cfg.norm)
    z = geometry.project(z, x, cfg.norm, cfg.eps)
    return z, best, zero_gradients + is_zero.astype(jnp.int32)

  def climb(z, zero_gradients):
    best = (z, jnp.full(z.shape[0], -jnp.inf))
    z, best, zero_gradients = jax.lax.fori_loop(
      0, cfg.num_steps, step, (z, best, zero_gradients)
    )
    # Unless somebody reads the last value, XLA drops this forward pass.
    last = (z, evaluate(z, cfg.num_steps)[1])
    return _better(best, last) if cfg.keep_best else last, zero_gradients

  def restart(index, carry):
    best, zero_gradients = carry
    starts = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    z = x + geometry.random_in_ball(starts, x.shape[1:], cfg.norm, cfg.eps)
    found, zero_gradients = climb(jnp.clip(z, 0.0, 1.0), zero_gradients)
    return _better(best, found), zero_gradients

  zeros = jnp.zeros(x.shape[0], jnp.int32)
  first = (
    x if x_init is None else geometry.project(x_init, x, cfg.norm, cfg.eps)
  )
  if cfg.start == "x":
    carry = climb(first, zeros)
  else:
    carry = ((first, jnp.full(x.shape[0], -jnp.inf)), zeros)
  begin = 1 if cfg.start == "x" else 0
  if cfg.num_restarts > begin:
    carry = jax.lax.fori_loop(begin, cfg.num_restarts, restart, carry)
  (x_adv, value), zero_gradients = carry
  return AttackResult(x_adv, value, zero_gradients)


def _better(old, new):
  """Returns, per example, the (image, score) of the higher score."""
  (old_x, old_score), (new_x, new_score) = old, new
  wins = new_score > old_score
  x = jnp.where(geometry.per_example(wins), new_x, old_x)
  return x, jnp.where(wins, new_score, old_score)
