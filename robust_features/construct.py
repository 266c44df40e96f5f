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
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, evaluate, models, objectives, ridge
from robust_features.attacks import geometry
from robust_features.construct_config import ConstructConfig, preset
from robust_features.data import augment, constructed
from robust_features.data import dataset as ds
from robust_features.runtime import batching, sharding
from robust_features.runtime.logs import Stopwatch, grid, progress

__all__ = ["ConstructConfig", "construct", "preset"]

Model = tuple[models.Model, Any]
# Streams of an example's key.
_START, _NOISE, _TARGET, _ATTACK, _BASE, _PATTERN, _CLIMB, _SHOWN = range(8)


def _streams(key: jax.Array, indices: jax.Array) -> list[jax.Array]:
  keys = attacks.example_keys(key, indices)
  return [jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(8)]


@functools.partial(
  jax.jit, static_argnames=("model", "others", "cfg", "num_classes")
)
def _construct_batch(
  model, variables, images, labels, pool, said, repel, indices, key, attack, *,
  others, cfg, num_classes,
):  # fmt: skip
  """Makes the examples at `indices` `[B]`; returns arrays of one row each."""
  indices = sharding.split_batch(indices)
  rows = indices % images.shape[0]
  streams = _streams(key, indices)
  original, y = ds.to_float(images[rows]), labels[rows]
  x = objectives.base_images(cfg.base, original, streams[_BASE])

  def class_of(rule):
    if rule == "source":
      return models.apply(model, variables, x).logits.argmax(1).astype(y.dtype)
    if rule == "teacher":
      return said["teacher"][rows]
    return objectives.class_of(rule, y, streams[_TARGET], num_classes)

  target = class_of(cfg.target) if cfg.uses_target() else y
  label = target if cfg.label == "target" else class_of(cfg.label)
  x_init = objectives.starting_points(
    cfg.init, x, pool, streams[_START], streams[_NOISE]
  )
  objective = _objective(
    cfg, model, variables, x, y, target,
    tuple(map(objectives.Ensemble, others, repel)),
  )  # fmt: skip
  if cfg.objective == "none":
    result = _noise(cfg, x, label, streams[_PATTERN], key, attack)
  elif cfg.transform_copies:
    result = attacks.maximize(
      objectives.transformed_objective(
        objective, streams[_CLIMB], cfg.transform_copies
      ),
      x, streams[_ATTACK], attack, x_init=x_init, draws=True,
    )  # fmt: skip
  else:
    # The ball of a start of its own lies about that start. The whole box has
    # no centre.
    centre = x if math.isinf(cfg.attack.eps) else x_init
    result = attacks.maximize(
      objective, centre, streams[_ATTACK], attack, x_init=x_init
    )
  spared = jnp.zeros(y.shape, bool)
  if cfg.spare == "label_is_own":
    spared = label == y
  elif cfg.spare == "predicted":
    spared = label == said["spare"][rows]
  stored = jnp.where(geometry.per_example(spared), original, result.x_adv)
  before = models.apply(model, variables, stored).logits.argmax(1)
  if cfg.pixels == "uint8":
    stored = jnp.round(stored * 255.0).astype(jnp.uint8)
  shown = ds.to_float(stored)
  after = models.apply(model, variables, shown).logits.argmax(1)
  moved = augment.augment(
    shown, streams[_SHOWN], objectives.crop_and_flip(shown.shape[1:])
  )
  augmented = models.apply(model, variables, moved).logits.argmax(1)

  def success(predicted):
    if cfg.objective == "untargeted":
      return predicted != y
    return predicted == (target if cfg.objective == "target" else label)

  return {
    "images": stored,
    "labels": label,
    "original_labels": y,
    "stats": {
      "moved_from_original": geometry.row_norm(shown - x),
      "moved_from_start": geometry.row_norm(shown - x_init),
      "objective_start": objective(x_init),
      "objective_end": result.value,
      "objective_stored": objective(shown),
      "success_before_rounding": success(before),
      "success": success(after),
      "success_augmented": success(augmented),
      "spared": spared,
      "met_zero_gradient": result.zero_gradients > 0,
    },
  }


def _objective(cfg, model, variables, x, y, target, ensembles):
  """Returns z -> `[B]`, what is climbed for images x of labels y."""
  if cfg.objective == "none":
    return lambda z: jnp.zeros(z.shape[0])
  if cfg.objective == "representation":
    return objectives.representation_objective(
      model, variables, x, cfg.fake_relu
    )
  if cfg.objective == "untargeted":
    objective = objectives.untargeted_objective(model, variables, y)
  else:
    objective = objectives.target_objective(model, variables, target)
  if not ensembles:
    return objective
  classes, weight = y, cfg.repel_weight
  if cfg.repel_label == "target":
    classes, weight = target, -weight
  return objectives.repelled_objective(objective, ensembles, classes, weight)


def _noise(cfg, x, label, keys, key, attack) -> attacks.AttackResult:
  """Returns the images under their fixed noise: nothing is climbed."""
  if cfg.fixed_noise == "class_of_label":
    keys = objectives.class_keys(key, label)
  z = x
  if cfg.fixed_noise != "none":
    noise = objectives.pattern(keys, x.shape[1:], attack.norm, attack.eps)
    z = jnp.clip(x + noise, 0.0, 1.0)
  none = jnp.zeros(x.shape[0], jnp.int32)
  return attacks.AttackResult(z, none.astype(jnp.float32), none, none)


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
  ds.check(pool, where="pool")
  if not math.isinf(cfg.attack.eps):
    attacks.check_radius(
      "attack.eps", cfg.attack.eps, cfg.attack.norm, dataset.image_shape
    )
  writer = constructed.Writer(directory, origin)
  size = dataset.num_examples * cfg.examples_per_image
  bounds = range(0, size, cfg.shard_size)
  others, stacked = _stack(repel)
  said = {
    "spare": _predictions(spared_by, dataset, cfg.batch_size),
    "teacher": _predictions(teacher, dataset, cfg.batch_size),
  }
  images, labels, said, stacked = sharding.replicate(
    (dataset.images, dataset.labels, said, stacked)
  )
  starts_from = (  # Most often the same set: once is enough.
    images if pool.images is dataset.images else sharding.replicate(pool.images)
  )
  batch_size = batching.even_batch(cfg.batch_size, size)
  run = functools.partial(
    _construct_batch, model, variables, images, labels, starts_from, said,
    stacked, key=key, attack=cfg.attack, others=others, cfg=_meaning(cfg),
    num_classes=dataset.num_classes,
  )  # fmt: skip
  with progress(size, name, unit="image") as bar:
    for number, start in enumerate(bounds):
      indices = np.arange(start, min(start + cfg.shard_size, size))
      if not writer.has(number):
        watch = Stopwatch()
        arrays, stats = _shard(run, indices, batch_size, bar)
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
  made, _ = writer.head(min(10, size))
  constructed.write_grid(directory, grid([dataset.images[:10], made]))
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
  streams = _streams(key, jnp.asarray(indices))
  original = ds.to_float(dataset.images[indices % dataset.num_examples])
  x = objectives.base_images(cfg.base, original, streams[_BASE])
  return np.asarray(
    objectives.starting_points(
      cfg.init, x, pool.images, streams[_START], streams[_NOISE]
    )
  )


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


def _meaning(cfg: ConstructConfig) -> ConstructConfig:
  """Returns a config without what needs no program of its own."""
  attack = dataclasses.replace(cfg.attack, step_size=0.0, num_steps=0)
  return dataclasses.replace(
    cfg, kind="any", attack=attack, batch_size=1, shard_size=1
  )


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


def _shard(run, indices: np.ndarray, batch_size: int, bar):
  """Runs one shard's batches; returns (arrays, sums of statistics)."""
  whole = batching.map_batches(
    lambda part: run(indices=part), indices, batch_size, bar=bar
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
    keys = _streams(key, jnp.asarray(indices))[_BASE]
    x = np.asarray(objectives.base_images(cfg.base, jnp.asarray(x), keys))
  delta = (np.asarray(ds.to_float(images)) - x).reshape(size, -1)
  return ridge.separability(delta, labels, dataset.num_classes)
