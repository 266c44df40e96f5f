"""Pictures of what models' representations hold, the same for each of them.

Inversion from noise and from an image of another class, interpolation between
two classes, and the entry of the representation that tells most about a class
as high as it goes. The images, starts and noise are the same for every model,
so that differences are paired.

Reference: arXiv:1906.00945 (Engstrom et al.), sections 4 and 5;
arXiv:1905.02175, section 3.1.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from robust_features import attacks, evaluate, objectives, pictures
from robust_features.data import dataset as ds
from robust_features.runtime import files, sharding
from robust_features.study import folder, settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.report import picture_figures, picture_tables


@dataclasses.dataclass(frozen=True)
class PicturesConfig:
  """What is drawn of every model.

  Attributes:
    num_classes: Classes that are shown, the first ones that have images.
    images_per_class: Images that are inverted; the first of each is shown.
    num_points: Points of an interpolation, both ends included.
    inversion: The climb of inversion and interpolation.
    features: The climb of an entry of the representation.
    batch_size: Images at a time in the pass over the whole set.
  """

  num_classes: int
  images_per_class: int
  num_points: int
  inversion: pictures.ClimbConfig
  features: pictures.ClimbConfig
  batch_size: int

  def __post_init__(self):
    for name, least in (
      ("num_classes", 2), ("images_per_class", 1), ("num_points", 2),
      ("batch_size", 1),
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)!r}"
        )


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a pictures stage.

  Attributes:
    models: Stages whose models are looked into; those after the first are its
      controls.
    which: "last", or "best" on the held-out split.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    pictures: What is drawn.
  """

  models: tuple[settings.ModelName, ...]
  which: settings.Which
  data: settings.DataName
  split: settings.Split
  pictures: PicturesConfig

  def __post_init__(self):
    if not self.models or len(set(self.models)) < len(self.models):
      raise ValueError(
        f"models must name at least one stage, each once, got {self.models!r}"
      )


def _preflight(study: Study, name: str, stage: Stage) -> None:
  """Raises ValueError if a source has too few images of its classes."""
  if stage.data in study.plan.data:
    try:
      _chosen(study.dataset(stage.data, stage.split), stage.pictures)
    except ValueError as error:
      raise ValueError(f"stages.{name}.{error}") from None


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  start = time.monotonic()
  cfg = stage.pictures
  data = study.dataset(stage.data, stage.split)
  chosen = _chosen(data, cfg)
  x = ds.to_float(data.images[chosen])  # [K, P, H, W, C].
  keys = attacks.example_keys(study.key(name), jnp.asarray(chosen.reshape(-1)))
  noise = objectives.starting_points(
    "noise", x.reshape(-1, *data.image_shape), None, keys
  )
  # Another image: that of the class after, in the order shown.
  starts = {"noise": noise.reshape(x.shape), "image": jnp.roll(x, -1, axis=0)}
  drawn = {"original": x[:, 0]}
  drawn |= {f"start-{key}": value[:, 0] for key, value in starts.items()}
  found = {}
  for each in stage.models:
    opened = study.model(each, stage.which)
    inversion, inverted = _inversions(*opened, x, starts, cfg)
    features, climbed = _features(*opened, data, chosen, starts, cfg)
    found[each] = {"inversion": inversion, "features": features}
    shown = inverted | _interpolations(*opened, x[:, 0], cfg) | climbed
    drawn |= {f"{each}-{key}": value for key, value in shown.items()}
  pixels = {key: picture_figures.as_pixels(v) for key, v in drawn.items()}
  files.write_npz(directory / "pictures.npz", {}, pixels)
  return {
    "models": found,
    "classes": [data.class_names[i] for i in data.labels[chosen[:, 0]]],
    "images_per_class": cfg.images_per_class,
    "inversion": _settings(cfg.inversion),
    "features": _settings(cfg.features),
    "split": stage.split,
    "seconds": time.monotonic() - start,
  }


def _settings(cfg: pictures.ClimbConfig) -> dict[str, Any]:
  return dataclasses.asdict(cfg) | {"frame_steps": list(cfg.frame_steps)}


def _chosen(data: ds.Dataset, cfg: PicturesConfig) -> np.ndarray:
  """Returns indices `[K, P]`: the first images of each of the classes shown.

  Raises:
    ValueError: If fewer than two classes have so many images.
  """
  by_class = [np.flatnonzero(data.labels == i) for i in range(data.num_classes)]
  number = cfg.images_per_class
  found = [of[:number] for of in by_class if len(of) >= number]
  if len(found) < 2:
    raise ValueError(
      f"pictures.images_per_class is {number}, but fewer than two classes have "
      "so many images; lower it"
    )
  return np.stack(found[: cfg.num_classes])


def _inversions(model, variables, x, starts, cfg: PicturesConfig):
  """Returns (distances, frames) of every start."""
  numbers: dict[str, Any] = {}
  drawn: dict[str, Any] = {}
  flat = x.reshape(-1, *x.shape[2:])
  for name, start in starts.items():
    went = pictures.invert(
      model, variables, flat, start.reshape(flat.shape), cfg.inversion
    )
    frames, values = sharding.fetch(went)
    away = (frames - np.asarray(flat)).reshape(*values.shape, -1)
    pixels = np.linalg.norm(away, axis=-1)
    numbers[name] = {
      "relative_distance": picture_tables.mean_and_error(-values),
      "pixels_l2": picture_tables.mean_and_error(pixels),
      "pixels_l2_end": pixels[-1].tolist(),
    }
    drawn[f"frames-{name}"] = frames.reshape(-1, *x.shape)[:, :, 0]
  return numbers, drawn


def _interpolations(model, variables, x, cfg: PicturesConfig):
  """Returns the lines between images, and what lies between representations."""
  begin, end = picture_figures.pairs(len(x))
  went = pictures.interpolate(
    model, variables, x[begin], x[end], cfg.num_points, cfg.inversion
  )
  frames = sharding.fetch(went.frames)
  shape = (len(frames), cfg.num_points, len(begin), *x.shape[1:])
  first, *_, last = frames.reshape(shape)
  return {"pixels": first, "interpolation": last}


def _features(model, variables, data, chosen, starts, cfg: PicturesConfig):
  """Returns (numbers, pictures) of one entry a class."""
  classes = data.labels[chosen[:, 0]]
  values = evaluate.represent(model, variables, data.images, cfg.batch_size)
  entries = pictures.telling_entries(values, data.labels, classes)
  mean, spread = values.mean(axis=0)[entries], values.std(axis=0)[entries]
  spread = np.where(spread > 0, spread, 1.0)
  numbers: dict[str, Any] = {"entries": entries.tolist()}
  drawn = {"highest": data.images[values[:, entries].argmax(axis=0)]}
  for name, start in starts.items():
    went = pictures.maximize_features(
      model, variables, jnp.asarray(entries), start[:, 0], cfg.features
    )
    frames, reached = sharding.fetch(went)
    logits = evaluate.predict(model, variables, frames[-1], cfg.batch_size)
    numbers[name] = {
      "deviations": picture_tables.mean_and_error(
        (reached[[0, -1]] - mean) / spread
      ),
      "seen_as_its_class": float((logits.argmax(axis=1) == classes).mean()),
    }
    drawn[f"feature-{name}"] = frames[-1]
  return numbers, drawn


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  drawn = []
  for name, result in found.items():
    made = workdir / name
    arrays = folder.read_npz(made / "pictures.npz", folder.remedy(made))
    drawn += picture_figures.draw(name, result, arrays, workdir / "figures")
  return drawn


def _shrink(stage: Any) -> None:
  cfg = stage.pictures
  cfg.num_classes, cfg.images_per_class, cfg.num_points = 3, 1, 3
  for climb in (cfg.inversion, cfg.features):
    climb.num_steps, climb.frame_every_steps = 2, 1


def _work(stage: Stage, num_images) -> Work:
  cfg, number = stage.pictures, len(stage.models)
  lines = -(-cfg.num_classes // 2) * cfg.num_points
  starts = len(picture_figures.STARTS) * cfg.num_classes
  # (climbs, their settings); every frame is measured once.
  climbs = (
    (starts * cfg.images_per_class + lines, cfg.inversion),
    (starts, cfg.features),
  )
  gradients = sum(many * climb.num_steps for many, climb in climbs)
  frames = sum(many * len(climb.frame_steps) for many, climb in climbs)
  images = number * num_images(stage.data, stage.split)
  passes = images + number * (2.0 * gradients + frames)
  return Work(images, number * gradients, passes)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="pictures",
  claim=(
    "What a robust model's representation holds looks like the image; a "
    "standard model's can be matched by an image that looks like another."
  ),
  caption=(
    "Images found by gradient steps: a column or row of originals or starts, "
    "and beside them where each model's representation leads."
  ),
  preflight=_preflight,
  report=picture_tables.sections,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
