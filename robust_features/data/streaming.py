"""Images on their way to the devices: all at once, or batch by batch.

What is trained on lies on the devices whole if it is an array in memory, and a
batch is a set of indices. All else is brought batch by batch, so that one
program serves sets of every size. `lazy.Images` are read by grain, in threads,
while the devices work on the batch before; each process brings the rows of its
own devices.

Batch i is a function of the seed and of i alone: nothing of a stream is in a
checkpoint, and a restart goes on with the next image whatever the number of
threads, devices and processes.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_features.data.lazy import Images, num_threads
from robust_features.runtime import sharding

_AHEAD_BYTES = 2**30  # Of batches that are ready and not yet wanted.


class _Parts:
  """What grain takes for a source: the number of a batch is all it knows."""

  def __init__(self, read: Callable[[Any], np.ndarray], parts: Sequence[Any]):
    self._read, self._parts = read, parts

  def __len__(self) -> int:
    return len(self._parts)

  def __getitem__(self, index: int) -> np.ndarray:
    return self._read(self._parts[index])


class Watch:
  """Time that the devices' driver spent waiting for input.

  Attributes:
    seconds: So far.
  """

  def __init__(self, seconds: float = 0.0):
    self.seconds = seconds

  @contextlib.contextmanager
  def waiting(self):
    """Counts the time inside."""
    start = time.monotonic()
    yield
    self.seconds += time.monotonic() - start


def read_ahead(
  read: Callable[[Any], np.ndarray], parts: Sequence[Any], nbytes: int,
  watch: Watch,
) -> Generator[np.ndarray]:  # fmt: skip
  """Yields `read(part)` of every part in order, read before it is wanted.

  Args:
    read: Runs in several threads at once.
    parts: What is to be read.
    nbytes: Of what it returns.
    watch: Told of the time that the caller had to wait.
  """
  import grain  # Late: only streams need it.

  ahead = max(1, min(2 * num_threads(), _AHEAD_BYTES // nbytes))
  options = grain.ReadOptions(
    num_threads=min(num_threads(), ahead), prefetch_buffer_size=ahead
  )
  source = grain.MapDataset.source(_Parts(read, parts))
  with contextlib.closing(iter(source.to_iter_dataset(options))) as batches:
    for _ in parts:
      with watch.waiting():
        batch = next(batches)
      yield batch


class Feed:
  """Brings a set's images to the devices, as `batching.map_batches` asks.

  Attributes:
    watch: Time spent waiting.
  """

  def __init__(self, images: np.ndarray | Images):
    """Reads nothing yet."""
    self._images, self.watch = images, Watch()

  def __call__(self, parts: Sequence[np.ndarray]) -> Iterator[tuple[jax.Array]]:
    """Yields the images at each of `parts`, indices `[B]`.

    Args:
      parts: All of one size, which the devices divide.

    Yields:
      `[B, H, W, C]`, split over the devices.
    """
    images, mine = self._images, sharding.local_rows(len(parts[0]))
    if not isinstance(images, Images):
      for part in parts:
        yield (sharding.from_local(images[part[mine]], len(part)),)
      return
    read = read_ahead(
      lambda part: _read(images, part[mine]), parts,
      len(mine) * images.image_nbytes, self.watch,
    )  # fmt: skip
    with contextlib.closing(read) as batches:
      for batch in batches:
        yield (sharding.from_local(batch, len(parts[0])),)


def _read(images: Images, indices: np.ndarray) -> np.ndarray:
  """Reads one batch in this thread."""
  found = np.empty((len(indices), *images.image_shape), images.dtype)
  for row, index in enumerate(indices):
    found[row] = images.source.read(int(images.numbers[index]))
  return found


class Resident(NamedTuple):
  """Steps of training on a set that lies on every device.

  Attributes:
    images: `[N, H, W, C]`.
    labels: int32 `[N]`.
    order: int32 `[N]`, the epoch's.
    first: The step that takes the first images of the order.
  """

  images: Any
  labels: Any
  order: jax.Array
  first: Any

  def at(self, step: jax.Array, batch_size: int):
    """Inside `jit`: returns a step's images, labels and indices."""
    start = ((step - self.first) * batch_size,)
    indices = jax.lax.dynamic_slice(self.order, start, (batch_size,))
    indices = sharding.split_batch(indices)
    return self.images[indices], self.labels[indices], indices


class Streamed(NamedTuple):
  """Steps of training whose images were brought for them.

  Attributes:
    images: `[C, B, H, W, C]` of C steps, B at least the batch size.
    labels: int32 `[C, B]`.
    indices: int32 `[C, B]`, in the set.
    first: The first of these steps.
  """

  images: Any
  labels: Any
  indices: jax.Array
  first: Any

  def at(self, step: jax.Array, batch_size: int):
    """Inside `jit`: returns a step's images, labels and indices."""
    return tuple(
      sharding.split_batch(values[step - self.first][:batch_size])
      for values in (self.images, self.labels, self.indices)
    )


def seed_of(key: jax.Array) -> tuple[int, ...]:
  """Returns a PRNG key as numpy takes a seed."""
  return tuple(np.asarray(jax.random.key_data(key)).tolist())


class TrainFeed:
  """Brings the images of training steps to the devices.

  Attributes:
    watch: Time spent waiting.
  """

  def __init__(
    self, images: Any, labels: np.ndarray, batch_size: int, chunk_steps: int,
    crop: float, seed: tuple[int, ...], watch: Watch,
  ):  # fmt: skip
    """Puts an array on every device at once; reads nothing else yet.

    Args:
      images: `[N, H, W, C]`, an array or `Images`.
      labels: int32 `[N]`.
      batch_size: Of a step.
      chunk_steps: Steps at a time.
      crop: Least share of an image's area that a random crop keeps; 0 takes
        images as they are.
      seed: Of the crops.
      watch: Goes on.
    """
    self.images, self.labels = images, labels
    self.batch_size, self.chunk_steps = batch_size, chunk_steps
    self.crop, self.seed, self.watch = crop, seed, watch
    if not isinstance(images, Images):
      self.images, self.labels = sharding.replicate((images, labels))

  def chunks(
    self, order: jax.Array, first: int, step: int, end: int
  ) -> Iterator[tuple[int, Resident | Streamed]]:
    """Yields (number of steps, their images) of an epoch that is at `step`.

    Args:
      order: int32 `[N]`, the epoch's.
      first: The epoch's first step.
      step: The one to go on with.
      end: The first one of the next epoch.
    """
    starts = range(step, end, self.chunk_steps)
    counts = [min(self.chunk_steps, end - start) for start in starts]
    if not isinstance(self.images, Images):
      resident = Resident(self.images, self.labels, order, first)
      yield from ((count, resident) for count in counts)
      return
    indices = self._indices(order)
    mine = sharding.local_rows(indices.shape[1])
    parts = [
      (start, indices[start - first : start - first + count])
      for start, count in zip(starts, counts, strict=True)
    ]
    read = read_ahead(
      lambda part: self._read(part[0], part[1], mine), parts,
      self.chunk_steps * len(mine) * self.images.image_nbytes, self.watch,
    )  # fmt: skip
    with contextlib.closing(read) as chunks:
      for (start, rows), images in zip(parts, chunks, strict=True):
        # One program for all chunks: the last of an epoch may be shorter.
        whole = np.pad(rows, ((0, self.chunk_steps - len(rows)), (0, 0)))
        labels, whole = sharding.replicate((self.labels[whole], whole))
        images = sharding.from_local(images, whole.shape[1], axis=1)
        yield len(rows), Streamed(images, labels, whole, start)

  def _indices(self, order: jax.Array) -> np.ndarray:
    """Returns the images of all steps of an epoch, `[steps, B]`.

    B is the batch size, padded to a multiple of the devices.
    """
    steps = len(order) // self.batch_size
    rows = np.asarray(order)[: steps * self.batch_size]
    rows = rows.reshape(steps, self.batch_size)
    extra = -self.batch_size % jax.device_count()
    return np.pad(rows, ((0, 0), (0, extra)), mode="edge")

  def _read(
    self, start: int, indices: np.ndarray, mine: np.ndarray
  ) -> np.ndarray:
    """Reads this process's images of the steps from `start`."""
    images: Images = self.images
    shape = (self.chunk_steps, len(mine), *images.image_shape)
    found = np.zeros(shape, images.dtype)
    for i, rows in enumerate(indices):
      if not self.crop:
        found[i] = _read(images, rows[mine])
        continue
      for j, index in enumerate(rows[mine].tolist()):
        seed = (*self.seed, start + i, index)
        found[i, j] = images.crop(index, self.crop, seed)
    return found
