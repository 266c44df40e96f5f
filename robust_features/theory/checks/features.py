"""Checks of section 2's definitions and of the model's closed-form accuracy."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import usefulness as us
from robust_features.theory.checks.rows import Claim, Row
from robust_features.theory.gaussian import GaussianModel


def check_usefulness(key: jax.Array, num: int) -> list[Row]:
  """Checks rho and gamma of linear features against their expectations.

  Args:
    key: PRNG key of the samples.
    num: Samples of each expectation.
  """
  mean, cov = np.array([10.0, 1.0, 0.0]), np.array([25.0, 0.5, 1.0])
  eps = 2.0
  ball = us.Ball(eps)
  x, y = GaussianModel(mean, cov).sample(key, num)
  features = us.normalise(us.LinearFeatures(jnp.eye(3), jnp.zeros(3)), x)
  values = features(x)
  deviation = np.sqrt(cov + mean**2)  # Of x itself, both classes together.
  rho = us.estimate(us.margins(features, x, y))
  gamma = us.estimate(us.robust_margins(features, x, y, ball))
  labels = us.one_vs_rest((y + 1) // 2, 2)
  moments = np.stack([values.mean(axis=0), (values**2).mean(axis=0)])
  return [
    Claim("Section 2", "E[f] = 0 and E[f^2] = 1", "normalise").equals(
      moments, np.array([[0.0] * 3, [1.0] * 3]), 1e-9
    ),
    Claim(
      "Section 2", "rho of x_i is mu_i / sqrt(s_i + mu_i^2)", "usefulness"
    ).sampled(us.margins(features, x, y), mean / deviation),
    Claim(
      "Section 2",
      "gamma of x_i is (mu_i - eps) / sqrt(s_i + mu_i^2)",
      "robust_usefulness",
    ).sampled(
      us.robust_margins(features, x, y, ball), (mean - eps) / deviation
    ),
    Claim("Section 2", "robust, useful non-robust, useless", "classify").equals(
      us.classify(rho, gamma),
      [
        us.FeatureKind.ROBUST,
        us.FeatureKind.NON_ROBUST,
        us.FeatureKind.USELESS,
      ],
      0.0,
    ),
    Claim(
      "Section 2", "one-vs-rest of two classes is y and -y", "one_vs_rest"
    ).equals(
      us.usefulness(features, x, labels),
      jnp.stack([-rho.value, rho.value], axis=1),
      1e-12,
    ),
  ]


def check_attack(make_maximize, key: jax.Array, num: int) -> list[Row]:
  """Checks the exact robust usefulness against an attack, in float32.

  Args:
    make_maximize: (norm, eps) -> a `usefulness.MaximizeFn` over images.
    key: PRNG key of the samples and features.
    num: Examples.
  """
  eps = {"l2": 0.05, "linf": 0.01}
  # Away from the faces of the box, which the closed form knows nothing of.
  x_key, w_key, y_key = jax.random.split(key, 3)
  x = 0.5 + 0.2 * jax.random.uniform(x_key, (num, 4, 4, 1), jnp.float32)
  weights = jax.random.normal(w_key, (16, 3), jnp.float32)
  y = jax.random.rademacher(y_key, (num,), jnp.float32)
  raw = us.LinearFeatures(weights, jnp.zeros(3, jnp.float32))
  features = us.normalise(raw, x)
  rows = []
  for norm, radius in eps.items():
    exact = us.robust_margins(features, x, y, us.Ball(radius, norm))
    attack = make_maximize(norm, radius)
    found = us.robust_margins(features, x, y, attack)
    rows.append(
      Claim(
        "Section 2",
        f"the attack finds inf y f(x + delta) exactly, {norm}",
        "robust_usefulness",
      ).equals(found, exact, 1e-4)
    )
  return rows


def check_accuracy(key: jax.Array, num: int) -> list[Row]:
  """Checks NLL and accuracies against sampling, with the attack carried out."""
  root = np.array([[1.5, 0.2, 0.0], [0.2, 0.8, -0.3], [0.0, -0.3, 0.5]])
  truth = GaussianModel(np.array([1.2, 0.4, -0.2]), root @ root.T)
  learned = GaussianModel(truth.mean, np.array([2.0, 1.0, 1.5]))
  x, y = truth.sample(key, num)
  nll = learned.nll(x, y)
  w = learned.weights()
  claim = "Section 4"
  rows = [
    Claim(claim, "E[NLL] in closed form", "expected_nll").sampled(
      nll, learned.expected_nll(truth)
    ),
    Claim(claim, "accuracy in closed form", "accuracy").sampled(
      learned.classify(x) == y, learned.accuracy(truth)
    ),
  ]
  steps = {"l2": w / jnp.sqrt(jnp.sum(w**2)), "linf": jnp.sign(w)}
  for norm, step in steps.items():
    attacked = x - 0.3 * y[:, None].astype(x.dtype) * step[None, :]
    rows.append(
      Claim(
        claim, f"{norm} robust accuracy in closed form", "robust_accuracy"
      ).sampled(
        learned.classify(attacked) == y,
        learned.robust_accuracy(0.3, norm, truth),
      )
    )
  return rows
