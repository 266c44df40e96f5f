"""One pure step of standard and adversarial training, by its recipe.

Arrays, keys and frozen settings in, arrays out; `train.py` drives it, and what
is descended and climbed stands in `train_objectives`.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robust_features import attacks, models, train_objectives
from robust_features.train_config import TrainConfig


class Sums(NamedTuple):
  """Sums over the current epoch's training examples, scalars float32."""

  loss: jax.Array
  correct: jax.Array
  count: jax.Array


class TrainState(NamedTuple):
  """Everything that training changes; arrays only."""

  step: jax.Array
  params: Any
  model_state: dict[str, Any]  # Every other collection, such as "batch_stats".
  opt_state: Any
  sums: Sums
  average: Any = None  # Of the variables, where they are averaged.

  @property
  def variables(self) -> dict[str, Any]:
    """The model's variables, which training goes on from."""
    return {"params": self.params, **self.model_state}

  @property
  def evaluated(self) -> dict[str, Any]:
    """The variables that are evaluated: the average, if there is one."""
    return self.variables if self.average is None else self.average


def learning_rate_fn(cfg: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
  """Returns the learning rate as a function of the step."""
  warmup = round(cfg.warmup_epochs * steps_per_epoch)
  decay = max(cfg.num_epochs * steps_per_epoch - warmup, 1)
  peak, drop = cfg.learning_rate, cfg.drop_every_epochs * steps_per_epoch
  after = {
    "constant": optax.constant_schedule(peak),
    "cosine": optax.cosine_decay_schedule(peak, decay),
    "linear": optax.linear_schedule(peak, 0.0, decay),
    "step": optax.piecewise_constant_schedule(
      peak,
      {
        at - warmup: cfg.drop_factor for at in range(drop, warmup + decay, drop)
      },
    ),
  }[cfg.schedule]
  schedule = after
  if warmup:
    ramp = optax.linear_schedule(peak / warmup, peak, warmup - 1)
    schedule = optax.join_schedules([ramp, after], [warmup])
  # optax counts in int32 and leaves the promotion to JAX.
  return lambda step: schedule(jnp.asarray(step, jnp.float32))


def make_optimizer(
  cfg: TrainConfig, steps_per_epoch: int
) -> optax.GradientTransformation:
  """Returns SGD as PyTorch defines it: the decay joins the gradient."""
  return optax.chain(
    optax.add_decayed_weights(cfg.weight_decay),
    optax.sgd(
      learning_rate_fn(cfg, steps_per_epoch), cfg.momentum, cfg.nesterov
    ),
  )


def init_state(
  model: models.Model,
  cfg: TrainConfig,
  steps_per_epoch: int,
  image_shape: tuple[int, ...],
  key: jax.Array,
  variables: Any = None,
) -> TrainState:
  """Returns the state before the first step, of fresh variables or of given."""
  if variables is None:
    variables = models.init_variables(model, key, image_shape)
  # Weak types would make the second and third chunk compile anew.
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(leaf, leaf.dtype), dict(variables)
  )
  average = jax.tree.map(jnp.copy, variables) if cfg.ema_decay else None
  params = variables.pop("params")
  opt_state = make_optimizer(cfg, steps_per_epoch).init(params)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=variables,
    opt_state=opt_state,
    sums=no_sums(),
    average=average,
  )


def no_sums() -> Sums:
  """Returns the sums at the beginning of an epoch."""
  return Sums(*(jnp.zeros((), jnp.float32) for _ in Sums._fields))


def adversary_at(
  cfg: TrainConfig, step: jax.Array, steps_per_epoch: int
) -> attacks.AttackConfig:
  """Returns the adversary of one step, its radius and step size ramped up."""
  ramp_steps = cfg.eps_ramp_epochs * steps_per_epoch
  if ramp_steps < 1:
    return cfg.adversary
  part = jnp.minimum(1.0, (step.astype(jnp.float32) + 1.0) / ramp_steps)
  return dataclasses.replace(
    cfg.adversary,
    eps=cfg.adversary.eps * part,
    step_size=cfg.adversary.step_size * part,
  )


def train_step(
  state: TrainState,
  x: jax.Array,
  y: jax.Array,
  keys: jax.Array,
  *,
  model: models.Model,
  tx: optax.GradientTransformation,
  cfg: TrainConfig,
  adversary: attacks.AttackConfig | None,
  model_key: jax.Array | None = None,
  teacher: tuple[models.Model, Any] | None = None,
) -> TrainState:
  """Takes one step of SGD on a batch, attacked first if there is an adversary.

  Args:
    state: Before the step.
    x: `[B, H, W, C]` float32 in [0, 1].
    y: `[B]` int32.
    keys: `[B]` PRNG keys of the attack's random starts.
    model: The architecture.
    tx: The optimiser.
    cfg: What is descended, and BatchNorm under attack.
    adversary: That of this step; None for standard training.
    model_key: Of what is random in the network, such as dropout; None for a
      network in which nothing is.
    teacher: A network and its variables, with `distil_weight`.

  Returns:
    The state after the step, the batch's loss and hits added to its sums.
  """

  def gradients(model_state, x, y, keys, key):
    """Returns (weights of the decay, gradients, what was seen on the way)."""
    x_adv = x
    if adversary is not None:
      objective = train_objectives.climbed(
        model, state.variables, x, y, cfg.attack_bn_mode, cfg.trades_beta
      )
      x_adv = attacks.maximize(objective, x, keys, adversary).x_adv
    wanted = models.apply(*teacher, x) if teacher else None

    def loss_fn(outputs):
      loss = train_objectives.smooth_cross_entropy(
        outputs.logits, y, cfg.label_smoothing
      )
      if wanted is None:
        return loss
      apart = train_objectives.distillation(
        outputs, wanted, cfg.distil_target, cfg.distil_temperature
      )
      return (1.0 - cfg.distil_weight) * loss + cfg.distil_weight * apart

    def mean_loss(params, key):
      found = train_objectives.descended(
        model, {"params": params, **model_state}, x, x_adv, y, key,
        loss_fn=loss_fn, trades_beta=cfg.trades_beta,
      )  # fmt: skip
      return found.loss.mean(), found

    gradient = jax.grad(mean_loss, has_aux=True)
    params = state.params
    if cfg.awp_gamma:
      first = None if key is None else jax.random.fold_in(key, 0)
      up, _ = gradient(params, first)
      params = train_objectives.worst_weights(params, up, cfg.awp_gamma)
    grads, found = gradient(params, key)
    seen = Sums(
      found.loss.sum(),
      found.correct.sum(dtype=jnp.float32),
      jnp.float32(len(y)),
    )
    return found.model_state, params, grads, seen

  if cfg.accumulate_steps == 1:
    model_state, params, grads, seen = gradients(
      state.model_state, x, y, keys, model_key
    )
  else:
    params = state.params
    model_state, grads, seen = _accumulated(
      gradients, state, (x, y, keys), model_key, cfg.accumulate_steps
    )
  # The decay is that of the weights at which the gradient was taken.
  updates, opt_state = tx.update(grads, state.opt_state, params)
  params = optax.apply_updates(state.params, updates)
  step, average = state.step + 1, state.average
  if cfg.ema_decay:
    variables = {"params": params, **model_state}
    average = train_objectives.moved_average(
      average, variables, cfg.ema_decay, step
    )
  return TrainState(
    step=step,
    params=params,
    model_state=model_state,
    opt_state=opt_state,
    sums=jax.tree.map(jnp.add, state.sums, seen),
    average=average,
  )


def _accumulated(gradients, state, rows, model_key, num_parts):
  """Returns what `gradients` finds in parts of a batch, one after the other.

  Part j holds the rows j, j + num_parts and so on, so that every device has its
  share of each.

  Returns:
    (model state after all parts, mean gradients, sums over the batch).
  """

  def parts(a):
    return a.reshape(-1, num_parts, *a.shape[1:]).swapaxes(0, 1)

  def take(carry, part):
    model_state, grads, sums = carry
    number, part = part
    key = None if model_key is None else jax.random.fold_in(model_key, number)
    model_state, _, more, seen = gradients(model_state, *part, key)
    add = functools.partial(jax.tree.map, jnp.add)
    return (model_state, add(grads, more), add(sums, seen)), None

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  begin = state.model_state, zeros, no_sums()
  numbered = jnp.arange(num_parts), jax.tree.map(parts, rows)
  (model_state, grads, seen), _ = jax.lax.scan(take, begin, numbered)
  return model_state, jax.tree.map(lambda g: g / num_parts, grads), seen
