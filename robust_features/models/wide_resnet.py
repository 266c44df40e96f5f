"""Wide residual networks, pre-activation, as robustness benchmarks use them.

Where the shape changes, the shortcut is a 1x1 convolution of the activated
input (the one that the block's first convolution sees). No dropout.

Reference: arXiv 1605.07146.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers


class WideBlock(nn.Module):
  """BN-ReLU-3x3 twice, added to the input.

  Attributes:
    width: output channels.
    stride: of the first convolution.
    dtype: the compute type.
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
    dtype, stride = self.dtype, self.stride
    activated = jax.nn.relu(layers.BatchNorm(dtype, name="bn1")(x, bn_mode))
    y = layers.Conv(self.width, stride=stride, dtype=dtype, name="conv1")(
      activated
    )
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn2")(y, bn_mode))
    y = layers.Conv(self.width, dtype=dtype, name="conv2")(y)
    if x.shape[-1] != self.width:
      x = layers.Conv(
        self.width, (1, 1), stride, (0, 0), dtype=dtype, name="shortcut"
      )(activated)
    return x + y


class WideResNet(layers.Network):
  """A wide ResNet; the representation is the pooled last activation.

  Attributes:
    blocks_per_stage: (depth - 4) / 6.
    width: channels of the first stage (16 times the widening factor).
  """

  blocks_per_stage: int = 4
  width: int = 160

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    dtype = self.dtype
    y = self.normalized(x)
    y = layers.Conv(16, dtype=dtype, name="conv1")(y)
    for stage in range(3):
      for i in range(self.blocks_per_stage):
        y = WideBlock(
          width=self.width * 2**stage,
          stride=2 if stage > 0 and i == 0 else 1,
          dtype=dtype,
          name=f"block{stage + 1}_{i}",
        )(y, bn_mode)
    y = layers.BatchNorm(dtype, name="bn1")(y, bn_mode)
    representation = layers.global_mean(layers.relu(y, fake_relu))
    return self.classified(representation)


def wrn_28_10(*, width: int = 0, **fields: Any) -> WideResNet:
  """Returns WRN-28-10 (36.5M parameters, 640-d representation)."""
  return WideResNet(blocks_per_stage=4, width=width or 160, **fields)
