"""Weights and images that need no file: numbers made from names.

Only NumPy's raw bit streams are used, which never change between versions.
"""

import hashlib
import math

import numpy as np


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns float32 numbers, uniform on [0, 1), determined by `name`."""
  seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
  raw = np.random.PCG64(seed).random_raw(math.prod(shape))
  return (np.float32(2**-24) * (raw >> 40).astype(np.float32)).reshape(shape)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns a PyTorch tensor's values: He weights, lively BatchNorms."""
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  draw = uniform(name, shape)
  if len(shape) > 1:
    bound = math.sqrt(6 / math.prod(shape[1:]))
    if name.startswith(("layer", "block")) and "hortcut" not in name:
      bound *= 0.6  # Residual branches, lest the sum grow with each.
    return (2 * draw - 1) * np.float32(bound)
  if name.endswith((".weight", "running_var")):
    return draw + np.float32(0.5)
  return np.float32(0.6) * draw - np.float32(0.3)


# The smallest that the networks take: fewer units, so that there are images on
# which none is close to its kink.
_SIZES = {"inception_v3": 12, "resnet9": 16, "vgg16": 32}


def image(arch: str, seed: int) -> np.ndarray:
  """Returns an image [1, N, N, 3] in [0, 1); N depends on the network."""
  size = _SIZES.get(arch, 8)
  return uniform(f"image {seed}", (1, size, size, 3))


def cotangent() -> np.ndarray:
  """Returns the weights [1, 10] with which the logits are summed."""
  return 2 * uniform("cotangent", (1, 10)) - 1
