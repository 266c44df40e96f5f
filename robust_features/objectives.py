"""What a data set's construction climbs, aims at, starts from and labels with.

Pure functions of arrays and keys. An objective maps images `[B, H, W, C]` to
values `[B]`; a rule gives every example a class of its own.

Reference: arXiv:1905.02175, sections 3.1 and 3.2, appendices C.4 and C.5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robust_features import attacks, models
from robust_features.attacks import geometry, losses
from robust_features.data import augment
from robust_features.data import dataset as ds

Objective = Callable[[jax.Array], jax.Array]


class Ensemble(NamedTuple):
  """Models of one architecture, to be run one after another.

  Attributes:
    model: The architecture.
    variables: Of all of them, stacked along a leading axis.
  """

  model: models.Model
  variables: Any


def representation_objective(model, variables, x, fake_relu: bool) -> Objective:
  """Returns z -> -||g(z) - g(x)|| / ||g(x)||, `[B]`.

  Reference: arXiv:1905.02175, equation 6.
  """
  wanted = models.represent(model, variables, x)
  return distance_objective(model, variables, wanted, fake_relu)


def distance_objective(model, variables, wanted, fake_relu: bool) -> Objective:
  """Returns z -> -||g(z) - w|| / ||w||, `[B]`, for wanted w `[B, D]`."""
  scale = jnp.maximum(geometry.row_norm(wanted), 1e-12)

  def objective(z):
    found = models.represent(model, variables, z, fake_relu=fake_relu)
    return -geometry.row_norm(found - wanted) / scale

  return objective


def entry_objective(model, variables, entries, fake_relu: bool) -> Objective:
  """Returns z -> the entry `entries[b]` of its representation, `[B]`."""

  def objective(z):
    found = models.represent(model, variables, z, fake_relu=fake_relu)
    return jnp.take_along_axis(found, entries[:, None], axis=1)[:, 0]

  return objective


def target_objective(model, variables, target) -> Objective:
  """Returns z -> minus the cross-entropy of the target class, `[B]`.

  Reference: arXiv:1905.02175, equation 7.
  """

  def objective(z):
    logits = models.apply(model, variables, z).logits
    return -losses.cross_entropy(logits, target)

  return objective


def untargeted_objective(model, variables, y) -> Objective:
  """Returns z -> the cross-entropy of the label, `[B]`."""
  towards = target_objective(model, variables, y)
  return lambda z: -towards(z)


def repelled_objective(
  objective: Objective,
  ensembles: tuple[Ensemble, ...],
  classes: jax.Array,
  weight: float,
) -> Objective:
  """Returns an objective minus a mean cross-entropy over other models.

  A climb then leads where the source is fooled and those models still see
  `classes`: examples that are the source's alone.

  Args:
    objective: The source's.
    ensembles: The other models.
    classes: `[B]` what they are held at.
    weight: Of the mean, beside 1 for the source; a negative one drives them
      off `classes`.

  Reference: Nakkiran, "Adversarial examples are just bugs, too", Distill 2019.
  """
  count = sum(
    len(jax.tree.leaves(ensemble.variables)[0]) for ensemble in ensembles
  )

  def repelled(z):
    total = jnp.zeros(z.shape[0])
    for model, stacked in ensembles:

      def hold(variables, model=model):
        return target_objective(model, variables, classes)(z)

      # One after another: k models cost k times one, and compile once.
      total += jax.lax.map(hold, stacked).sum(axis=0)
    return objective(z) + weight / count * total

  return repelled


def crop_and_flip(shape: tuple[int, ...]) -> augment.AugmentConfig:
  """Returns CIFAR's crop, 4 pixels of 32, for images of a shape; and flips."""
  return augment.AugmentConfig(
    pad=max(1, shape[0] // 8), flip=True, jitter=0.0, rotate=0.0
  )


def transformed_objective(objective: Objective, keys: jax.Array, copies: int):
  """Returns (z, number of the call) -> mean over crops and flips of z, `[B]`.

  Args:
    objective: Of one transformed copy.
    keys: `[B]`; every call draws anew.
    copies: Draws to average over.
  """

  def transformed(z, call):
    drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, call)

    def one(copy):
      each = jax.vmap(jax.random.fold_in, (0, None))(drawn, copy)
      return objective(augment.augment(z, each, crop_and_flip(z.shape[1:])))

    return jax.lax.map(one, jnp.arange(copies)).mean(axis=0)

  return transformed


def class_of(
  rule: str, y: jax.Array, keys: jax.Array, num_classes: int
) -> jax.Array:
  """Returns the class `[B]` that a rule gives each example.

  Args:
    rule: "own" (y), "next" (y + 1 modulo the classes), "uniform" (over all
      classes) or "other" (uniform over those that are not y).
    y: `[B]` labels.
    keys: `[B]`, of the draw.
    num_classes: At least 2.
  """

  def draw(least):
    return jax.vmap(lambda key: jax.random.randint(key, (), least, num_classes))

  if rule == "uniform":
    return draw(0)(keys).astype(y.dtype)
  if rule == "other":
    return (y + draw(1)(keys).astype(y.dtype)) % num_classes
  return (y + 1) % num_classes if rule == "next" else y


def drawn_rows(keys: jax.Array, num_images: int) -> jax.Array:
  """Returns which of the pool's images each example is given, int32 `[B]`."""
  draw = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_images))
  return draw(keys)


def starting_points(init: str, x, drawn, noise_keys) -> jax.Array:
  """Returns where the climbs begin, `[B, H, W, C]`.

  Args:
    init: "image", "noise" or "self".
    x: The images `[B, H, W, C]`.
    drawn: For "image", the pool's image of each example; see `drawn_rows`.
    noise_keys: `[B]`, of the noise.
  """
  if init == "self":
    return x
  if init == "noise":
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(
      noise_keys
    )
    return jnp.clip(0.5 + noise / 20.0, 0.0, 1.0)
  return ds.to_float(drawn)


def base_images(base: str, x: jax.Array, keys: jax.Array) -> jax.Array:
  """Returns what is perturbed, `[B, H, W, C]`.

  Args:
    base: "image" (x itself), or noise in its place: "uniform" in [0, 1], or
      "gaussian" about 1/2 with deviation 1/4, clipped.
    x: The images `[B, H, W, C]`.
    keys: `[B]`, of the noise.
  """
  shape = x.shape[1:]
  if base == "uniform":
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
  if base == "gaussian":
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    return jnp.clip(0.5 + noise / 4.0, 0.0, 1.0)
  return x


def pattern(keys: jax.Array, shape: tuple[int, ...], norm: str, eps):
  """Returns noise of exactly the norm eps, `[B, *shape]`.

  Gaussian and scaled for "l2"; plus or minus eps in every entry for "linf".
  Equal keys give equal noise.
  """
  if norm == "linf":
    draw = jax.vmap(lambda key: jax.random.rademacher(key, shape, jnp.float32))
    return eps * draw(keys)
  noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
  return eps * geometry.unit_direction(noise, norm)


# Above every example's index, so that no class shares a key with an example.
_CLASSES = 2**32 - 1


def class_keys(key: jax.Array, classes: jax.Array) -> jax.Array:
  """Returns a key `[B]` for every example that its class alone decides."""
  root = jax.random.fold_in(key, jnp.uint32(_CLASSES))
  return attacks.example_keys(root, classes)
