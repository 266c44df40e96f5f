"""Data sets as folders of images, one folder a class.

  DIR/train/<class>/*   and DIR/test/<class>/* or DIR/val/<class>/*
  DIR/<class>/*         no test set
  DIR/classes.txt       optional: a class a line, in the order of the labels;
                        otherwise the order is the alphabet's

What is in these folders is read or refused by name, with the remedy; nothing
is dropped in silence. Passed over are hidden entries and the files that
desktops leave behind (Thumbs.db, desktop.ini), unless a hidden file calls
itself an image: the `._1.png` of an archive made on a Mac is refused.
"""

import concurrent.futures
import itertools
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import PIL.Image
import tqdm

from robust_features.data import classes_file, image_file, lazy, pixels
from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset
from robust_features.data.image_file import SUFFIXES, Skipped, Unusable
from robust_features.runtime import logs, paths

_TEST_FOLDERS = ("test", "val")
_DESKTOP_FILES = ("Thumbs.db", "desktop.ini")
DEFAULT_SIZE = 32  # CIFAR's, which the paper's architectures are made for.
# Images of one size are kept up to this one; larger ones are photographs.
_LARGEST_KEPT = 256


class _File(NamedTuple):
  path: pathlib.Path
  label: int


def load(
  data_dir: str, image_size: int = 0, *, short_side: int = 0,
  skip_unreadable: bool = False, streamed: bool = False,
  groups: Mapping[str, str] | None = None,
) -> tuple[Dataset, Dataset]:  # fmt: skip
  """Reads a folder of images as RGB, in the order of their names.

  Photographs are turned as their EXIF orientation says.

  Args:
    data_dir: Folder that holds train and test, or the class folders.
    image_size: Resize to this height and width, in pixels. 0 keeps images that
      are all of one size, up to 256 pixels, and resizes others to 32.
    short_side: The shorter side before the centre is cropped, in pixels; 0
      means `image_size`.
    skip_unreadable: Leave out what cannot be read, and print how much that
      was, instead of refusing it.
    streamed: Read images when they are wanted.
    groups: The class of each class folder, in the order of the labels; other
      folders are passed over. By default a folder is a class.

  Returns:
    Training and test set; the latter is empty where there is no such folder.

  Raises:
    DataError: One line naming the file or folder that cannot be used.
  """
  PIL.Image.init()  # Loads the readers of all formats.
  root = paths.resolve(data_dir, "data_dir")
  skipped = Skipped(root, skip_unreadable)
  train, test = _split_folders(root)
  found = _find(_class_folders(train, skipped, groups), skipped)
  label_as = groups or {
    name: name for name in _class_names(root, [folder.name for folder in found])
  }
  names = tuple(dict.fromkeys(label_as.values()))
  files = {train: _labelled(found, label_as)}
  if test:
    found = _find(_class_folders(test, skipped, groups), skipped)
    if extra := sorted({folder.name for folder in found} - set(label_as)):
      raise DataError(
        f"{test}: classes without training images: {', '.join(extra)}"
      )
    files[test] = _labelled(found, label_as)
  image_size = image_size or _choose_size(
    root, [*itertools.chain(*files.values())]
  )
  read = _lazy if streamed else _read
  datasets = []
  for split, part in files.items():
    images, labels = read(part, (image_size, short_side), skipped, str(split))
    datasets.append(dataset_lib.make(images, labels, names, where=str(split)))
    _say_absent(split, datasets[-1])
  skipped.say()
  train_set = datasets[0]
  return train_set, datasets[1] if test else dataset_lib.empty_like(train_set)


def _split_folders(
  root: pathlib.Path,
) -> tuple[pathlib.Path, pathlib.Path | None]:
  """Returns the folders of the training and of the test set, if any."""
  if not root.is_dir():
    raise DataError(f"data_dir {str(root)!r} is not a folder")
  tests = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
  train = root / "train"
  if tests and not train.is_dir():
    raise DataError(
      f"data_dir {str(root)!r} must hold the folder train/<class>/ beside"
      f" {tests[0].name}/<class>/"
    )
  if not train.is_dir():
    return root, None
  used = {train, *tests[:1]}
  unused = [p.name for p in _entries(root) if p.is_dir() and p not in used]
  if unused:
    logs.say(f"{root}: not read: {', '.join(unused)}")
  return train, tests[0] if tests else None


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns what a folder holds, in the order of names, but for passed over.

  Raises:
    DataError: If the folder may not be read.
  """
  try:
    found = sorted(folder.iterdir())
  except OSError as error:
    raise Unusable(
      folder, f"cannot be read ({error.strerror})", "see to its permissions"
    ) from error
  return [path for path in found if not _passed_over(path)]


def _passed_over(path: pathlib.Path) -> bool:
  if path.name.startswith("."):
    return path.suffix.lower() not in SUFFIXES
  return path.name in _DESKTOP_FILES or path.name == classes_file.NAME


def _class_folders(
  split: pathlib.Path, skipped: Skipped, groups: Mapping[str, str] | None
) -> list[pathlib.Path]:
  """Returns the class folders, of `groups` alone if they are given."""
  folders = []
  for path in _entries(split):
    if path.is_dir():
      if groups is None or path.name in groups:
        folders.append(path)
    else:
      skipped.refuse(
        Unusable(
          path, "a file beside the class folders", "move it into <class>/"
        )
      )
  if not folders:
    raise DataError(f"{split}: holds no class folder; put images in <class>/")
  return folders


def _find(
  folders: list[pathlib.Path], skipped: Skipped
) -> dict[pathlib.Path, list[pathlib.Path]]:
  """Returns the image files of every class folder."""
  found = {}
  for folder in folders:
    try:
      paths = [path for path in _entries(folder) if _is_image(path, skipped)]
      if not paths:
        remedy = f"put images ({' '.join(SUFFIXES)}) into it or delete it"
        raise Unusable(folder, "class folder holds no image", remedy)
      found[folder] = paths
    except Unusable as error:
      skipped.refuse(error)
  return found


def _is_image(path: pathlib.Path, skipped: Skipped) -> bool:
  """Returns whether a path is to be opened; refuses it otherwise."""
  suffix = path.suffix.lower()
  if path.is_dir():
    reason = "folder inside a class folder"
    remedy = f"move its images up into {path.parent} or delete it"
  elif path.name.startswith("."):
    reason = "hidden file named as an image"
    remedy = "delete it; archives made on a Mac bring such files"
  elif suffix not in SUFFIXES:
    reason = f"unknown suffix {suffix!r}"
    remedy = f"convert it to one of {' '.join(SUFFIXES)} or move it away"
  elif path.exists() and not path.is_file():
    reason, remedy = "not a regular file", "delete it"
  else:
    return True
  skipped.refuse(Unusable(path, reason, remedy))
  return False


def _class_names(root: pathlib.Path, folders: list[str]) -> tuple[str, ...]:
  """Returns the classes in the order of their labels.

  Args:
    root: Where classes.txt may lie.
    folders: Class folders of the training set that hold images.
  """
  names = classes_file.read(root) or tuple(folders)
  if extra := set(folders) - set(names):
    raise DataError(
      f"{root / classes_file.NAME}: lacks the classes"
      f" {', '.join(sorted(extra))}; mend it, or delete it for the alphabet's"
      " order"
    )
  if len(names) < 2:
    raise DataError(
      f"data_dir {str(root)!r} holds {len(names)} class with images"
      f" ({', '.join(names)}); there must be two <class>/ folders or more"
    )
  return names


def _labelled(
  files: dict[pathlib.Path, list[pathlib.Path]], groups: Mapping[str, str]
) -> list[_File]:
  """Returns files in the order of labels, then of folders."""
  by_name = {folder.name: paths for folder, paths in files.items()}
  labels = {name: i for i, name in enumerate(dict.fromkeys(groups.values()))}
  return [
    _File(path, labels[group])
    for folder, group in groups.items()
    if folder in by_name
    for path in by_name[folder]
  ]


def _say_absent(split: pathlib.Path, dataset: Dataset) -> None:
  counts = dataset_lib.class_counts(dataset)
  absent = [dataset.class_names[i] for i in np.flatnonzero(counts == 0)]
  if absent:
    logs.say(f"{split}: no image of the classes {', '.join(absent)}")


def _choose_size(root: pathlib.Path, files: Iterable[_File]) -> int:
  """Returns what images are resized to where the user does not say; 0 no."""
  sizes = set()
  for path, _ in files:
    try:
      sizes.add(image_file.opened(path, image_file.oriented_size))
    except Unusable:
      continue  # `_read` names it, or counts it.
  if not sizes:
    return 0
  low, high = min(sizes), max(sizes)
  if low == high and max(high) <= _LARGEST_KEPT:
    return 0
  logs.say(
    f"{root}: images of {low[0]}x{low[1]} to {high[0]}x{high[1]} pixels are"
    f" resized to {DEFAULT_SIZE}x{DEFAULT_SIZE}; image_size sets another size"
  )
  return DEFAULT_SIZE


def _read(
  files: list[_File], size: tuple[int, int], skipped: Skipped, where: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images and labels of the files that can be read."""
  images, labels, turned = [], [], 0

  def decode(image: PIL.Image.Image) -> np.ndarray:
    nonlocal turned
    turned += image_file.is_turned(image)
    return pixels.to_array(image_file.upright(image), 3, *size)

  for path, label in tqdm.tqdm(
    files, desc="read images", leave=False, disable=None
  ):
    try:
      images.append(image_file.opened(path, decode))
    except Unusable as error:
      skipped.refuse(error)
      continue
    labels.append(label)
  if turned:
    logs.say(f"{turned} images were turned as their EXIF orientation says")
  return pixels.stack(images, where), np.array(labels, np.int64)


class _Files(NamedTuple):
  """A `lazy.Source` of files.

  Attributes:
    paths: Of the images.
    size: Of each, and its shorter side before the crop, as `load` has them.
  """

  paths: tuple[pathlib.Path, ...]
  size: tuple[int, int]

  def read(self, number: int) -> np.ndarray:
    return image_file.read(self.paths[number], *self.size)

  def original(self, number: int) -> PIL.Image.Image:
    return image_file.picture(self.paths[number])


def _lazy(
  files: list[_File], size: tuple[int, int], skipped: Skipped, where: str
) -> tuple[lazy.Images, np.ndarray]:
  """Returns images to be read and their labels; looks for damage if asked."""
  source = _Files(tuple(file.path for file in files), size)
  numbers = np.arange(len(files))
  if skipped.skip:
    numbers = numbers[_readable(source, skipped)]
  if not len(numbers):
    raise DataError(f"{where}: holds no image")
  shape = (size[0],) * 2 + (3,) if size[0] else source.read(numbers[0]).shape
  labels = np.array([file.label for file in files], np.int64)[numbers]
  images = lazy.Images(source, numbers, shape, np.dtype(np.uint8))
  return images, labels


def _readable(source: _Files, skipped: Skipped) -> np.ndarray:
  """Reads every file once; returns which can be read."""

  def look(number: int) -> Unusable | None:
    try:
      source.read(number)
    except Unusable as error:
      return error

  with concurrent.futures.ThreadPoolExecutor(lazy.num_threads()) as pool:
    errors = list(pool.map(look, range(len(source.paths))))
  for error in filter(None, errors):
    skipped.refuse(error)
  return np.array([error is None for error in errors])
