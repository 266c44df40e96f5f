"""Checks of Theorem 3 and Lemmas 6 to 8: condition numbers and cosines."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import alignment, robust
from robust_features.theory.checks.adversary import random_covariance
from robust_features.theory.checks.rows import Claim, Row


def _condition(matrices) -> np.ndarray:
  values = np.linalg.eigvalsh(matrices)
  return values[..., -1] / values[..., 0]


def _random_spd(rng, num, dim) -> np.ndarray:
  q, _ = np.linalg.qr(rng.normal(size=(num, dim, dim)))
  s = np.exp(rng.uniform(-4, 4, size=(num, 1, dim)))
  return (q * s) @ np.swapaxes(q, 1, 2)


def check_condition_numbers(seed: int, num_draws: int) -> list[Row]:
  """Checks Lemmas 6 and 7, and that robust training lowers the number."""
  rng = np.random.default_rng(seed)
  a, b = _random_spd(rng, num_draws, 4), _random_spd(rng, num_draws, 4)
  k = np.exp(rng.uniform(-4, 4, size=(num_draws, 1, 1)))
  values, vectors = np.linalg.eigh(a)
  root = (vectors * np.sqrt(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
  of_a, of_b = _condition(a), _condition(b)
  eps = jnp.asarray(np.exp(rng.uniform(-4, 4, size=num_draws)))

  def learned(cov, eps):
    out = robust.robust_parameters(jnp.zeros(4), cov, eps)
    return alignment.condition_number(out.cov)

  of_learned = jax.jit(jax.vmap(learned))(jnp.asarray(a), eps)
  draws = f"{num_draws} draws"
  return [
    Claim(
      "Lemma 6", f"kappa(A + B) <= max(kappa(A), kappa(B)), {draws}", "-"
    ).at_least(np.maximum(of_a, of_b), _condition(a + b), 1e-9),
    Claim("Lemma 7", f"kappa(A + k I) < kappa(A), {draws}", "-").at_least(
      of_a, _condition(a + k * np.eye(4)), -1e-12
    ),
    Claim(
      "Lemma 7", f"kappa(A + k sqrt(A)) <= kappa(A), {draws}", "-"
    ).at_least(of_a, _condition(a + k * root), 1e-9),
    Claim(
      "Theorem 3",
      f"kappa(Sigma_r) < kappa(Sigma_*), {draws}",
      "condition_number",
    ).at_least(of_a, of_learned, -1e-9),
  ]


def check_alignment(seed: int, num_draws: int) -> list[Row]:
  """Checks Lemma 8's bound and its mean, and Theorem 3 from it."""
  rng = np.random.default_rng(seed)
  cov = random_covariance(rng, 4)
  worst = alignment.worst_case_alignment(cov)
  means = jnp.asarray(rng.normal(size=(num_draws, 4)))
  cosine = jax.vmap(alignment.alignment, (0, None))(means, jnp.asarray(cov))
  slope = jax.grad(alignment.alignment)(
    jnp.asarray(worst.mean), jnp.asarray(cov)
  )
  radii = np.geomspace(1e-3, 1e3, 25)
  path = jnp.stack(
    [
      alignment.worst_case_alignment(
        robust.robust_parameters(np.zeros(4), cov, float(eps)).cov
      ).cosine
      for eps in radii
    ]
  )
  claim = Claim("Lemma 8", "", "worst_case_alignment")._replace
  kappa = _condition(cov)
  return [
    claim(statement="the bound is 2 sqrt(kappa) / (1 + kappa)").equals(
      worst.cosine, 2 * np.sqrt(kappa) / (1 + kappa), 1e-12
    ),
    claim(statement=f"no mean of {num_draws} falls below the bound").at_least(
      cosine, worst.cosine
    ),
    claim(statement="the mean given attains it").equals(
      alignment.alignment(worst.mean, cov), worst.cosine, 1e-12
    ),
    claim(statement="where the cosine is stationary (autodiff)").equals(
      1 + slope, np.ones(4), 1e-12
    ),
    claim(
      name="Theorem 3", statement="the worst case improves with every eps"
    ).at_least(path, np.append(worst.cosine, path[:-1]), -1e-9),
    claim(
      name="Theorem 3", statement="isotropic: the cosine is 1 at every eps"
    ).equals(
      alignment.worst_case_alignment(
        robust.robust_parameters(np.ones(3), np.full(3, 2.0), 1.0).cov
      ).cosine,
      1.0,
      1e-14,
    ),
  ]
