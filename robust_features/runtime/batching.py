"""The one loop over batches: padding, stopping in time, the bar.

Drivers hand over a function of example indices `[B]`; every batch has the same
B, so that one compiled program serves all of them.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from robust_features.runtime import preemption, sharding


def batches(indices: np.ndarray, batch_size: int):
  """Yields (indices `[batch_size]`, how many are real); the last is padded."""
  for start in range(0, len(indices), batch_size):
    part = indices[start : start + batch_size]
    count = len(part)
    yield np.pad(part, (0, batch_size - count), mode="edge"), count


def even_batch(batch_size: int, num_examples: int) -> int:
  """Returns a batch size that the devices divide, no larger than needed."""
  devices = jax.device_count()
  size = min(batch_size, num_examples)
  return -(-size // devices) * devices


def nothing(parts: list[np.ndarray]) -> Iterable[tuple[Any, ...]]:
  """Feeds a function that finds its images by their indices."""
  return itertools.repeat((), len(parts))


def map_batches(
  function: Callable[..., Any],
  indices: np.ndarray,
  batch_size: int,
  *,
  feed: Callable[[list[np.ndarray]], Iterable[tuple[Any, ...]]] = nothing,
  bar: Any = None,
  interruptible: bool = True,
) -> Any:
  """Returns what a function finds for every example, batch by batch.

  A batch is fetched while the next one runs.

  Args:
    function: Takes indices `[batch_size]` and what `feed` gives with them,
      returns a tree of arrays with one row an example; that of a repeated
      index, which pads the last batch, is dropped.
    indices: `[N]`, at least one, of the examples.
    batch_size: Examples at a time.
    feed: Takes the indices of all batches, yields further arguments for each.
    bar: Of `logs.progress`, moved by every batch.
    interruptible: Whether to stop between batches when the process is asked
      to; a caller that must save something first says no.

  Returns:
    A tree of arrays `[N, ...]` in the order of `indices`.

  Raises:
    preemption.Stopped: If the process was asked to stop.
  """
  found, pending = [], None

  def fetch(batch):
    tree, count = batch
    found.append(jax.tree.map(lambda leaf: leaf[:count], sharding.fetch(tree)))
    if bar is not None:
      bar.update(count)

  parts = list(batches(indices, batch_size))
  given = feed([part for part, _ in parts])
  for (part, count), arguments in zip(parts, given, strict=True):
    if interruptible:
      preemption.check()
    running = function(part, *arguments), count
    if pending is not None:
      fetch(pending)
    pending = running
  fetch(pending)
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
