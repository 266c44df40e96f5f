r"""Section 4's model: two Gaussians N(y mu, Sigma), y = -1 or +1.

`GaussianModel` holds parameters, be they the true ones or learned ones, and
answers in closed form how the likelihood classifier sign(x' Sigma^-1 mu) made
of them fares. This file is also where all of the section can be imported from;
each statement lives in the file named after its subject.

  truth = GaussianModel(mean=[-10.0, 1.0], cov=[25.0, 0.5])
  robust = GaussianModel(*robust_parameters(truth.mean, truth.cov, 1.0)[:2])
  robust.robust_accuracy(1.0, truth=truth)

Reference: arXiv:1905.02175, sections 4 and E.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import precision, spectrum, validation
from robust_features.theory.adversary import (
  Operator,
  optimal_operator,
  optimal_perturbation,
)
from robust_features.theory.alignment import (
  WorstCase,
  alignment,
  condition_number,
  worst_case_alignment,
)
from robust_features.theory.lagrangian import (
  lagrangian_perturbation,
  lagrangian_vulnerability,
)
from robust_features.theory.mle import MleResult, adversarial_mle
from robust_features.theory.precision import Array
from robust_features.theory.robust import (
  LambdaBounds,
  RobustParameters,
  admissible_radius,
  lambda_bounds,
  robust_parameters,
)

__all__ = [
  "GaussianModel",
  "LambdaBounds",
  "MleResult",
  "Operator",
  "RobustParameters",
  "WorstCase",
  "admissible_radius",
  "adversarial_mle",
  "alignment",
  "condition_number",
  "lagrangian_perturbation",
  "lagrangian_vulnerability",
  "lambda_bounds",
  "optimal_operator",
  "optimal_perturbation",
  "robust_parameters",
  "worst_case_alignment",
]


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianModel:
  """Two Gaussians N(mean, cov) and N(-mean, cov) with even odds.

  Concrete parameters are checked and kept in float64. The model is a pytree,
  so it can be an argument or a result of a jitted function.

  Attributes:
    mean: `[D]`, the mean of the class +1.
    cov: `[D]` if diagonal, else `[D, D]`.

  Raises:
    ValueError: If a shape is wrong, a number not finite, or `cov` not
      symmetric positive definite.
  """

  mean: Any
  cov: Any

  def __post_init__(self):
    validation.check_vector("mean", self.mean)
    validation.check_covariance("cov", self.cov, np.shape(self.mean)[0])
    for name in ("mean", "cov"):
      value = getattr(self, name)
      if not precision.is_traced(value):
        object.__setattr__(self, name, np.asarray(value, np.float64))

  def sample(self, key, num: int, dtype=None) -> tuple[jax.Array, jax.Array]:
    """Draws examples.

    Args:
      key: PRNG key.
      num: How many.
      dtype: Of x; the default float of the precision in force.

    Returns:
      x `[num, D]` and y `[num]` int32 of -1 and +1.

    Raises:
      ValueError: If num is not a positive integer.
    """
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
      raise ValueError(f"num must be an integer >= 1, got {num!r}")
    dtype = jnp.result_type(float) if dtype is None else dtype
    mean, cov = (jnp.asarray(part, dtype) for part in (self.mean, self.cov))
    return _sample(mean, cov, key, num)

  def nll(self, x, y=None) -> Array:
    """Returns the negative log-likelihood of every example in nats, `[N]`.

    Args:
      x: `[N, D]`.
      y: `[N]` of -1 and +1; all +1 by default.

    Raises:
      ValueError: If a shape is wrong, a number not finite, or a label other.
    """
    self._check_points(x)
    y = np.ones(len(x)) if y is None else y
    validation.check_signs("y", y, len(x))
    return _nll(self.mean, self.cov, x, y)

  def weights(self) -> Array:
    """Returns Sigma^-1 mu `[D]`, the gradient of the likelihood classifier."""
    return _weights(self.mean, self.cov)

  def classify(self, x) -> Array:
    """Returns the likelier class of every row of x `[N, D]`: int32 -1 or +1."""
    self._check_points(x)
    return _classify(self.mean, self.cov, x)

  def expected_nll(self, truth: "GaussianModel | None" = None) -> Array:
    """Returns E[NLL] over the data of `truth` (itself by default), in nats."""
    truth = self._truth(truth)
    return _expected_nll(self.mean, self.cov, truth.mean, truth.cov)

  def accuracy(self, truth: "GaussianModel | None" = None) -> Array:
    """Returns the accuracy of this model's classifier, a fraction.

    Args:
      truth: Where the examples come from; this model by default.
    """
    return self.robust_accuracy(0.0, truth=truth)

  def robust_accuracy(
    self, eps, norm: str = "l2", truth: "GaussianModel | None" = None
  ) -> Array:
    """Returns the accuracy under the worst perturbation of every example.

    The classifier is linear, so an example is safe exactly if its margin is
    above eps times the dual norm of the weights:
    Phi((w' mu_* - eps ||w||_dual) / sqrt(w' Sigma_* w)).

    Args:
      eps: Radius, >= 0.
      norm: "l2" or "linf".
      truth: Where the examples come from; this model by default.

    Raises:
      ValueError: If eps is negative or not finite, or the norm unknown.
    """
    validation.check_radius("eps", eps)
    validation.check_choice("norm", norm, validation.NORMS)
    truth = self._truth(truth)
    return _robust_accuracy(
      self.mean, self.cov, truth.mean, truth.cov, eps, norm=norm
    )

  def _truth(self, truth: "GaussianModel | None") -> "GaussianModel":
    truth = self if truth is None else truth
    if np.shape(truth.mean) != np.shape(self.mean):
      raise ValueError(
        f"truth must have {np.shape(self.mean)[0]} dimensions, got "
        f"{np.shape(truth.mean)[0]}"
      )
    return truth

  def _check_points(self, x) -> None:
    validation.check_batch("x", x, np.shape(self.mean)[0])
    if np.ndim(x) != 2:
      raise ValueError(f"x must have shape [N, D], got shape {np.shape(x)!r}")


def _flatten(model: GaussianModel):
  return (model.mean, model.cov), None


def _unflatten(_, children) -> GaussianModel:
  # Past the constructor: leaves may be batched, abstract or placeholders.
  model = object.__new__(GaussianModel)
  for name, child in zip(("mean", "cov"), children, strict=True):
    object.__setattr__(model, name, child)
  return model


jax.tree_util.register_pytree_node(GaussianModel, _flatten, _unflatten)


@functools.partial(jax.jit, static_argnames="num")
def _sample(mean, cov, key, num):
  label_key, noise_key = jax.random.split(key)
  y = jax.random.rademacher(label_key, (num,), jnp.int32)
  noise = jax.random.normal(noise_key, (num, mean.size), mean.dtype)
  if cov.ndim == 1:
    noise = noise * jnp.sqrt(cov)[None, :]
  else:
    noise = noise @ jnp.linalg.cholesky(cov).T
  return y.astype(mean.dtype)[:, None] * mean[None, :] + noise, y


@precision.float64()
def _nll(mean, cov, x, y) -> Array:
  basis = spectrum.decompose(cov)

  def one(x, y):
    v = basis.rotate(x - y * mean)
    terms = v**2 / basis.values + jnp.log(2 * math.pi * basis.values)
    return jnp.sum(terms) / 2

  return jax.vmap(one)(x, y)


@precision.float64()
def _weights(mean, cov) -> Array:
  return spectrum.solve(cov, mean)


@precision.float64()
def _classify(mean, cov, x) -> Array:
  return jnp.where(x @ spectrum.solve(cov, mean) >= 0, 1, -1).astype(jnp.int32)


@precision.float64()
def _expected_nll(mean, cov, true_mean, true_cov) -> Array:
  basis = spectrum.decompose(cov)
  offset = basis.rotate(mean - true_mean)
  moments = basis.diagonal(true_cov) + offset**2
  terms = moments / basis.values + jnp.log(2 * math.pi * basis.values)
  return jnp.sum(terms) / 2


@precision.float64(static=("norm",))
def _robust_accuracy(mean, cov, true_mean, true_cov, eps, *, norm) -> Array:
  w = spectrum.solve(cov, mean)
  length = jnp.sqrt(jnp.sum(w**2)) if norm == "l2" else jnp.sum(jnp.abs(w))
  spread = jnp.sqrt(jnp.sum(w * spectrum.apply(true_cov, w)))
  margin = jnp.sum(w * true_mean) - eps * length
  # Without a mean the classifier always says +1, and is right half the time.
  safe = jnp.where(spread > 0, spread, 1)
  return jax.scipy.special.ndtr(jnp.where(spread > 0, margin / safe, 0))
