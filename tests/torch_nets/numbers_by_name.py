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


# Where a unit's input is within rounding of 0, the gradient is not defined in
# float32: PyTorch's own differs from its float64 by up to 0.5%. The networks
# with most units are given small images, on which no unit is so close.
_SIZES = {"densenet121": 8, "inception_v3": 12, "wrn_28_10": 8}


def images(arch: str) -> np.ndarray:
  """Returns images [2, N, N, 3] in [0, 1) for a network; N is mostly 32."""
  size = _SIZES.get(arch, 32)
  return uniform(f"images{size}", (2, size, size, 3))


def cotangent() -> np.ndarray:
  """Returns the weights [2, 10] with which the logits are summed."""
  return 2 * uniform("cotangent", (2, 10)) - 1
