"""Accuracy and robust accuracy, with the strength of the attack beside them.

An example counts as robust at eps if the model is right on it and no attack of
this run at a radius up to eps changed that. Examples already broken are not
attacked again; randomness is keyed by an example's index in the data set.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robust_features import attacks, models
from robust_features.attacks import losses
from robust_features.attacks.pgd import ObjectiveFn
from robust_features.data import dataset as ds
from robust_features.data import streaming
from robust_features.runtime import batching
from robust_features.runtime.logs import progress
from robust_features.runtime.measured import Measured

LOSSES = losses.LOSSES
# A margin that two compilations of a model do not disagree about the sign of.
_DECIDED = 0.01
_SIEVE = 10  # The first of so many parts of the steps is taken by everyone.


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """Settings of a robust evaluation; the paper's unless changed.

  Attributes:
    norm: "l2" or "linf".
    eps: Radii in pixel units of [0, 1].
    num_steps: Steps of projected gradient ascent.
    step_ratio: A step's length in units of eps / num_steps.
    num_restarts: The image itself, then random starts.
    loss: What is climbed: "cross_entropy", "cw_margin" or "dlr".
    bn_mode: BatchNorm under attack, "running" or "batch".
    batch_size: Images at a time.
  """

  norm: str = "l2"
  eps: tuple[float, ...] = (0.25, 0.5)
  num_steps: int = 100
  step_ratio: float = 2.5
  num_restarts: int = 1
  loss: str = "cross_entropy"
  bn_mode: str = "running"
  batch_size: int = 500

  def __post_init__(self):
    if self.loss not in LOSSES:
      raise ValueError(
        f"loss must be one of {tuple(LOSSES)}, got {self.loss!r}"
      )
    if self.bn_mode not in ("running", "batch"):
      raise ValueError(
        f"bn_mode must be 'running' or 'batch', got {self.bn_mode!r}"
      )
    if self.batch_size < 1:
      raise ValueError(
        f"batch_size must be at least 1, got {self.batch_size!r}"
      )
    if not 0 <= self.step_ratio < math.inf:
      raise ValueError(
        f"step_ratio must be a finite number >= 0, got {self.step_ratio!r}"
      )
    self.attack(0.0)  # Whose other fields are wrong without a radius, too.
    for eps in self.eps:
      if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise ValueError(f"eps must be a tuple of numbers, got {self.eps!r}")
      self.attack(eps)

  def attack(self, eps: float) -> attacks.AttackConfig:
    """Returns the attack at one radius."""
    return attacks.AttackConfig(
      norm=self.norm,
      eps=eps,
      step_size=self.step_ratio * eps / max(self.num_steps, 1),
      num_steps=self.num_steps,
      num_restarts=self.num_restarts,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What an evaluation found; fractions in [0, 1].

  Attributes:
    accuracy: Fraction classified correctly.
    robust_accuracy: The same under attack, by radius.
    class_robust_accuracy: By radius, the fraction of every class; None for a
      class without images.
    confusion: `[K, K]` counts of unattacked images, by class and by what the
      model sees.
    attack: The attack's settings, gradient calls an example (at most: what is
      broken is not attacked on) and the fractions of attacked examples that
      met a zero gradient, and one not finite, before they broke.
    num_examples: Size of the set.
    seconds: Wall time.
  """

  accuracy: float
  robust_accuracy: dict[float, float]
  class_robust_accuracy: dict[float, list[float | None]]
  confusion: list[list[int]]
  attack: dict[str, Any]
  num_examples: int
  seconds: float


@functools.partial(jax.jit, static_argnames=("model", "bn_mode"))
def _logits(model, variables, images, bn_mode):
  x = ds.to_float(images)
  return models.apply(model, variables, x, bn_mode).logits


def predict(
  model: models.Model, variables, images: Any, batch_size: int
) -> np.ndarray:
  """Returns logits `[N, K]` of images `[N, H, W, C]`.

  Raises:
    ValueError: If the images are none, or the model's outputs are not finite.
  """
  ds.check_images(images)
  batch_size = batching.even_batch(batch_size, len(images))
  logits = batching.map_batches(
    lambda _, rows: _logits(model, variables, rows, "running"),
    np.arange(len(images)),
    batch_size,
    feed=streaming.Feed(images),
    interruptible=False,
  )
  if not np.isfinite(logits).all():
    raise ValueError("the model's outputs are not finite; train it again")
  return logits


@functools.partial(jax.jit, static_argnames="model")
def _representation(model, variables, images):
  x = ds.to_float(images)
  return models.represent(model, variables, x)


def represent(
  model: models.Model, variables, images: Any, batch_size: int
) -> np.ndarray:
  """Returns representations `[N, D]` of images `[N, H, W, C]`.

  Raises:
    ValueError: If the images are none, or the network tells no representation.
    preemption.Stopped: If the process was asked to stop.
  """
  ds.check_images(images)
  batch_size = batching.even_batch(batch_size, len(images))
  return batching.map_batches(
    lambda _, rows: _representation(model, variables, rows),
    np.arange(len(images)),
    batch_size,
    feed=streaming.Feed(images),
  )


def _require_labels(labels: np.ndarray, logits: np.ndarray) -> None:
  """Raises ValueError where a label has no logit."""
  if labels.max() >= logits.shape[1]:
    raise ValueError(
      f"labels go up to {labels.max()}, but the network gives "
      f"{logits.shape[1]} logits"
    )


def accuracy(model, variables, dataset: ds.Dataset, batch_size: int) -> float:
  """Returns the fraction of a data set that is classified correctly.

  Raises:
    ValueError: If images or labels are none, a label has no logit, or outputs
      are not finite.
  """
  ds.check(dataset)
  logits = predict(model, variables, dataset.images, batch_size)
  _require_labels(dataset.labels, logits)
  return float((logits.argmax(1) == dataset.labels).mean())


def check_fit(model: models.Model, variables, dataset: ds.Dataset) -> None:
  """Checks that a network knows the classes of a data set.

  Nothing is computed: shapes alone tell.

  Raises:
    ValueError: If images or labels are none, or there are too few logits.
  """
  ds.check(dataset)
  found = models.num_logits(model, variables, dataset.image_shape)
  if found < dataset.num_classes:
    raise ValueError(
      f"the data have {dataset.num_classes} classes, but the network gives "
      f"{found} logits"
    )


def classification_objective(
  logits_fn: Callable[[jax.Array], jax.Array], y: jax.Array, loss: str
) -> ObjectiveFn:
  """Returns an objective that climbs a loss and keeps the largest margin.

  A larger loss need not mean another class; a margin above zero does.

  Args:
    logits_fn: Maps images `[B, H, W, C]` to logits `[B, K]`.
    y: `[B]` labels.
    loss: A name of `LOSSES`.
  """

  def objective(x):
    logits = logits_fn(x)
    return LOSSES[loss](logits, y), losses.cw_margin(logits, y)

  return objective


@functools.partial(jax.jit, static_argnames=("model", "loss", "bn_mode"))
def _attack(model, variables, indices, images, y, key, cfg, *, loss, bn_mode):
  """Attacks the images at `indices` `[B]`, which are `images` of labels y.

  Returns:
    Which are broken; the largest margin, above `_DECIDED` beyond doubt, after
    which the attack may stop; which met a zero gradient before, which one not
    finite.
  """
  x = ds.to_float(images)
  objective = classification_objective(
    lambda x: models.apply(model, variables, x, bn_mode).logits, y, loss
  )
  keys = attacks.example_keys(key, indices)
  # One misclassified iterate decides, if it is judged as it was attacked.
  stop_above = _DECIDED if bn_mode == "running" else None
  result = attacks.maximize(objective, x, keys, cfg, stop_above=stop_above)
  # Judged as the model is used, whatever the mode of the attack.
  logits = models.apply(model, variables, result.x_adv).logits
  met = result.zero_gradients > 0, result.nonfinite_gradients > 0
  return logits.argmax(1) != y, result.value, *met


def _survivors(
  attack: Callable[..., Any], look: Callable[..., Any], run: Callable[..., Any],
  cfg: EvaluateConfig, eps: float, alive: np.ndarray, bar: Any,
):  # fmt: skip
  """Runs the attack of one radius on what is left.

  A tenth of the steps comes first, for everyone, and the others begin again in
  batches that are full: a model that is not robust costs little. These are the
  first steps of the whole attack, so they decide nothing that it would not. Who
  came closest then is attacked beside whom it takes as long: a batch ends with
  its last image.

  Args:
    attack: Takes indices, images and an `AttackConfig`; see `_attack`.
    look: `batching.map_batches` but for a function, indices and a bar.
    run: `Measured.run`.
    cfg: The evaluation.
    eps: The radius.
    alive: `[N]` indices.
    bar: Of progress, moved by every example that is done.

  Returns:
    Who survives, and how many met a zero gradient and one not finite, `[2]`.
  """
  met, name, whole = (
    np.zeros(2, np.int64),
    _part_name(cfg, eps),
    cfg.attack(eps),
  )
  if cfg.bn_mode == "running" and cfg.num_steps >= _SIEVE and len(alive):
    few = dataclasses.replace(whole, num_steps=cfg.num_steps // _SIEVE)
    sieve = functools.partial(_measure, run, f"{name}-sieve", attack, few)
    _, margin, *flaws = look(sieve, alive)
    decided = margin > _DECIDED
    met += np.array([flaw[decided].sum() for flaw in flaws])
    bar.update(int(decided.sum()))
    closest = np.argsort(-margin, kind="stable")
    alive = alive[closest][~decided[closest]]
  if len(alive):
    measure = functools.partial(_measure, run, name, attack, whole)
    broken, _, *flaws = look(measure, alive, bar=bar)
    met += np.array([flaw.sum() for flaw in flaws])
    alive = np.sort(alive[~broken])
  return alive, met


def _measure(run, name: str, attack, cfg, indices, images):
  """Attacks one batch, unless an earlier sitting did."""
  return run(name, indices, lambda part: attack(part, images, cfg))


def evaluate(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  cfg: EvaluateConfig,
  key: jax.Array,
  name: str = "evaluate",
  *,
  interruptible: bool = True,
  measured: Measured | None = None,
) -> Evaluation:
  """Measures accuracy and robust accuracy at every radius of `cfg.eps`.

  Args:
    model: The architecture.
    variables: Its variables.
    dataset: Images and the labels that count as correct.
    cfg: The attack.
    key: Of random starts, folded with each example's index.
    name: For the progress bar.
    interruptible: Whether to stop between batches when the process is asked
      to; a caller that must save something first says no.
    measured: Where batches are kept that an earlier sitting attacked.

  Raises:
    ValueError: If images or labels are none, a radius exceeds the box, a label
      has no logit, or outputs are not finite.
    preemption.Stopped: If the process was asked to stop, if `interruptible`.
  """
  start = time.monotonic()
  for eps in cfg.eps:
    attacks.check_radius("eps", eps, cfg.norm, dataset.images.shape[1:])
  ds.check(dataset)
  logits = predict(model, variables, dataset.images, cfg.batch_size)
  _require_labels(dataset.labels, logits)
  seen = logits.argmax(1)
  alive = np.flatnonzero(seen == dataset.labels)
  clean = len(alive) / len(dataset.labels)
  batch_size = batching.even_batch(cfg.batch_size, len(dataset.labels))
  robust, by_class, attacked, met = {}, {}, 0, np.zeros(2, np.int64)
  run = (measured or Measured()).run
  look = functools.partial(
    batching.map_batches, batch_size=batch_size, interruptible=interruptible,
    feed=streaming.Feed(dataset.images),
  )  # fmt: skip

  def attack(indices, images, cfg_at_eps):
    return _attack(
      model, variables, indices, images, dataset.labels[indices], key,
      cfg=cfg_at_eps, loss=cfg.loss, bn_mode=cfg.bn_mode,
    )  # fmt: skip

  with progress(len(alive) * len(cfg.eps), name, unit="image") as bar:
    for eps in sorted(cfg.eps):
      attacked += len(alive)
      alive, found = _survivors(attack, look, run, cfg, eps, alive, bar)
      met += found
      robust[eps] = len(alive) / len(dataset.labels)
      by_class[eps] = _by_class(alive, dataset)
  return Evaluation(
    accuracy=clean,
    robust_accuracy=robust,
    class_robust_accuracy=by_class,
    confusion=_confusion(dataset, seen),
    attack=_strength(cfg, *(met / max(attacked, 1)).tolist()),
    num_examples=len(dataset.labels),
    seconds=time.monotonic() - start,
  )


def _part_name(cfg: EvaluateConfig, eps: float) -> str:
  return f"eps{eps:g}-steps{cfg.num_steps}-ratio{cfg.step_ratio:g}"


def _by_class(alive: np.ndarray, dataset: ds.Dataset) -> list[float | None]:
  counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
  left = np.bincount(dataset.labels[alive], minlength=dataset.num_classes)
  return [
    float(a / b) if b else None for a, b in zip(left, counts, strict=True)
  ]


def _confusion(dataset: ds.Dataset, seen: np.ndarray) -> list[list[int]]:
  count = max(dataset.num_classes, int(seen.max()) + 1)
  found = np.zeros((count, count), np.int64)
  np.add.at(found, (dataset.labels, seen), 1)
  return found.tolist()


def on_shifted_labels(
  confusion: list[list[int]], num_classes: int, shift: int
) -> float:
  """Returns the accuracy were every label `shift` further.

  Args:
    confusion: Counts by class and by what the model sees; see `Evaluation`.
    num_classes: Of the data: the last class is followed by the first, whatever
      else the model may see.
    shift: Added to every label.
  """
  right = sum(
    seen[(label + shift) % num_classes]
    for label, seen in enumerate(confusion[:num_classes])
  )
  return right / sum(map(sum, confusion))


def _strength(
  cfg: EvaluateConfig,
  zero_gradient_fraction: float,
  nonfinite_gradient_fraction: float,
) -> dict[str, Any]:
  return {
    "name": "pgd",
    "norm": cfg.norm,
    "num_steps": cfg.num_steps,
    "step_size": f"{cfg.step_ratio:g} eps/{cfg.num_steps}",
    "num_restarts": cfg.num_restarts,
    "loss": cfg.loss,
    "bn_mode": cfg.bn_mode,
    "gradients": cfg.num_steps * cfg.num_restarts,
    "zero_gradient_fraction": zero_gradient_fraction,
    "nonfinite_gradient_fraction": nonfinite_gradient_fraction,
  }


def step_sweep(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  cfg: EvaluateConfig,
  key: jax.Array,
  steps: tuple[int, ...],
  step_ratios: tuple[float, ...],
  measured: Measured | None = None,
) -> list[dict[str, Any]]:
  """Robust accuracy at `cfg.eps[0]` against the number of steps.

  For every number of steps each step size of the grid is tried on all
  examples, in units of eps / steps (`EvaluateConfig.step_ratio`); the accuracy
  under the strongest one, the first of equals, is the row's. Raises what
  `evaluate` raises.

  Reference: arXiv:1905.02175, appendix D.2, figure 8.
  """
  rows = []
  for num_steps in steps:
    tried = {}
    for ratio in step_ratios if num_steps else step_ratios[:1]:
      attempt = dataclasses.replace(
        cfg, eps=cfg.eps[:1], num_steps=num_steps, step_ratio=ratio
      )
      found = evaluate(
        model, variables, dataset, attempt, key, f"{num_steps} steps",
        measured=measured,
      )  # fmt: skip
      tried[ratio] = found.robust_accuracy[cfg.eps[0]]
    best = min(tried, key=lambda ratio: tried[ratio])
    rows.append(
      {
        "num_steps": num_steps,
        "robust_accuracy": tried[best],
        "step_ratio": best,
      }
    )
  return rows
