"""Prepared TensorFlow Datasets, read without TensorFlow.

Records are read with `as_data_source` (random access, array_record) and their
PNG or JPEG images decoded by Pillow. CIFAR-10's 60,000 take about 8 seconds
on one core, so there is no cache to keep in step with anything.
"""

import io
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tqdm

from robust_features.data import dataset as dataset_lib
from robust_features.data import lazy, pixels
from robust_features.data.dataset import DataError, Dataset
from robust_features.runtime import paths

_CHUNK = 1_000  # Records read at a time.
_TEST_SPLITS = ("test", "validation")


def load(
  name: str, data_dir: str, image_size: int, short_side: int = 0,
  streamed: bool = False, groups: Mapping[str, str] | None = None,
) -> tuple[Dataset, Dataset]:  # fmt: skip
  """Returns the training and test sets of a prepared tfds data set.

  Args:
    name: The tfds name, with a config or version if need be: "cifar10:3.*.*".
    data_dir: Folder where it was prepared; "" for tfds's own default.
    image_size: Resize to this height and width, in pixels; 0 for no resizing.
    short_side: The shorter side before the centre is cropped, in pixels; 0
      means `image_size`.
    streamed: Read images when they are wanted.
    groups: The class of each of tfds's classes, in the order of the labels;
      images of others are left out. By default all are kept as they are.

  Returns:
    uint8 images; "validation" stands in for "test" where there is no "test".

  Raises:
    DataError: If it is not there, is damaged, or is no image classification.
  """
  builder = _open(name, data_dir)
  splits = builder.info.splits
  test = next((split for split in _TEST_SPLITS if split in splits), None)
  if "train" not in splits or test is None:
    raise DataError(
      f"{builder.data_path}: needs a train and a test split, has"
      f" {', '.join(splits) or 'none'}"
    )
  size = (image_size, short_side)
  return (
    _read_split(builder, "train", size, streamed, groups),
    _read_split(builder, test, size, streamed, groups),
  )


def _open(name: str, data_dir: str) -> Any:
  """Returns the builder of a prepared data set; never touches the network."""
  # Imported late: 0.5 s that the other sources do not need.
  import tensorflow_datasets as tfds

  remedy = (
    "prepare it with `python -m robust_features.data.prepare"
    f" --dataset={name} --data_dir={data_dir or 'DIR'}`"
  )
  if data_dir:
    data_dir = str(paths.resolve(data_dir, "data_dir"))
    if not pathlib.Path(data_dir).is_dir():
      raise DataError(f"data_dir {data_dir!r} does not exist; {remedy}")
  try:
    builder = tfds.builder(name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError as error:
    raise DataError(
      f"name: tfds knows no data set {name!r}, nor is one prepared in"
      f" {data_dir!r}"
    ) from error
  except Exception as error:  # Damaged metadata raises nearly anything.
    raise DataError(
      f"{data_dir}: tfds cannot open {name!r} ({_first_line(error)});"
      f" delete the folder of {name!r} there and {remedy}"
    ) from error
  # tfds logs a warning about a folder that is not there.
  if not (builder.data_path.exists() and builder.is_prepared()):
    raise DataError(
      f"{name} is not prepared in {builder.data_path.parent}; {remedy}"
    )
  return builder


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__


def _keys(builder: Any) -> tuple[str, str]:
  """Returns the names of the image and label features."""
  import tensorflow_datasets as tfds

  features = dict(builder.info.features.items())
  keys = builder.info.supervised_keys or ("image", "label")
  if (
    len(keys) != 2
    or not isinstance(features.get(keys[0]), tfds.features.Image)
    or not isinstance(features.get(keys[1]), tfds.features.ClassLabel)
  ):
    raise DataError(
      f"{builder.data_path}: is not image classification, its features are"
      f" {', '.join(features)}"
    )
  return keys


class _Records(NamedTuple):
  """A `lazy.Source` of a split's encoded images.

  Attributes:
    records: What tfds reads, of random access.
    key: Of the image in a record.
    channels: Of an image.
    size: Of each, and its shorter side before the crop, as `load` has them.
    where: Names the split.
  """

  records: Any
  key: str
  channels: int
  size: tuple[int, int]
  where: str

  def read(self, number: int) -> np.ndarray:
    return self.decoded(number, self._record(number), *self.size)

  def original(self, number: int) -> PIL.Image.Image:
    return self._opened(
      number, self._record(number),
      lambda image: pixels.to_picture(image, self.channels),
    )  # fmt: skip

  def _record(self, number: int) -> Mapping[str, Any]:
    try:
      return self.records[number]
    except Exception as error:  # Readers raise nearly anything.
      raise _damaged(f"{self.where}: record {number}", error) from error

  def decoded(
    self, number: int, record: Mapping[str, Any], image_size: int,
    short_side: int,
  ) -> np.ndarray:  # fmt: skip
    """Returns the image of a record that was read."""
    return self._opened(
      number, record,
      lambda image: pixels.to_array(
        image, self.channels, image_size, short_side
      ),
    )  # fmt: skip

  def _opened(
    self, number: int, record: Mapping[str, Any],
    use: Callable[[PIL.Image.Image], Any],
  ) -> Any:  # fmt: skip
    try:
      with PIL.Image.open(io.BytesIO(record[self.key])) as image:
        return use(image)
    except Exception as error:  # Decoders raise nearly anything.
      raise _damaged(f"{self.where}: record {number}", error) from error


def _damaged(where: str, error: Exception) -> DataError:
  return DataError(
    f"{where}: damaged or foreign ({_first_line(error)}); delete the folder"
    " and prepare it again"
  )


def _read_split(
  builder: Any, split: str, size: tuple[int, int], streamed: bool,
  groups: Mapping[str, str] | None,
) -> Dataset:  # fmt: skip
  """Reads one split's labels, and decodes its images unless streamed."""
  import tensorflow_datasets as tfds

  image_key, label_key = _keys(builder)
  features = builder.info.features
  names = features[label_key].names
  groups = groups or {name: name for name in names}
  labels = {name: i for i, name in enumerate(dict.fromkeys(groups.values()))}
  where = f"{builder.data_path} {split}"
  numbers, found, images = [], [], []
  count = builder.info.splits[split].num_examples
  try:
    records = builder.as_data_source(
      split=split, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    source = _Records(
      records, image_key, features[image_key].shape[-1] or 3, size, where
    )
    for number, record in tqdm.tqdm(
      _in_order(records, count), desc=f"read {split}", total=count,
      leave=False, disable=None,
    ):  # fmt: skip
      name = names[record[label_key]]
      if name not in groups:
        continue
      numbers.append(number)
      found.append(labels[groups[name]])
      if not streamed:
        images.append(source.decoded(number, record, *size))
  except DataError:
    raise
  except Exception as error:  # Readers raise nearly anything.
    raise _damaged(where, error) from error
  return dataset_lib.make(
    _lazy(source, numbers) if streamed else pixels.stack(images, where),
    np.array(found, np.int64),
    tuple(labels),
    where=where,
  )


def _in_order(records: Any, count: int) -> Iterator[tuple[int, Any]]:
  """Yields (number, record) of all records; many at a time is twice as fast."""
  for start in range(0, count, _CHUNK):
    numbers = range(start, min(start + _CHUNK, count))
    yield from zip(numbers, records.__getitems__(list(numbers)), strict=True)


def _lazy(source: _Records, numbers: list[int]) -> lazy.Images:
  """Returns the images of some records, to be read when they are wanted."""
  height = source.size[0]
  shape = (height, height, source.channels)
  if not height:
    shape = source.read(numbers[0]).shape
  return lazy.Images(source, np.array(numbers), shape, np.dtype(np.uint8))
