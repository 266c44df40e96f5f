"""VGG-16 with BatchNorm for 32x32 images.

Thirteen 3x3 convolutions with bias, each with BatchNorm and ReLU, five 2x2
max-pools, one linear layer. No dropout, as in the paper's library.

Reference: arXiv 1409.1556, configuration D.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models import layers

# Convolutions before each max-pool, and their channels in units of `width`.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class VGG(nn.Module):
  """VGG-16; the representation is the last max-pool's output.

  Attributes:
    num_classes: number of logits K.
    width: channels of the first stage.
    mean: subtracted from the images, one number or one a channel.
    std: divided by, one number or one a channel.
    dtype: the compute type.
  """

  num_classes: int = 10
  width: int = 64
  mean: tuple[float, ...] = layers.CIFAR_MEAN
  std: tuple[float, ...] = layers.CIFAR_STD
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]; H and W at least 32."""
    dtype = self.dtype
    y = layers.normalize(x, self.mean, self.std, dtype)
    i, last = 0, sum(num for num, _ in STAGES)
    for num_convs, multiplier in STAGES:
      for _ in range(num_convs):
        i += 1
        y = layers.Conv(
          self.width * multiplier, use_bias=True, dtype=dtype, name=f"conv{i}"
        )(y)
        y = layers.BatchNorm(dtype, name=f"bn{i}")(y, bn_mode)
        y = layers.last_relu(y, fake_relu and i == last)
      y = layers.max_pool(y, 2, 2)
    representation = layers.global_mean(y)
    logits = layers.Linear(self.num_classes, dtype, name="linear")(
      representation
    )
    return layers.Outputs(logits.astype(jnp.float32), representation)


def vgg16(*, width: int = 0, **fields: Any) -> VGG:
  """Returns VGG-16 with BatchNorm (14.7M parameters, 512-d)."""
  return VGG(width=width or 64, **fields)
