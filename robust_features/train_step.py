"""One pure step of standard and adversarial training, and its recipe.

Arrays, keys and frozen settings in, arrays out; `train.py` drives it, and what
is descended and climbed stands in `train_objectives`.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robust_features import attacks, models, train_objectives
from robust_features.data.augment import AugmentConfig

# Defaults: the augmentation of the paper's library, standard training.
_AUGMENTATION = AugmentConfig(pad=4, flip=True, jitter=0.25, rotate=2.0)
_NO_ADVERSARY = attacks.AttackConfig("l2", eps=0.0, step_size=0.0, num_steps=0)

SCHEDULES = ("constant", "step", "cosine", "linear")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """A training recipe: SGD with momentum; the paper's unless changed.

  Attributes:
    num_epochs: Passes over the training set; an incomplete last batch of an
      epoch is left out.
    batch_size: Images of one step, over all devices.
    learning_rate: Its peak.
    schedule: "constant"; "step" (times `drop_factor` every
      `drop_every_epochs`); "cosine" or "linear" (to zero).
    drop_every_epochs: See `schedule`.
    drop_factor: See `schedule`.
    warmup_epochs: The rate climbs linearly from zero over these.
    momentum: Heavy-ball momentum.
    weight_decay: L2 penalty added to every parameter's gradient.
    augment: Random crop, flip, colour jitter, rotation.
    adversary: The attack trained against; eps 0 is standard training.
    eps_ramp_epochs: The adversary's radius and step grow linearly over these.
    attack_bn_mode: BatchNorm under attack, "running" or "batch".
    eval_every_epochs: How often the validation split is evaluated.
    nesterov: Whether the momentum is Nesterov's, as PyTorch has it.
    label_smoothing: Share of each label that goes to all classes alike; the
      adversary climbs the loss of the labels themselves (arXiv:1512.00567,
      section 7).
    trades_beta: Above 0, TRADES: the loss on the images, plus this times the
      divergence of the predictions under attack from those without, which the
      adversary climbs from a random start (arXiv:1901.08573, equation 5).
    awp_gamma: Above 0, the gradient is taken where one step up the loss leads
      that moves each weight tensor by this share of its length, and so is the
      decay (arXiv:2004.05884, algorithm 1).
    ema_decay: Above 0, what is evaluated and kept, last and best, is the
      exponential average of the weights and of BatchNorm's statistics, its
      decay no more than (1 + t) / (10 + t) after t steps (arXiv:2010.03593,
      section 4.3).
  """

  num_epochs: int = 150
  batch_size: int = 128
  learning_rate: float = 0.1
  schedule: str = "step"
  drop_every_epochs: int = 50
  drop_factor: float = 0.1
  warmup_epochs: float = 0.0
  momentum: float = 0.9
  weight_decay: float = 5e-4
  augment: AugmentConfig = _AUGMENTATION
  adversary: attacks.AttackConfig = _NO_ADVERSARY
  eps_ramp_epochs: float = 0.0
  attack_bn_mode: str = "running"
  eval_every_epochs: int = 5
  nesterov: bool = False
  label_smoothing: float = 0.0
  trades_beta: float = 0.0
  awp_gamma: float = 0.0
  ema_decay: float = 0.0

  def __post_init__(self):
    if self.schedule not in SCHEDULES:
      raise ValueError(
        f"schedule must be one of {SCHEDULES}, got {self.schedule!r}"
      )
    if self.attack_bn_mode not in ("running", "batch"):
      raise ValueError(
        f"attack_bn_mode must be 'running' or 'batch', got "
        f"{self.attack_bn_mode!r}"
      )
    for name in ("num_epochs", "batch_size", "eval_every_epochs",
                 "drop_every_epochs"):  # fmt: skip
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    for name in ("learning_rate", "momentum", "weight_decay", "drop_factor",
                 "warmup_epochs", "eps_ramp_epochs", "label_smoothing",
                 "trades_beta", "awp_gamma", "ema_decay"):  # fmt: skip
      value = getattr(self, name)
      if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value}")
    for name in ("momentum", "label_smoothing", "ema_decay"):
      if getattr(self, name) >= 1:
        raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
    if self.nesterov and not self.momentum:
      raise ValueError("momentum must be above 0 with nesterov, got 0")
    if not math.isfinite(self.adversary.eps):
      raise ValueError(
        f"adversary.eps must be finite, got {self.adversary.eps}"
      )
    if self.adversary.eps > 0 and not self.adversary.num_steps:
      raise ValueError(
        "adversary.num_steps must be at least 1 where adversary.eps is not 0, "
        "got 0"
      )
    if self.trades_beta and not self.adversary.eps:
      raise ValueError(
        "adversary.eps must be above 0 with trades_beta, got 0; trades_beta is "
        "0 in standard training"
      )
    if self.trades_beta and self.adversary.start != "random":
      raise ValueError(
        "adversary.start must be 'random' with trades_beta, whose adversary "
        f"meets no gradient at the image itself, got {self.adversary.start!r}"
      )


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
) -> TrainState:
  """Returns the state before the first step."""
  # Weak types would make the second and third chunk compile anew.
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(leaf, leaf.dtype),
    models.init_variables(model, key, image_shape),
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

  Returns:
    The state after the step, the batch's loss and hits added to its sums.
  """
  x_adv = x
  if adversary is not None:
    objective = train_objectives.climbed(
      model, state.variables, x, y, cfg.attack_bn_mode, cfg.trades_beta
    )
    x_adv = attacks.maximize(objective, x, keys, adversary).x_adv

  def mean_loss(params, key):
    variables = {"params": params, **state.model_state}
    found = train_objectives.descended(
      model, variables, x, x_adv, y, key,
      trades_beta=cfg.trades_beta, label_smoothing=cfg.label_smoothing,
    )  # fmt: skip
    return found.loss.mean(), found

  gradients = jax.grad(mean_loss, has_aux=True)
  params = state.params
  if cfg.awp_gamma:
    key = None if model_key is None else jax.random.fold_in(model_key, 0)
    up, _ = gradients(params, key)
    params = train_objectives.worst_weights(params, up, cfg.awp_gamma)
  grads, found = gradients(params, model_key)
  # The decay is that of the weights at which the gradient was taken.
  updates, opt_state = tx.update(grads, state.opt_state, params)
  params = optax.apply_updates(state.params, updates)
  step, average = state.step + 1, state.average
  if cfg.ema_decay:
    variables = {"params": params, **found.model_state}
    average = train_objectives.moved_average(
      average, variables, cfg.ema_decay, step
    )
  seen = Sums(
    found.loss.sum(),
    found.correct.sum(dtype=jnp.float32),
    jnp.float32(len(y)),
  )
  return TrainState(
    step=step,
    params=params,
    model_state=found.model_state,
    opt_state=opt_state,
    sums=jax.tree.map(jnp.add, state.sums, seen),
    average=average,
  )
