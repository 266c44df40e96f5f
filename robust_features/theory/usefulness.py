r"""Section 2's features: useful, robustly useful, useful but not robust.

A feature f maps an input to a number of mean 0 and variance 1. It is useful if

  rho = E[y f(x)] > 0,

robustly useful if moreover, over the perturbations the adversary may choose,

  gamma = E[inf_delta y f(x + delta)] > 0,

and useful but not robust otherwise.

Feature functions map inputs `[N, ...]` to values `[N]` or `[N, F]`, F features
at once; what follows is then `[F]` as well. With more than two classes let
`one_vs_rest` make labels `[N, K]`, which gives `[F, K]`.

The adversary is a `Ball` for linear features, whose best answer is exact, a
shift by eps times the dual norm of the weights; for others it is a maximiser.

Reference: arXiv:1905.02175, section 2.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, validation

# x [N, ...] -> values [N] or [N, F].
FeatureFn = Callable[[jax.Array], jax.Array]
# (objective_fn: x [N, ...] -> values [N], x) -> the x of highest value found
# within the adversary's reach.
MaximizeFn = Callable[[Callable[[jax.Array], jax.Array], jax.Array], jax.Array]


class FeatureKind(enum.IntEnum):
  """What section 2 calls a feature."""

  USELESS = 0
  NON_ROBUST = 1
  ROBUST = 2


class Estimate(NamedTuple):
  """A mean over examples and its standard error, of one shape."""

  value: jax.Array
  standard_error: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class LinearFeatures:
  """Features x -> x' weights + bias, for which the adversary is exact.

  Attributes:
    weights: `[D, F]`.
    bias: `[F]`.
  """

  weights: jax.Array
  bias: jax.Array

  def __post_init__(self):
    shape = np.shape(self.weights)
    if len(shape) != 2 or np.shape(self.bias) != shape[1:]:
      raise ValueError(
        f"weights and bias must be [D, F] and [F], got {shape!r} and "
        f"{np.shape(self.bias)!r}"
      )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[N, F]` of x `[N, ...]` with D numbers an example."""
    return x.reshape(x.shape[0], -1) @ self.weights + self.bias[None, :]

  def dual_norms(self, norm: str) -> jax.Array:
    """Returns `[F]`: the most a unit of `norm` can change each feature."""
    if norm == "l2":
      return jnp.sqrt(jnp.sum(self.weights**2, axis=0))
    return jnp.sum(jnp.abs(self.weights), axis=0)


@dataclasses.dataclass(frozen=True)
class Ball:
  """An adversary that adds anything of norm at most eps; knows no box.

  Attributes:
    eps: Radius, >= 0.
    norm: "l2" or "linf".
  """

  eps: float
  norm: str = "l2"

  def __post_init__(self):
    validation.check_radius("eps", self.eps)
    validation.check_choice("norm", self.norm, validation.NORMS)


def normalise(f: FeatureFn, x: jax.Array) -> FeatureFn:
  """Returns f shifted and scaled to mean 0 and variance 1 over x.

  Args:
    f: Feature function; linear ones stay `LinearFeatures`.
    x: `[N, ...]`, the examples that stand for the distribution.

  Raises:
    ValueError: If a feature is constant over x, or not finite.
  """
  values = f(x)
  validation.check_finite("f(x)", values)
  mean, deviation = jnp.mean(values, axis=0), jnp.std(values, axis=0)
  _check_varies(values, deviation)
  if isinstance(f, LinearFeatures):
    weights = f.weights / deviation[None, :]
    return LinearFeatures(weights, (f.bias - mean) / deviation)

  def normalised(x):
    return (f(x) - mean[None]) / deviation[None]

  return normalised


def _check_varies(values, deviation) -> None:
  if precision.is_traced(deviation):
    return
  scale = np.abs(np.asarray(values)).max(axis=0)
  tiny = 10 * np.finfo(np.asarray(values).dtype).eps * scale
  constant = np.argwhere(np.asarray(deviation) <= tiny)
  if len(constant):  # Of one feature it has one row and no columns.
    index = tuple(constant[0].tolist())
    raise ValueError(
      f"f must vary over x, got the constant {np.asarray(values)[0][index]} "
      f"for feature {index}"
    )


def one_vs_rest(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns `[N, K]` float: +1 where the label `[N]` is the class, else -1.

  Raises:
    ValueError: If a label is outside [0, num_classes).
  """
  if not precision.is_traced(labels):
    array = np.asarray(labels)
    bad = array[(array < 0) | (array >= num_classes)]
    if bad.size:
      raise ValueError(f"labels must lie in [0, {num_classes}), got {bad[0]}")
  return 2.0 * jax.nn.one_hot(labels, num_classes) - 1.0


def margins(f: FeatureFn, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns y f(x) of every example: `[N]`, `[N, F]` or `[N, F, K]`.

  Args:
    f: Feature function.
    x: `[N, ...]`.
    y: `[N]` of -1 and +1, or `[N, K]` of `one_vs_rest`.
  """
  values = f(x)
  y = jnp.asarray(y, values.dtype)
  if len(y) != len(values):
    raise ValueError(f"y must have {len(values)} rows, got {len(y)}")
  return _times(values, y)


def _times(values: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the products over the axes N, F (if any) and K (if any)."""
  values_shape = values.shape + (1,) * (y.ndim - 1)
  y_shape = y.shape[:1] + (1,) * (values.ndim - 1) + y.shape[1:]
  return values.reshape(values_shape) * y.reshape(y_shape)


def estimate(samples: jax.Array) -> Estimate:
  """Returns the mean over examples (axis 0) and its standard error."""
  num = samples.shape[0]
  error = jnp.std(samples, axis=0) / math.sqrt(max(num - 1, 1))
  return Estimate(jnp.mean(samples, axis=0), error)


def usefulness(f: FeatureFn, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns rho = E[y f(x)]: a number, `[F]` or `[F, K]`.

  Args:
    f: Feature function of mean 0 and variance 1 (see `normalise`).
    x: `[N, ...]`.
    y: `[N]` of -1 and +1, or `[N, K]` of `one_vs_rest`.

  Reference: arXiv:1905.02175, section 2, equation (1).
  """
  return estimate(margins(f, x, y)).value


def robust_margins(
  f: FeatureFn, x: jax.Array, y: jax.Array, adversary: Ball | MaximizeFn
) -> jax.Array:
  """Returns inf_delta y f(x + delta) of every example, shaped like `margins`.

  Args:
    f: Feature function.
    x: `[N, ...]`.
    y: `[N]` of -1 and +1, or `[N, K]` of `one_vs_rest`.
    adversary: A ball, for `LinearFeatures`: the infimum is exact. Or a
      maximiser, for any: what it finds is an upper bound of the infimum, as
      good as the attack.

  Raises:
    ValueError: If it is a ball and the features are not linear.
  """
  if not isinstance(adversary, Ball):
    return _attacked_margins(f, x, jnp.asarray(y), adversary)
  if not isinstance(f, LinearFeatures):
    raise ValueError(
      f"adversary must be a maximiser unless f is linear, got {adversary!r}"
    )
  clean = margins(f, x, y)
  shift = adversary.eps * f.dual_norms(adversary.norm)
  return clean - shift.reshape((1, -1) + (1,) * (clean.ndim - 2))


def _attacked_margins(f, x, y, maximize_fn) -> jax.Array:
  """Attacks one feature and one labelling at a time, in one compiled loop."""
  shape = jax.eval_shape(f, x)
  if y.ndim == 1 and len(shape.shape) == 1:
    return _attacked(f, x, y, maximize_fn)
  num_features = 1 if len(shape.shape) == 1 else shape.shape[1]
  labels = y[:, None] if y.ndim == 1 else y

  def attack(index):
    feature, label = index // labels.shape[1], index % labels.shape[1]

    def one(z):
      return f(z).reshape(z.shape[0], -1)[:, feature]

    return _attacked(one, x, labels[:, label], maximize_fn)

  count = num_features * labels.shape[1]
  found = jax.lax.map(attack, jnp.arange(count))  # [F * K, N]
  return found.T.reshape(shape.shape + y.shape[1:])


def _attacked(f, x, y, maximize_fn) -> jax.Array:
  """Returns the margins `[N]` of one feature after the attack."""
  y = y.astype(x.dtype)
  return y * f(maximize_fn(lambda z: -y * f(z), x))


def robust_usefulness(
  f: FeatureFn, x: jax.Array, y: jax.Array, adversary: Ball | MaximizeFn
) -> jax.Array:
  """Returns gamma = E[inf_delta y f(x + delta)]: a number, `[F]` or `[F, K]`.

  See `robust_margins` for the arguments.

  Reference: arXiv:1905.02175, section 2, equation (2).
  """
  return estimate(robust_margins(f, x, y, adversary)).value


def classify(
  rho: Estimate, gamma: Estimate, *, least_rho: float = 0.0, z: float = 2.0
) -> np.ndarray:
  """Returns the `FeatureKind` of every feature as int32, shaped like rho.

  A feature is useful if rho exceeds `least_rho` by more than z standard errors,
  and robust if gamma exceeds 0 by as much: what the sample cannot tell from
  nothing is not claimed.

  Args:
    rho: Usefulness of the features, signed so that it is positive.
    gamma: Their robust usefulness.
    least_rho: The "bounded away from zero" of the definition.
    z: Standard errors asked for.

  Raises:
    ValueError: If z or `least_rho` is negative, or the shapes differ.
  """
  validation.check_radius("z", z)
  validation.check_radius("least_rho", least_rho)
  if np.shape(rho.value) != np.shape(gamma.value):
    raise ValueError(
      f"gamma must have the shape of rho {np.shape(rho.value)!r}, got "
      f"{np.shape(gamma.value)!r}"
    )
  useful = np.asarray(rho.value - z * rho.standard_error > least_rho)
  robust = np.asarray(gamma.value - z * gamma.standard_error > 0)
  kinds = np.where(robust, FeatureKind.ROBUST, FeatureKind.NON_ROBUST)
  return np.where(useful, kinds, FeatureKind.USELESS).astype(np.int32)
