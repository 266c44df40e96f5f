"""Images whose robust and non-robust features are known by construction.

Every image holds two class-coded features and a nuisance:

- **shape**: an elongated blob whose orientation and colour tell its class, at a
  jittered position. Two shapes of different classes are more than 2 eps apart
  in l2, so no perturbation of size eps can turn one into the other: a robust
  feature. It agrees with the label with probability 0.85 only: useful, but
  imperfect.
- **texture**: a class-specific zero-mean 4x4 tile repeated over the image, of
  l2 norm 0.35 in all: it predicts the label perfectly, and a perturbation of
  size eps = 0.5 removes it or puts another class's in its place.
- **nuisance**: background brightness and gradient, and pixel noise.

Shape and texture of every image are kept in `extras`, and `conflict` draws the
two independently, so that a model's decisions can be attributed to one or the
other. Tiles repeat exactly because a fixed random pattern without structure
survives a little in a robust representation, and inverting that
representation would then write it back, free of noise.

Augmentation: a flip mirrors the blob into another orientation and a crop
shifts the tile's phase; both destroy the truth, so this set is used without.
"""

import dataclasses

import numpy as np

from robust_features.data import dataset as dataset_lib


@dataclasses.dataclass(frozen=True)
class PlantedConfig:
  """Parameters of the planted set; lengths in pixels, intensities in [0, 1].

  Attributes:
    size: Height and width of an image, a multiple of `tile`.
    num_orientations: Orientations of the blob, equally spaced over 180 degrees;
      there are two colours, and so twice as many classes.
    peak: Intensity of the blob at its centre, above the background.
    length: Standard deviation of the blob along its axis.
    width: Standard deviation of the blob across its axis.
    jitter: The centre moves by up to this much, in both directions.
    consistency: Probability that the shape's class is the label.
    tile: Side of the texture's tile.
    texture_norm: The l2 norm of the texture over the whole image.
    texture_seed: Draws the tiles; apart from the data's seed, so that every
      seed of the data has the same classes.
    brightness: Range of the background's brightness at the image's centre.
    gradient: Largest change of the background from the centre to an edge.
    noise: Standard deviation of the pixel noise.
  """

  size: int = 16
  num_orientations: int = 5
  peak: float = 0.6
  length: float = 4.0
  width: float = 1.2
  jitter: float = 2.0
  consistency: float = 0.85
  tile: int = 4
  texture_norm: float = 0.35
  texture_seed: int = 0
  brightness: tuple[float, float] = (0.2, 0.35)
  gradient: float = 0.08
  noise: float = 0.05

  def __post_init__(self):
    if self.tile < 1 or self.size < 1 or self.size % self.tile:
      raise ValueError(
        f"size must be a positive multiple of tile={self.tile}, got"
        f" {self.size!r}"
      )
    if self.num_orientations < 1:
      raise ValueError(
        f"num_orientations must be positive, got {self.num_orientations!r}"
      )
    if self.num_classes > 3 * (self.tile**2 - 1):
      raise ValueError(
        f"tile={self.tile!r} has too few zero-mean patterns for"
        f" {self.num_classes} classes"
      )
    if not 0 <= self.consistency <= 1:
      raise ValueError(
        f"consistency must be in [0, 1], got {self.consistency!r}"
      )

  @property
  def num_classes(self) -> int:
    """Number of classes: every orientation in each of two colours."""
    return 2 * self.num_orientations


# Two colours of equal norm, far apart, that both leave room below 1.
_COLOURS = np.array([[1.0, 0.3, 0.0], [0.0, 0.3, 1.0]])
_COLOUR_NAMES = ("red", "blue")


def class_names(cfg: PlantedConfig) -> tuple[str, ...]:
  """Returns names such as "red-036": colour and orientation in degrees."""
  degrees = [round(180 * i / cfg.num_orientations) for i in _orientations(cfg)]
  colours = [_COLOUR_NAMES[i] for i in _colours(cfg)]
  return tuple(f"{c}-{d:03d}" for c, d in zip(colours, degrees, strict=True))


def _orientations(cfg: PlantedConfig) -> np.ndarray:
  return np.arange(cfg.num_classes) % cfg.num_orientations


def _colours(cfg: PlantedConfig) -> np.ndarray:
  return np.arange(cfg.num_classes) // cfg.num_orientations


def shapes(
  classes: np.ndarray, centres: np.ndarray, cfg: PlantedConfig
) -> np.ndarray:
  """Renders the blobs alone.

  Args:
    classes: Class of each shape, integers `[N]`.
    centres: Offset (down, right) from the image's centre in pixels, `[N, 2]`.
    cfg: Parameters of the set.

  Returns:
    float32 `[N, H, W, 3]`, zero where there is no blob.
  """
  grid = np.arange(cfg.size, dtype=np.float32) - (cfg.size - 1) / 2
  down = grid[None, :, None] - centres[:, 0, None, None]
  right = grid[None, None, :] - centres[:, 1, None, None]
  angle = np.pi * _orientations(cfg)[classes] / cfg.num_orientations
  cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
  along, across = right * cos + down * sin, down * cos - right * sin
  blob = np.exp(-0.5 * ((along / cfg.length) ** 2 + (across / cfg.width) ** 2))
  colours = cfg.peak * _COLOURS[_colours(cfg)[classes]]
  images = blob[..., None] * colours[:, None, None, :]
  return images.astype(np.float32)


def textures(cfg: PlantedConfig) -> np.ndarray:
  """Returns each class's texture, float32 `[K, H, W, 3]`.

  Every texture has mean zero in each channel and l2 norm `cfg.texture_norm`,
  and any two are orthogonal: no class is nearer to one than to another.
  """
  rng = np.random.default_rng(cfg.texture_seed)
  tiles = rng.standard_normal((cfg.num_classes, cfg.tile, cfg.tile, 3))
  tiles -= tiles.mean(axis=(1, 2), keepdims=True)
  # QR keeps the span, and so the zero means.
  basis, _ = np.linalg.qr(tiles.reshape(cfg.num_classes, -1).T)
  repeats = cfg.size // cfg.tile
  tiles = basis.T.reshape(tiles.shape) * (cfg.texture_norm / repeats)
  return np.tile(tiles, (1, repeats, repeats, 1)).astype(np.float32)


def generate(
  num_examples: int, seed: dataset_lib.Seed, cfg: PlantedConfig
) -> dataset_lib.Dataset:
  """Draws labelled images whose texture is the label's and shape mostly so.

  Args:
    num_examples: Number of images N.
    seed: The same seed gives the same images.
    cfg: Parameters of the set.

  Returns:
    A data set with float32 images and, in `extras`, the classes "shape" and
    "texture" of every image.
  """
  rng = np.random.default_rng(seed)
  labels = rng.integers(cfg.num_classes, size=num_examples)
  # Another class, uniformly: a non-zero shift modulo the number of classes.
  shifts = rng.integers(1, cfg.num_classes, size=num_examples)
  consistent = rng.random(num_examples) < cfg.consistency
  shape = np.where(consistent, labels, (labels + shifts) % cfg.num_classes)
  return _render(labels, shape, labels, rng, cfg)


def conflict(
  num_examples: int,
  seed: dataset_lib.Seed,
  cfg: PlantedConfig | None = None,
) -> dataset_lib.Dataset:
  """Draws images whose shape and texture are independent of each other.

  On these, the fraction of predictions equal to the "shape" (or "texture")
  class in `extras` measures how much of a model's decision is shape (or
  texture); chance is one over the number of classes. The label is the shape.

  Args:
    num_examples: Number of images N.
    seed: The same seed gives the same images.
    cfg: Parameters of the set; None for the defaults.
  """
  cfg = cfg or PlantedConfig()
  rng = np.random.default_rng(seed)
  shape = rng.integers(cfg.num_classes, size=num_examples)
  texture = rng.integers(cfg.num_classes, size=num_examples)
  return _render(shape, shape, texture, rng, cfg)


def _render(
  labels: np.ndarray,
  shape: np.ndarray,
  texture: np.ndarray,
  rng: np.random.Generator,
  cfg: PlantedConfig,
) -> dataset_lib.Dataset:
  """Adds up background, shape, texture and noise, clipped to [0, 1]."""
  num = len(labels)
  centres = rng.uniform(-cfg.jitter, cfg.jitter, size=(num, 2))
  images = shapes(shape, centres, cfg)
  images += textures(cfg)[texture]
  images += _background(num, rng, cfg)[..., None]
  noise = rng.standard_normal(images.shape, dtype=np.float32)
  images += np.float32(cfg.noise) * noise
  return dataset_lib.Dataset(
    images=np.clip(images, 0.0, 1.0),
    labels=labels.astype(np.int32),
    num_classes=cfg.num_classes,
    class_names=class_names(cfg),
    extras={
      "shape": shape.astype(np.int32),
      "texture": texture.astype(np.int32),
    },
  )


def _background(
  num: int, rng: np.random.Generator, cfg: PlantedConfig
) -> np.ndarray:
  """Returns grey planes of random height and slope, float32 `[N, H, W]`."""
  level = rng.uniform(*cfg.brightness, size=num).astype(np.float32)
  slope = rng.uniform(-cfg.gradient, cfg.gradient, size=(num, 2))
  down, right = slope.astype(np.float32).T[:, :, None, None]
  ramp = np.linspace(-1, 1, cfg.size, dtype=np.float32)
  plane = down * ramp[None, :, None] + right * ramp[None, None, :]
  return level[:, None, None] + plane


def cue_shares(
  predicted: np.ndarray, conflict: dataset_lib.Dataset
) -> dict[str, float]:
  """Returns how often predictions follow the shape and how often the texture.

  Args:
    predicted: `[N]` classes that a model sees in the images of `conflict`.
    conflict: Images whose `extras["shape"]` and `extras["texture"]` classes
      were drawn independently; chance is 1 / classes for either.
  """
  return {
    cue: float((predicted == conflict.extras[cue]).mean())
    for cue in ("shape", "texture")
  }
