"""Batches of a long measurement, kept on disk so that none is measured twice.

For measurements of minutes to hours whose result is one number: where the
machine is lent for minutes they would never end.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robust_features.runtime import files, processes, sharding


class Measured:
  """What a function found for each batch of examples, one file a batch.

  Attributes:
    directory: Of the files; None keeps nothing.
  """

  def __init__(self, directory: str | pathlib.Path | None = None):
    self.directory = None if directory is None else pathlib.Path(directory)

  def run(
    self,
    name: str,
    indices: np.ndarray,
    function: Callable[[np.ndarray], Sequence[Any]],
  ) -> list[np.ndarray]:
    """Returns the arrays `function(indices)`, from disk if they are there.

    Args:
      name: Tells this measurement from others in the directory.
      indices: `[B]`, of the examples. On a GPU another sitting may attack
        slightly other ones; a file of other examples is not used.
      function: Returns arrays; called with `indices`.
    """
    if self.directory is None:
      return sharding.fetch(list(function(indices)))
    path = self.directory / f"{name}-{indices[0]:06d}.npz"
    found = _read(path)
    if found is not None and not np.array_equal(found[0], indices):
      found = None
    missing = processes.agree(found is None)
    if found is not None and not missing:
      return found[1:]
    arrays = sharding.fetch(list(function(indices)))
    named = {str(i): array for i, array in enumerate([indices, *arrays])}
    files.write_npz(path, {}, named)
    return arrays


def _read(path: pathlib.Path) -> list[np.ndarray] | None:
  """Returns a file's arrays in order; None where there is no whole file."""
  try:
    _, arrays = files.read_npz(path)
  except (FileNotFoundError, ValueError):
    return None
  return list(arrays.values())
