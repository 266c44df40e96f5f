"""Augmentation of training images: crop, flip, jitter, rotate, lighting.

Pure functions of the images and of one key an example, so that an image is
augmented the same way whatever batch, device or restart it falls in. Crop and
rotation are gathers on the device. Per image and in this order: pad with zeros
and crop, flip, jitter, rotate, lighting: MadryLab's order. A photograph's
random crop that is resized comes before all of these, as it is read; see
`lazy.Images.crop`.

Reference: arXiv 1905.02175, appendix C.1; Engstrom et al., the `robustness`
library: `TRAIN_TRANSFORMS_DEFAULT` has pad 4, flip, jitter 0.25 and rotation
by up to 2 degrees, `TRAIN_TRANSFORMS_IMAGENET` a resized crop of at least 8% of
the area, flip, jitter 0.1 and lighting 0.05.
"""

import dataclasses

import jax
import jax.numpy as jnp

# Weights of red, green and blue in an image's grey version (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours, one a row, and what they weigh:
# Krizhevsky et al. 2012, section 4.1; the numbers are the library's.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
  (-0.5675, -0.5808, -0.5836),
  (0.7192, -0.0045, -0.6948),
  (0.4009, -0.8140, 0.4203),
)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """What is done to a training image; all off leaves it as it is.

  Attributes:
    pad: Zeros added on each side before a crop of the original size, in
      pixels; 0 is off.
    flip: Whether to mirror left and right with probability 1/2.
    jitter: Brightness, contrast and saturation are each multiplied by a
      uniform factor in [1 - jitter, 1 + jitter]; 0 is off.
    rotate: Largest angle of rotation either way, in degrees; 0 is off.
    resized_crop: A random box of at least this share of a streamed image's
      area, of an aspect of 3/4 to 4/3, resized to the set's size; 0 is off.
    lighting: Standard deviation of the weights with which the principal
      components of ImageNet's colours are added; 0 is off.
  """

  pad: int
  flip: bool
  jitter: float
  rotate: float
  resized_crop: float = 0.0
  lighting: float = 0.0

  def __post_init__(self):
    if isinstance(self.pad, bool) or not (
      isinstance(self.pad, int) and self.pad >= 0
    ):
      raise ValueError(f"pad must be an integer >= 0, got {self.pad!r}")
    if not isinstance(self.flip, bool):
      raise ValueError(f"flip must be True or False, got {self.flip!r}")
    _check_number("jitter", self.jitter, 1)
    _check_number("rotate", self.rotate, 180)
    _check_number("resized_crop", self.resized_crop, 1)
    _check_number("lighting", self.lighting, 1)


def _check_number(name: str, value: float, most: float) -> None:
  # A string must not reach the comparison: "3" <= 1 is a TypeError.
  if not isinstance(value, (int, float)) or not 0 <= value <= most:
    raise ValueError(f"{name} must be a number in [0, {most}], got {value!r}")


def augment(x: jax.Array, keys: jax.Array, cfg: AugmentConfig) -> jax.Array:
  """Returns a randomly augmented copy of every image.

  Args:
    x: Images in [0, 1], float32 `[B, H, W, C]`; jitter and lighting need C = 3.
    keys: One typed PRNG key an example, `[B]`.
    cfg: What to do; static under jit.

  Returns:
    float32 `[B, H, W, C]` in [0, 1].
  """
  for name in ("jitter", "lighting"):
    if getattr(cfg, name) and x.shape[-1] != 3:
      raise ValueError(f"{name} needs 3 channels, got images {x.shape}")
  return jax.vmap(lambda image, key: _augment_one(image, key, cfg))(x, keys)


def _augment_one(
  image: jax.Array, key: jax.Array, cfg: AugmentConfig
) -> jax.Array:
  """Augments `[H, W, C]`; a key each, so that no option moves another's."""
  crop_key, flip_key, jitter_key, rotate_key, lighting_key = jax.random.split(
    key, 5
  )
  if cfg.pad:
    offset = jax.random.randint(crop_key, (2,), -cfg.pad, cfg.pad + 1)
    image = shift(image, offset, cfg.pad)
  if cfg.flip:
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
  if cfg.jitter:
    image = jitter(image, 1.0 + _uniform(jitter_key, (3,), cfg.jitter))
  if cfg.rotate:
    image = rotate(image, jnp.deg2rad(_uniform(rotate_key, (), cfg.rotate)))
  if cfg.lighting:
    image = lighting(
      image, cfg.lighting * jax.random.normal(lighting_key, (3,))
    )
  return image


def _uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
  return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def shift(image: jax.Array, offset: jax.Array, pad: int) -> jax.Array:
  """Moves the window on the image by `offset`; outside there are zeros.

  Args:
    image: `[H, W, C]`.
    offset: Window's move (down, right) in pixels, int32 `[2]` in [-pad, pad].
    pad: Largest move.
  """
  padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
  start = (offset[0] + pad, offset[1] + pad, jnp.zeros((), offset.dtype))
  return jax.lax.dynamic_slice(padded, start, image.shape)


def jitter(image: jax.Array, factors: jax.Array) -> jax.Array:
  """Scales brightness, contrast and saturation, clipping after each.

  torchvision applies the three in random order; here it is always this one.

  Args:
    image: In [0, 1], `[H, W, 3]`.
    factors: Of brightness, contrast and saturation, `[3]`; 1 changes nothing.
  """
  image = jnp.clip(image * factors[0], 0.0, 1.0)
  mean = jnp.mean(_grey(image))
  image = jnp.clip(mean + (image - mean) * factors[1], 0.0, 1.0)
  grey = _grey(image)[..., None]
  return jnp.clip(grey + (image - grey) * factors[2], 0.0, 1.0)


def _grey(image: jax.Array) -> jax.Array:
  """Returns luminance `[H, W]` of `[H, W, 3]`, elementwise on any device."""
  red, green, blue = (image[..., i] * LUMA[i] for i in range(3))
  return red + green + blue


def rotate(image: jax.Array, angle: jax.Array) -> jax.Array:
  """Rotates about the centre by nearest neighbour; zeros come in from outside.

  Nearest neighbour is torchvision's default, and no pixel is blurred.

  Args:
    image: `[H, W, C]`.
    angle: Counter-clockwise, in radians, scalar.
  """
  height, width, _ = image.shape
  down = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
  right = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # Every output pixel reads where the inverse rotation takes it.
  from_down = jnp.round(sin * right + cos * down + (height - 1) / 2)
  from_right = jnp.round(cos * right - sin * down + (width - 1) / 2)
  rows, columns = from_down.astype(jnp.int32), from_right.astype(jnp.int32)
  inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
  gathered = image[
    jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
  ]
  return jnp.where(inside[..., None], gathered, 0.0)


def lighting(image: jax.Array, weights: jax.Array) -> jax.Array:
  """Adds a colour to all pixels, clipping to [0, 1].

  Args:
    image: In [0, 1], `[H, W, 3]`.
    weights: Of ImageNet's principal components, `[3]`; 0 changes nothing.
  """
  colour = (weights * jnp.asarray(_EIGENVALUES)) @ jnp.asarray(_EIGENVECTORS)
  return jnp.clip(image + colour[None, None], 0.0, 1.0)
