"""Makes data sets with a model's gradient: the paper's four, and their kin.

A set is told by what is climbed, what is aimed at and what the label becomes:

  robust, nonrobust  minus the relative distance ||g(x_r) - g(x)|| / ||g(x)||
                     of representations, climbed in the whole box from another
                     training image or from noise; the label stays y. The kinds
                     differ by their source model alone: robust or standard.
  rand, det          minus the cross-entropy of a target t, climbed inside a
                     small ball about x; the label becomes t, uniform over all
                     classes or (y + 1) mod C.

The literature varies these apart from each other: det's images with the label
left alone are a poison, a target that is never y leaks no image, noise fixed
for each class and a few images left as they are teach as well as rand does.

A data set is a directory of shards with a manifest; see `robust_features.data.
constructed` for its format. Shards are written one by one, so an interrupted
construction goes on where it stopped and ends in the same bytes.

Reference: arXiv:1905.02175, sections 3.1 and 3.2, appendices C.4 and C.5.
"""

import dataclasses
import functools
import itertools
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, evaluate, models, objectives, ridge
from robust_features.construct_config import ConstructConfig, preset
from robust_features.construct_step import (
  BASE,
  NOISE,
  Batch,
  Draw,
  construct_batch,
  draw,
  streams,
)
from robust_features.data import constructed, streaming
from robust_features.data import dataset as ds
from robust_features.runtime import batching, paths, sharding
from robust_features.runtime.logs import Stopwatch, grid, progress

__all__ = ["ConstructConfig", "construct", "preset"]

Model = tuple[models.Model, Any]


def construct(
  cfg: ConstructConfig,
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  pool: ds.Dataset,
  directory: str | pathlib.Path,
  key: jax.Array,
  origin: dict[str, Any],
  name: str = "construct",
  *,
  repel: tuple[Model, ...] = (),
  spared_by: Model | None = None,
  teacher: Model | None = None,
) -> dict[str, Any]:
  """Makes a data set, going on after the last shard that is complete.

  Args:
    cfg: What is made, and its optimisation.
    model: The source model's architecture.
    variables: Its variables.
    dataset: The images that are modified.
    pool: Training images that "image" starts from.
    directory: Where shards, manifest, card and grid go.
    key: Of targets, starts and noise, folded with each example's index.
    origin: Recorded in the manifest: config, source checkpoint, commit. A
      source's name under "originals" tells the card the images' licence.
    name: For the progress bar.
    repel: (architecture, variables) of models that are to stay unfooled.
    spared_by: The model of `spare="predicted"`.
    teacher: The model of `target="teacher"`.

  Returns:
    The manifest.

  Raises:
    ValueError: If images or labels are none, a model is missing or idle or has
      too few logits, the radius exceeds the box, or a shard on disk is damaged.
    preemption.Stopped: If the process was asked to stop.
  """
  check_models(cfg, bool(repel), spared_by is not None, teacher is not None)
  given = (model, variables), *repel, spared_by, teacher
  for network in filter(None, given):
    evaluate.check_fit(*network, dataset)
  for field, network in (("source", (model, variables)), ("teacher", teacher)):
    if network and field in (cfg.target, cfg.label):
      _check_says_classes(field, network, dataset)
  ds.check(pool, where="pool")
  if not math.isinf(cfg.attack.eps):
    attacks.check_radius(
      "attack.eps", cfg.attack.eps, cfg.attack.norm, dataset.image_shape
    )
  directory = paths.folder(directory, "directory")
  writer = constructed.Writer(directory, origin)
  size = dataset.num_examples * cfg.examples_per_image
  bounds = range(0, size, cfg.shard_size)
  others, stacked = _stack(repel)
  said = {
    "spare": _predictions(spared_by, dataset, cfg.batch_size),
    "teacher": _predictions(teacher, dataset, cfg.batch_size),
  }
  batch_size = batching.even_batch(cfg.batch_size, size)
  make = functools.partial(
    construct_batch, model, variables, sharding.replicate(stacked), key=key,
    attack=cfg.attack, others=others, cfg=_meaning(cfg),
  )  # fmt: skip
  feed = _feed(cfg, dataset, pool, key, said)
  with progress(size, name, unit="image") as bar:
    for number, start in enumerate(bounds):
      indices = np.arange(start, min(start + cfg.shard_size, size))
      if not writer.has(number):
        watch = Stopwatch()
        arrays, stats = _shard(make, indices, batch_size, bar, feed)
        writer.write(number, arrays, stats | {"seconds": watch.seconds()})
      else:
        bar.update(len(indices))
  manifest = writer.finish(
    kind=cfg.kind,
    num_shards=len(bounds),
    class_names=dataset.class_names,
    pixels=cfg.pixels,
    separability=_separability(cfg, dataset, key, writer, size),
  )
  constructed.write_card(directory, manifest)
  first, _ = writer.head(min(10, size))
  constructed.write_grid(directory, grid([dataset.images[:10], first]))
  return manifest


def starts(
  cfg: ConstructConfig,
  dataset: ds.Dataset,
  pool: ds.Dataset,
  key: jax.Array,
  indices: np.ndarray,
) -> np.ndarray:
  """Returns where the climbs to the examples at `indices` began, in [0, 1].

  Args:
    cfg: As `construct` was given it.
    dataset: The same.
    pool: The same.
    key: The same.
    indices: `[B]`, of the constructed set.

  Returns:
    `[B, H, W, C]` float32.
  """
  size = dataset.num_examples
  batch_size = batching.even_batch(
    cfg.batch_size, size * cfg.examples_per_image
  )
  found = []
  # In the batches of the construction, whose program is there.
  for part, count in batching.batches(indices, batch_size):
    drawn = _draw(dataset, pool, key, part)
    original = ds.to_float(dataset.images[part % size])
    x = objectives.base_images(cfg.base, original, drawn.keys[BASE])
    others = pool.images[np.asarray(drawn.rows)] if cfg.init == "image" else x
    start = objectives.starting_points(cfg.init, x, others, drawn.keys[NOISE])
    found.append(np.asarray(start)[:count])
  return np.concatenate(found)


def check_models(
  cfg: ConstructConfig, repel: bool, spared_by: bool, teacher: bool
) -> None:
  """Raises ValueError where a model is wanted and not given, or given idly."""
  for field, given, wanted, where in (
    ("spared_by", spared_by, cfg.spare == "predicted", "spare 'predicted'"),
    ("teacher", teacher, cfg.target == "teacher", "target 'teacher'"),
  ):
    if given != wanted:
      verb = "must name a model for" if wanted else "is for"
      raise ValueError(f"{field} {verb} {where} {'' if wanted else 'alone'}")
  if repel and cfg.objective not in ("target", "untargeted"):
    raise ValueError(
      "repel is for the objectives 'target' and 'untargeted', got "
      f"{cfg.objective!r}"
    )


def _check_says_classes(field: str, network: Model, dataset: ds.Dataset):
  """Raises ValueError where a model may predict what is no class."""
  found = models.num_logits(*network, dataset.image_shape)
  if found > dataset.num_classes:
    raise ValueError(
      f"the {field} gives {found} logits, but the images have "
      f"{dataset.num_classes} classes: what it predicts may be none of them; "
      "use a model of these classes"
    )


def _meaning(cfg: ConstructConfig) -> ConstructConfig:
  """Returns a config without what needs no program of its own."""
  attack = dataclasses.replace(
    cfg.attack, step_size=1.0, num_steps=min(cfg.attack.num_steps, 1)
  )
  target = cfg.target if cfg.target in ("source", "none") else "next"
  return dataclasses.replace(
    cfg, kind="any", attack=attack, target=target, examples_per_image=1,
    batch_size=1, shard_size=1,
  )  # fmt: skip


def _stack(repel: tuple[Model, ...]):
  """Returns (architectures, their models' variables stacked), in order."""
  groups: dict[models.Model, list[Any]] = {}
  for model, variables in repel:
    groups.setdefault(model, []).append(sharding.fetch(variables))
  stacked = [
    jax.tree.map(lambda *leaves: np.stack(leaves), *group)
    for group in groups.values()
  ]
  return tuple(groups), tuple(stacked)


def _predictions(model: Model | None, dataset: ds.Dataset, batch_size: int):
  """Returns what a model sees in every image, int32 `[N]`; zeros for none."""
  if model is None:
    return np.zeros(dataset.num_examples, np.int32)
  logits = evaluate.predict(*model, dataset.images, batch_size)
  return logits.argmax(1).astype(np.int32)


def _draw(dataset: ds.Dataset, pool: ds.Dataset, key, part: np.ndarray) -> Draw:
  """Returns what is drawn for the examples at `part` `[B]`."""
  y = dataset.labels[part % dataset.num_examples]
  return draw(key, part, y, dataset.num_classes, pool.num_examples)


def _feed(cfg: ConstructConfig, dataset: ds.Dataset, pool: ds.Dataset, key,
          said: dict[str, np.ndarray]):  # fmt: skip
  """Returns what brings each batch what it is made of."""
  images, others = map(streaming.Feed, (dataset.images, pool.images))

  def feed(parts):
    drawn = [_draw(dataset, pool, key, part) for part in parts]
    rows = [part % dataset.num_examples for part in parts]
    starts = itertools.repeat((None,), len(parts))
    if cfg.init == "image":
      starts = others([np.asarray(one.rows) for one in drawn])
    for one, at, (x,), (start,) in zip(
      drawn, rows, images(rows), starts, strict=True
    ):
      y = dataset.labels[at]
      classes = one.classes | {"teacher": said["teacher"][at]}
      target = classes.get(cfg.target, y)
      yield (Batch(one.keys, y, target, said["spare"][at], x, start),)

  return feed


def _shard(make, indices: np.ndarray, batch_size: int, bar, feed):
  """Makes one shard's batches; returns (arrays, sums of statistics)."""
  whole = batching.map_batches(
    lambda _, batch: make(batch), indices, batch_size, feed=feed, bar=bar
  )
  stats = {
    k: float(np.asarray(v, np.float64).sum())
    for k, v in whole.pop("stats").items()
  }
  return whole, stats


def _separability(cfg, dataset: ds.Dataset, key, writer, num_examples: int):
  """Returns how well a linear classifier tells labels by perturbations."""
  size = ridge.num_separated(num_examples, math.prod(dataset.image_shape))
  images, labels = writer.head(size)
  indices = np.arange(size)
  x = np.asarray(ds.to_float(dataset.images[indices % dataset.num_examples]))
  if cfg.base != "image":
    keys = streams(key, jnp.asarray(indices))[BASE]
    x = np.asarray(objectives.base_images(cfg.base, jnp.asarray(x), keys))
  delta = (np.asarray(ds.to_float(images)) - x).reshape(size, -1)
  return ridge.separability(delta, labels, dataset.num_classes)
