"""Images as Pillow opens them, turned into arrays that can be stacked."""

import numpy as np
import PIL.Image

from robust_features.data.dataset import DataError


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
