"""Auto-PGD: gradient ascent with momentum that sets its own step size.

At checkpoints the step is halved, and the search goes back to the best point,
where too few steps gained or where nothing was gained since the last halving.
One run is `num_steps` steps from a random start; restarts, and targets one
after another, follow on the same example until it is misclassified.

Reference: arXiv:2003.01690, section 3 and algorithm 1; the published code's
checkpoints (22%, then 3% less each time, at least 6%) and momentum 0.75.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_features.attacks import geometry, losses
from robust_features.attacks.autoattack import machine

LOSSES = (*losses.LOSSES, *losses.TARGETED_LOSSES)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["eps", "num_steps", "rho"],
  meta_fields=["norm", "loss", "num_restarts", "num_targets"],
)
@dataclasses.dataclass(frozen=True)
class ApgdConfig:
  """Settings of Auto-PGD; eps, num_steps and rho may be traced.

  Attributes:
    norm: "l2" or "linf".
    eps: Radius in pixel units of [0, 1].
    loss: "cross_entropy", "dlr", "cw_margin", "dlr_targeted" or
      "cw_margin_targeted".
    num_steps: Steps of a run.
    num_restarts: Runs for each target, or in all where the loss has none.
    num_targets: Classes aimed at by a targeted loss.
    rho: Share of gaining steps below which the step is halved.
  """

  norm: str
  eps: float
  loss: str = "cross_entropy"
  num_steps: int = 100
  num_restarts: int = 1
  num_targets: int = 9
  rho: float = 0.75

  def __post_init__(self):
    if self.norm not in geometry.NORMS:
      raise ValueError(
        f"norm must be one of {geometry.NORMS}, got {self.norm!r}"
      )
    if self.loss not in LOSSES:
      raise ValueError(f"loss must be one of {LOSSES}, got {self.loss!r}")

  @property
  def is_targeted(self) -> bool:
    """Whether the loss aims at one class after another."""
    return self.loss in losses.TARGETED_LOSSES

  @property
  def num_runs(self) -> int:
    """Runs that an example can take part in."""
    targets = self.num_targets if self.is_targeted else 1
    return targets * self.num_restarts


class Run(NamedTuple):
  """One run of every example.

  Attributes:
    t: `[B]` int32 evaluations done, -1 before the run has begun.
    z: `[B, H, W, C]` the point to evaluate next; `z_old` the one before.
    z_old: See `z`.
    z_best: The point of highest loss, with `grad_best` and `loss_best`.
    grad_best: See `z_best`.
    loss_best: See `z_best`; `[B]`.
    loss_last: `[B]` loss of the previous step.
    step_size: `[B]`.
    window: `[B]` int32 steps from the last checkpoint to the next.
    since: `[B]` int32 steps since the last checkpoint.
    gains: `[B]` int32 steps since then whose loss rose.
    loss_checked: `[B]` best loss at the last checkpoint.
    halved: `[B]` bool, whether that checkpoint halved the step.
  """

  t: jax.Array
  z: jax.Array
  z_old: jax.Array
  z_best: jax.Array
  grad_best: jax.Array
  loss_best: jax.Array
  loss_last: jax.Array
  step_size: jax.Array
  window: jax.Array
  since: jax.Array
  gains: jax.Array
  loss_checked: jax.Array
  halved: jax.Array


class ApgdState(NamedTuple):
  """Auto-PGD's state: the common tally, the run's number `[B]`, the run."""

  tally: machine.Tally
  rank: jax.Array
  run: Run


def _share(num_steps, percent: int):
  """Returns a percentage of the steps rounded down, at least 1."""
  return jnp.maximum(jnp.int32(percent) * num_steps // 100, 1)


def _random_start(batch, rank, cfg):
  """Returns points of which the noise has norm eps exactly, then clipped."""
  keys = jax.vmap(jax.random.fold_in)(batch.keys, rank)
  shape = batch.x.shape[1:]
  if cfg.norm == "linf":
    noise = jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32, -1.0))(
      keys
    )
    size = jnp.abs(noise).max(axis=(1, 2, 3), keepdims=True)
  else:
    noise = jax.vmap(lambda k: jax.random.normal(k, shape, jnp.float32))(keys)
    size = geometry.l2_norm(noise)
  delta = cfg.eps * (noise / jnp.maximum(size, 1e-12))
  return geometry.add_in_ball(batch.x, delta, cfg.norm, cfg.eps)


def _begin(z: jax.Array, cfg: ApgdConfig) -> Run:
  """Returns a run about to evaluate the starting point `z`."""
  size = z.shape[0]
  zero = jnp.zeros(size, jnp.int32)
  return Run(
    t=zero,
    z=z,
    z_old=z,
    z_best=z,
    grad_best=jnp.zeros_like(z),
    loss_best=jnp.full(size, -jnp.inf, jnp.float32),
    # The published code compares the first step's loss with zero.
    loss_last=jnp.zeros(size, jnp.float32),
    step_size=jnp.full(size, 2.0, jnp.float32) * cfg.eps,
    window=jnp.full(size, 1, jnp.int32) * _share(cfg.num_steps, 22),
    since=zero,
    gains=zero,
    loss_checked=jnp.full(size, -jnp.inf, jnp.float32),
    halved=jnp.ones(size, bool),
  )


def init(batch: machine.Batch, cfg: ApgdConfig) -> ApgdState:
  """Returns the state before the first run."""
  rank = jnp.zeros(batch.y.shape, jnp.int32)
  run = _begin(batch.x, cfg)._replace(t=rank - 1)
  return ApgdState(machine.new_tally(batch.x), rank, run)


def step(
  logits_fn: machine.LogitsFn,
  batch: machine.Batch,
  state: ApgdState,
  cfg: ApgdConfig,
) -> ApgdState:
  """Evaluates loss and gradient once, then moves or ends the run."""
  rank, run = state.rank, _begin_if_new(batch, state.rank, state.run, cfg)
  which = jnp.minimum(rank // cfg.num_restarts, batch.targets.shape[1] - 1)
  target = jnp.take_along_axis(batch.targets, which[:, None], axis=1)[:, 0]

  def total(z):
    logits = logits_fn(z).astype(jnp.float32)
    if cfg.is_targeted:
      loss = losses.TARGETED_LOSSES[cfg.loss](logits, batch.y, target)
    else:
      loss = losses.LOSSES[cfg.loss](logits, batch.y)
    return loss.sum(), (logits, loss)

  grad, (logits, loss) = jax.grad(total, has_aux=True)(run.z)
  grad, bad = geometry.finite(grad)
  success = machine.misclassified(logits, batch.y)
  ended = run.t >= cfg.num_steps
  tally = _count(state.tally, run.z, success, grad, bad)
  tally = tally._replace(done=success | (ended & (rank + 1 >= cfg.num_runs)))
  run = _move(*_adapt(_remember(run, loss, grad), grad, cfg), batch.x, cfg)
  turn = ended & ~tally.done
  run = run._replace(t=jnp.where(turn, -1, run.t))
  return ApgdState(tally, rank + turn.astype(jnp.int32), run)


def _begin_if_new(batch, rank, run: Run, cfg: ApgdConfig) -> Run:
  """Returns the run, begun at its random start where it had not."""
  new = run.t < 0

  def begin(run):
    fresh = _begin(_random_start(batch, rank, cfg), cfg)
    return machine.select(new, fresh, run)

  # Random numbers are dear: draw them only for a run that begins.
  return jax.lax.cond(new.any(), begin, lambda run: run, run)


def _count(tally, z, success, grad, bad) -> machine.Tally:
  is_zero = (grad == 0).all(axis=(1, 2, 3))
  return tally._replace(
    x_adv=machine.select(success, z, tally.x_adv),
    success=success,
    queries=tally.queries + 1,
    gradients=tally.gradients + 1,
    zero_gradients=tally.zero_gradients + is_zero.astype(jnp.int32),
    nonfinite_gradients=tally.nonfinite_gradients + bad.astype(jnp.int32),
  )


def _remember(run: Run, loss: jax.Array, grad: jax.Array) -> Run:
  """Keeps the best point, and counts this step if it gained."""
  later = run.t > 0
  better = loss > run.loss_best
  gained = later & (loss > run.loss_last)
  return run._replace(
    z_best=machine.select(better, run.z, run.z_best),
    grad_best=machine.select(better, grad, run.grad_best),
    loss_best=jnp.where(better, loss, run.loss_best),
    loss_last=jnp.where(later, loss, run.loss_last),
    since=run.since + later.astype(jnp.int32),
    gains=run.gains + gained.astype(jnp.int32),
    loss_checked=jnp.where(later, run.loss_checked, loss),
  )


def _adapt(run: Run, grad: jax.Array, cfg: ApgdConfig):
  """Returns the run and the gradient to follow, after a checkpoint if due."""
  due = run.since >= run.window
  too_few = run.gains.astype(jnp.float32) <= cfg.rho * run.window.astype(
    jnp.float32
  )
  stalled = ~run.halved & (run.loss_checked >= run.loss_best)
  halve = due & (too_few | stalled)
  least = _share(cfg.num_steps, 6)
  shorter = jnp.maximum(run.window - _share(cfg.num_steps, 3), least)
  after = run._replace(
    z=machine.select(halve, run.z_best, run.z),
    step_size=jnp.where(halve, run.step_size / 2, run.step_size),
    window=jnp.where(due, shorter, run.window),
    since=jnp.where(due, 0, run.since),
    gains=jnp.where(due, 0, run.gains),
    loss_checked=jnp.where(due, run.loss_best, run.loss_checked),
    halved=jnp.where(due, halve, run.halved),
  )
  # z_old stays: momentum then points from the step before to the best point.
  return after, machine.select(halve, run.grad_best, grad)


def _move(run: Run, grad, x: jax.Array, cfg: ApgdConfig) -> Run:
  """Takes one step with momentum, inside the ball and the box."""
  weight = geometry.per_example(jnp.where(run.t > 0, 0.75, 1.0))
  size = geometry.per_example(run.step_size)
  delta = run.z - x
  ahead = delta + size * geometry.unit_direction(grad, cfg.norm)
  ahead = geometry.into_box(
    geometry.into_ball(ahead, cfg.norm, cfg.eps, geometry.SLACK), x
  )
  momentum = (1.0 - weight) * (run.z - run.z_old)
  delta = delta + weight * (ahead - delta) + momentum
  z = geometry.add_in_ball(x, delta, cfg.norm, cfg.eps)
  return run._replace(t=run.t + 1, z=z, z_old=run.z)


ATTACK = machine.Attack(init, step)


class ApgdResult(NamedTuple):
  """What Auto-PGD found on one batch.

  Attributes:
    tally: Adversarial examples, successes and counts.
    x_best: `[B, H, W, C]` the point of highest loss in the last run, which
      ends as soon as the example is misclassified.
    loss_best: `[B]` its loss.
  """

  tally: machine.Tally
  x_best: jax.Array
  loss_best: jax.Array


def attack(
  logits_fn: machine.LogitsFn,
  x: jax.Array,
  y: jax.Array,
  keys: jax.Array,
  cfg: ApgdConfig,
  *,
  x_init: jax.Array | None = None,
) -> ApgdResult:
  """Runs Auto-PGD on one batch; a pure function, to be jitted by the caller.

  Args:
    logits_fn: Maps `[B, H, W, C]` to logits `[B, K]`.
    x: `[B, H, W, C]` float32 images in [0, 1].
    y: `[B]` int32 labels.
    keys: `[B]` PRNG keys, one per example.
    cfg: Norm, radius, loss, steps.
    x_init: `[B, H, W, C]` where the first run begins, else at random.

  Raises:
    ValueError: If the model has too few classes for the loss.
  """
  targets = y[:, None]
  if cfg.is_targeted:
    logits = logits_fn(x)
    if cfg.num_targets >= logits.shape[1]:
      raise ValueError(
        f"num_targets must be below the {logits.shape[1]} classes, "
        f"got {cfg.num_targets}"
      )
    targets = machine.likeliest_targets(logits, y, cfg.num_targets)
  batch = machine.make_batch(x, y, targets, keys)
  state = init(batch, cfg)
  if x_init is not None:
    state = state._replace(run=_begin(x_init, cfg))
  state = machine.advance(ATTACK, logits_fn, batch, state, cfg)
  return ApgdResult(state.tally, state.run.z_best, state.run.loss_best)
