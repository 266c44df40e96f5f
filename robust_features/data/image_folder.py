"""Data sets as folders of images, one folder a class."""

import pathlib

import numpy as np
import PIL.Image
import tqdm

from robust_features.data import dataset as dataset_lib
from robust_features.data import pixels
from robust_features.data.dataset import DataError, Dataset

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
_TEST_FOLDERS = ("test", "val")


def load(data_dir: str, image_size: int) -> tuple[Dataset, Dataset]:
  """Reads `train/<class>/*` and `test/<class>/*` (or `val/<class>/*`).

  Classes are the folders of train in alphabetical order; images are RGB, in
  the alphabetical order of their names.

  Args:
    data_dir: Folder that holds train and test.
    image_size: Resize to this height and width, in pixels; 0 for no resizing.

  Raises:
    DataError: If a folder is missing or empty, or an image cannot be read.
  """
  root = pathlib.Path(data_dir)
  train = root / "train"
  tests = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
  if not train.is_dir() or not tests:
    raise DataError(
      f"data_dir {data_dir!r} must hold the folders train/<class>/ and"
      " test/<class>/ (or val/<class>/)"
    )
  names = _class_folders(train)
  if extra := set(_class_folders(tests[0])) - set(names):
    raise DataError(
      f"{tests[0]}: classes without training images: {', '.join(sorted(extra))}"
    )
  return (
    _read_folder(train, names, image_size),
    _read_folder(tests[0], names, image_size),
  )


def _class_folders(folder: pathlib.Path) -> tuple[str, ...]:
  names = tuple(
    sorted(
      path.name
      for path in folder.iterdir()
      if path.is_dir() and not path.name.startswith(".")
    )
  )
  if not names:
    raise DataError(f"{folder}: holds no class folder; put images in <class>/")
  return names


def _read_folder(
  folder: pathlib.Path, names: tuple[str, ...], image_size: int
) -> Dataset:
  paths = [
    (path, label)
    for label, name in enumerate(names)
    for path in sorted((folder / name).glob("*"))
    if path.suffix.lower() in _SUFFIXES
  ]
  images = []
  for path, _ in tqdm.tqdm(
    paths, desc=f"read {folder.name}", leave=False, disable=None
  ):
    try:
      with PIL.Image.open(path) as image:
        images.append(pixels.to_array(image, 3, image_size))
    except (OSError, SyntaxError, ValueError) as error:
      raise DataError(
        f"{path}: not an image that can be read ({error}); replace or delete it"
      ) from error
  labels = np.array([label for _, label in paths], np.int64)
  where = str(folder)
  return dataset_lib.make(
    pixels.stack(images, where), labels, names, where=where
  )
