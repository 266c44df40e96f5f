"""Where data sets come from: one loader a source, and what they share.

`load(cfg)` reads the whole set, carves the validation set out of train and
takes the subsets that the config asks for. Loaders return what lies on disk;
everything random is decided here, from the seed alone.

No loader needs TensorFlow or PyTorch, and none reads a pickle.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from robust_features.data import (
  constructed,
  image_folder,
  npz,
  planted,
  released,
  restricted_imagenet,
  tfds_source,
)
from robust_features.data import dataset as dataset_lib
from robust_features.data.dataset import DataError, Dataset, Splits
from robust_features.runtime import logs

# Draws that share the config's seed and must not share their randomness.
# None is zero: to NumPy the seeds (7,) and (7, 0) are the same.
_STREAM_SUBSET, _STREAM_VALIDATION = 1, 2
_STREAM_PLANTED_TRAIN, _STREAM_PLANTED_TEST = 3, 4
_PLANTED_TRAIN, _PLANTED_TEST = 4_000, 1_000
_DIGITS_TEST = 297  # Leaves 1,500 of the 1,797 to train on.


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which data set, and how much of it.

  Numbers of images are what a config made for CIFAR-10 wants at most, so that
  it also runs on a few hundred photographs: a smaller set is used whole, and a
  line says so. Class count and image shape follow from the data.

  Attributes:
    source: "tfds", "image_folder", "npz", "constructed" (a data set that a
      study made), "madry" (the authors' released sets), "restricted_imagenet",
      "digits" or "planted".
    name: What the source calls the set: a tfds name such as "cifar10"; for
      "npz", the stem of the file or files in `data_dir`; for
      "restricted_imagenet", "imagenet2012" if tfds holds it, and "" for a
      folder train/<wnid>/; unused by the others.
    data_dir: Folder that holds the set, or the npz file itself; "~" is the home
      folder. Unused by "digits" and "planted".
    num_train: Training images to keep at most; 0 keeps all that validation
      leaves.
    num_test: Test images to keep at most; 0 keeps all.
    num_validation: Images held out of the training set; 0 for none. Where that
      were more than half of them, a tenth is held out.
    seed: Decides subsets and validation set, and draws "planted".
    image_size: Height and width that images are resized to, in pixels. 0 keeps
      them as they are, but for an image folder's photographs: if their sizes
      differ or exceed 256 pixels, they become 32x32.
    test_fraction: Fraction of the training images that becomes the test set,
      where a source has none; always the same ones, whatever the seed.
    skip_unreadable: Whether "image_folder" leaves out, and counts, what it
      cannot read instead of refusing it.
    balanced: Whether "restricted_imagenet" keeps three wnids of every
      super-class; otherwise 58% of the images are dogs.
    short_side: What an image's shorter side is resized to before a square of
      `image_size` is cropped from its centre, in pixels; 0 means `image_size`.
    streamed: Whether images are read as they are wanted, batch by batch, and
      not put on every device whole; changes no number. So are the sets that a
      study makes of them.
  """

  source: str
  name: str = ""
  data_dir: str = ""
  num_train: int = 0
  num_test: int = 0
  num_validation: int = 0
  seed: int = 0
  image_size: int = 0
  test_fraction: float = 0.0
  skip_unreadable: bool = False
  balanced: bool = False
  short_side: int = 0
  streamed: bool = False

  def __post_init__(self):
    if self.source not in SOURCES:
      raise ValueError(
        f"source must be one of {', '.join(SOURCES)}, got {self.source!r}"
      )
    for field in ("num_train", "num_test", "num_validation", "seed"):
      _check_count(field, getattr(self, field))
    _check_count("image_size", self.image_size)
    _check_count("short_side", self.short_side)
    if 0 < self.short_side < self.image_size:
      raise ValueError(
        f"short_side must be 0 or at least image_size={self.image_size}, got "
        f"{self.short_side}"
      )
    if not 0 <= self.test_fraction < 1:
      raise ValueError(
        f"test_fraction must be in [0, 1), got {self.test_fraction!r}"
      )
    if self.source == "tfds" and not self.name:
      raise ValueError("name must be set for source='tfds', got ''")
    if self.source in _FROM_DISK and not self.data_dir:
      raise ValueError(
        f"data_dir must be set for source={self.source!r}, got ''"
      )


def _check_count(field: str, value: int) -> None:
  if isinstance(value, bool) or not isinstance(value, int) or value < 0:
    raise ValueError(f"{field} must be an integer >= 0, got {value!r}")


def load(cfg: DataConfig) -> Splits:
  """Reads a data set and returns its training, validation and test parts.

  Args:
    cfg: Which set and how much of it.

  Returns:
    Checked, disjoint parts of the same classes. A part that does not exist (no
    validation asked for; a set that has only test images) is empty.

  Raises:
    DataError: One line that names the file or field and says the remedy.
    ValueError: Such a line, where `data_dir` is no path on this machine.
  """
  train, test = SOURCES[cfg.source](cfg)
  if cfg.streamed:
    train, test = dataset_lib.streamed(train), dataset_lib.streamed(test)
  for split, part in (("train", train), ("test", test)):
    if part.num_examples:
      dataset_lib.check(part, where=f"{cfg.source} {split}")
      _check_size(part, split, cfg)
  if cfg.test_fraction:
    train, test = _hold_out_test(train, test, cfg)
  elif not test.num_examples:
    logs.say(f"{cfg.source}: no test images; test_fraction would hold some out")
  validation = dataset_lib.empty_like(train)
  if train.num_examples:
    train, validation = dataset_lib.split_validation(
      train, _num_validation(train, cfg), _seed(cfg, _STREAM_VALIDATION)
    )
  return Splits(
    _keep(train, "num_train", cfg), validation, _keep(test, "num_test", cfg)
  )


def _seed(cfg: DataConfig, stream: int) -> tuple[int, int]:
  return (cfg.seed, stream)


def _hold_out_test(
  train: Dataset, test: Dataset, cfg: DataConfig
) -> tuple[Dataset, Dataset]:
  if test.num_examples:
    raise DataError(
      f"test_fraction must be 0 for data that bring {test.num_examples} test"
      f" images of their own, got {cfg.test_fraction}"
    )
  count = round(cfg.test_fraction * train.num_examples)
  if not 0 < count < train.num_examples:
    raise DataError(
      f"test_fraction must leave images to train and to test on, got"
      f" {cfg.test_fraction} of {train.num_examples}"
    )
  return dataset_lib.split_stratified(train, count, 0)


def num_held_out(num_validation: int, size: int) -> int:
  """Returns how many of so many training images are held out."""
  return num_validation if 2 * num_validation <= size else size // 10


def _num_validation(train: Dataset, cfg: DataConfig) -> int:
  num, size = cfg.num_validation, train.num_examples
  found = num_held_out(num, size)
  if found != num:
    logs.say(
      f"{cfg.source}: num_validation={num} is more than half of {size} training"
      f" images; a tenth, {found}, is held out"
    )
  return found


def _keep(part: Dataset, field: str, cfg: DataConfig) -> Dataset:
  num, size = getattr(cfg, field), part.num_examples
  if num > size > 0:
    logs.say(f"{cfg.source}: {field}={num}, but there are {size}: all are used")
  return dataset_lib.subset(part, min(num, size), _seed(cfg, _STREAM_SUBSET))


def _check_size(part: Dataset, split: str, cfg: DataConfig) -> None:
  """Raises if image_size was asked of a source that cannot resize."""
  size = part.image_shape[:2]
  if cfg.image_size and size != (cfg.image_size, cfg.image_size):
    raise DataError(
      f"image_size must be 0 for source={cfg.source!r}, whose {split} images"
      f" are {size[0]}x{size[1]}, got {cfg.image_size}"
    )


def _load_tfds(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  return tfds_source.load(
    cfg.name, cfg.data_dir, cfg.image_size, cfg.short_side, cfg.streamed
  )


def _load_image_folder(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  return image_folder.load(
    cfg.data_dir, cfg.image_size, short_side=cfg.short_side,
    skip_unreadable=cfg.skip_unreadable, streamed=cfg.streamed,
  )  # fmt: skip


def _load_restricted_imagenet(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  groups = restricted_imagenet.groups(cfg.balanced)
  if cfg.name:
    return tfds_source.load(
      cfg.name, cfg.data_dir, cfg.image_size, cfg.short_side, cfg.streamed,
      groups,
    )  # fmt: skip
  if not cfg.data_dir:
    raise DataError(
      "data_dir must be set to a folder that holds train/<wnid>/ and "
      "val/<wnid>/ of ImageNet, or name to 'imagenet2012' for tfds's"
    )
  restricted_imagenet.check_folder(cfg.data_dir, groups)
  return image_folder.load(
    cfg.data_dir, cfg.image_size, short_side=cfg.short_side,
    skip_unreadable=cfg.skip_unreadable, streamed=cfg.streamed, groups=groups,
  )  # fmt: skip


def _load_npz(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  return npz.load(cfg.data_dir, cfg.name)


def _load_constructed(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  train = constructed.load(cfg.data_dir, streamed=cfg.streamed)
  return train, dataset_lib.empty_like(train)


def _load_madry(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  train = released.load(cfg.data_dir)
  return train, dataset_lib.empty_like(train)


def _load_digits(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  """Returns scikit-learn's 1,797 real digits, uint8 `[N, 8, 8, 1]`.

  They come without a test set: which 297 are held out is fixed, whatever the
  seed, so that no seed has trained on another's test images.
  """
  del cfg
  from sklearn import datasets  # Takes a second that other sources need not.

  data, labels = datasets.load_digits(return_X_y=True)
  # Grey levels 0 to 16, rounded onto 0 to 255.
  images = np.rint(np.asarray(data).reshape(-1, 8, 8, 1) * (255 / 16))
  whole = dataset_lib.make(images.astype(np.uint8), labels, 10, where="digits")
  return dataset_lib.split_validation(whole, _DIGITS_TEST, 0)


def _load_planted(cfg: DataConfig) -> tuple[Dataset, Dataset]:
  """Draws as many planted images as are asked for; 0 for 4,000 and 1,000."""
  num_train = _PLANTED_TRAIN
  if cfg.num_train:
    num_train = cfg.num_train + cfg.num_validation
  num_test = cfg.num_test or _PLANTED_TEST
  params = planted.PlantedConfig()
  return (
    planted.generate(num_train, _seed(cfg, _STREAM_PLANTED_TRAIN), params),
    planted.generate(num_test, _seed(cfg, _STREAM_PLANTED_TEST), params),
  )


# A loader returns the whole training and test sets.
SOURCES: dict[str, Callable[[DataConfig], tuple[Dataset, Dataset]]] = {
  "tfds": _load_tfds,
  "image_folder": _load_image_folder,
  "npz": _load_npz,
  "constructed": _load_constructed,
  "madry": _load_madry,
  "restricted_imagenet": _load_restricted_imagenet,
  "digits": _load_digits,
  "planted": _load_planted,
}
_FROM_DISK = ("image_folder", "npz", "constructed", "madry")
