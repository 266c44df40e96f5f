"""Inception-v3 for 32x32 images, the port used by the paper's library.

The stem keeps the resolution (3x3 convolutions of stride 1, the last without
padding: 32 -> 30), then the mixed blocks run at 30, 14 and 6 pixels. The pool
branch of the first three blocks ends in a 3x3 convolution, unlike the ImageNet
network's 1x1. No auxiliary head. The library drops half of the pooled channels
while it trains; this port has no dropout.

Reference: arXiv 1512.00567 (Inception-v3).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers

# One convolution of a branch: channels, kernel (height, width), stride and
# whether it is padded to keep the size. A branch is a chain of them.
_Step = tuple[int, tuple[int, int], int, bool]


def _conv(channels: int, height: int, width: int | None = None) -> _Step:
  return (channels, (height, width or height), 1, True)


def _down(channels: int) -> _Step:
  return (channels, (3, 3), 2, False)


class BasicConv(nn.Module):
  """Convolution, BatchNorm and ReLU.

  Attributes:
    step: channels, kernel size, stride and whether padded.
    dtype: the compute type.
    fake: whether the ReLU passes gradients through.
  """

  step: _Step
  dtype: Any = jnp.float32
  fake: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H', W', channels]."""
    channels, (height, width), stride, padded = self.step
    padding = (height // 2, width // 2) if padded else (0, 0)
    y = layers.Conv(
      channels, (height, width), stride, padding, dtype=self.dtype, name="conv"
    )(x)
    y = layers.BatchNorm(self.dtype, name="bn")(y, bn_mode)
    return layers.relu(y, self.fake)


class Mixed(nn.Module):
  """Parallel branches whose outputs are concatenated.

  Attributes:
    branches: (name, chain of convolutions) in output order.
    pool: "average" (size kept; a chain named `branchpool` follows it), or
      "max_down" or "average_down" (halves the size; nothing follows).
    dtype: the compute type.
  """

  branches: tuple[tuple[str, tuple[_Step, ...]], ...]
  pool: str
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to the concatenated branches."""
    outputs = []
    for name, chain in self.branches:
      y = x
      if name == "branchpool":
        y = layers.average_pool(x, 3, 1, 1)
      for i, step in enumerate(chain):
        y = BasicConv(step, self.dtype, name=f"{name}_{i}")(y, bn_mode)
      outputs.append(y)
    if self.pool == "max_down":
      outputs.append(layers.max_pool(x, 3, 2))
    elif self.pool == "average_down":
      outputs.append(layers.average_pool(x, 3, 2, 0))
    return jnp.concatenate(outputs, axis=-1)


class MixedE(nn.Module):
  """The last blocks: two branches fork into 1x3 and 3x1 convolutions.

  Attributes:
    dtype: the compute type.
    fake: whether the ReLUs of the block's outputs pass gradients through.
  """

  dtype: Any = jnp.float32
  fake: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, 2048]."""

    def conv(y, name, step, ends=True):
      fake = self.fake and ends
      return BasicConv(step, self.dtype, fake, name=name)(y, bn_mode)

    short = conv(x, "branch3x3_1", _conv(384, 1), ends=False)
    long = conv(x, "branch3x3stack_1", _conv(448, 1), ends=False)
    long = conv(long, "branch3x3stack_2", _conv(384, 3), ends=False)
    pooled = layers.average_pool(x, 3, 1, 1)
    outputs = [
      conv(x, "branch1x1", _conv(320, 1)),
      conv(short, "branch3x3_2a", _conv(384, 1, 3)),
      conv(short, "branch3x3_2b", _conv(384, 3, 1)),
      conv(long, "branch3x3stack_3a", _conv(384, 1, 3)),
      conv(long, "branch3x3stack_3b", _conv(384, 3, 1)),
      conv(pooled, "branchpool_0", _conv(192, 1)),
    ]
    return jnp.concatenate(outputs, axis=-1)


def _mixed_a(pool_channels: int) -> dict[str, Any]:
  return {
    "branches": (
      ("branch1x1", (_conv(64, 1),)),
      ("branch5x5", (_conv(48, 1), _conv(64, 5))),
      ("branch3x3", (_conv(64, 1), _conv(96, 3), _conv(96, 3))),
      ("branchpool", (_conv(pool_channels, 3),)),
    ),
    "pool": "average",
  }


def _mixed_c(channels: int) -> dict[str, Any]:
  tall, wide = _conv(channels, 7, 1), _conv(channels, 1, 7)
  last = _conv(192, 1, 7)
  first = _conv(channels, 1)
  return {
    "branches": (
      ("branch1x1", (_conv(192, 1),)),
      ("branch7x7", (first, tall, last)),
      ("branch7x7stack", (first, tall, wide, tall, last)),
      ("branchpool", (_conv(192, 1),)),
    ),
    "pool": "average",
  }


_STEM = (
  ("Conv2d_1a_3x3", _conv(32, 3)),
  ("Conv2d_2a_3x3", _conv(32, 3)),
  ("Conv2d_2b_3x3", _conv(64, 3)),
  ("Conv2d_3b_1x1", _conv(80, 1)),
  ("Conv2d_4a_3x3", (192, (3, 3), 1, False)),
)

_MIXED: tuple[tuple[str, dict[str, Any]], ...] = (
  ("Mixed_5b", _mixed_a(32)),
  ("Mixed_5c", _mixed_a(64)),
  ("Mixed_5d", _mixed_a(64)),
  (
    "Mixed_6a",
    {
      "branches": (
        ("branch3x3", (_down(384),)),
        ("branch3x3stack", (_conv(64, 1), _conv(96, 3), _down(96))),
      ),
      "pool": "max_down",
    },
  ),
  ("Mixed_6b", _mixed_c(128)),
  ("Mixed_6c", _mixed_c(160)),
  ("Mixed_6d", _mixed_c(160)),
  ("Mixed_6e", _mixed_c(192)),
  (
    "Mixed_7a",
    {
      "branches": (
        ("branch3x3", (_conv(192, 1), _down(320))),
        (
          "branch7x7",
          (_conv(192, 1), _conv(192, 1, 7), _conv(192, 7, 1), _down(192)),
        ),
      ),
      "pool": "average_down",
    },
  ),
)


class InceptionV3(layers.Network):
  """Inception-v3 for CIFAR; the representation is the pooled last block.

  `fake_relu` acts on the ReLUs that end the last block's branches.
  """

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    dtype = self.dtype
    y = self.normalized(x)
    for name, step in _STEM:
      y = BasicConv(step, dtype, name=name)(y, bn_mode)
    for name, fields in _MIXED:
      y = Mixed(dtype=dtype, name=name, **fields)(y, bn_mode)
    y = MixedE(dtype, name="Mixed_7b")(y, bn_mode)
    y = MixedE(dtype, fake_relu, name="Mixed_7c")(y, bn_mode)
    representation = layers.global_mean(y)
    return self.classified(representation)


def inception_v3(*, width: int = 0, **fields: Any) -> InceptionV3:
  """Returns Inception-v3 for CIFAR (2048-d representation).

  Raises:
    ValueError: if a width is asked for; its branches have fixed ones.
  """
  if width:
    raise ValueError(f"width must be 0 for inception_v3, got {width!r}")
  return InceptionV3(**fields)
