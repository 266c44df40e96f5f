"""One batch of a construction, compiled: what `construct.py` drives.

Arrays, keys and frozen settings in, arrays out.
"""

import functools
import math

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


@functools.partial(
  jax.jit, static_argnames=("model", "others", "cfg", "num_classes")
)
def construct_batch(
  model, variables, labels, said, repel, indices, images, pool, key, attack, *,
  others, cfg, num_classes,
):  # fmt: skip
  """Makes the examples at `indices` `[B]` of the images that belong to them.

  Args:
    images: `streaming.Rows` of what is modified.
    pool: The same of what "image" starts from, else None.

  Returns:
    Arrays of one row each.
  """
  indices = sharding.split_batch(indices)
  rows = indices % labels.shape[0]
  drawn = streams(key, indices)
  original, y = ds.to_float(images.take()), labels[rows]
  x = objectives.base_images(cfg.base, original, drawn[BASE])

  def class_of(rule):
    if rule == "source":
      return models.apply(model, variables, x).logits.argmax(1).astype(y.dtype)
    if rule == "teacher":
      return said["teacher"][rows]
    return objectives.class_of(rule, y, drawn[_TARGET], num_classes)

  target = class_of(cfg.target) if cfg.uses_target() else y
  label = target if cfg.label == "target" else class_of(cfg.label)
  x_init = objectives.starting_points(
    cfg.init, x, pool.take() if pool else None, drawn[NOISE]
  )
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
    spared = label == said["spare"][rows]
  stored = jnp.where(geometry.per_example(spared), original, result.x_adv)
  before = models.apply(model, variables, stored).logits.argmax(1)
  if cfg.pixels == "uint8":
    stored = jnp.round(stored * 255.0).astype(jnp.uint8)
  shown = ds.to_float(stored)
  after = models.apply(model, variables, shown).logits.argmax(1)
  moved = augment.augment(
    shown, drawn[_SHOWN], objectives.crop_and_flip(shown.shape[1:])
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
