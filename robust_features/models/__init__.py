"""The model zoo: `make_model(ModelConfig(...))` builds any of `MODELS`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import (
  densenet,
  inception,
  resnet,
  small,
  vgg,
  wide_resnet,
)
from robust_features.models.layers import (
  BN_MODES,
  CIFAR_MEAN,
  CIFAR_STD,
  DEFAULT_MEAN,
  DEFAULT_STD,
  Outputs,
  Pool,
)

__all__ = [
  "BN_MODES",
  "CIFAR_MEAN",
  "CIFAR_STD",
  "DEFAULT_MEAN",
  "DEFAULT_STD",
  "MODELS",
  "ModelConfig",
  "Outputs",
  "apply",
  "init_variables",
  "make_model",
  "num_params",
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
  "resnet18": resnet.resnet18,
  "resnet34": resnet.resnet34,
  "resnet50": resnet.resnet50,
  "small_resnet": resnet.small_resnet,
  "vgg16": vgg.vgg16,
  "wrn_28_10": wide_resnet.wrn_28_10,
}

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Which network, and how it computes.

  Attributes:
    name: a key of `MODELS`.
    num_classes: number of logits.
    width: channels (or hidden units) of the first layer; 0 means the
      architecture's own.
    dtype: "float32" or "bfloat16". Parameters, BatchNorm statistics, logits
      and representation are float32 either way.
    mean: subtracted from images in [0, 1]: one number, or one a channel.
    std: divided by: one number, or one a channel.

  Raises:
    ValueError: naming the field, if any is out of range.
  """

  name: str
  num_classes: int = 10
  width: int = 0
  dtype: str = "float32"
  mean: tuple[float, ...] = DEFAULT_MEAN
  std: tuple[float, ...] = DEFAULT_STD

  def __post_init__(self):
    if self.name not in MODELS:
      names = ", ".join(sorted(MODELS))
      raise ValueError(f"name must be one of {names}, got {self.name!r}")
    if self.dtype not in _DTYPES:
      raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")
    _check_int("num_classes", self.num_classes, 2)
    _check_int("width", self.width, 0)
    # Lists come from JSON; tuples make the config hashable.
    object.__setattr__(self, "mean", _constants("mean", self.mean))
    object.__setattr__(self, "std", _constants("std", self.std))
    if min(self.std) <= 0:
      raise ValueError(f"std must be positive, got {self.std!r}")
    if len(self.mean) != len(self.std):
      raise ValueError(
        "mean and std must have equal lengths, got"
        f" {self.mean!r} and {self.std!r}"
      )


def _check_int(field: str, value: Any, minimum: int) -> None:
  if type(value) is not int or value < minimum:
    raise ValueError(
      f"{field} must be an integer of at least {minimum}, got {value!r}"
    )


def _constants(field: str, value: Any) -> tuple[float, ...]:
  """Returns `value` as a tuple of floats."""
  try:
    numbers = tuple(float(v) for v in value)
  except (TypeError, ValueError):
    numbers = ()
  if not numbers or not all(math.isfinite(v) for v in numbers):
    raise ValueError(
      f"{field} must be a tuple of finite numbers, got {value!r}"
    )
  return numbers


def make_model(cfg: ModelConfig) -> nn.Module:
  """Returns the network that `cfg` describes, without parameters."""
  return MODELS[cfg.name](
    num_classes=cfg.num_classes,
    width=cfg.width,
    mean=cfg.mean,
    std=cfg.std,
    dtype=_DTYPES[cfg.dtype],
  )


def apply(
  model: nn.Module, variables, x, bn_mode: str = "running", **kwargs
) -> Any:
  """Returns the model's `Outputs` and never changes its statistics."""
  if bn_mode == "running":
    return model.apply(variables, x, bn_mode=bn_mode, **kwargs)
  outputs, _ = model.apply(
    variables, x, bn_mode=bn_mode, mutable=["batch_stats"], **kwargs
  )
  return outputs


@functools.partial(jax.jit, static_argnums=(0, 2))
def init_variables(
  model: nn.Module, key: jax.Array, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
  """Returns fresh variables: "params" and, with BatchNorm, "batch_stats".

  They are what `model.init` gives: what a layer declares is what a run gets.
  Our layers take theirs from one draw; see `layers.Pool`.

  Args:
    model: a network from `make_model`.
    key: a PRNG key; the same key gives the same numbers.
    image_shape: (H, W, C).
  """
  x = jnp.zeros((1, *image_shape), jnp.float32)
  draw_key, key = jax.random.split(key)
  with Pool() as count:
    jax.eval_shape(model.init, key, x)
  draws = jax.random.uniform(draw_key, (count.used,), minval=-1.0)
  with Pool(draws):
    return dict(model.init(key, x))


def num_params(params: Mapping[str, Any]) -> int:
  """Returns how many numbers a tree of parameters holds."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
