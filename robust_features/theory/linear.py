r"""A linear classifier trained with and without an adversary (figure 14).

With the squared loss (y - w'x - b)^2 the inner maximum over ||delta|| <= eps is
exact, (|y - w'x - b| + eps ||w||_dual)^2, and convex in (w, b). At eps = 0 the
minimiser is along Sigma^-1 mu: small but reliable features get large weights.

(The logistic loss would not do for separable data: its minimiser is at
infinity, along the direction of the largest l2 margin, which is the most robust
one already.)

Reference: arXiv:1905.02175, section 4 and D.10.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import descent, precision, validation
from robust_features.theory.precision import Array


class LinearClassifier(NamedTuple):
  """sign(x' weights + bias), and the loss it was left with.

  Attributes:
    weights: `[D]`.
    bias: Scalar.
    loss: Mean adversarial squared loss on the training set.
  """

  weights: Array
  bias: Array
  loss: Array


def _check_fit(x, y, eps, norm, num_steps) -> None:
  del num_steps
  validation.check_batch("x", x)
  if np.ndim(x) != 2:
    raise ValueError(f"x must have shape [N, D], got shape {np.shape(x)!r}")
  validation.check_signs("y", y, len(x))
  validation.check_radius("eps", eps)
  validation.check_choice("norm", norm, validation.NORMS)


@precision.float64(_check_fit, static=("norm",))
def fit_linear(
  x, y, eps=0.0, *, norm: str = "l2", num_steps: int = 500
) -> LinearClassifier:
  """Trains on the adversarial squared loss by gradient descent (L-BFGS).

  Args:
    x: `[N, D]`.
    y: `[N]` of -1 and +1.
    eps: Radius, >= 0; 0 is ordinary least squares.
    norm: "l2" or "linf".
    num_steps: At most so many steps.

  Raises:
    ValueError: If a shape or label is wrong, a number not finite, eps negative
      or the norm unknown.
  """

  def loss(params):
    w, b = params["w"], params["b"]
    reach = _l2(w) if norm == "l2" else jnp.sum(jnp.abs(w))
    return jnp.mean((jnp.abs(y - x @ w - b) + eps * reach) ** 2)

  # The direction of the means: already a classifier, and away from w = 0,
  # where the norm has no gradient.
  w = jnp.mean(y[:, None] * x, axis=0)
  start = {"w": w / jnp.sum(w**2), "b": jnp.zeros((), x.dtype)}
  found = descent.descend(loss, start, num_steps, 1e-10)
  return LinearClassifier(found.params["w"], found.params["b"], found.loss)


def _l2(w: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.sum(w**2))


def margins(classifier: LinearClassifier, x, y, norm: str = "l2") -> np.ndarray:
  """Returns the distance of every example to the boundary, `[N]` NumPy.

  Negative where the example is misclassified. The example is robust exactly
  within that radius.

  Args:
    classifier: Weights and bias.
    x: `[N, D]`.
    y: `[N]` of -1 and +1.
    norm: The norm of the distance, "l2" or "linf".
  """
  validation.check_choice("norm", norm, validation.NORMS)
  w = np.asarray(classifier.weights, np.float64)
  scores = np.asarray(x, np.float64) @ w + float(classifier.bias)
  length = np.abs(w).sum() if norm == "linf" else np.linalg.norm(w)
  return np.asarray(y) * scores / length
