"""Residual networks for small images, their narrow relatives, and ImageNet's.

The CIFAR form of the paper's library: 3x3 stem without max-pool, stages of
widths w, 2w, 4w, ... with strides 1, 2, 2, ..., stride on the 3x3 convolution,
projection shortcuts where the shape changes, activation after the addition.
ImageNet's form, torchvision's, differs by its stem: a 7x7 convolution and a
max-pool, each of stride 2.

Reference: arXiv 1512.03385 (ResNet); arXiv 1905.02175 appendix C.1.
"""

import functools
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
    norm: "batch" or "none".
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  norm: str = "batch"
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, width]."""
    step = functools.partial(
      layers.conv_norm, bn_mode=bn_mode, norm=self.norm, dtype=self.dtype
    )
    y = step(x, self.width, ("conv1", "bn1"), stride=self.stride)
    y = step(jax.nn.relu(y), self.width, ("conv2", "bn2"))
    return y + _shortcut(x, self.width, self.stride, step)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions; the caller applies the last ReLU.

  Attributes:
    width: channels of the first two convolutions; the third has 4 times more.
    stride: of the 3x3 convolution.
    dtype: the compute type.
    norm: "batch" or "none".
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  norm: str = "batch"
  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / stride, W / stride, 4 * width]."""
    out = self.expansion * self.width
    step = functools.partial(
      layers.conv_norm, bn_mode=bn_mode, norm=self.norm, dtype=self.dtype
    )
    y = jax.nn.relu(step(x, self.width, ("conv1", "bn1"), size=1))
    y = step(y, self.width, ("conv2", "bn2"), stride=self.stride)
    y = step(jax.nn.relu(y), out, ("conv3", "bn3"), size=1)
    return y + _shortcut(x, out, self.stride, step)


def _shortcut(x, features, stride, step):
  """Returns `x`, projected by a 1x1 convolution where the shape changes."""
  if stride == 1 and x.shape[-1] == features:
    return x
  names = ("shortcut_conv", "shortcut_bn")
  return step(x, features, names, size=1, stride=stride)


class ResNet(layers.Network):
  """A residual network; the representation is the pooled last activation.

  Attributes:
    stage_sizes: blocks in each stage.
    width: channels of the stem and the first stage; doubles with each stage.
    bottleneck: whether blocks are `Bottleneck` (else `BasicBlock`).
    imagenet: whether the stem is ImageNet's.
    remat: whether the backward pass computes a block's activations again
      instead of keeping them: a third more work, far less memory.
    norm: "batch", or "none" for biases in its stead.
  """

  stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
  width: int = 64
  bottleneck: bool = False
  imagenet: bool = False
  remat: bool = False
  norm: str = "batch"

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]."""
    dtype = self.dtype
    block = Bottleneck if self.bottleneck else BasicBlock
    if self.remat:
      block = nn.remat(block, static_argnums=(2,))  # `bn_mode`.
    size, stride = (7, 2) if self.imagenet else (3, 1)
    y = layers.conv_norm(
      self.normalized(x), self.width, ("conv1", "bn1"), bn_mode,
      norm=self.norm, dtype=dtype, size=size, stride=stride,
    )  # fmt: skip
    y = jax.nn.relu(y)
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
          norm=self.norm,
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
