"""Which examples of a set are kept, by what a model says of them."""

import numpy as np


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the label's logit minus the largest other, `[N]`.

  Args:
    logits: `[N, K]`.
    labels: `[N]`.
  """
  rows = np.arange(len(labels))
  others = logits.astype(np.float64)
  own = others[rows, labels]
  others[rows, labels] = -np.inf
  return own - others.max(axis=1)


def extreme(values: np.ndarray, fraction: float, end: str) -> np.ndarray:
  """Returns indices of the largest or smallest values, in the set's order.

  Args:
    values: `[N]`; among equals the earlier one is larger.
    fraction: Share of the N that is kept, in (0, 1].
    end: "top" or "bottom"; those of a fraction and of one minus it part the
      set.
  """
  order = np.argsort(-values, kind="stable")
  if end == "bottom":  # What is not of the top; a half is rounded once.
    return np.sort(order[_count(1 - fraction, len(values)) :])
  return np.sort(order[: _count(fraction, len(values))])


def _count(fraction: float, num: int) -> int:
  """Returns a share of a number; 1 - 0.7 is taken for 0.3."""
  return round(round(fraction * num, 9))
