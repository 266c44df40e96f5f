"""The recipe of a training, and what it fits.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import math

from robust_features import attacks, models
from robust_features.data.augment import AugmentConfig

# Defaults: the augmentation of the paper's library, standard training.
_AUGMENTATION = AugmentConfig(pad=4, flip=True, jitter=0.25, rotate=2.0)
_NO_ADVERSARY = attacks.AttackConfig("l2", eps=0.0, step_size=0.0, num_steps=0)

DISTIL_TARGETS = ("logits", "representation")
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
      adversary climbs from a random start (arXiv:1901.08573).
    awp_gamma: Above 0, the gradient is taken where one step up the loss leads
      that moves each weight tensor by this share of its length, and so is the
      decay (arXiv:2004.05884).
    ema_decay: Above 0, what is evaluated and kept, last and best, is the
      exponential average of the weights and of BatchNorm's statistics, its
      decay no more than (1 + t) / (10 + t) after t steps (arXiv:2010.03593).
    distil_weight: The teacher's part of the loss, in [0, 1]; the labels have
      the rest. 0 for no teacher.
    distil_target: What is learnt of the teacher: "logits", its predictions, in
      nats (arXiv:1503.02531, section 2); "representation", the direction of
      its representation (arXiv:2202.09994).
    distil_temperature: Both networks' logits are divided by it.
    accumulate_steps: Parts of a batch, one after the other, whose gradients
      make one step: memory is that of a part, and BatchNorm's statistics are
      of each part.
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
  distil_weight: float = 0.0
  distil_target: str = "logits"
  distil_temperature: float = 1.0
  accumulate_steps: int = 1

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
                 "drop_every_epochs", "accumulate_steps"):  # fmt: skip
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    for name in ("learning_rate", "momentum", "weight_decay", "drop_factor",
                 "warmup_epochs", "eps_ramp_epochs", "label_smoothing",
                 "trades_beta", "awp_gamma", "ema_decay", "distil_weight",
                 "distil_temperature"):  # fmt: skip
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
    attacks.check_climbs("adversary", self.adversary)
    if self.batch_size % self.accumulate_steps:
      raise ValueError(
        f"accumulate_steps must divide batch_size {self.batch_size}, got "
        f"{self.accumulate_steps}"
      )
    if self.accumulate_steps > 1 and self.awp_gamma:
      raise ValueError(
        "awp_gamma must be 0 with accumulate_steps above 1, since the weights "
        f"move by the gradient of the whole batch, got {self.awp_gamma}"
      )
    self._check_distillation()
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

  def _check_distillation(self) -> None:
    if self.distil_target not in DISTIL_TARGETS:
      raise ValueError(
        f"distil_target must be one of {DISTIL_TARGETS}, got "
        f"{self.distil_target!r}"
      )
    if self.distil_weight > 1:
      raise ValueError(
        f"distil_weight must be at most 1, got {self.distil_weight}"
      )
    if not self.distil_temperature:
      raise ValueError("distil_temperature must be above 0, got 0")
    if self.distil_temperature != 1 and self.distil_target != "logits":
      raise ValueError(
        "distil_temperature must be 1 with distil_target 'representation', "
        f"which has none, got {self.distil_temperature}"
      )
    if self.distil_weight and self.adversary.eps:
      raise ValueError(
        "distil_weight must be 0 in adversarial training, got "
        f"{self.distil_weight}; a teacher needs adversary.eps 0"
      )


def check_fit(
  cfg: TrainConfig, num_examples: int, image_shape: tuple[int, ...],
  streamed: bool = False,
) -> None:  # fmt: skip
  """Raises ValueError where a recipe does not fit the data, naming the field.

  Args:
    cfg: The recipe.
    num_examples: Training images.
    image_shape: Of each, `(H, W, C)`.
    streamed: Whether they are read as they are wanted.
  """
  if cfg.augment.resized_crop and not streamed:
    raise ValueError(
      "augment.resized_crop is done as images are read: set streamed=True for "
      "the data set, or resized_crop to 0"
    )
  if num_examples < cfg.batch_size:
    raise ValueError(
      f"batch_size is {cfg.batch_size}, more than the {num_examples} training "
      "images"
    )
  size = min(image_shape[:2])
  if cfg.augment.pad >= size:
    raise ValueError(
      f"augment.pad must be less than the images' {size} pixels, got "
      f"{cfg.augment.pad}"
    )
  for field in ("jitter", "lighting"):
    if getattr(cfg.augment, field) and image_shape[-1] != 3:
      raise ValueError(
        f"augment.{field} needs 3 colours, but the images have "
        f"{image_shape[-1]}; set it to 0"
      )
  attacks.check_radius(
    "adversary.eps", cfg.adversary.eps, cfg.adversary.norm, image_shape
  )


def check_teacher(
  cfg: TrainConfig,
  model: models.Model,
  teacher: models.Model | None,
  image_shape: tuple[int, ...],
  num_classes: int,
) -> None:
  """Raises ValueError where a teacher does not fit; by shapes alone.

  Args:
    cfg: The recipe.
    model: The network to be trained.
    teacher: The network to be learnt from, if any.
    image_shape: Of each image, `(H, W, C)`.
    num_classes: Of the training set.
  """
  if bool(cfg.distil_weight) != (teacher is not None):
    raise ValueError(
      "distil_weight must be above 0 with a teacher, and 0 without, got "
      f"{cfg.distil_weight}"
    )
  if teacher is None:
    return
  learnt, taught = (
    models.output_shapes(net, image_shape) for net in (model, teacher)
  )
  found = taught.logits.shape[1]
  if found != num_classes:
    raise ValueError(
      f"the teacher tells {found} classes apart, but the training set has "
      f"{num_classes}"
    )
  if cfg.distil_target == "representation":
    sizes = [
      each.representation and each.representation.shape[1:]
      for each in (learnt, taught)
    ]
    if None in sizes or sizes[0] != sizes[1]:
      raise ValueError(
        "distil_target 'representation' needs representations of one size, "
        f"got {sizes[0]} for a teacher's {sizes[1]}; take 'logits'"
      )
