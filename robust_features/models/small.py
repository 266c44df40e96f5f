"""Networks small enough to train in seconds on a CPU."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers


class CNN(layers.Network):
  """Plain 3x3 convolutions, then a linear layer.

  Attributes:
    width: channels of the first layer.
    multipliers: channels of each layer in units of `width`.
    strides: stride of each layer.
    norm: "batch", or "none" for biases in its stead.
    pool: pixels of the average pool before the representation; 0 pools over
      the whole image, 1 keeps every pixel.
  """

  width: int = 16
  multipliers: tuple[int, ...] = (1, 2, 4)
  strides: tuple[int, ...] = (1, 2, 2)
  norm: str = "batch"
  pool: int = 2

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    y = self.normalized(x)
    last = len(self.multipliers) - 1
    plan = zip(self.multipliers, self.strides, strict=True)
    for i, (multiplier, stride) in enumerate(plan):
      y = layers.conv_norm(
        y, self.width * multiplier, (f"conv{i + 1}", f"bn{i + 1}"), bn_mode,
        norm=self.norm, dtype=self.dtype, stride=stride,
      )  # fmt: skip
      y = layers.relu(y, fake_relu and i == last)
    representation = _pool_and_flatten(y, self.pool)
    return self.classified(representation)


def _pool_and_flatten(y: jax.Array, pool: int) -> jax.Array:
  """Averages squares of `pool` pixels (0: all), [B, H, W, C] -> [B, D]."""
  if pool == 0:
    return layers.global_mean(y)
  y = layers.mean_pool(y.astype(jnp.float32), pool)
  return _flatten(y)


def _flatten(x: jax.Array) -> jax.Array:
  """Flattens [B, H, W, C] channel by channel, as PyTorch would: [B, C*H*W]."""
  return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


class MLP(layers.Network):
  """Fully connected layers on the flattened image.

  Attributes:
    hidden: units of each hidden layer.
  """

  hidden: tuple[int, ...] = (256, 256)

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1].

    Raises:
      ValueError: if `bn_mode` is none of the three (it changes nothing here).
    """
    layers.check_bn_mode(bn_mode)
    y = self.normalized(x)
    y = _flatten(y)
    for i, features in enumerate(self.hidden):
      y = layers.Linear(features, self.dtype, name=f"hidden{i + 1}")(y)
      y = layers.relu(y, fake_relu and i == len(self.hidden) - 1)
    return self.classified(y)


def cnn(*, width: int = 0, **fields: Any) -> CNN:
  """Returns three convolutions of 16, 32, 64 channels with BatchNorm."""
  return CNN(width=width or 16, **fields)


def cnn4(*, width: int = 0, **fields: Any) -> CNN:
  """Returns four convolutions of 32, 64, 128, 128 channels with BatchNorm."""
  return CNN(
    width=width or 32,
    multipliers=(1, 2, 4, 4),
    strides=(2, 2, 1, 2),
    **fields,
  )


def strided_cnn4(*, width: int = 0, **fields: Any) -> CNN:
  """Returns `cnn4` with its third stride a layer earlier: 0.7 of its cost."""
  return CNN(
    width=width or 32,
    multipliers=(1, 2, 4, 4),
    strides=(2, 2, 2, 1),
    **fields,
  )


def plain_cnn(*, width: int = 0, **fields: Any) -> CNN:
  """Returns the three convolutions of `cnn` without BatchNorm."""
  return CNN(width=width or 16, norm="none", **fields)


def plain_strided_cnn(*, width: int = 0, **fields: Any) -> CNN:
  """Returns `plain_cnn`, the first two layers strided: a third of its cost."""
  return CNN(width=width or 16, norm="none", strides=(2, 2, 1), **fields)


def mlp(*, width: int = 0, **fields: Any) -> MLP:
  """Returns two hidden layers of 256 units."""
  return MLP(hidden=(width or 256,) * 2, **fields)
