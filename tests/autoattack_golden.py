"""What the published AutoAttack found on small networks, and the networks.

`benchmarks/autoattack_golden.py` recorded it: numbers, no code.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.models import convolution

_PATH = pathlib.Path(__file__).parent / "golden" / "autoattack_reference.npz"
EPS = {"l2": 0.5, "linf": 8 / 255}


def load() -> dict[str, np.ndarray]:
  """Returns every recorded array."""
  with np.load(_PATH, allow_pickle=False) as arrays:
    return dict(arrays)


def images(golden) -> tuple[np.ndarray, np.ndarray]:
  """Returns images `[100, 16, 16, 3]` in [0, 1] and labels."""
  return golden["x"].astype(np.float32) / 255, golden["y"]


def net(golden, name: str) -> jax.tree_util.Partial:
  """Returns the network "standard" or "robust" as a logits function."""
  prefix = f"{name}/net:"
  weights = {
    key.removeprefix(prefix): jnp.asarray(value)
    for key, value in golden.items()
    if key.startswith(prefix)
  }
  return jax.tree_util.Partial(_logits, weights)


def _logits(weights, x):
  h = (x - 0.5) / 0.25
  for k in (0, 1):
    pad = ((1, 1), (1, 1))
    h = convolution.convolve(h, weights[f"conv{k}"], (k + 1, k + 1), pad)
    h = jax.nn.relu(h + weights[f"bias{k}"][None, None, None])
  batch, height, width, channels = h.shape
  h = h.reshape(batch, height // 2, 2, width // 2, 2, channels)
  h = h.mean(axis=(2, 4)).reshape(batch, -1)
  return h @ weights["dense"] + weights["dense_bias"][None]
