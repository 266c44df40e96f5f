"""Data sets as NumPy files: npz archives and npy pairs."""

import pathlib
import zipfile
import zlib

import numpy as np

from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset
from robust_features.runtime import paths

_TRAIN_KEYS = ("train_images", "train_labels")
_TEST_KEYS = ("test_images", "test_labels")


def load(data_dir: str, name: str) -> tuple[Dataset, Dataset]:
  """Reads `<name>.npz`, or the pair `<name>_data.npy` and `<name>_labels.npy`.

  The archive holds train_images and train_labels, may hold test_images and
  test_labels, and may hold class_names. The pair is a test set alone:
  CIFAR-10.1 comes as "cifar10.1_v6".

  Args:
    data_dir: Folder of the files, or an archive itself.
    name: Their common stem; unused if `data_dir` is an archive.

  Returns:
    Training and test set; what is not there is empty.

  Raises:
    DataError: If files are missing or damaged, or hold something else.
  """
  root = paths.resolve(data_dir, "data_dir")
  if root.is_file():
    return _read_archive(root)
  archive = root / f"{name}.npz"
  pair = (root / f"{name}_data.npy", root / f"{name}_labels.npy")
  if archive.is_file():
    return _read_archive(archive)
  if all(path.is_file() for path in pair):
    images, labels = (_read_array(path) for path in pair)
    num_classes = _num_classes(labels, pair[1])
    test = dataset_lib.make(images, labels, num_classes, where=str(pair[0]))
    return dataset_lib.empty_like(test), test
  found = sorted(path.name for path in root.glob("*.npz"))
  raise DataError(
    f"data_dir {data_dir!r} holds neither {archive.name} nor {pair[0].name}"
    f" with {pair[1].name}; set name, or data_dir to an archive itself"
    + (f" ({', '.join(found[:5])})" if found else "")
  )


def _read_archive(path: pathlib.Path) -> tuple[Dataset, Dataset]:
  arrays = _read_arrays(path)
  needed = _TRAIN_KEYS
  if any(key in arrays for key in _TEST_KEYS):
    needed += _TEST_KEYS
  if missing := [key for key in needed if key not in arrays]:
    raise DataError(
      f"{path}: lacks {', '.join(missing)}; it must hold"
      f" {', '.join(_TRAIN_KEYS)}, and may hold {', '.join(_TEST_KEYS)}"
    )
  if "class_names" in arrays:
    names = tuple(str(name) for name in arrays["class_names"])
  else:
    names = _num_classes(arrays["train_labels"], path)
  train = _make(arrays, "train", names, path)
  if needed == _TRAIN_KEYS:
    return train, dataset_lib.empty_like(train)
  test = _make(arrays, "test", names, path)
  if train.image_shape != test.image_shape:
    raise DataError(
      f"{path}: train images are {train.image_shape}, test images"
      f" {test.image_shape}"
    )
  return train, test


def _make(
  arrays: dict[str, np.ndarray],
  split: str,
  names: tuple[str, ...] | int,
  path: pathlib.Path,
) -> Dataset:
  return dataset_lib.make(
    arrays[f"{split}_images"],
    arrays[f"{split}_labels"],
    names,
    where=f"{path} {split}",
  )


def _num_classes(labels: np.ndarray, path: pathlib.Path) -> int:
  if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
    raise DataError(
      f"{path}: labels must be integers [N], got {labels.dtype} {labels.shape}"
    )
  return int(labels.max()) + 1


# What NumPy and zipfile raise for a damaged file; OSError for an unreadable.
_DAMAGE = (
  ValueError,
  EOFError,
  OSError,
  KeyError,
  NotImplementedError,
  zipfile.BadZipFile,
  zlib.error,
)


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns every array of an npz archive, each checked by its CRC."""
  # Opened here, because NumPy leaves a damaged archive open.
  try:
    with path.open("rb") as file:
      archive = np.load(file, allow_pickle=False)
      if isinstance(archive, np.ndarray):
        raise ValueError("a single array, not an archive")
      return {key: archive[key] for key in archive.files}
  except _DAMAGE as error:
    raise DataError(_damaged(path, error)) from error


def _read_array(path: pathlib.Path) -> np.ndarray:
  try:
    with path.open("rb") as file:
      array = np.load(file, allow_pickle=False)
      if not isinstance(array, np.ndarray):
        raise ValueError("an archive, not a single array")
      return array
  except _DAMAGE as error:
    raise DataError(_damaged(path, error)) from error


def _damaged(path: pathlib.Path, error: Exception) -> str:
  reason = " ".join(str(error).split())
  return f"{path}: damaged, or no plain NumPy file ({reason}); get it again"
