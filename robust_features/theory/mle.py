r"""Adversarial training of a Gaussian, by gradient descent (Danskin's theorem).

The outer problem is convex in T = Sigma^-1 and m = Sigma^-1 mu for any fixed
perturbation (Lemma 3), the inner maximum has a closed form, and the gradient
at that maximiser is a gradient of the maximum (Danskin). So descent on

  1/2 E[T z^2 - 2 m z + m^2 / T] - 1/2 sum log T + const,      z = x + delta,

with delta taken afresh at each step and held fixed inside it is adversarial
training, and it ends at the optimum. Two adversaries are at hand:

- "operator", problem (20): delta = M (x - mu), ||M|| bound in expectation. The
  set of M depends on mu through x - mu; with N_i = M_i sqrt(E (x - mu)_i^2) it
  is the fixed ball ||N|| = eps, and the objective stays convex for N >= 0.
- "sample", problem (13): ||delta|| = eps for each sample.

Reference: arXiv:1905.02175, sections E.3.3 to E.3.5.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_features.theory import adversary as adversaries
from robust_features.theory import descent, precision, spectrum, validation
from robust_features.theory.precision import Array

ADVERSARIES = ("operator", "sample")
COVARIANCES = ("diagonal", "full")


class MleResult(NamedTuple):
  """Where the descent ended.

  Attributes:
    mean: `[D]`.
    cov: `[D]` or `[D, D]`.
    loss: The adversarial NLL there, in nats.
    gradient_norm: Of the loss in the scaled parameters; near 0 at the optimum.
    num_steps: Steps taken.
  """

  mean: Array
  cov: Array
  loss: Array
  gradient_norm: Array
  num_steps: Array


def adversarial_mle(
  samples,
  eps,
  *,
  adversary: str = "operator",
  covariance: str = "diagonal",
  num_steps: int = 500,
  tolerance: float = 1e-9,
  tx: optax.GradientTransformation = descent.LBFGS,
) -> MleResult:
  """Fits a Gaussian to adversarially perturbed samples by gradient descent.

  With the "operator" adversary it lands on `robust.robust_parameters` of the
  samples' mean and covariance.

  Args:
    samples: `[N, D]`, of one class (those of the other one negated).
    eps: Radius, >= 0.
    adversary: "operator" (problem 20) or "sample" (problem 13).
    covariance: "diagonal" learns in the axes given, "full" in the eigenbasis
      of the samples' covariance, as the paper assumes.
    num_steps: At most so many steps of the optimiser.
    tolerance: The gradient norm at which to stop.
    tx: An optax optimiser of the parameters scaled by the samples' deviations;
      L-BFGS by default.

  Raises:
    ValueError: If a shape or name is wrong, a number not finite, eps negative,
      some direction has no variance in the samples, or `tx` stepped out of
      T > 0.

  Reference: arXiv:1905.02175, (13), (20), Theorem 4 and Lemma 3.
  """
  validation.check_batch("samples", samples)
  if np.ndim(samples) != 2:
    raise ValueError(f"samples must be [N, D], got {np.shape(samples)!r}")
  validation.check_radius("eps", eps)
  validation.check_choice("adversary", adversary, ADVERSARIES)
  validation.check_choice("covariance", covariance, COVARIANCES)
  mean, cov = _moments(samples, covariance)
  validation.check_covariance("samples' covariance", cov)
  out = _fit(
    samples, mean, cov, eps, num_steps, tolerance, adversary=adversary, tx=tx
  )
  if not precision.is_traced(out) and not np.isfinite(out.loss):
    raise ValueError(
      f"tx must keep Sigma^-1 positive, got a loss of {out.loss} after "
      f"{out.num_steps} steps: take smaller ones"
    )
  return out


@precision.float64(static=("covariance",))
def _moments(x, covariance: str) -> tuple[Array, Array]:
  """Returns the mean and (biased) covariance of samples."""
  mean = jnp.mean(x, axis=0)
  centred = x - mean[None, :]
  if covariance == "diagonal":
    return mean, jnp.mean(centred**2, axis=0)
  return mean, centred.T @ centred / x.shape[0]


def nll(m, T, z) -> jax.Array:
  """Returns the mean NLL of points in the convex parameters of Lemma 3.

  Args:
    m: `[D]`, Sigma^-1 mu.
    T: `[D]`, the diagonal of Sigma^-1, positive.
    z: `[N, D]` points.

  Returns:
    1/2 mean(z' T z - 2 m' z) + 1/2 m' T^-1 m - 1/2 log det(T / 2 pi).
  """
  square = jnp.mean(z**2, axis=0) * T - 2 * m * jnp.mean(z, axis=0) + m**2 / T
  return jnp.sum(square - jnp.log(T) + math.log(2 * math.pi)) / 2


def operator_loss(m, T, mean, variance, reach) -> jax.Array:
  """Returns the expected NLL after a linear perturbation, convex in (m, T).

  Args:
    m: `[D]`, Sigma^-1 mu.
    T: `[D]`, the diagonal of Sigma^-1, positive.
    mean: `[D]` of the samples.
    variance: `[D]` of the samples.
    reach: `[D]`, N >= 0: root mean square of the perturbation along each axis.
  """
  offset = mean * T - m
  quadratic = variance * T + offset**2 / T
  cross = jnp.sqrt(variance * T**2 + offset**2)
  terms = quadratic + 2 * reach * cross + reach**2 * T - jnp.log(T)
  return jnp.sum(terms + math.log(2 * math.pi)) / 2


def operator_reach(m, T, mean, variance, eps) -> Array:
  """Returns the best adversary's N `[D]`, of norm eps (Lemma 2)."""
  about_mean = variance + (mean - m / T) ** 2
  operator = adversaries.optimal_operator(1 / T, about_mean, eps)
  return operator.matrix * jnp.sqrt(about_mean)


def sample_perturbations(m, T, x, eps) -> Array:
  """Returns the best perturbation of every sample, `[N, D]` (Lemma 1)."""
  v = x - (m / T)[None, :]
  return adversaries.optimal_perturbation(v, 1 / T, eps)


@precision.float64(static=("adversary", "tx"))
def _fit(samples, mean, cov, eps, num_steps, tolerance, *, adversary, tx):
  basis = spectrum.decompose(cov)
  x = jax.vmap(basis.rotate)(samples)
  variance, mean = basis.values, basis.rotate(mean)

  def natural(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns (m, T) of the scaled parameters."""
    return params["m"] / jnp.sqrt(variance), params["T"] / variance

  def loss(params):
    m, T = natural(params)
    inside = jnp.all(T > 0)  # A line search may look outside the domain.
    T = jnp.where(inside, T, 1)
    fixed = jax.lax.stop_gradient
    if adversary == "operator":
      reach = fixed(operator_reach(fixed(m), fixed(T), mean, variance, eps))
      value = operator_loss(m, T, mean, variance, reach)
    else:
      delta = fixed(sample_perturbations(fixed(m), fixed(T), x, eps))
      value = nll(m, T, x + delta)
    return jnp.where(inside, value, jnp.inf)

  start = {"m": jnp.zeros_like(mean), "T": jnp.ones_like(variance)}
  params, *ended = descent.descend(loss, start, num_steps, tolerance, tx)
  m, T = natural(params)
  return MleResult(basis.unrotate(m / T), basis.compose(1 / T), *ended)
