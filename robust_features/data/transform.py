"""Deterministic changes of a whole set: compression, colour, frequencies.

Every function maps float32 images in [0, 1], `[N, H, W, C]`, to the same.
"""

import io

import numpy as np
from PIL import Image

from robust_features.data import dataset as ds
from robust_features.data.augment import LUMA


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
  """Returns images after a round trip through JPEG.

  Args:
    images: Of one or three channels.
    quality: 1 to 95, Pillow's.
  """

  def one(image):
    levels = np.round(image * 255.0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.squeeze()).save(buffer, "JPEG", quality=quality)
    found = np.asarray(Image.open(buffer), np.float32) / np.float32(255)
    return found.reshape(image.shape)

  return np.stack([one(image) for image in images])


def grey(images: np.ndarray) -> np.ndarray:
  """Returns images without colour, their three channels equal."""
  luminance = images @ np.asarray(LUMA, np.float32)
  return np.repeat(luminance[..., None], 3, axis=-1)


def low_pass(images: np.ndarray, radius: float) -> np.ndarray:
  """Returns what waves of at most `radius` periods an image make up, clipped.

  Periods down and to the right are the legs of a triangle, the radius is its
  hypotenuse. What rings beyond [0, 1] is cut off.
  """
  size = images.shape[1:3]
  down, right = (np.fft.fftfreq(n, 1 / n) for n in size)
  kept = np.hypot(down[:, None], right[None, :]) <= radius
  waves = np.fft.fft2(images, axes=(1, 2)) * kept[None, :, :, None]
  found = np.fft.ifft2(waves, axes=(1, 2)).real
  return np.clip(found, 0.0, 1.0).astype(np.float32)


def high_pass(images: np.ndarray, radius: float) -> np.ndarray:
  """Returns what `low_pass` leaves, about grey 1/2, clipped to [0, 1]."""
  rest = images - low_pass(images, radius)
  return np.clip(0.5 + rest, 0.0, 1.0).astype(np.float32)


def apply(name: str, dataset: ds.Dataset, amount: float) -> ds.Dataset:
  """Returns a set, without its extras, under a change named as above.

  Args:
    name: "jpeg", "grey", "low_pass" or "high_pass".
    dataset: Images that are uint8 stay so.
    amount: Quality, rounded, or radius; nothing to "grey".
  """
  x = np.asarray(ds.to_float(dataset.images))
  if name == "grey":
    x = grey(x)
  elif name == "jpeg":
    x = jpeg(x, round(amount))
  else:
    x = (low_pass if name == "low_pass" else high_pass)(x, amount)
  if dataset.images.dtype == np.uint8:
    x = np.round(x * 255.0).astype(np.uint8)
  return ds.make(x, dataset.labels, dataset.class_names)
