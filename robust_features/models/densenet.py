"""Densely connected networks for 32x32 images, bottleneck form.

Stem of 2g channels (g the growth rate), four dense blocks, transitions that
halve the channels, BatchNorm and ReLU before each convolution.

Reference: arXiv 1608.06993 (DenseNet-BC).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers


class DenseLayer(nn.Module):
  """BN-ReLU-1x1, BN-ReLU-3x3; its output goes before its input.

  Attributes:
    growth_rate: channels added.
    dtype: the compute type.
  """

  growth_rate: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, growth_rate + C]."""
    dtype, growth = self.dtype, self.growth_rate
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn1")(x, bn_mode))
    y = layers.Conv(4 * growth, (1, 1), 1, (0, 0), dtype=dtype, name="conv1")(y)
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn2")(y, bn_mode))
    y = layers.Conv(growth, dtype=dtype, name="conv2")(y)
    return jnp.concatenate([y, x], axis=-1)


class Transition(nn.Module):
  """BN-ReLU-1x1 to half the channels, then a 2x2 average pool.

  Attributes:
    dtype: the compute type.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / 2, W / 2, C / 2]."""
    dtype = self.dtype
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn")(x, bn_mode))
    y = layers.Conv(
      x.shape[-1] // 2, (1, 1), 1, (0, 0), dtype=dtype, name="conv"
    )(y)
    return layers.mean_pool(y, 2)


class DenseNet(layers.Network):
  """A DenseNet; the representation is the pooled last activation.

  Attributes:
    block_sizes: layers in each dense block.
    growth_rate: channels that each layer adds.
  """

  block_sizes: tuple[int, ...] = (6, 12, 24, 16)
  growth_rate: int = 32

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    dtype = self.dtype
    y = self.normalized(x)
    y = layers.Conv(2 * self.growth_rate, dtype=dtype, name="conv1")(y)
    for block, size in enumerate(self.block_sizes, start=1):
      if block > 1:
        y = Transition(dtype, name=f"trans{block - 1}")(y, bn_mode)
      for i in range(size):
        name = f"dense{block}_{i}"
        y = DenseLayer(self.growth_rate, dtype, name=name)(y, bn_mode)
    y = layers.BatchNorm(dtype, name="bn")(y, bn_mode)
    representation = layers.global_mean(layers.relu(y, fake_relu))
    return self.classified(representation)


def densenet121(*, width: int = 0, **fields: Any) -> DenseNet:
  """Returns DenseNet-121 (7.0M parameters, 1024-d); width is the growth."""
  return DenseNet(growth_rate=width or 32, **fields)


def densenet_cifar(*, width: int = 0, **fields: Any) -> DenseNet:
  """Returns the DenseNet of growth 12 (1.0M parameters, 384-d)."""
  return DenseNet(growth_rate=width or 12, **fields)
