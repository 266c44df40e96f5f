"""Pre-activation residual networks: wide ones, and ResNet-18's.

Where the shape changes, the shortcut is a 1x1 convolution of the activated
input (the one that the block's first convolution sees). No dropout.

Reference: arXiv 1605.07146 (wide); arXiv 1603.05027 (pre-activation).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers


class WideBlock(nn.Module):
  """Norm, activation and 3x3 convolution twice, added to the input.

  Attributes:
    width: output channels.
    stride: of the first convolution.
    dtype: the compute type.
    norm: "batch", or "none" for biases in its stead.
    silu: as in `WideResNet`.
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  norm: str = "batch"
  silu: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
    activate = jax.nn.silu if self.silu else jax.nn.relu

    def convolve(y, name, size=3, stride=1, padding=1):
      return layers.Conv(
        self.width, (size, size), stride, (padding, padding),
        use_bias=self.norm == "none", dtype=self.dtype, name=name,
      )(y)  # fmt: skip

    def activated(y, name):
      norm = layers.normalization(self.norm, self.dtype, name)
      return activate(norm(y, bn_mode))

    first = padded = activated(x, "bn1")
    at_end = self.silu and self.stride == 2
    if at_end:
      padded = jnp.pad(first, ((0, 0), (0, 1), (0, 1), (0, 0)))
    y = convolve(padded, "conv1", 3, self.stride, 0 if at_end else 1)
    y = convolve(activated(y, "bn2"), "conv2")
    if x.shape[-1] != self.width:
      x = convolve(first, "shortcut", 1, self.stride, 0)
    return x + y


class WideResNet(layers.Network):
  """A pre-activation ResNet; the representation is the pooled last activation.

  Attributes:
    blocks_per_stage: (depth - 4) / 6 of a wide ResNet.
    width: channels of the first stage (16 times the widening factor).
    stages: How many; each has twice the channels of the one before.
    stem: channels of the first convolution.
    norm: "batch", or "none" for biases in its stead.
    silu: whether the activation is SiLU, and strided convolutions are padded
      at the far edges alone, as TensorFlow does: both as in arXiv 2010.03593.
  """

  blocks_per_stage: int = 4
  width: int = 160
  stages: int = 3
  stem: int = 16
  norm: str = "batch"
  silu: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]; SiLU has no fake twin."""
    dtype = self.dtype
    y = layers.Conv(
      self.stem, use_bias=self.norm == "none", dtype=dtype, name="conv1"
    )(self.normalized(x))
    for stage in range(self.stages):
      for i in range(self.blocks_per_stage):
        y = WideBlock(
          width=self.width * 2**stage,
          stride=2 if stage > 0 and i == 0 else 1,
          dtype=dtype,
          norm=self.norm,
          silu=self.silu,
          name=f"block{stage + 1}_{i}",
        )(y, bn_mode)
    y = layers.normalization(self.norm, dtype, "bn1")(y, bn_mode)
    y = jax.nn.silu(y) if self.silu else layers.relu(y, fake_relu)
    return self.classified(layers.global_mean(y))


def wrn_28_10(*, width: int = 0, **fields: Any) -> WideResNet:
  """Returns WRN-28-10 (36.5M parameters, 640-d representation)."""
  return WideResNet(blocks_per_stage=4, width=width or 160, **fields)


def wrn_28_10_silu(*, width: int = 0, **fields: Any) -> WideResNet:
  """Returns WRN-28-10 with SiLU, that of arXiv 2010.03593 and its heirs."""
  return wrn_28_10(width=width, silu=True, **fields)


def preact_resnet18(*, width: int = 0, **fields: Any) -> WideResNet:
  """Returns the CIFAR PreActResNet-18 (11.2M parameters, 512-d).

  With a BatchNorm before the pool, as in arXiv 2002.11569 and 2004.05884.
  """
  width = width or 64
  return WideResNet(
    blocks_per_stage=2, width=width, stem=width, stages=4, **fields
  )
