"""Images that are read when they are wanted, indexed as an array is.

`Dataset.images` is an array in memory or `Images`. What knows nothing of the
latter takes them for an array and has them read whole; training, construction
and evaluation read batch by batch, see `robust_features.data.streaming`.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import PIL.Image

# What a random crop of a photograph may look like, as torchvision has it.
_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_CHUNK_BYTES = 2**26  # Read at a time where a whole set goes by.


def num_threads() -> int:
  """Returns how many threads read; Pillow decodes outside Python's lock."""
  return min(16, len(os.sched_getaffinity(0)))


class Source(Protocol):
  """Where images lie; errors are `DataError`s that name the file."""

  def read(self, number: int) -> np.ndarray:
    """Returns an image as the set holds it, `[H, W, C]`."""
    ...

  def original(self, number: int) -> np.ndarray | PIL.Image.Image:
    """Returns it before it was resized: `[h, w, C]`, or as Pillow has it."""
    ...


@dataclasses.dataclass(frozen=True)
class Array:
  """A source that is in this machine's memory, or mapped there.

  Attributes:
    values: `[N, H, W, C]`.
  """

  values: np.ndarray

  def read(self, number: int) -> np.ndarray:
    """See `Source`."""
    return self.values[number]

  original = read


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Some of a source's images; the same methods as an array's, if they do.

  Attributes:
    source: Where they lie.
    numbers: int64 `[N]`, of these images in the source.
    image_shape: (H, W, C) of each.
    dtype: uint8 or float32.
  """

  source: Source
  numbers: np.ndarray
  image_shape: tuple[int, ...]
  dtype: np.dtype

  ndim = 4

  @property
  def shape(self) -> tuple[int, ...]:
    """(N, H, W, C)."""
    return (len(self.numbers), *self.image_shape)

  @property
  def size(self) -> int:
    """Number of values."""
    return int(np.prod(self.shape))

  @property
  def image_nbytes(self) -> int:
    """Bytes of one image."""
    return int(np.prod(self.image_shape)) * np.dtype(self.dtype).itemsize

  def __len__(self) -> int:
    return len(self.numbers)

  def view(self, indices: np.ndarray) -> "Images":
    """Returns the images at `indices`, without reading any."""
    return dataclasses.replace(self, numbers=self.numbers[indices])

  def __getitem__(self, index: Any) -> np.ndarray:
    """Reads the images at an index, a slice or an array of indices."""
    numbers = np.asarray(self.numbers[index])
    found = np.empty((numbers.size, *self.image_shape), self.dtype)

    def read(row: int) -> None:
      found[row] = self.source.read(int(numbers.flat[row]))

    with concurrent.futures.ThreadPoolExecutor(num_threads()) as pool:
      list(pool.map(read, range(numbers.size)))  # Raises what a thread did.
    return found.reshape(*numbers.shape, *self.image_shape)

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    del copy
    return self[:].astype(dtype or self.dtype, copy=False)

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[i] for i in range(len(self)))

  def crop(self, index: int, least: float, seed: tuple[int, ...]) -> np.ndarray:
    """Reads a random crop of an image, resized to `image_shape`.

    Args:
      index: The image's.
      least: Share of its area that is kept at least, in (0, 1].
      seed: Decides the crop, and nothing else does.
    """
    original = self.source.original(int(self.numbers[index]))
    if isinstance(original, PIL.Image.Image):
      width, height = original.size
    else:
      height, width = original.shape[:2]
    rng = np.random.default_rng(seed)
    box = random_box(rng, height, width, least)
    return resized(original, box, (self.image_shape[0], self.image_shape[1]))


def random_box(
  rng: np.random.Generator, height: int, width: int, least: float
) -> tuple[int, int, int, int]:
  """Returns (top, left, height, width) of torchvision's RandomResizedCrop.

  Args:
    rng: Draws it.
    height: Of the image, in pixels.
    width: Likewise.
    least: Share of the area that is kept at least, in (0, 1].
  """
  for _ in range(_ATTEMPTS):
    area = height * width * rng.uniform(least, 1.0)
    aspect = np.exp(rng.uniform(*np.log(_ASPECTS)))
    w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
      return int(top), int(left), h, w
  # No such box was found: the largest one about the centre.
  w = min(width, round(height * _ASPECTS[1]))
  h = min(height, round(width / _ASPECTS[0]))
  return (height - h) // 2, (width - w) // 2, h, w


def resized(
  image: np.ndarray | PIL.Image.Image, box: tuple[int, int, int, int],
  size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
  """Returns a box of an image at another size (bilinear, antialiased).

  Args:
    image: `[H, W, C]`, uint8 or float32, or Pillow's of 8 bits a channel.
    box: (top, left, height, width) in pixels.
    size: (height, width) wanted.

  Returns:
    `[height, width, C]`, of the image's own type.
  """
  top, left, height, width = box

  def one(part: PIL.Image.Image) -> np.ndarray:
    return np.asarray(
      part.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR)
    )

  if isinstance(image, PIL.Image.Image):
    found = one(image.crop((left, top, left + width, top + height)))
    return found[..., None] if found.ndim == 2 else found
  part = np.ascontiguousarray(image[top : top + height, left : left + width])
  if image.dtype == np.uint8 and image.shape[-1] == 3:
    return one(PIL.Image.fromarray(part))
  channels = np.moveaxis(part, -1, 0)
  return np.stack(
    [
      one(PIL.Image.fromarray(np.ascontiguousarray(values)))
      for values in channels
    ],
    -1,
  )


def of_array(images: np.ndarray) -> Images:
  """Returns an array's images, which go to the device batch by batch."""
  numbers = np.arange(len(images))
  return Images(Array(images), numbers, images.shape[1:], images.dtype)


def view(images: np.ndarray | Images, indices: np.ndarray) -> Any:
  """Returns images at `indices`; of those that lie elsewhere, reads none."""
  if isinstance(images, Images):
    return images.view(indices)
  return images[indices]


def chunks(images: np.ndarray | Images) -> Iterator[np.ndarray]:
  """Yields all images in order, an array in one piece, others in several."""
  if not isinstance(images, Images):
    yield images
    return
  count = max(1, _CHUNK_BYTES // images.image_nbytes)
  for start in range(0, len(images), count):
    yield images[start : start + count]
