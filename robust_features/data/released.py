"""The data sets that the paper's authors released, and their layout.

Each is a folder with two files that PyTorch wrote: `CIFAR_ims`, a list of float
tensors `[B, C, H, W]` in [0, 1], and `CIFAR_lab`, a list of integer tensors
`[B]`. They are training sets alone; the test set is CIFAR-10's own.

Reference: github.com/MadryLab/constructed-datasets.
"""

import pathlib

import numpy as np

from robust_features.data import classes_file, torch_file
from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset
from robust_features.runtime import paths

IMAGES, LABELS = "CIFAR_ims", "CIFAR_lab"
_BATCH = 1_000  # Images a tensor, in what is written here.
_CIFAR10 = (
  "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
  "ship", "truck",
)  # fmt: skip


def load(data_dir: str) -> Dataset:
  """Returns a released set, float32 as it is stored.

  Its classes are CIFAR-10's, unless a classes.txt lies beside the two files.

  Args:
    data_dir: Folder such as `release_datasets/d_robust_CIFAR`.

  Raises:
    DataError: Naming the file that is missing, damaged or something else.
  """
  root = paths.resolve(data_dir, "data_dir")
  images, labels = (
    _concatenated(root / name, rank)
    for name, rank in ((IMAGES, 4), (LABELS, 1))
  )
  return dataset_lib.make(
    np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
    labels,
    classes_file.read(root) or _CIFAR10,
    where=str(root),
  )


def _concatenated(path: pathlib.Path, rank: int) -> np.ndarray:
  if not path.is_file():
    raise DataError(
      f"{path} is missing; data_dir must be one set of the release, a folder"
      f" with {IMAGES} and {LABELS}"
    )
  try:
    tensors = torch_file.read(path)
  except ValueError as error:
    raise DataError(f"{error}; get it again") from error
  if not tensors or any(tensor.ndim != rank for tensor in tensors):
    raise DataError(f"{path}: must hold tensors of {rank} dimensions")
  try:
    return np.concatenate(tensors)
  except ValueError as error:
    raise DataError(f"{path}: its tensors differ in shape") from error


def save(directory: pathlib.Path, dataset: Dataset) -> None:
  """Writes a data set in the release's layout, and the names of its classes.

  Args:
    directory: An existing folder.
    dataset: uint8 images are stored as float32, divided by 255.
  """
  bounds = range(_BATCH, dataset.num_examples, _BATCH)
  images = dataset.images
  if images.dtype == np.uint8:
    images = images.astype(np.float32) / np.float32(255)
  torch_file.write(
    directory / IMAGES, np.split(images.transpose(0, 3, 1, 2), bounds)
  )
  torch_file.write(
    directory / LABELS, np.split(dataset.labels.astype(np.int64), bounds)
  )
  classes_file.write(directory, dataset.class_names)
