"""Data sets in plain files: folders of images, npz archives, npy pairs."""

import pathlib
import zipfile
import zlib

import numpy as np
import PIL.Image
import tqdm

from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
_TEST_FOLDERS = ("test", "val")
_NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def to_array(
  image: PIL.Image.Image, channels: int, image_size: int
) -> np.ndarray:
  """Returns a Pillow image as uint8 `[H, W, C]`.

  Args:
    image: Any 8-bit image.
    channels: 1 for grey, 3 for RGB, 4 for RGBA.
    image_size: The shorter side is resized to this many pixels (bilinear,
      antialiased) and the centre cropped square; 0 changes nothing.
  """
  image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
  if image_size and image.size != (image_size, image_size):
    scale = image_size / min(image.size)
    width, height = (max(round(s * scale), image_size) for s in image.size)
    image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.crop((left, top, left + image_size, top + image_size))
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def stack(images: list[np.ndarray], where: str) -> np.ndarray:
  """Returns `[N, H, W, C]` of images that must be of one shape.

  Raises:
    DataError: If there is none or they differ in shape.
  """
  shapes = sorted({image.shape for image in images})
  if not shapes:
    raise DataError(f"{where}: holds no image")
  if len(shapes) > 1:
    raise DataError(
      f"{where}: images differ in shape, {shapes[0]} and {shapes[-1]};"
      " set image_size to resize them"
    )
  return np.stack(images)


def load_image_folder(
  data_dir: str, image_size: int
) -> tuple[Dataset, Dataset]:
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
        images.append(to_array(image, 3, image_size))
    except (OSError, SyntaxError, ValueError) as error:
      raise DataError(
        f"{path}: not an image that can be read ({error}); replace or delete it"
      ) from error
  labels = np.array([label for _, label in paths], np.int64)
  where = str(folder)
  return dataset_lib.make(stack(images, where), labels, names, where=where)


def load_npz(data_dir: str, name: str) -> tuple[Dataset | None, Dataset]:
  """Reads `<name>.npz`, or the pair `<name>_data.npy` and `<name>_labels.npy`.

  The archive holds train_images, train_labels, test_images and test_labels,
  and may hold class_names. The pair is a test set alone: CIFAR-10.1 comes as
  "cifar10.1_v6".

  Args:
    data_dir: Folder of the files.
    name: Their common stem.

  Returns:
    Training set, None for a pair, and test set.

  Raises:
    DataError: If files are missing or damaged, or hold something else.
  """
  root = pathlib.Path(data_dir)
  archive = root / f"{name}.npz"
  pair = (root / f"{name}_data.npy", root / f"{name}_labels.npy")
  if archive.is_file():
    return _read_archive(archive)
  if all(path.is_file() for path in pair):
    images, labels = (_read_array(path) for path in pair)
    num_classes = _num_classes(labels, pair[1])
    return None, dataset_lib.make(
      images, labels, num_classes, where=str(pair[0])
    )
  raise DataError(
    f"data_dir {data_dir!r} holds neither {archive.name} nor {pair[0].name}"
    f" with {pair[1].name}"
  )


def _read_archive(path: pathlib.Path) -> tuple[Dataset, Dataset]:
  arrays = _read_arrays(path)
  missing = [key for key in _NPZ_KEYS if key not in arrays]
  if missing:
    raise DataError(
      f"{path}: lacks {', '.join(missing)}; it must hold {', '.join(_NPZ_KEYS)}"
    )
  if "class_names" in arrays:
    names = tuple(str(name) for name in arrays["class_names"])
  else:
    names = _num_classes(arrays["train_labels"], path)
  train, test = (
    dataset_lib.make(
      arrays[f"{split}_images"],
      arrays[f"{split}_labels"],
      names,
      where=f"{path} {split}",
    )
    for split in ("train", "test")
  )
  if train.image_shape != test.image_shape:
    raise DataError(
      f"{path}: train images are {train.image_shape}, test images"
      f" {test.image_shape}"
    )
  return train, test


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
