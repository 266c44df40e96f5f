"""Usefulness rho and robust usefulness gamma of real features (section 2).

Two kinds of features: every coordinate of a trained model's representation,
attacked one by one, and the singular vectors of the data, linear features for
which the adversary is exact. Each is given to the class that it tells most
about, with the sign that makes it useful, so that rho >= 0.

Reference: arXiv:1905.02175, section 2; Goh, "Two Examples of Useful,
Non-Robust Features", Distill 2019, doi:10.23915/distill.00019.3.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks
from robust_features.data import dataset as ds
from robust_features.runtime import batching, sharding
from robust_features.runtime.measured import Measured
from robust_features.theory import usefulness as us


class FeatureTable(NamedTuple):
  """The features of a model or a data set.

  Attributes:
    rho: Usefulness `[F]` with standard errors.
    gamma: Robust usefulness `[F]` with standard errors.
    label: `[F]` int32, the class against the rest; 1 if there are two.
    kind: `[F]` int32, a `FeatureKind`.
  """

  rho: us.Estimate
  gamma: us.Estimate
  label: np.ndarray
  kind: np.ndarray


def linear_usefulness(
  images: np.ndarray,
  labels: np.ndarray,
  eps: float,
  norm: str = "l2",
  *,
  z: float = 2.0,
) -> FeatureTable:
  """Returns the (rho, gamma) of the data's singular vectors, strongest first.

  The right singular vectors of the centred data, as linear features
  a'x / ||a||_Sigma; gamma is exact. The box [0, 1] does not bind the adversary.

  Args:
    images: `[N, H, W, C]`, uint8 or float in [0, 1].
    labels: `[N]` int in [0, K).
    eps: Radius in pixel units of [0, 1].
    norm: "l2" or "linf".
    z: Standard errors that a claim of usefulness or robustness needs.

  Raises:
    ValueError: If images or labels are none, there are fewer than two classes,
      the norm is unknown or the radius exceeds the box.
  """
  _check(images, labels)
  attacks.check_radius("eps", eps, norm, images.shape[1:])
  x = np.asarray(ds.to_float(images)).reshape(len(images), -1)
  _, singular, rows = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
  rows = rows[singular > singular[0] * 1e-5]
  raw = us.LinearFeatures(jnp.asarray(rows.T), jnp.zeros(len(rows)))
  features = us.normalise(raw, jnp.asarray(x))
  label, y = _assign(np.asarray(features(jnp.asarray(x))), labels)
  rho = us.estimate(jnp.asarray(y) * features(jnp.asarray(x)))
  shift = eps * features.dual_norms(norm)
  gamma = us.Estimate(rho.value - shift, rho.standard_error)
  return FeatureTable(rho, gamma, label, us.classify(rho, gamma, z=z))


# (variables, x [B, H, W, C]) -> the representation [B, D].
ApplyFn = Callable[[Any, jax.Array], jax.Array]


def representation_usefulness(
  apply_fn: ApplyFn,
  variables: Any,
  images: np.ndarray,
  labels: np.ndarray,
  cfg: attacks.AttackConfig,
  key: jax.Array,
  *,
  coordinates: tuple[int, ...] = (),
  batch_size: int = 250,
  z: float = 2.0,
  measured: Measured | None = None,
) -> FeatureTable:
  """Returns the (rho, gamma) of a representation's coordinates.

  Every coordinate is attacked on its own, in the ball and inside [0, 1], so
  gamma is an upper bound as tight as the attack. Coordinates that never vary
  (dead units) have rho = gamma = 0.

  Args:
    apply_fn: (variables, x `[B, H, W, C]`) -> the representation `[B, D]`.
    variables: Of the model.
    images: `[N, H, W, C]`, uint8 or float in [0, 1].
    labels: `[N]` int in [0, K).
    cfg: The attack; its radius and norm are the adversary's.
    key: Of the attack's random starts.
    coordinates: Which coordinates to attack; all by default.
    batch_size: Images at a time.
    z: Standard errors that a claim of usefulness or robustness needs.
    measured: Where batches are kept that an earlier sitting attacked.

  Raises:
    ValueError: If images or labels are none, there are fewer than two classes,
      a coordinate is none, or the radius exceeds the box.
  """
  _check(images, labels)
  attacks.check_radius("cfg.eps", cfg.eps, cfg.norm, images.shape[1:])
  measured = measured or Measured()
  indices = np.arange(len(images))
  size = batching.even_batch(batch_size, len(images))
  x = sharding.replicate(images)
  values = batching.map_batches(
    lambda part: _represent(apply_fn, variables, x, part), indices, size
  )
  chosen = _chosen(coordinates, values.shape[1])
  values = values[:, chosen]
  mean, deviation = values.mean(axis=0), values.std(axis=0)
  alive = deviation > 1e-6 * np.maximum(np.abs(values).max(axis=0), 1e-30)
  deviation = np.where(alive, deviation, 1.0).astype(np.float32)
  values = np.where(alive, (values - mean) / deviation, 0.0)
  label, y = _assign(values, labels)
  units = (jnp.asarray(chosen), jnp.asarray(mean), jnp.asarray(deviation))

  def attack(part):
    return [_attack(apply_fn, variables, x, y[part], part, key, units, cfg)]

  (found,) = batching.map_batches(
    lambda part: measured.run("margins", part, attack), indices, size
  )
  worst = np.where(alive, found, 0.0)
  rho = us.estimate(jnp.asarray(y * values))
  gamma = us.estimate(jnp.asarray(worst))
  return FeatureTable(rho, gamma, label, us.classify(rho, gamma, z=z))


@functools.partial(jax.jit, static_argnames="apply_fn")
def _represent(apply_fn, variables, images, indices) -> jax.Array:
  x = ds.to_float(sharding.split_batch(images[indices]))
  return apply_fn(variables, x).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="apply_fn")
def _attack(apply_fn, variables, images, y, indices, key, units, cfg):
  """Returns the worst margins `[B, F]`, one coordinate after the other."""
  x = ds.to_float(sharding.split_batch(images[indices]))
  keys = attacks.example_keys(key, indices)

  def one(unit):
    (index, mean, deviation), signs = unit

    def feature(x):
      values = jnp.take(apply_fn(variables, x), index, axis=1)
      return (values - mean) / deviation

    def maximize(objective_fn, x):
      return attacks.maximize(objective_fn, x, keys, cfg).x_adv

    return us.robust_margins(feature, x, signs, maximize)

  return jax.lax.map(one, (units, y.T)).T


def _chosen(coordinates: tuple[int, ...], dim: int) -> np.ndarray:
  if not coordinates:
    return np.arange(dim, dtype=np.int32)
  bad = [c for c in coordinates if not 0 <= c < dim]
  if bad:
    raise ValueError(f"coordinates must lie in [0, {dim}), got {bad[0]!r}")
  return np.asarray(coordinates, np.int32)


def _check(images: np.ndarray, labels: np.ndarray) -> None:
  """Raises ValueError unless these are images, each of a class."""
  ds.check_images(images)
  labels = np.asarray(labels)
  if labels.shape != (len(images),) or labels.min() < 0 or not labels.max():
    raise ValueError(
      f"labels must be {len(images)} of at least two classes from 0 on, got "
      f"{len(labels)} from {labels.min()} to {labels.max()}"
    )


def _assign(values: np.ndarray, labels) -> tuple[np.ndarray, np.ndarray]:
  """Returns each feature's class `[F]` and signed labels y `[N, F]`.

  The class against the rest with which a feature correlates most, and the sign
  that makes the correlation positive.
  """
  labels = np.asarray(labels)
  num_classes = int(labels.max()) + 1
  y = np.asarray(us.one_vs_rest(jnp.asarray(labels), num_classes))
  # Usefulness against an unbalanced y is largest for the largest class, so the
  # classes compete by correlation instead.
  rho = values.T @ y / len(y)
  share = np.abs(rho) / np.maximum(y.std(axis=0), 1e-6)
  best = share.argmax(axis=1)
  if num_classes == 2:
    best = np.ones(len(rho), np.int64)
  sign = np.where(rho[np.arange(len(rho)), best] < 0, -1.0, 1.0)
  return best.astype(np.int32), (y[:, best] * sign).astype(np.float32)
