"""A labelled image set, and the pure operations on it.

A data set of CIFAR's size is one array: training puts it on the device once
and a batch is an index. A larger one has its images read when they are wanted;
see `lazy`. Nothing here knows where the images came from.
"""

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.data import lazy
from robust_features.runtime import layout

# What numpy's Generator takes: a seed, or a seed and the streams below it.
Seed = int | tuple[int, ...]


class DataError(ValueError):
  """Data that cannot be used: the message is one line and says the remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Images with labels; the number of examples N may be zero.

  Attributes:
    images: `[N, H, W, C]`, uint8 in [0, 255] or float32 in [0, 1]; an array,
      or `lazy.Images` that are read when they are wanted.
    labels: int32 `[N]` in [0, num_classes).
    num_classes: Number of classes.
    class_names: One name a class.
    extras: More arrays with one entry an example, `[N, ...]`, by name.
  """

  images: Any
  labels: np.ndarray
  num_classes: int
  class_names: tuple[str, ...]
  extras: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def num_examples(self) -> int:
    """Number of examples N."""
    return len(self.labels)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Shape (H, W, C) of one image."""
    return tuple(self.images.shape[1:])


class Splits(NamedTuple):
  """The three parts of a data set; a part that does not exist is empty."""

  train: Dataset
  validation: Dataset
  test: Dataset


def make(
  images: Any,
  labels: np.ndarray,
  class_names: tuple[str, ...] | int,
  extras: dict[str, np.ndarray] | None = None,
  *,
  where: str = "data set",
) -> Dataset:
  """Returns a checked data set from arrays of any integer label type.

  Args:
    images: `[N, H, W, C]`, uint8 or float32; an array or `lazy.Images`.
    labels: Integers `[N]`.
    class_names: The names, or the number of classes to be named "0", "1", ...
    extras: Arrays with one entry an example.
    where: What an error message calls the data: a file or a source.

  Raises:
    DataError: If the data cannot be used; see `check`.
  """
  if isinstance(class_names, int):
    class_names = tuple(str(i) for i in range(class_names))
  labels = np.asarray(labels)
  # Labels are checked before they are cast: 3e9 or 1.5 must not wrap round.
  if not np.issubdtype(labels.dtype, np.integer):
    raise DataError(
      f"{where}: labels must be integers, got dtype {labels.dtype}"
    )
  _check_label_range(labels, len(class_names), where)
  dataset = Dataset(
    images if isinstance(images, lazy.Images) else np.asarray(images),
    labels.astype(np.int32),
    len(class_names),
    tuple(class_names),
    dict(extras or {}),
  )
  check(dataset, where=where)
  return dataset


def check(dataset: Dataset, *, where: str = "data set") -> None:
  """Raises if images, labels or extras cannot be what they should be.

  Args:
    dataset: The data set to look at.
    where: What the message calls it: a file or a source.

  Raises:
    DataError: Wrong rank, type, length or range, or no example at all.
  """
  images, labels = dataset.images, dataset.labels
  check_images(images, where=where)
  if labels.dtype != np.int32 or labels.ndim != 1:
    raise DataError(
      f"{where}: labels must be int32 [N], got {labels.dtype} {labels.shape}"
    )
  if len(images) != len(labels):
    raise DataError(f"{where}: {len(images)} images but {len(labels)} labels")
  _check_label_range(labels, dataset.num_classes, where)
  if len(dataset.class_names) != dataset.num_classes:
    raise DataError(
      f"{where}: {len(dataset.class_names)} class names for"
      f" {dataset.num_classes} classes"
    )
  for name, values in dataset.extras.items():
    if len(values) != len(labels):
      raise DataError(
        f"{where}: extra {name!r} has {len(values)} entries for"
        f" {len(labels)} images"
      )


def check_images(images: Any, *, where: str = "images") -> None:
  """Raises if images cannot be what they should be.

  Args:
    images: To be `[N, H, W, C]`, uint8, or float32 in [0, 1].
    where: What the message calls them: a file or a source.

  Raises:
    DataError: Wrong rank, type, order of axes or range, or no image at all.
  """
  if images.ndim != 4:
    raise DataError(
      f"{where}: images must be [N, H, W, C], got shape {images.shape}"
    )
  if images.dtype not in (np.uint8, np.float32):
    raise DataError(
      f"{where}: images must be uint8 or float32, got dtype {images.dtype}"
    )
  if not images.size:
    raise DataError(f"{where}: holds no image, got shape {images.shape}")
  if layout.is_channels_first(images.shape):
    raise DataError(
      f"{where}: images must be [N, H, W, C], got shape {images.shape}, which"
      " looks like [N, C, H, W]; transpose them"
    )
  # Lazy images of floats are of sets that were checked when they were made.
  if images.dtype == np.uint8 or isinstance(images, lazy.Images):
    return
  low, high = float(images.min()), float(images.max())
  if not (low >= 0.0 and high <= 1.0):  # Written so that NaN fails.
    raise DataError(
      f"{where}: float images must lie in [0, 1], got [{low:g}, {high:g}];"
      " store them as uint8 or divide by 255"
    )


def _check_label_range(
  labels: np.ndarray, num_classes: int, where: str
) -> None:
  if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
    raise DataError(
      f"{where}: labels must lie in [0, {num_classes}), got"
      f" [{labels.min()}, {labels.max()}]"
    )


def to_float(images: Any) -> Any:
  """Returns images as float32 in [0, 1]; uint8 is divided by 255.

  Args:
    images: `[..., H, W, C]`, uint8 or a float type; floats keep their values.
      Arrays of JAX stay there, all others come back as numpy's.
  """
  if isinstance(images, jax.Array):
    if images.dtype == jnp.uint8:
      return images.astype(jnp.float32) / 255.0
    return images.astype(jnp.float32)
  images = np.asarray(images)
  if images.dtype == np.uint8:
    return _byte_values()[images]
  return images.astype(np.float32)


@functools.cache
def _byte_values() -> np.ndarray:
  """Returns each byte as a float, as XLA divides: its bits are not numpy's."""
  return np.asarray(jax.jit(to_float)(np.arange(256, dtype=np.uint8)))


def streamed(dataset: Dataset) -> Dataset:
  """Returns a set whose images go to the devices batch by batch."""
  if isinstance(dataset.images, lazy.Images):
    return dataset
  return dataclasses.replace(dataset, images=lazy.of_array(dataset.images))


def take(dataset: Dataset, indices: np.ndarray) -> Dataset:
  """Returns the examples at `indices`, in that order, extras included."""
  return dataclasses.replace(
    dataset,
    images=lazy.view(dataset.images, indices),
    labels=dataset.labels[indices],
    extras={name: values[indices] for name, values in dataset.extras.items()},
  )


def empty_like(dataset: Dataset) -> Dataset:
  """Returns no example, of the same shape and classes."""
  return take(dataset, np.zeros(0, np.int64))


def subset(dataset: Dataset, num_examples: int, seed: Seed) -> Dataset:
  """Returns a random subset, in the order of the original; 0 means all of it.

  Args:
    dataset: The data set to draw from.
    num_examples: Size of the subset.
    seed: The same seed gives the same subset; a larger subset of the same seed
      contains the smaller one.

  Raises:
    DataError: If there are fewer examples than that.
  """
  if num_examples == 0:
    return dataset
  if num_examples > dataset.num_examples:
    raise DataError(
      f"{num_examples} examples asked for, but there are only"
      f" {dataset.num_examples}; ask for fewer, or 0 for all"
    )
  order = np.random.default_rng(seed).permutation(dataset.num_examples)
  return take(dataset, np.sort(order[:num_examples]))


def sample(dataset: Dataset, num_examples: int, seed: Seed) -> Dataset:
  """Returns a random sample in which every class has its share; 0 is all.

  It does not depend on the order of the set: the first images of a sorted one
  would be of one class. A class's share is rounded by Webster's method, so a
  larger sample of the same seed contains the smaller one.

  Args:
    dataset: The data set to draw from.
    num_examples: Size of the sample; all there are if there are fewer.
    seed: The same seed gives the same sample.

  Returns:
    The sample, in the order of the original.
  """
  if num_examples == 0 or num_examples >= dataset.num_examples:
    return dataset
  return take(dataset, np.sort(_stratified_order(dataset, seed)[:num_examples]))


def split_stratified(
  dataset: Dataset, num_examples: int, seed: Seed
) -> tuple[Dataset, Dataset]:
  """Returns (what `sample` leaves, what it takes), both in order."""
  order = _stratified_order(dataset, seed)
  taken, left = order[:num_examples], order[num_examples:]
  return take(dataset, np.sort(left)), take(dataset, np.sort(taken))


def _stratified_order(dataset: Dataset, seed: Seed) -> np.ndarray:
  """Returns a random order in which every class advances at its own rate."""
  rng = np.random.default_rng(seed)
  # Webster's divisors: a class of n has its turns at 0.5/n, 1.5/n, ...; who is
  # first among equals, and with which example, is random.
  turns = np.empty(dataset.num_examples)
  for label in np.unique(dataset.labels):
    (members,) = np.nonzero(dataset.labels == label)
    turns[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(
      members
    )
  return np.lexsort((rng.random(len(turns)), turns))


def class_counts(dataset: Dataset) -> np.ndarray:
  """Returns how many examples each class has, `[num_classes]`."""
  return np.bincount(dataset.labels, minlength=dataset.num_classes)


def split_validation(
  dataset: Dataset, num_validation: int, seed: Seed
) -> tuple[Dataset, Dataset]:
  """Carves a random validation set out of a training set.

  Args:
    dataset: The training set.
    num_validation: Number of examples to hold out; 0 holds out none.
    seed: The same seed holds out the same examples.

  Returns:
    The training set without them, and they; both in the original order.

  Raises:
    DataError: If fewer than one example would be left to train on.
  """
  size = dataset.num_examples
  if not 0 <= num_validation < max(size, 1):
    raise DataError(
      f"num_validation must be in [0, {size}), the size of the training set,"
      f" got {num_validation}"
    )
  order = np.random.default_rng(seed).permutation(size)
  held_out = np.sort(order[:num_validation])
  return take(dataset, np.sort(order[num_validation:])), take(dataset, held_out)


def channel_moments(
  dataset: Dataset,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns mean and standard deviation of all pixels in [0, 1], by channel.

  A channel of one colour only has the standard deviation 1, so that it can be
  divided by; four decimals, as such constants are published.
  """
  mean, std = [], []
  for values, counts in _levels(dataset.images):
    values = values.astype(np.float64)
    if dataset.images.dtype == np.uint8:
      values /= 255.0
    center = np.average(values, weights=counts)
    spread = np.sqrt(np.average((values - center) ** 2, weights=counts))
    mean.append(round(float(center), 4))
    std.append(round(float(spread), 4) or 1.0)
  return tuple(mean), tuple(std)


def _levels(images: Any) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns, by channel, the values of pixels and how many have each."""
  if images.dtype != np.uint8:
    channels = np.moveaxis(np.asarray(images), -1, 0)
    return [np.unique(channel, return_counts=True) for channel in channels]
  counts = np.zeros((images.shape[-1], 256), np.int64)
  for part in lazy.chunks(images):
    for count, channel in zip(counts, np.moveaxis(part, -1, 0), strict=True):
      count += np.bincount(channel.ravel(), minlength=256)
  return [(np.flatnonzero(count), count[count > 0]) for count in counts]


def digest(dataset: Dataset) -> str:
  """Returns the SHA-256, in hex, of everything the data set holds.

  Names, types and shapes count as well as bytes, so that equal bytes in
  another shape or with other class names do not collide.
  """
  sha = hashlib.sha256()
  arrays = {"images": dataset.images, "labels": dataset.labels}
  arrays |= {f"extras/{k}": dataset.extras[k] for k in sorted(dataset.extras)}
  sha.update(repr((dataset.num_classes, dataset.class_names)).encode())
  for name, values in arrays.items():
    sha.update(f"{name} {values.dtype.str} {values.shape}".encode())
    for part in lazy.chunks(values):
      sha.update(np.ascontiguousarray(part).tobytes())
  return sha.hexdigest()
