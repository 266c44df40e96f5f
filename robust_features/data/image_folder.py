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

import collections
import itertools
import pathlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import tqdm

from robust_features.data import classes_file, pixels
from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset
from robust_features.runtime import logs

SUFFIXES = (
  ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
  ".tif", ".tiff", ".webp",
)  # fmt: skip
# What Pillow may take such a file for; EPS, for one, would start a program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_TEST_FOLDERS = ("test", "val")
_DESKTOP_FILES = ("Thumbs.db", "desktop.ini")
DEFAULT_SIZE = 32  # CIFAR's, which the paper's architectures are made for.
# Images of one size are kept up to this one; larger ones are photographs.
_LARGEST_KEPT = 256
_EXIF_ORIENTATION = 0x0112


class _File(NamedTuple):
  path: pathlib.Path
  label: int


class _Unusable(DataError):
  """A file or folder that cannot be used, why not, and what to do."""

  def __init__(self, path: pathlib.Path, reason: str, remedy: str):
    super().__init__(f"{path}: {reason}; {remedy}")
    self.reason = reason


class _Skipped:
  """Refuses what cannot be used, or counts it where that is asked for."""

  def __init__(self, data_dir: pathlib.Path, skip_unreadable: bool):
    self._data_dir = data_dir
    self._skip = skip_unreadable
    self._reasons: collections.Counter[str] = collections.Counter()

  def refuse(self, error: _Unusable) -> None:
    """Raises DataError, or counts the path under its reason."""
    if not self._skip:
      raise DataError(f"{error}, or set skip_unreadable to leave such out")
    self._reasons[error.reason] += 1

  def say(self) -> None:
    """Prints what was left out, if anything was."""
    if self._reasons:
      parts = [f"{n} ({reason})" for reason, n in self._reasons.most_common()]
      logs.say(f"{self._data_dir}: left out {', '.join(parts)}")


def load(
  data_dir: str, image_size: int = 0, *, skip_unreadable: bool = False
) -> tuple[Dataset, Dataset]:
  """Reads a folder of images as RGB, in the order of their names.

  Photographs are turned as their EXIF orientation says.

  Args:
    data_dir: Folder that holds train and test, or the class folders.
    image_size: Resize to this height and width, in pixels. 0 keeps images that
      are all of one size, up to 256 pixels, and resizes others to 32.
    skip_unreadable: Leave out what cannot be read, and print how much that
      was, instead of refusing it.

  Returns:
    Training and test set; the latter is empty where there is no such folder.

  Raises:
    DataError: One line naming the file or folder that cannot be used.
  """
  PIL.Image.init()  # Loads the readers of all formats.
  root = pathlib.Path(data_dir)
  skipped = _Skipped(root, skip_unreadable)
  train, test = _split_folders(root)
  found = _find(_class_folders(train, skipped), skipped)
  names = _class_names(root, [folder.name for folder in found])
  files = {train: _labelled(found, names)}
  if test:
    found = _find(_class_folders(test, skipped), skipped)
    if extra := sorted({folder.name for folder in found} - set(names)):
      raise DataError(
        f"{test}: classes without training images: {', '.join(extra)}"
      )
    files[test] = _labelled(found, names)
  image_size = image_size or _choose_size(
    root, [*itertools.chain(*files.values())]
  )
  datasets = []
  for split, part in files.items():
    images, labels = _read(part, image_size, skipped)
    where = str(split)
    datasets.append(
      dataset_lib.make(pixels.stack(images, where), labels, names, where=where)
    )
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
    raise _Unusable(
      folder, f"cannot be read ({error.strerror})", "see to its permissions"
    ) from error
  return [path for path in found if not _passed_over(path)]


def _passed_over(path: pathlib.Path) -> bool:
  if path.name.startswith("."):
    return path.suffix.lower() not in SUFFIXES
  return path.name in _DESKTOP_FILES or path.name == classes_file.NAME


def _class_folders(
  split: pathlib.Path, skipped: _Skipped
) -> list[pathlib.Path]:
  folders = []
  for path in _entries(split):
    if path.is_dir():
      folders.append(path)
    else:
      skipped.refuse(
        _Unusable(
          path, "a file beside the class folders", "move it into <class>/"
        )
      )
  if not folders:
    raise DataError(f"{split}: holds no class folder; put images in <class>/")
  return folders


def _find(
  folders: list[pathlib.Path], skipped: _Skipped
) -> dict[pathlib.Path, list[pathlib.Path]]:
  """Returns the image files of every class folder."""
  found = {}
  for folder in folders:
    try:
      paths = [path for path in _entries(folder) if _is_image(path, skipped)]
      if not paths:
        remedy = f"put images ({' '.join(SUFFIXES)}) into it or delete it"
        raise _Unusable(folder, "class folder holds no image", remedy)
      found[folder] = paths
    except _Unusable as error:
      skipped.refuse(error)
  return found


def _is_image(path: pathlib.Path, skipped: _Skipped) -> bool:
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
  skipped.refuse(_Unusable(path, reason, remedy))
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
  files: dict[pathlib.Path, list[pathlib.Path]], names: tuple[str, ...]
) -> list[_File]:
  by_name = {folder.name: paths for folder, paths in files.items()}
  return [
    _File(path, label)
    for label, name in enumerate(names)
    if name in by_name
    for path in by_name[name]
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
      sizes.add(_opened(path, _oriented_size))
    except _Unusable:
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


def _oriented_size(image: PIL.Image.Image) -> tuple[int, int]:
  """Returns (width, height) as they are after turning."""
  width, height = image.size
  if image.format == "TIFF":  # Pillow turns these itself.
    return width, height
  turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
  return (height, width) if turned else (width, height)


def _read(
  files: list[_File], image_size: int, skipped: _Skipped
) -> tuple[list[np.ndarray], np.ndarray]:
  """Returns images and labels of the files that can be read."""
  images, labels, turned = [], [], 0

  def decode(image: PIL.Image.Image) -> np.ndarray:
    nonlocal turned
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
      raise ValueError(f"it holds {image.n_frames} pictures")  # pyright: ignore[reportAttributeAccessIssue]
    turned += image.getexif().get(_EXIF_ORIENTATION, 1) != 1
    upright = PIL.ImageOps.exif_transpose(image)
    upright.format = image.format
    return pixels.to_array(upright, 3, image_size)

  for path, label in tqdm.tqdm(
    files, desc="read images", leave=False, disable=None
  ):
    try:
      images.append(_opened(path, decode))
    except _Unusable as error:
      skipped.refuse(error)
      continue
    labels.append(label)
  if turned:
    logs.say(f"{turned} images were turned as their EXIF orientation says")
  return images, np.array(labels, np.int64)


def _opened(path: pathlib.Path, use: Callable[[PIL.Image.Image], Any]) -> Any:
  """Returns what `use` makes of an image.

  Raises:
    _Unusable: Naming the file, whatever Pillow raises.
  """
  try:
    with warnings.catch_warnings():
      # Pillow warns of 90 megapixels, which cameras make; it refuses 180.
      warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
      with PIL.Image.open(path, formats=_FORMATS) as image:
        return use(image)
  except MemoryError:
    raise
  except Exception as error:  # Decoders raise nearly anything.
    reason = " ".join(str(error).split()) or type(error).__name__
    raise _Unusable(
      path,
      f"not an image that can be read ({reason.replace(str(path), path.name)})",
      "replace or delete it",
    ) from error
