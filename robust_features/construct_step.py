"""One batch of a construction, compiled: what `construct.py` drives.

Arrays, keys and frozen settings in, arrays out.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robust_features import attacks, models, objectives
from robust_features.attacks import geometry
from robust_features.data import augment
from robust_features.data import dataset as ds
from robust_features.runtime import sharding

# Streams of an example's key.
START, NOISE, _TARGET, _ATTACK, BASE, _PATTERN, _CLIMB, _SHOWN = range(8)


def streams(key: jax.Array, indices: jax.Array) -> list[jax.Array]:
  """Returns a key of each stream for the examples at `indices` `[B]`."""
  keys = attacks.example_keys(key, indices)
  return [jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(8)]


class Draw(NamedTuple):
  """What their indices alone decide about examples.

  Attributes:
    keys: By stream, `[B]`.
    classes: By rule of `objectives.class_of`, int32 `[B]`.
    rows: int32 `[B]`, of the images that the pool gives them.
  """

  keys: list[jax.Array]
  classes: dict[str, jax.Array]
  rows: jax.Array


@jax.jit
def draw(key, indices, y, num_classes, num_images) -> Draw:
  """Draws all that any set may want, so that one program serves all of them.

  Args:
    key: Folded with each index.
    indices: `[B]`, of the examples.
    y: `[B]`, their labels.
    num_classes: At least 2.
    num_images: Of the pool.
  """
  keys = streams(key, indices)
  rules = ("own", "next", "uniform", "other")
  return Draw(
    keys,
    {
      # A copy of the key each: a set takes one of them.
      rule: objectives.class_of(
        rule, y, jax.random.clone(keys[_TARGET]), num_classes
      )
      for rule in rules
    },
    objectives.drawn_rows(keys[START], num_images),
  )


class Batch(NamedTuple):
  """Examples to be made.

  Attributes:
    keys: By stream, `[B]`.
    y: `[B]`, the images' labels.
    target: `[B]`, their targets; idle where the source says them.
    said: `[B]`, what the model of `spare="predicted"` sees.
    images: `[B, H, W, C]`, what is modified.
    pool: The same, what "image" starts from, else None.
  """

  keys: list[jax.Array]
  y: Any
  target: Any
  said: Any
  images: Any
  pool: Any


@functools.partial(jax.jit, static_argnames=("model", "others", "cfg"))
def construct_batch(
  model, variables, repel, batch: Batch, key, attack, *, others, cfg
):
  """Makes the examples of a batch.

  Returns:
    Arrays of one row each.
  """
  drawn, y, given, said, images, pool = sharding.split_batch(batch)
  original = ds.to_float(images)
  x = objectives.base_images(cfg.base, original, drawn[BASE])

  def predict(z):
    return models.apply(model, variables, z).logits.argmax(1).astype(y.dtype)

  target = predict(x) if cfg.target == "source" else given
  label = target if cfg.label == "target" else y
  if cfg.label == "source":
    label = predict(x)
  x_init = objectives.starting_points(cfg.init, x, pool, drawn[NOISE])
  objective = _objective(
    cfg, model, variables, x, y, target,
    tuple(map(objectives.Ensemble, others, repel)),
  )  # fmt: skip
  if cfg.objective == "none":
    result = _noise(cfg, x, label, drawn[_PATTERN], key, attack)
  elif cfg.transform_copies:
    result = attacks.maximize(
      objectives.transformed_objective(
        objective, drawn[_CLIMB], cfg.transform_copies
      ),
      x, drawn[_ATTACK], attack, x_init=x_init, draws=True,
    )  # fmt: skip
  else:
    # The ball of a start of its own lies about that start. The whole box has
    # no centre.
    centre = x if math.isinf(cfg.attack.eps) else x_init
    result = attacks.maximize(
      objective, centre, drawn[_ATTACK], attack, x_init=x_init
    )
  spared = jnp.zeros(y.shape, bool)
  if cfg.spare == "label_is_own":
    spared = label == y
  elif cfg.spare == "predicted":
    spared = label == said
  stored = jnp.where(geometry.per_example(spared), original, result.x_adv)
  before = predict(stored)
  if cfg.pixels == "uint8":
    stored = jnp.round(stored * 255.0).astype(jnp.uint8)
  shown = ds.to_float(stored)
  after = predict(shown)
  moved = augment.augment(
    shown, drawn[_SHOWN], objectives.crop_and_flip(shown.shape[1:])
  )
  augmented = predict(moved)

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
