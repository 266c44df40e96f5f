"""Linear classifiers in closed form: ridge regression on the classes.

What a linear reader finds in representations, in pixels or in perturbations
is a bound on what a network finds there, and costs no training.
"""

from typing import NamedTuple

import numpy as np

_ENTRIES = 2**25  # Of the matrices that are fitted: 128 MiB of float32.


class Ridge(NamedTuple):
  """A linear classifier.

  Attributes:
    weights: `[D, K]`.
    mean: `[D]` of the features that it was fitted on.
    bias: `[K]`.
  """

  weights: np.ndarray
  mean: np.ndarray
  bias: np.ndarray


def fit(
  features: np.ndarray, labels: np.ndarray, num_classes: int,
  strength: float = 1e-3,
) -> Ridge:  # fmt: skip
  """Fits W, b that minimise ||(X - mean) W + b - Y||^2 + l ||W||^2.

  Args:
    features: `[N, D]`.
    labels: Integers `[N]` in [0, num_classes); Y has a one at each.
    num_classes: Number of classes K.
    strength: l in units of the mean eigenvalue of the features' Gram matrix,
      so that the scale of the features does not matter; above 0.
  """
  mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
  x = features.astype(np.float32) - mean
  y = np.eye(num_classes)[labels]
  bias = y.mean(axis=0)
  wide = x.shape[1] > x.shape[0]  # Then the N x N matrix is the smaller one.
  gram = (x @ x.T if wide else x.T @ x).astype(np.float64)
  size = len(gram)
  gram[np.diag_indices(size)] += strength * max(np.trace(gram) / size, 1e-12)
  if wide:
    weights = x.T @ np.linalg.solve(gram, y)
  else:
    weights = np.linalg.solve(gram, x.T @ y)
  return Ridge(weights.astype(np.float32), mean, bias)


def accuracy(ridge: Ridge, features: np.ndarray, labels: np.ndarray) -> float:
  """Returns the fraction of `[N, D]` features that are classed as labelled."""
  scores = (features.astype(np.float32) - ridge.mean) @ ridge.weights
  return float(((scores + ridge.bias).argmax(axis=1) == labels).mean())


def num_separated(num_examples: int, size: int) -> int:
  """Returns how many examples of `size` entries `separability` looks at."""
  return min(num_examples, 4000, max(_ENTRIES // size, 8))


def separability(
  features: np.ndarray, labels: np.ndarray, num_classes: int
) -> float:
  """Returns the held-out accuracy of a ridge fitted on three of every four.

  Every fourth example is held out.

  Args:
    features: `[N, D]`, at least 4.
    labels: `[N]`.
    num_classes: Number of classes.
  """
  held_out = np.arange(len(labels)) % 4 == 3
  found = fit(features[~held_out], labels[~held_out], num_classes)
  return accuracy(found, features[held_out], labels[held_out])
