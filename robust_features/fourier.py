"""Error under waves of one frequency each: which ones a model depends on.

A wave is the real basis vector whose Fourier transform is nonzero at (i, j) and
(-i, -j) alone. Every channel of an image gets it with a sign of its own, at
the same l2 norm whatever the frequency; the control is white noise of that
norm, which has all frequencies at once. Pixels are clipped to [0, 1] after.

Reference: arXiv:1906.08988 (Yin et al.), section 2: U_ij, r, v.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class FourierConfig:
  """Settings of a map of frequencies.

  Attributes:
    eps: l2 norm of what is added to each channel, before clipping.
    max_frequency: Most periods an image, down and to the right; half the
      image's pixels are all there are.
    num_white: Draws of white noise an image.
    batch_size: Images at a time.
  """

  eps: float
  max_frequency: int
  num_white: int
  batch_size: int

  def __post_init__(self):
    if not 0 < self.eps < math.inf:
      raise ValueError(f"eps must be above 0 and finite, got {self.eps!r}")
    for name, least in (
      ("max_frequency", 1), ("num_white", 1), ("batch_size", 1),
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)!r}"
        )

  def extent(self, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the most periods down and to the right that a map shows."""
    height, width = image_shape[:2]
    return min(self.max_frequency, height // 2), min(
      self.max_frequency, width // 2
    )


def _as_measured(
  i: int, j: int, image_shape: tuple[int, ...]
) -> tuple[int, int]:
  """Returns the frequency that stands for (i, j), its mirror and aliases."""
  height, width = image_shape[:2]
  return min((s * i % height, s * j % width) for s in (1, -1))


def frequencies(cfg: FourierConfig, image_shape: tuple[int, ...]) -> np.ndarray:
  """Returns the frequencies to measure, int32 `[F, 2]`, none twice.

  (i, j) and (-i, -j) are one wave, and so are those a multiple of the image
  apart.
  """
  down, right = cfg.extent(image_shape)
  found = {
    _as_measured(i, j, image_shape)
    for i in range(-down, down + 1)
    for j in range(-right, right + 1)
  }
  return np.asarray(sorted(found), np.int32)


def heat_map(
  values: np.ndarray, cfg: FourierConfig, image_shape: tuple[int, ...]
) -> np.ndarray:
  """Returns values `[F]` of `frequencies` as a map, no period in its middle.

  Returns:
    `[2 I + 1, 2 J + 1]` for the I, J of `cfg.extent`, equal to itself turned by
    half a turn.
  """
  down, right = cfg.extent(image_shape)
  number = {
    (int(i), int(j)): n
    for n, (i, j) in enumerate(frequencies(cfg, image_shape))
  }
  return np.asarray(
    [
      [
        values[number[_as_measured(i, j, image_shape)]]
        for j in range(-right, right + 1)
      ]
      for i in range(-down, down + 1)
    ]
  )


def wave(frequency: jax.Array, image_shape: tuple[int, ...]) -> jax.Array:
  """Returns U_ij `[H, W]`, of norm 1.

  Args:
    frequency: Periods down and to the right, int32 `[2]`.
    image_shape: (H, W, ...).
  """
  height, width = image_shape[:2]
  # Whole turns go first, in integers: float32 would lose the phase.
  down = jnp.arange(height) * frequency[0] % height / height
  right = jnp.arange(width) * frequency[1] % width / width
  found = jnp.cos(2 * jnp.pi * (down[:, None] + right[None, :]))
  return found / jnp.sqrt(jnp.square(found).sum())


def add_wave(x: jax.Array, point, keys: jax.Array) -> jax.Array:
  """Adds a wave to every channel, its sign drawn for each.

  Args:
    x: `[B, H, W, C]` in [0, 1].
    point: (frequency int32 `[2]`, its number int32, eps); see `points`.
    keys: `[B]`, folded with the number.
  """
  frequency, number, eps = point
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
  signs = jax.vmap(
    lambda key: jax.random.rademacher(key, x.shape[3:], jnp.float32)
  )(keys)
  added = eps * wave(frequency, x.shape[1:])
  return jnp.clip(
    x + signs[:, None, None, :] * added[None, :, :, None], 0.0, 1.0
  )


def add_white(x: jax.Array, point, keys: jax.Array) -> jax.Array:
  """Adds Gaussian noise, scaled to the norm eps in every channel.

  Args:
    x: `[B, H, W, C]` in [0, 1].
    point: (number of the draw int32, eps); see `white_points`.
    keys: `[B]`, folded with the number.
  """
  number, eps = point
  # Beyond every number of a wave.
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 2**30 + number)
  noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
  size = jnp.sqrt(jnp.square(noise).sum(axis=(1, 2), keepdims=True))
  return jnp.clip(x + eps * noise / size, 0.0, 1.0)


def points(cfg: FourierConfig, image_shape: tuple[int, ...]):
  """Returns the changes `add_wave` is to make, as `changes.hits` takes them."""
  found = frequencies(cfg, image_shape)
  count = len(found)
  return found, np.arange(count, dtype=np.int32), _norms(cfg, count)


def white_points(cfg: FourierConfig):
  """Returns the changes `add_white` is to make."""
  count = cfg.num_white
  return np.arange(count, dtype=np.int32), _norms(cfg, count)


def _norms(cfg: FourierConfig, count: int) -> np.ndarray:
  return np.full(count, cfg.eps, np.float32)


def bands(shape: tuple[int, int]) -> list[np.ndarray]:
  """Returns low, middle and high frequencies of a map, bool masks of `shape`.

  Thirds of the highest frequency along an axis; corners are among the high
  ones, and what has no period is in none.
  """
  radius = np.hypot(
    *np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
  )
  edges = (0.0, 1 / 3, 2 / 3, math.inf)
  return [
    (radius > low) & (radius <= high) for low, high in itertools.pairwise(edges)
  ]
