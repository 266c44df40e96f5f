"""The worst of a grid of rotations and shifts: no radius, no gradient.

A rotation about the centre comes first, then a shift; pixels are interpolated
bilinearly and zeros come in from outside. All points of the grid are tried on
every image, which the paper finds to be a stronger adversary than a climb.

Reference: arXiv:1712.02779 (Engstrom et al.), sections 3 and 5; their grid for
CIFAR-10 has 5 x 5 shifts of at most 3 pixels and 31 angles of at most 30
degrees, 775 points.
"""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Parts of the grid by name: whether shifts down, to the right, and rotations
# are in it.
PARTS = {
  "down": (True, False, False),
  "right": (False, True, False),
  "shift": (True, True, False),
  "rotation": (False, False, True),
  "grid": (True, True, True),
}


@dataclasses.dataclass(frozen=True)
class SpatialConfig:
  """A grid of rotations and shifts.

  Attributes:
    max_shift: Largest shift down, up, left and right, in pixels.
    num_shifts: Shifts in either direction, odd: no shift is among them; 1 for
      none else.
    max_angle: Largest rotation either way, in degrees.
    num_angles: Rotations, odd: none is among them.
    batch_size: Images at a time.
  """

  max_shift: float
  num_shifts: int
  max_angle: float
  num_angles: int
  batch_size: int

  def __post_init__(self):
    for most, number, limit in (
      ("max_shift", "num_shifts", math.inf),
      ("max_angle", "num_angles", 180),
    ):
      value, count = getattr(self, most), getattr(self, number)
      if not 0 <= value <= limit or math.isinf(value):
        raise ValueError(
          f"{most} must be a finite number in [0, {limit:g}], got {value!r}"
        )
      if count < 1 or count % 2 == 0:
        raise ValueError(
          f"{number} must be odd and at least 1, so that the image itself is "
          f"in the grid, got {count!r}"
        )
      if (count == 1) != (value == 0):
        raise ValueError(
          f"{number} must be 1 where {most} is 0, and more elsewhere, got "
          f"{count!r} with {most} {value!r}"
        )
    if self.batch_size < 1:
      raise ValueError(
        f"batch_size must be at least 1, got {self.batch_size!r}"
      )

  @property
  def shape(self) -> tuple[int, int, int]:
    """Number of shifts down, to the right, and of rotations."""
    return self.num_shifts, self.num_shifts, self.num_angles

  @property
  def num_points(self) -> int:
    """Number of points of the grid."""
    return math.prod(self.shape)

  def axes(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shifts in pixels and the angles in degrees, ascending."""
    return (
      np.linspace(-self.max_shift, self.max_shift, self.num_shifts),
      np.linspace(-self.max_angle, self.max_angle, self.num_angles),
    )

  def points(self) -> np.ndarray:
    """Returns the grid, float32 `[P, 3]`: down, right, angle."""
    shifts, angles = self.axes()
    found = list(itertools.product(shifts, shifts, angles))
    return np.asarray(found, np.float32)


def check_fit(cfg: SpatialConfig, image_shape: tuple[int, ...]) -> None:
  """Raises ValueError where a shift would push the whole image out."""
  size = min(image_shape[:2])
  if cfg.max_shift >= size:
    raise ValueError(
      f"max_shift must be less than the images' {size} pixels, got "
      f"{cfg.max_shift:g}"
    )


def move(x: jax.Array, point: jax.Array, keys: Any = None) -> jax.Array:
  """Rotates images about their centre, then shifts them.

  Args:
    x: `[B, H, W, C]`.
    point: `[3]`: pixels down, pixels to the right, degrees counter-clockwise.
    keys: Not used; see `changes.Change`.

  Returns:
    `[B, H, W, C]`; bit for bit `x` at point 0.
  """
  del keys
  height, width = x.shape[1:3]
  centre = (height - 1) / 2, (width - 1) / 2
  down = jnp.arange(height, dtype=jnp.float32)[:, None] - centre[0] - point[0]
  right = jnp.arange(width, dtype=jnp.float32)[None, :] - centre[1] - point[1]
  angle = jnp.deg2rad(point[2])
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # Every output pixel reads where the inverse takes it, from four neighbours.
  rows = sin * right + cos * down + centre[0]
  columns = cos * right - sin * down + centre[1]
  top, left = jnp.floor(rows), jnp.floor(columns)
  found = jnp.zeros_like(x)
  for i, j in itertools.product((0, 1), (0, 1)):
    row, column = top + i, left + j
    weight = (1 - jnp.abs(rows - row)) * (1 - jnp.abs(columns - column))
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = (
      jnp.clip(row, 0, height - 1).astype(jnp.int32),
      jnp.clip(column, 0, width - 1).astype(jnp.int32),
    )
    weight = jnp.where(inside, weight, 0.0)
    found += weight[None, :, :, None] * x[:, at[0], at[1]]
  return found


def worst(hits: np.ndarray, cfg: SpatialConfig) -> dict[str, np.ndarray]:
  """Returns whether each image is right wherever a part of the grid moves it.

  Args:
    hits: bool `[N, P]` at the points of `cfg`.
    cfg: The grid.

  Returns:
    bool `[N]` by part: "natural", the image itself, and those of `PARTS`.
  """
  whole = hits.reshape(len(hits), *cfg.shape)
  middle = [slice(size // 2, size // 2 + 1) for size in cfg.shape]
  found = {}
  for name, moves in {"natural": (False,) * 3, **PARTS}.items():
    inside = [
      slice(None) if moved else at
      for moved, at in zip(moves, middle, strict=True)
    ]
    found[name] = whole[(slice(None), *inside)].all(axis=(1, 2, 3))
  return found


def by_angle(hits: np.ndarray, cfg: SpatialConfig) -> dict[str, np.ndarray]:
  """Returns accuracies `[A]` at each rotation: unshifted, and worst shift."""
  whole = hits.reshape(len(hits), *cfg.shape)
  middle = cfg.num_shifts // 2
  return {
    "unshifted": whole[:, middle, middle].mean(axis=0),
    "worst shift": whole.all(axis=(1, 2)).mean(axis=0),
  }
