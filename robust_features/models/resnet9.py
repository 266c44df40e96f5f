"""ResNet-9 of the fast CIFAR trainings: eight convolutions, two shortcuts.

The layout of DAWNBench's entries as FFCV and KellerJordan's cifar10-zoo have
it: each convolution with BatchNorm and ReLU, one maximum over the image, and a
linear layer without bias whose logits are multiplied by 0.2. BatchNorm's scales
are trained here; they keep them at 1.

Reference: github.com/KellerJordan/cifar10-zoo, adversarial/model.py.
"""

from typing import Any

import flax.linen as nn
import jax

from robust_features.models import layers

_LOGIT_SCALE = 0.2


class ResNet9(layers.Network):
  """ResNet-9; the representation is the last activation's maximum.

  Attributes:
    width: channels of the first convolution.
    norm: "batch", or "none" for biases in its stead.
  """

  width: int = 64
  norm: str = "batch"

  @nn.compact
  def __call__(
    self, x: jax.Array, *, bn_mode: str = "running", fake_relu: bool = False
  ) -> layers.Outputs:
    """Classifies images `x` [B, H, W, C] in [0, 1]; H and W at least 11."""

    def unit(y, i, multiplier, fake=False, **how):
      y = layers.conv_norm(
        y, self.width * multiplier, (f"conv{i}", f"bn{i}"), bn_mode,
        norm=self.norm, dtype=self.dtype, **how,
      )  # fmt: skip
      return layers.relu(y, fake)

    y = unit(self.normalized(x), 1, 1)
    y = unit(y, 2, 2, size=5, stride=2)
    y = y + unit(unit(y, 3, 2), 4, 2)
    y = layers.max_pool(unit(y, 5, 4), 2, 2)
    y = y + unit(unit(y, 6, 4), 7, 4)
    y = unit(y, 8, 2, fake_relu, padding=0)
    # A window, not `jnp.max`: of equal pixels the first gets the gradient.
    representation = nn.max_pool(y, y.shape[1:3])[:, 0, 0]
    return self.classified(representation, _LOGIT_SCALE, use_bias=False)


def resnet9(*, width: int = 0, **fields: Any) -> ResNet9:
  """Returns ResNet-9 (2.3M parameters, 128-d representation)."""
  return ResNet9(width=width or 64, **fields)
