"""Networks: the zoo, `make_model(ModelConfig(...))`, and those of one's own.

`protocol` says what everything else wants of a network, `adapters` makes it of
Linen and nnx modules and of plain functions.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import (
  adapters,
  densenet,
  inception,
  resnet,
  resnet9,
  small,
  vgg,
  wide_resnet,
)
from robust_features.models.adapters import (
  from_function,
  from_linen,
  from_nnx,
)
from robust_features.models.layers import (
  BN_MODES,
  CIFAR_MEAN,
  CIFAR_STD,
  DEFAULT_MEAN,
  DEFAULT_STD,
  Outputs,
)
from robust_features.models.protocol import (
  Model,
  apply,
  apply_in_training,
  check,
  init_variables,
  num_logits,
  output_shapes,
  represent,
  variable_shapes,
)

__all__ = [
  "BN_MODES",
  "CIFAR_MEAN",
  "CIFAR_STD",
  "DEFAULT_MEAN",
  "DEFAULT_STD",
  "MODELS",
  "Model",
  "ModelConfig",
  "Outputs",
  "apply",
  "apply_in_training",
  "check",
  "fitted",
  "from_function",
  "from_linen",
  "from_nnx",
  "init_variables",
  "make_model",
  "num_logits",
  "num_params",
  "output_shapes",
  "represent",
  "variable_shapes",
]

# Each takes the keywords num_classes, width, mean, std and dtype.
MODELS: dict[str, Callable[..., nn.Module]] = {
  "cnn": small.cnn,
  "cnn4": small.cnn4,
  "densenet121": densenet.densenet121,
  "densenet_cifar": densenet.densenet_cifar,
  "inception_v3": inception.inception_v3,
  "mlp": small.mlp,
  "plain_cnn": small.plain_cnn,
  "plain_strided_cnn": small.plain_strided_cnn,
  "preact_resnet18": wide_resnet.preact_resnet18,
  "resnet18": resnet.resnet18,
  "resnet34": resnet.resnet34,
  "resnet50": resnet.resnet50,
  "resnet50_imagenet": resnet.resnet50_imagenet,
  "resnet9": resnet9.resnet9,
  "small_resnet": resnet.small_resnet,
  "strided_cnn4": small.strided_cnn4,
  "vgg16": vgg.vgg16,
  "wrn_28_10": wide_resnet.wrn_28_10,
  "wrn_28_10_silu": wide_resnet.wrn_28_10_silu,
}

# Those whose blocks can be rematerialised.
_REMAT = (
  "resnet18", "resnet34", "resnet50", "resnet50_imagenet", "small_resnet"
)  # fmt: skip

# Those that can be without normalisation.
_NORM = (
  "cnn", "cnn4", "preact_resnet18", "resnet18", "resnet34", "resnet50",
  "resnet50_imagenet", "resnet9", "small_resnet", "strided_cnn4", "wrn_28_10",
  "wrn_28_10_silu",
)  # fmt: skip

# A module and what it holds, as in "package.module:factory".
_FACTORY = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Which network, and how it computes.

  Attributes:
    name: a key of `MODELS`, or "package.module:factory", which is imported and
      called with those of the other fields that its signature names.
    num_classes: number of logits; 0 means the data's.
    width: channels (or hidden units) of the first layer; 0 means the
      architecture's own.
    dtype: "float32" or "bfloat16". Parameters, BatchNorm statistics, logits
      and representation are float32 either way.
    mean: subtracted from images in [0, 1]: one number, or one a channel; ()
      means the data's.
    std: divided by: one number, or one a channel; () means the data's.
    kwargs: further keywords of a factory, as a mapping or pairs; plain values.
    remat: whether the backward pass computes the activations inside a ResNet's
      blocks again instead of keeping them; less memory for a third more work.
    norm: "own", the architecture's; or "none", for a ResNet or a cnn without
      normalisation, whose convolutions have biases instead.

  Raises:
    ValueError: naming the field, if any is out of range.
  """

  name: str
  num_classes: int = 10
  width: int = 0
  dtype: str = "float32"
  mean: tuple[float, ...] = DEFAULT_MEAN
  std: tuple[float, ...] = DEFAULT_STD
  kwargs: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
  remat: bool = False
  norm: str = "own"

  def __post_init__(self):
    if self.name not in MODELS and not re.fullmatch(_FACTORY, self.name):
      names = ", ".join(sorted(MODELS))
      raise ValueError(
        f"name must be one of {names}, or 'package.module:factory', got "
        f"{self.name!r}"
      )
    if self.dtype not in _DTYPES:
      raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")
    if self.num_classes != 0:
      _check_int("num_classes", self.num_classes, 2, " (or 0, the data's)")
    _check_int("width", self.width, 0)
    # Lists come from JSON; tuples make the config hashable.
    object.__setattr__(self, "mean", _constants("mean", self.mean))
    object.__setattr__(self, "std", _constants("std", self.std))
    object.__setattr__(self, "kwargs", _pairs(self.kwargs))
    if self.kwargs and self.name in MODELS:
      raise ValueError(
        f"kwargs are for a factory of one's own; {self.name} takes none, got "
        f"{dict(self.kwargs)!r}"
      )
    if self.remat and self.name not in _REMAT:
      raise ValueError(
        f"remat is for {', '.join(_REMAT)}; set it to False for {self.name}"
      )
    if self.norm not in ("own", "none"):
      raise ValueError(f"norm must be 'own' or 'none', got {self.norm!r}")
    if self.norm == "none" and self.name not in _NORM:
      raise ValueError(
        f"norm can be 'none' for {', '.join(_NORM)}; set it to 'own' for "
        f"{self.name}"
      )
    if min(self.std, default=1.0) <= 0:
      raise ValueError(f"std must be positive, got {self.std!r}")
    if len(self.mean) != len(self.std):
      raise ValueError(
        "mean and std must have equal lengths, got"
        f" {self.mean!r} and {self.std!r}"
      )


def _check_int(field: str, value: Any, minimum: int, but: str = "") -> None:
  if type(value) is not int or value < minimum:
    raise ValueError(
      f"{field} must be an integer of at least {minimum}{but}, got {value!r}"
    )


def _constants(field: str, value: Any) -> tuple[float, ...]:
  """Returns `value` as a tuple of floats."""
  try:
    numbers = tuple(float(v) for v in value)
  except (TypeError, ValueError):
    numbers = (math.nan,)
  if not all(math.isfinite(v) for v in numbers):
    raise ValueError(
      f"{field} must be a tuple of finite numbers, got {value!r}"
    )
  return numbers


def _pairs(value: Any) -> tuple[tuple[str, Any], ...]:
  """Returns keywords as sorted pairs, which can be hashed.

  A mapping comes from Python, a `ConfigDict` from a config, lists from JSON.
  """
  pairs = value.items() if hasattr(value, "items") else value
  return tuple(sorted((name, _plain(name, item)) for name, item in pairs))


def _plain(name: str, value: Any) -> Any:
  if isinstance(value, (list, tuple)):
    return tuple(_plain(name, item) for item in value)
  if value is not None and type(value) not in (bool, int, float, str):
    raise ValueError(
      f"kwargs.{name} must be a number, text or a tuple of them, got {value!r}"
    )
  return value


def make_model(cfg: ModelConfig) -> Any:
  """Returns the network that `cfg` describes, without parameters.

  Raises:
    ValueError: If a field does not fit the network, a factory cannot be
      imported, or what the data are to tell is not known yet (see `fitted`).
  """
  for field in ("num_classes", "mean", "std"):
    if not getattr(cfg, field):
      raise ValueError(
        f"{field} is {getattr(cfg, field)!r}, which stands for the data's; "
        "give it, or use models.fitted(cfg, ...)"
      )
  fields = {
    "num_classes": cfg.num_classes,
    "width": cfg.width,
    "mean": cfg.mean,
    "std": cfg.std,
    "dtype": _DTYPES[cfg.dtype],
  }
  if cfg.remat:
    fields["remat"] = True
  if cfg.norm != "own":
    fields["norm"] = cfg.norm
  if cfg.name in MODELS:
    return MODELS[cfg.name](**fields)
  if not cfg.width:
    del fields["width"]  # The network's own.
  return adapters.imported(cfg.name, fields, dict(cfg.kwargs))


def fitted(
  cfg: ModelConfig,
  num_classes: int,
  mean: tuple[float, ...],
  std: tuple[float, ...],
) -> ModelConfig:
  """Returns a config in which the data tell what was left to them.

  Args:
    cfg: Its num_classes may be 0, its mean and std ().
    num_classes: The data's.
    mean: Of their pixels, by channel.
    std: Likewise.

  Raises:
    ValueError: If the config says another number of classes.
  """
  if cfg.num_classes not in (0, num_classes):
    raise ValueError(
      f"num_classes is {cfg.num_classes}, but the data have {num_classes} "
      f"classes; give {num_classes}, or 0 for the data's"
    )
  return dataclasses.replace(
    cfg,
    num_classes=num_classes,
    mean=cfg.mean or mean,
    std=cfg.std or std,
  )


def num_params(params: Mapping[str, Any]) -> int:
  """Returns how many numbers a tree of parameters holds."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
