"""Images as Pillow opens them, turned into arrays that can be stacked."""

import io

import numpy as np
import PIL.Image

from robust_features.data.dataset import DataError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_picture(image: PIL.Image.Image, channels: int) -> PIL.Image.Image:
  """Returns a Pillow image in 8 bits a channel, decoded.

  Sixteen bits of grey are scaled to eight (Pillow would clip them), and what
  is transparent lies on white unless there is a channel for it. An embedded
  colour profile is not applied.

  Args:
    image: Of 1, 8 or 16 bits a channel.
    channels: 1 for grey, 3 for RGB, 4 for RGBA.

  Raises:
    ValueError: If the pixels are floats or 32-bit integers, whose range nobody
      knows, or of colours that Pillow cannot convert.
  """
  image = _eight_bits(image)
  if channels != 4 and image.has_transparency_data:
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    image = PIL.Image.alpha_composite(white, image)
  return image.convert(_MODES[channels])


def to_array(
  image: PIL.Image.Image, channels: int, image_size: int, short_side: int = 0
) -> np.ndarray:
  """Returns a Pillow image as uint8 `[H, W, C]`, by `to_picture`.

  Args:
    image: Of 1, 8 or 16 bits a channel.
    channels: 1 for grey, 3 for RGB, 4 for RGBA.
    image_size: Of the square that is cropped from the centre, in pixels; 0
      changes nothing.
    short_side: What the shorter side is resized to before (bilinear,
      antialiased), in pixels; 0 means `image_size`.

  Raises:
    ValueError: See `to_picture`.
  """
  image = to_picture(image, channels)
  short_side = short_side or image_size
  exact = short_side == image_size and image.size == (image_size, image_size)
  if image_size and not exact:
    scale = short_side / min(image.size)
    width, height = (max(round(s * scale), short_side) for s in image.size)
    image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.crop((left, top, left + image_size, top + image_size))
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def _eight_bits(image: PIL.Image.Image) -> PIL.Image.Image:
  # Pillow opens a PGM of more than 8 bits as "I", scaled to 16 bits.
  if image.mode.startswith("I;16") or (
    image.mode == "I" and image.format == "PPM"
  ):
    levels = np.asarray(image).astype(np.float64) * (255 / 65535)
    return PIL.Image.fromarray(np.rint(levels).astype(np.uint8))
  if image.mode in ("I", "F"):
    kind = {"I": "32-bit integers", "F": "floats"}[image.mode]
    raise ValueError(f"its pixels are {kind}, of no known range")
  return image


def encode_png(image: np.ndarray) -> bytes:
  """Returns a uint8 image `[H, W, C]`, C of 1, 3 or 4, as PNG bytes."""
  if image.shape[-1] == 1:
    image = image[..., 0]
  buffer = io.BytesIO()
  PIL.Image.fromarray(image).save(buffer, "PNG", compress_level=1)
  return buffer.getvalue()


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
