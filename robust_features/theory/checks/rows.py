"""Rows of the table of checks: one statement, two numbers, a verdict."""

import math
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
  """One check of one statement.

  Attributes:
    name: The statement, as the paper numbers it.
    statement: What is claimed.
    function: The function checked.
    value: What it gives; of an array, the entry farthest off.
    reference: What it should give, reached another way.
    error: Their distance, in the unit of `measure`.
    tolerance: The largest error that passes.
    measure: "relative" or "standard errors" of an equality, "shortfall" of an
      inequality (relative too; negative where there is room to spare).
    passed: Whether error <= tolerance.
  """

  name: str
  statement: str
  function: str
  value: float
  reference: float
  error: float
  tolerance: float
  measure: str
  passed: bool


class Claim(NamedTuple):
  """A statement waiting for its numbers."""

  name: str
  statement: str
  function: str

  def equals(self, value: Any, reference: Any, tolerance: float) -> Row:
    """Returns a row that passes if every entry agrees, relative to the
    largest entry of the reference (or to 1 if that is zero).
    """
    value, reference = _pair(value, reference)
    scale = np.abs(reference).max() or 1.0
    return self._row(
      value, reference, np.abs(value - reference) / scale, tolerance, "relative"
    )

  def at_least(self, value: Any, bound: Any, tolerance: float = 1e-12) -> Row:
    """Returns a row that passes if no entry falls below its bound, relative to
    the bound's size.
    """
    value, bound = _pair(value, bound)
    scale = np.where(bound == 0, 1.0, np.abs(bound))
    return self._row(
      value, bound, (bound - value) / scale, tolerance, "shortfall"
    )

  def sampled(self, draws: Any, reference: Any, errors: float = 4.0) -> Row:
    """Returns a row that passes if the mean over axis 0 of the draws lies
    within so many standard errors of the reference.
    """
    draws = np.asarray(draws, np.float64)
    error = draws.std(axis=0, ddof=1) / math.sqrt(len(draws))
    value, reference = _pair(draws.mean(axis=0), reference)
    distance = np.abs(value - reference) / np.where(error > 0, error, np.inf)
    return self._row(value, reference, distance, errors, "standard errors")

  def _row(self, value, reference, error, tolerance, measure) -> Row:
    # A NaN anywhere is the worst entry, and fails.
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    error = float(error[worst])
    return Row(
      *self,
      value=float(value[worst]),
      reference=float(reference[worst]),
      error=error,
      tolerance=float(tolerance),
      measure=measure,
      passed=error <= tolerance,
    )


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
  """Returns two flat float64 arrays of one length."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  a, b = np.broadcast_arrays(a, b)
  return a.reshape(-1), b.reshape(-1)
