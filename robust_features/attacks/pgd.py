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

import chex
import jax
import jax.numpy as jnp
import numpy as np

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
    # Traced numbers have no value yet; numpy's scalars do.
    for name in ("eps", "step_size"):
      value = getattr(self, name)
      if isinstance(value, (str, bool)) or (_known(value) and not value >= 0):
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    if _known(self.step_size) and math.isinf(self.step_size):
      raise ValueError(f"step_size must be finite, got {self.step_size!r}")
    for name, least in (("num_steps", 0), ("num_restarts", 1)):
      value = getattr(self, name)
      if isinstance(value, (str, float, bool, np.floating)) or (
        _known(value) and value < least
      ):
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    if self.norm == "linf" and _known(self.eps) and 1 < self.eps < math.inf:
      raise ValueError(
        f"eps must be at most 1 for linf, got {self.eps!r}; radii are in units "
        f"of [0, 1]: write {self.eps:g}/255?"
      )
    unbounded = _known(self.eps) and math.isinf(self.eps)
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


def check_climbs(name: str, cfg: AttackConfig) -> None:
  """Checks that an attack with a radius does more than look at its starts.

  Args:
    name: Of the attack, for the message.
    cfg: Its settings, none of them traced.

  Raises:
    ValueError: Where it takes no step, or steps of no length.
  """
  where = f"where {name}.eps is not 0"
  if cfg.eps > 0 and not cfg.num_steps:
    raise ValueError(f"{name}.num_steps must be at least 1 {where}, got 0")
  if cfg.eps > 0 and not cfg.step_size:
    raise ValueError(f"{name}.step_size must be above 0 {where}, got 0")


def _known(value) -> bool:
  """Returns whether a number has a value: it is neither traced nor abstract."""
  return isinstance(value, (int, float, np.number))


def _require(condition: bool, message: str, value) -> None:
  if not condition:
    raise ValueError(f"{message}, got {value!r}")


class AttackResult(NamedTuple):
  """What `maximize` found.

  Attributes:
    x_adv: `[B, H, W, C]` float32, in the ball and in [0, 1].
    value: `[B]` float32, the score of `x_adv`.
    zero_gradients: `[B]` int32, steps that met a gradient of exactly zero: an
      attack that stands still proves nothing. Of an example that is decided
      nothing more is counted.
    nonfinite_gradients: `[B]` int32, steps whose gradient was not finite
      somewhere; these entries were taken for zero.
  """

  x_adv: jax.Array
  value: jax.Array
  zero_gradients: jax.Array
  nonfinite_gradients: jax.Array


def maximize(
  objective_fn: ObjectiveFn,
  x: jax.Array,
  keys: jax.Array,
  cfg: AttackConfig,
  *,
  x_init: jax.Array | None = None,
  draws: bool = False,
  stop_above: float | None = None,
) -> AttackResult:
  """Climbs an objective inside the ball about every image and inside [0, 1].

  Args:
    objective_fn: Maps `[B, H, W, C]` to values `[B]`, or to (values, scores):
      the gradient is that of the values, the iterate of the highest score is
      kept. No example's value may depend on another example.
    x: `[B, H, W, C]` float32 centres, in [0, 1].
    keys: `[B]` PRNG keys, used by random starts only.
    cfg: Norm, radius, steps.
    x_init: `[B, H, W, C]` first starting points where they are not `x`, moved
      into ball and box; of no account where `cfg.start` is "random".
    draws: Whether `objective_fn` takes, after the images, the number of the
      call (int32, no two of a climb alike), to draw anew at each.
    stop_above: A score that decides an example: the climb ends once every one
      of the batch has an iterate above it. Whether an example gets above it is
      the same with and without; how far is not. Needs `cfg.keep_best`.

  Returns:
    The best point found for every example. Its value is at least that of the
    starting point if `cfg.keep_best`.

  Raises:
    ValueError: If images are not float32 `[B, H, W, C]` in [0, 1] (their range
      is looked at outside `jit` only), or the objective is no value an image.
  """
  geometry.check_images(x)
  chex.assert_shape(keys, x.shape[:1])
  if x_init is not None:
    chex.assert_equal_shape([x, x_init])

  evaluate = _scored(objective_fn, x.shape[:1], draws)

  def step(call, carry):
    z, best, counts = carry
    grad, score = jax.grad(evaluate, has_aux=True)(z, call)
    if cfg.keep_best:
      best = _better(best, (z, score))
    grad, bad = geometry.finite(grad)
    zero = (grad == 0).all(axis=(1, 2, 3)) & undecided(best)
    bad &= undecided(best)
    z = z + cfg.step_size * geometry.unit_direction(grad, cfg.norm)
    z = geometry.project(z, x, cfg.norm, cfg.eps)
    return z, best, counts + jnp.stack([zero, bad]).astype(jnp.int32)

  def undecided(best):
    if stop_above is None:
      return jnp.ones(x.shape[0], bool)
    return best[1] <= stop_above

  def climb(z, counts):
    best = (z, jnp.full(z.shape[0], -jnp.inf, jnp.float32))
    _, (z, best, counts) = jax.lax.while_loop(
      lambda loop: (loop[0] < cfg.num_steps) & undecided(loop[1][1]).any(),
      lambda loop: (loop[0] + 1, step(loop[0], loop[1])),
      (jnp.int32(0), (z, best, counts)),
    )
    # Unless somebody reads the last value, XLA drops this forward pass.
    last = (z, evaluate(z, cfg.num_steps)[1])
    return _better(best, last) if cfg.keep_best else last, counts

  def restart(index, carry):
    best, counts = carry
    starts = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    z = x + geometry.random_in_ball(starts, x.shape[1:], cfg.norm, cfg.eps)
    found, counts = climb(jnp.clip(z, 0.0, 1.0), counts)
    return _better(best, found), counts

  none = jnp.zeros((2, x.shape[0]), jnp.int32)
  first = x
  if x_init is not None:
    first = geometry.project(x_init, x, cfg.norm, cfg.eps)
  if cfg.start == "x":
    carry = climb(first, none)
  else:
    unknown = jnp.full(x.shape[0], -jnp.inf, jnp.float32)
    carry = ((first, unknown), none)
  begin = 1 if cfg.start == "x" else 0
  if cfg.num_restarts > begin:
    _, carry = jax.lax.while_loop(
      lambda loop: (loop[0] < cfg.num_restarts) & undecided(loop[1][0]).any(),
      lambda loop: (loop[0] + 1, restart(loop[0], loop[1])),
      (jnp.int32(begin), carry),
    )
  (x_adv, value), (zero, bad) = carry
  return AttackResult(x_adv, value, zero, bad)


def _scored(objective_fn: ObjectiveFn, shape: tuple[int, ...], draws: bool):
  """Returns (images, call) -> (sum of the values, scores), checked.

  Args:
    objective_fn: See `maximize`.
    shape: (B,), of what it must return.
    draws: See `maximize`.
  """

  def evaluate(z, call):
    out = objective_fn(z, call) if draws else objective_fn(z)
    value, score = out if isinstance(out, tuple) else (out, out)
    for values in (value, score):
      if values.shape != shape:
        raise ValueError(
          f"objective_fn must return one value an image, {shape}, got "
          f"shape {values.shape}"
        )
    return value.sum(), score

  return evaluate


def _better(old, new):
  """Returns, per example, the (image, score) of the higher score."""
  (old_x, old_score), (new_x, new_score) = old, new
  wins = new_score > old_score
  x = jnp.where(geometry.per_example(wins), new_x, old_x)
  return x, jnp.where(wins, new_score, old_score)
