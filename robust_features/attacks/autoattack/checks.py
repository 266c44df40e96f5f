"""What makes an evaluation meaningless (an error) or suspicious (a warning)."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import machine


def require_images(x: np.ndarray, y: np.ndarray) -> None:
  """Checks a data set's shapes, range and labels.

  Raises:
    ValueError: Unless x is `[N, H, W, C]` in [0, 1] and y is `[N]` integers.
  """
  if x.ndim != 4 or not len(x):
    raise ValueError(f"x must be [N, H, W, C] with N >= 1, got {x.shape}")
  geometry.check_images(x)
  if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
    raise ValueError(
      f"y must be [{len(x)}] integers, got {y.dtype} of shape {y.shape}"
    )


def require_logits(logits: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
  """Checks the logits of the clean images and the labels' range.

  Raises:
    ValueError: If logits are not `[N, K]` with K >= 2, not finite, the same
      for different images, or if a label is not a class.
  """
  if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
    raise ValueError(
      f"logits_fn must return [B, K] with K >= 2, got {logits.shape[1:]} "
      "after the batch axis"
    )
  bad = int((~np.isfinite(logits)).any(axis=1).sum())
  if bad:
    raise ValueError(f"logits must be finite, got NaN or inf on {bad} images")
  outside = y[(y < 0) | (y >= logits.shape[1])]
  if len(outside):
    raise ValueError(
      f"y must be in [0, {logits.shape[1]}), got {int(outside[0])}"
    )
  same_images = (x == x[:1]).all()
  if (logits == logits[:1]).all() and (not same_images or np.ptp(logits) == 0):
    raise ValueError("logits must depend on x, got the same for every image")


def probability_warning(logits: np.ndarray) -> str | None:
  """Returns a warning if the outputs look like probabilities."""
  sums_to_one = np.abs(logits.sum(axis=1) - 1.0).max() < 1e-5
  if sums_to_one and logits.min() > -1e-5 and logits.max() < 1.0 + 1e-5:
    return (
      "the outputs look like probabilities; attacks need logits, since a "
      "softmax hides gradients"
    )
  return None


def randomness_warning(logits_fn: machine.LogitsFn, x: jax.Array) -> str | None:
  """Returns a warning if a model does not repeat its outputs.

  It is called twice as it is, where a stateful random generator shows, and
  twice compiled, where a callback would show; a generator called while tracing
  is frozen by the compilation, so only the former can find it.

  Args:
    logits_fn: Maps `[B, H, W, C]` to logits `[B, K]`.
    x: A few images, `[B, H, W, C]`.
  """
  compiled = jax.jit(lambda fn, x: fn(x))
  eager = [_direction(logits_fn(x)) for _ in range(2)]
  jitted = [_direction(compiled(logits_fn, x)) for _ in range(2)]
  worst = max(np.linalg.norm(a - b, axis=1).max() for a, b in (eager, jitted))
  if worst > 1e-4:
    return (
      "the model is randomised (outputs differ between calls by "
      f"{worst:.1e} of their norm); attack its expectation instead"
    )
  return None


def _direction(logits: jax.Array) -> np.ndarray:
  values = np.asarray(jnp.asarray(logits, jnp.float32))
  return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-10)


def zero_gradient_warning(name: str, num_examples: int) -> str | None:
  """Returns a warning if examples met gradients of exactly zero."""
  if not num_examples:
    return None
  return (
    f"{name}: {num_examples} examples met a gradient of exactly zero, where a "
    "gradient attack stands still; robustness may be overestimated"
  )


def nonfinite_gradient_warning(name: str, num_examples: int) -> str | None:
  """Returns a warning if examples met gradients that are not finite."""
  if not num_examples:
    return None
  return (
    f"{name}: {num_examples} examples met a gradient that is not finite, whose "
    "entries were taken for zero; robustness may be overestimated"
  )


def square_warning(before: float, after: float) -> str | None:
  """Returns a warning if Square gained over the gradient attacks.

  Args:
    before: Robust accuracy after the gradient attacks, in [0, 1].
    after: Robust accuracy after Square.
  """
  if before - after <= 0.002:
    return None
  return (
    f"square lowered the robust accuracy by {before - after:.2%} beyond the "
    "gradient attacks: gradients may be masked; consider an adaptive attack"
  )


def class_warning(
  num_classes: int, names: tuple[str, ...], num_targets: int
) -> str | None:
  """Returns a warning if a model has too few classes for the attacks.

  Args:
    num_classes: Classes of the model.
    names: Attacks that run.
    num_targets: Targets asked for.
  """
  notes = []
  targeted = {"apgd-t", "fab-t"} & set(names)
  if targeted and num_targets > num_classes - 1:
    notes.append(f"{num_classes - 1} targets instead of {num_targets}")
  if "apgd-t" in names and num_classes < 4:
    notes.append("apgd-t climbs the margin instead of the targeted DLR loss")
  if "apgd-dlr" in names and num_classes < 3:
    notes.append("apgd-dlr climbs the margin instead of the DLR loss")
  if not notes:
    return None
  return f"with {num_classes} classes: " + "; ".join(notes)


def second_pass_warning(first: float, second: float) -> str | None:
  """Returns a warning if the saved images do not reproduce the accuracy.

  Args:
    first: Robust accuracy as the attacks counted it, in [0, 1].
    second: Accuracy on the saved adversarial examples.
  """
  if first == second:
    return None
  return (
    f"the saved images give {second:.2%} and the attacks counted {first:.2%}: "
    "the model depends on its batch, or is not deterministic"
  )
