"""FAB-T: the fast adaptive boundary attack, towards one class after another.

It looks for the smallest perturbation rather than the worst one in a ball: the
boundary with the target class is taken for a hyperplane, the point is projected
on it inside the box, drawn a little towards the projection of the image itself,
and every adversarial point found is pulled back towards the image. An example
is done as soon as one lies within eps; with eps = 0 the attack goes on to the
end and returns the closest adversarial example.

Reference: arXiv:1907.02044, section 3 and algorithm 1.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import machine


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["eps", "num_steps", "alpha_max", "eta", "beta"],
  meta_fields=["norm", "num_targets"],
)
@dataclasses.dataclass(frozen=True)
class FabConfig:
  """Settings of FAB-T; the numbers other than `num_targets` may be traced.

  Attributes:
    norm: "l2" or "linf".
    eps: Radius in pixel units of [0, 1] at which an example counts as broken.
    num_steps: Steps for each target.
    num_targets: Classes aimed at.
    alpha_max: Largest weight of the image's own projection, in [0, 1].
    eta: Overshoot beyond the hyperplane, at least 1.
    beta: Share of the perturbation kept by the step back, in (0, 1).
  """

  norm: str
  eps: float
  num_steps: int = 100
  num_targets: int = 9
  alpha_max: float = 0.1
  eta: float = 1.05
  beta: float = 0.9

  def __post_init__(self):
    if self.norm not in geometry.NORMS:
      raise ValueError(
        f"norm must be one of {geometry.NORMS}, got {self.norm!r}"
      )


class FabState(NamedTuple):
  """FAB's state.

  Attributes:
    tally: Successes and counts.
    rank: `[B]` int32, which target is aimed at.
    t: `[B]` int32 steps done towards it.
    z: `[B, H, W, C]` the point to linearise next.
    x_best: `[B, H, W, C]` the closest adversarial example so far.
    distance: `[B]` its distance, inf while there is none.
  """

  tally: machine.Tally
  rank: jax.Array
  t: jax.Array
  z: jax.Array
  x_best: jax.Array
  distance: jax.Array


def init(batch: machine.Batch, cfg: FabConfig) -> FabState:
  """Returns the state at the images themselves."""
  del cfg
  size = batch.y.shape[0]
  zero = jnp.zeros(size, jnp.int32)
  return FabState(
    tally=machine.new_tally(batch.x),
    rank=zero,
    t=zero,
    z=batch.x,
    x_best=batch.x,
    distance=jnp.full(size, jnp.inf, jnp.float32),
  )


def step(
  logits_fn: machine.LogitsFn,
  batch: machine.Batch,
  state: FabState,
  cfg: FabConfig,
) -> FabState:
  """Linearises the boundary once, moves, and pulls back what is adversarial."""
  x, y = batch.x, batch.y
  target = jnp.take_along_axis(batch.targets, state.rank[:, None], axis=1)
  gap, grad = _boundary(logits_fn, state.z, y, target[:, 0])
  grad, bad = geometry.finite(grad)
  delta = _move(state.z, x, gap, grad, cfg)
  z = geometry.add_towards(x, delta)
  adversarial = machine.misclassified(logits_fn(z).astype(jnp.float32), y)
  distance = _norm(delta, cfg.norm)[:, 0, 0, 0]
  closer = adversarial & (distance < state.distance)
  state = state._replace(
    x_best=machine.select(closer, z, state.x_best),
    distance=jnp.where(closer, distance, state.distance),
    z=machine.select(adversarial, geometry.add_towards(x, cfg.beta * delta), z),
  )
  return _advance_clock(state, x, grad, bad, cfg)


def _boundary(logits_fn, z, y, target):
  """Returns z_target - z_y `[B]` and its gradient `[B, H, W, C]`."""
  pair = jnp.stack([target, y], axis=1)

  def total(z):
    logits = logits_fn(z).astype(jnp.float32)
    both = jnp.take_along_axis(logits, pair, axis=1)
    gap = both[:, 0] - both[:, 1]
    return gap.sum(), gap

  grad, gap = jax.grad(total, has_aux=True)(z)
  return gap, grad


def _norm(delta: jax.Array, norm: str) -> jax.Array:
  """Returns every example's norm, `[B, 1, 1, 1]`."""
  if norm == "linf":
    return jnp.abs(delta).max(axis=(1, 2, 3), keepdims=True)
  return geometry.l2_norm(delta)


def _move(z, x, gap, grad, cfg: FabConfig) -> jax.Array:
  """Returns the perturbation that leads beyond the hyperplane.

  It starts from `z` and a little from `x`.
  """
  # The plane is {p: gap + <grad, p - z> = 0}.
  at_x = gap + (grad * (x - z)).sum(axis=(1, 2, 3))
  from_z = project_to_plane(z, grad, gap, cfg.norm)
  from_x = project_to_plane(x, grad, at_x, cfg.norm)
  size_z = jnp.maximum(_norm(from_z, cfg.norm), 1e-8)
  size_x = jnp.maximum(_norm(from_x, cfg.norm), 1e-8)
  alpha = jnp.minimum(size_z / (size_z + size_x), cfg.alpha_max)
  delta = (z - x + cfg.eta * from_z) * (1.0 - alpha)
  return geometry.into_box(delta + cfg.eta * from_x * alpha, x)


def _advance_clock(state: FabState, x, grad, bad, cfg: FabConfig) -> FabState:
  """Counts the step, and turns to the next target where it is time."""
  broken = state.distance <= cfg.eps
  ended = state.t + 1 >= cfg.num_steps
  done = broken | (ended & (state.rank + 1 >= cfg.num_targets))
  is_zero = (grad == 0).all(axis=(1, 2, 3))
  tally = machine.Tally(
    x_adv=machine.select(broken, state.x_best, state.tally.x_adv),
    success=broken,
    done=done,
    queries=state.tally.queries + 2,
    gradients=state.tally.gradients + 1,
    zero_gradients=state.tally.zero_gradients + is_zero.astype(jnp.int32),
    nonfinite_gradients=state.tally.nonfinite_gradients + bad.astype(jnp.int32),
  )
  turn = ended & ~done
  return state._replace(
    tally=tally,
    rank=state.rank + turn.astype(jnp.int32),
    t=jnp.where(turn, 0, state.t + 1),
    z=machine.select(turn, x, state.z),
  )


def project_to_plane(
  p: jax.Array, grad: jax.Array, gap: jax.Array, norm: str
) -> jax.Array:
  """Returns the shortest d with p + d in the box and gap + <grad, d> = 0.

  Along the direction that closes the gap every entry moves in proportion to
  its gradient (l2) or by the same amount (linf) until it meets the box. What
  this gains is piecewise linear and concave in the multiplier, so Newton's
  method from zero climbs to the solution without overshooting, in finitely
  many steps, and no sorting is needed. Where the box holds no solution every
  entry goes to its bound.

  Args:
    p: `[B, H, W, C]` points in [0, 1].
    grad: `[B, H, W, C]` normal of the plane; where it is zero, d is.
    gap: `[B]` value of the linear function at `p`.
    norm: "l2" or "linf", of which d is shortest.

  Returns:
    d `[B, H, W, C]`.

  Reference: arXiv:1907.02044, section 3.1 (the same problem, by sorting).
  """
  # Scaling both leaves the plane as it is, and float32 room for the squares.
  largest = jnp.abs(grad).max(axis=(1, 2, 3), keepdims=True)
  scale = jnp.where(largest > 0, largest, 1.0)
  sign = geometry.per_example(jnp.where(gap > 0, -1.0, 1.0))
  w = sign * grad / scale
  needed = jnp.abs(gap) / scale[:, 0, 0, 0]
  room = jnp.where(w > 0, 1.0 - p, p)
  rate = jnp.abs(w) if norm == "l2" else (w != 0).astype(jnp.float32)
  weight = jnp.abs(w)

  def newton(carry):
    multiplier, _, count = carry
    steps = rate * geometry.per_example(multiplier)
    free = steps < room
    gain = (weight * jnp.minimum(steps, room)).sum(axis=(1, 2, 3))
    slope = jnp.where(free, weight * rate, 0.0).sum(axis=(1, 2, 3))
    short = needed - gain
    more = (short > 1e-6 * needed) & (slope > 0)
    gap_closed = short / jnp.where(more, slope, 1.0)
    return multiplier + jnp.where(more, gap_closed, 0.0), more, count + 1

  start = (jnp.zeros_like(gap), jnp.ones(gap.shape, bool), jnp.int32(0))
  multiplier, _, _ = jax.lax.while_loop(
    lambda carry: carry[1].any() & (carry[2] < 50), newton, start
  )
  steps = rate * geometry.per_example(multiplier)
  return jnp.sign(w) * jnp.minimum(steps, room)


ATTACK = machine.Attack(init, step)


class FabResult(NamedTuple):
  """What FAB found on one batch.

  Attributes:
    tally: Adversarial examples within eps, successes and counts.
    x_best: `[B, H, W, C]` the closest adversarial example, or the image.
    distance: `[B]` its distance in the attack's norm, inf if there is none.
  """

  tally: machine.Tally
  x_best: jax.Array
  distance: jax.Array


def attack(
  logits_fn: machine.LogitsFn,
  x: jax.Array,
  y: jax.Array,
  keys: jax.Array,
  cfg: FabConfig,
) -> FabResult:
  """Runs FAB-T on one batch; a pure function, to be jitted by the caller.

  Args:
    logits_fn: Maps `[B, H, W, C]` to logits `[B, K]`.
    x: `[B, H, W, C]` float32 images in [0, 1], classified as `y`.
    y: `[B]` int32 labels.
    keys: `[B]` PRNG keys; FAB draws nothing, all attacks take them.
    cfg: Norm, radius, steps.

  Raises:
    ValueError: If there are not more classes than targets.
  """
  logits = logits_fn(x)
  if cfg.num_targets >= logits.shape[1]:
    raise ValueError(
      f"num_targets must be below the {logits.shape[1]} classes, "
      f"got {cfg.num_targets}"
    )
  targets = machine.likeliest_targets(logits, y, cfg.num_targets)
  batch = machine.make_batch(x, y, targets, keys)
  state = machine.run_to_end(ATTACK, logits_fn, batch, cfg)
  return FabResult(state.tally, state.x_best, state.distance)
