"""VGG-16 with BatchNorm for 32x32 images.

Thirteen 3x3 convolutions with bias, each with BatchNorm and ReLU, five 2x2
max-pools, one linear layer. No dropout, as in the paper's library.

Reference: arXiv 1409.1556, configuration D.
"""

from typing import Any

import flax.linen as nn
import jax

from robust_features.models import layers

# Convolutions before each max-pool, and their channels in units of `width`.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class VGG(layers.Network):
  """VGG-16; the representation is the last max-pool's output.

  Attributes:
    width: channels of the first stage.
  """

  width: int = 64

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]; H and W at least 32."""
    dtype = self.dtype
    y = self.normalized(x)
    i, last = 0, sum(num for num, _ in STAGES)
    for num_convs, multiplier in STAGES:
      for _ in range(num_convs):
        i += 1
        y = layers.Conv(
          self.width * multiplier, use_bias=True, dtype=dtype, name=f"conv{i}"
        )(y)
        y = layers.BatchNorm(dtype, name=f"bn{i}")(y, bn_mode)
        y = layers.relu(y, fake_relu and i == last)
      y = layers.max_pool(y, 2, 2)
    representation = layers.global_mean(y)
    return self.classified(representation)


def vgg16(*, width: int = 0, **fields: Any) -> VGG:
  """Returns VGG-16 with BatchNorm (14.7M parameters, 512-d)."""
  return VGG(width=width or 64, **fields)
