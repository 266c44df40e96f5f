"""Residual networks for small images, their narrow relatives, and ImageNet's.

The CIFAR form of the paper's library: 3x3 stem without max-pool, stages of
widths w, 2w, 4w, ... with strides 1, 2, 2, ..., stride on the 3x3 convolution,
projection shortcuts where the shape changes, activation after the addition.
ImageNet's form, torchvision's, differs by its stem: a 7x7 convolution and a
max-pool, each of stride 2.

Reference: arXiv 1512.03385 (ResNet); arXiv 1905.02175 appendix C.1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and a shortcut; the caller applies the last ReLU.

  Attributes:
    width: channels of both convolutions.
    stride: of the first convolution.
    dtype: the compute type.
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
    dtype = self.dtype
    y = layers.Conv(self.width, stride=self.stride, dtype=dtype, name="conv1")(
      x
    )
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn1")(y, bn_mode))
    y = layers.Conv(self.width, dtype=dtype, name="conv2")(y)
    y = layers.BatchNorm(dtype, name="bn2")(y, bn_mode)
    return y + _shortcut(x, self.width, self.stride, bn_mode, dtype)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions; the caller applies the last ReLU.

  Attributes:
    width: channels of the first two convolutions; the third has 4 times more.
    stride: of the 3x3 convolution.
    dtype: the compute type.
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, 4 * width]."""
    dtype, out = self.dtype, self.expansion * self.width

    def pointwise(features, name):
      return layers.Conv(features, (1, 1), 1, (0, 0), dtype=dtype, name=name)

    y = pointwise(self.width, "conv1")(x)
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn1")(y, bn_mode))
    y = layers.Conv(self.width, stride=self.stride, dtype=dtype, name="conv2")(
      y
    )
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn2")(y, bn_mode))
    y = pointwise(out, "conv3")(y)
    y = layers.BatchNorm(dtype, name="bn3")(y, bn_mode)
    return y + _shortcut(x, out, self.stride, bn_mode, dtype)


def _shortcut(x, features, stride, bn_mode, dtype):
  """Returns `x`, projected by a 1x1 convolution where the shape changes."""
  if stride == 1 and x.shape[-1] == features:
    return x
  conv = layers.Conv(
    features, (1, 1), stride, (0, 0), dtype=dtype, name="shortcut_conv"
  )
  return layers.BatchNorm(dtype, name="shortcut_bn")(conv(x), bn_mode)


class ResNet(layers.Network):
  """A residual network; the representation is the pooled last activation.

  Attributes:
    stage_sizes: blocks in each stage.
    width: channels of the stem and the first stage; doubles with each stage.
    bottleneck: whether blocks are `Bottleneck` (else `BasicBlock`).
    imagenet: whether the stem is ImageNet's.
    remat: whether the backward pass computes a block's activations again
      instead of keeping them: a third more work, far less memory.
  """

  stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
  width: int = 64
  bottleneck: bool = False
  imagenet: bool = False
  remat: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    dtype = self.dtype
    block = Bottleneck if self.bottleneck else BasicBlock
    if self.remat:
      block = nn.remat(block, static_argnums=(2,))  # `bn_mode`.
    stem = ((7, 7), 2, (3, 3)) if self.imagenet else ((3, 3), 1, (1, 1))
    y = self.normalized(x)
    y = layers.Conv(self.width, *stem, dtype=dtype, name="conv1")(y)
    y = jax.nn.relu(layers.BatchNorm(dtype, name="bn1")(y, bn_mode))
    if self.imagenet:
      edges = ((0, 0), (1, 1), (1, 1), (0, 0))
      y = jax.lax.reduce_window(
        y, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges
      )
    left = sum(self.stage_sizes)
    for stage, num_blocks in enumerate(self.stage_sizes):
      for i in range(num_blocks):
        left -= 1
        y = block(
          width=self.width * 2**stage,
          stride=2 if stage > 0 and i == 0 else 1,
          dtype=dtype,
          name=f"layer{stage + 1}_{i}",
        )(y, bn_mode)
        y = layers.relu(y, fake_relu and left == 0)
    representation = layers.global_mean(y)
    return self.classified(representation)


def resnet18(*, width: int = 0, **fields: Any) -> ResNet:
  """Returns the CIFAR ResNet-18 (11.2M parameters, 512-d representation)."""
  return ResNet(stage_sizes=(2, 2, 2, 2), width=width or 64, **fields)


def resnet34(*, width: int = 0, **fields: Any) -> ResNet:
  """Returns the CIFAR ResNet-34 (21.3M parameters, 512-d representation)."""
  return ResNet(stage_sizes=(3, 4, 6, 3), width=width or 64, **fields)


def resnet50(*, width: int = 0, **fields: Any) -> ResNet:
  """Returns the CIFAR ResNet-50 (23.5M parameters, 2048-d representation)."""
  return ResNet(
    stage_sizes=(3, 4, 6, 3), width=width or 64, bottleneck=True, **fields
  )


def resnet50_imagenet(*, width: int = 0, **fields: Any) -> ResNet:
  """Returns ImageNet's ResNet-50, for images of 224 pixels (2048-d)."""
  return resnet50(width=width, imagenet=True, **fields)


def small_resnet(*, width: int = 0, **fields: Any) -> ResNet:
  """Returns a narrow three-block network for CPU (16, 32, 64 channels)."""
  return ResNet(stage_sizes=(1, 1, 1), width=width or 16, **fields)
