"""Prepared TensorFlow Datasets, read into memory without TensorFlow.

Records are read with `as_data_source` (random access, array_record) and their
PNG or JPEG images decoded by Pillow. CIFAR-10's 60,000 take about 8 seconds
on one core, so there is no cache to keep in step with anything.
"""

import io
import pathlib
from typing import Any

import numpy as np
import PIL.Image
import tqdm

from robust_features.data import dataset as dataset_lib
from robust_features.data import pixels
from robust_features.data.dataset import DataError, Dataset

_CHUNK = 1_000  # Records read between two updates of the progress bar.
_TEST_SPLITS = ("test", "validation")


def load(name: str, data_dir: str, image_size: int) -> tuple[Dataset, Dataset]:
  """Returns the training and test sets of a prepared tfds data set.

  Args:
    name: The tfds name, with a config or version if need be: "cifar10:3.*.*".
    data_dir: Folder where it was prepared; "" for tfds's own default.
    image_size: Resize to this height and width, in pixels; 0 for no resizing.

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
  return (
    _read_split(builder, "train", image_size),
    _read_split(builder, test, image_size),
  )


def _open(name: str, data_dir: str) -> Any:
  """Returns the builder of a prepared data set; never touches the network."""
  # Imported late: 0.5 s that the other sources do not need.
  import tensorflow_datasets as tfds

  remedy = (
    "prepare it with `python -m robust_features.data.prepare"
    f" --dataset={name} --data_dir={data_dir or 'DIR'}`"
  )
  if data_dir and not pathlib.Path(data_dir).is_dir():
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
      f" delete it and {remedy}"
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


def _read_split(builder: Any, split: str, image_size: int) -> Dataset:
  """Reads and decodes one split, with a progress bar."""
  import tensorflow_datasets as tfds

  image_key, label_key = _keys(builder)
  features = builder.info.features
  channels = features[image_key].shape[-1] or 3
  where = f"{builder.data_path} {split}"
  expected = builder.info.splits[split].num_examples
  images, labels = [], []
  try:
    source = builder.as_data_source(
      split=split, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    progress = tqdm.tqdm(
      total=expected, desc=f"read {split}", leave=False, disable=None
    )
    with progress:
      for start in range(0, expected, _CHUNK):
        stop = min(start + _CHUNK, expected)
        for record in source.__getitems__(list(range(start, stop))):
          images.append(_decode(record[image_key], channels, image_size))
          labels.append(record[label_key])
        progress.update(stop - start)
  except Exception as error:  # Readers and decoders raise nearly anything.
    raise DataError(
      f"{where}: damaged or foreign ({_first_line(error)}); delete the folder"
      " and prepare it again"
    ) from error
  return dataset_lib.make(
    pixels.stack(images, where),
    np.array(labels, np.int64),
    tuple(features[label_key].names),
    where=where,
  )


def _decode(encoded: bytes, channels: int, image_size: int) -> np.ndarray:
  """Returns uint8 `[H, W, C]` of an encoded image."""
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    return pixels.to_array(image, channels, image_size)
