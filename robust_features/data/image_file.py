"""One image file: opened by Pillow, turned upright, refused by its name."""

import collections
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from robust_features.data import pixels
from robust_features.data.dataset import DataError
from robust_features.runtime import logs

SUFFIXES = (
  ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
  ".tif", ".tiff", ".webp",
)  # fmt: skip
# What Pillow may take such a file for; EPS, for one, would start a program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_EXIF_ORIENTATION = 0x0112


class Unusable(DataError):
  """A file or folder that cannot be used, why not, and what to do."""

  def __init__(self, path: pathlib.Path, reason: str, remedy: str):
    super().__init__(f"{path}: {reason}; {remedy}")
    self.reason = reason


class Skipped:
  """Refuses what cannot be used, or counts it where that is asked for."""

  def __init__(self, data_dir: pathlib.Path, skip_unreadable: bool):
    self._data_dir = data_dir
    self.skip = skip_unreadable
    self._reasons: collections.Counter[str] = collections.Counter()

  def refuse(self, error: Unusable) -> None:
    """Raises DataError, or counts the path under its reason."""
    if not self.skip:
      raise DataError(f"{error}, or set skip_unreadable to leave such out")
    self._reasons[error.reason] += 1

  def say(self) -> None:
    """Prints what was left out, if anything was."""
    if self._reasons:
      parts = [f"{n} ({reason})" for reason, n in self._reasons.most_common()]
      logs.say(f"{self._data_dir}: left out {', '.join(parts)}")


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
  """Returns an opened image, turned as its EXIF orientation says.

  Raises:
    ValueError: If it holds several pictures.
  """
  if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
    raise ValueError(f"it holds {image.n_frames} pictures")  # pyright: ignore[reportAttributeAccessIssue]
  found = PIL.ImageOps.exif_transpose(image)
  found.format = image.format
  return found


def is_turned(image: PIL.Image.Image) -> bool:
  """Returns whether an EXIF orientation turns an image."""
  return image.getexif().get(_EXIF_ORIENTATION, 1) != 1


def read(path: pathlib.Path, image_size: int, short_side: int) -> np.ndarray:
  """Returns a file as RGB, uint8 `[H, W, 3]`; see `pixels.to_array`.

  Raises:
    Unusable: Naming the file.
  """
  return opened(
    path, lambda image: pixels.to_array(upright(image), 3, image_size,
                                        short_side)
  )  # fmt: skip


def picture(path: pathlib.Path) -> PIL.Image.Image:
  """Returns a file in RGB at its own size; see `pixels.to_picture`.

  Raises:
    Unusable: Naming the file.
  """
  return opened(path, lambda image: pixels.to_picture(upright(image), 3))


def oriented_size(image: PIL.Image.Image) -> tuple[int, int]:
  """Returns (width, height) as they are after turning."""
  width, height = image.size
  if image.format == "TIFF":  # Pillow turns these itself.
    return width, height
  turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
  return (height, width) if turned else (width, height)


def opened(path: pathlib.Path, use: Callable[[PIL.Image.Image], Any]) -> Any:
  """Returns what `use` makes of an image.

  Raises:
    Unusable: Naming the file, whatever Pillow raises.
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
    raise Unusable(
      path,
      f"not an image that can be read ({reason.replace(str(path), path.name)})",
      "replace or delete it",
    ) from error
