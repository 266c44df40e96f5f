"""Slower judges of robustness than `evaluate`: AutoAttack and CW-l2."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robust_features import attacks, evaluate, models
from robust_features.attacks import autoattack, carlini_wagner
from robust_features.data import dataset as ds
from robust_features.runtime import batching, paths, preemption, sharding
from robust_features.runtime.logs import progress
from robust_features.runtime.measured import Measured


@dataclasses.dataclass(frozen=True)
class AutoAttackConfig:
  """Settings of an AutoAttack evaluation.

  Attributes:
    norm: "l2" or "linf".
    eps: Radii in pixel units of [0, 1]; one evaluation each.
    attacks: Of `autoattack.ATTACKS`, in their order.
    budget: Steps, targets, queries and restarts of the attacks.
    batch_size: Images at a time.
  """

  norm: str
  eps: tuple[float, ...]
  attacks: tuple[str, ...]
  budget: autoattack.Budget
  batch_size: int

  def __post_init__(self):
    for eps in self.eps:
      if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise ValueError(f"eps must be a tuple of numbers, got {self.eps!r}")
      autoattack.check_settings(
        self.norm, float(eps), self.attacks, self.batch_size
      )


def auto_attack(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  cfg: AutoAttackConfig,
  key: jax.Array,
  directory: str | pathlib.Path,
  name: str = "autoattack",
) -> list[dict[str, Any]]:
  """Runs AutoAttack at every radius of `cfg.eps`.

  Args:
    model: The architecture.
    variables: Its variables, replicated over the devices.
    dataset: Images and the labels that count as correct.
    cfg: The attacks.
    key: Folded with each example's index.
    directory: Keeps every radius's progress and adversarial examples, from
      which an interrupted evaluation goes on.
    name: For the lines of progress.

  Returns:
    One record a radius, with the fields of `AutoAttackResult` that are numbers.

  Raises:
    ValueError: If a radius exceeds the box, or outputs are not finite.
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  directory = paths.folder(directory, "directory")
  logits_fn = jax.tree_util.Partial(_logits_fn(model), variables)
  x = np.asarray(ds.to_float(dataset.images))
  bar = progress(0, name)

  def report(line: str) -> None:
    bar.set_postfix_str(line)
    preemption.check()

  rows = []
  with bar:
    for eps in cfg.eps:
      found = autoattack.run(
        logits_fn,
        x,
        dataset.labels,
        norm=cfg.norm,
        eps=eps,
        key=key,
        batch_size=cfg.batch_size,
        attacks=cfg.attacks,
        budget=cfg.budget,
        sharding=sharding.over_data(),
        workdir=directory / f"eps_{eps:g}",
        save_now=preemption.pending,
        progress=report,
      )
      rows.append(_row(found))
  return rows


@functools.cache
def _logits_fn(model: models.Model) -> Callable[[Any, jax.Array], jax.Array]:
  """Returns a model's (variables, x) -> logits, the same one every time.

  Compiled attacks are found again by it.
  """
  return lambda variables, x: models.apply(model, variables, x).logits


def _row(found: autoattack.AutoAttackResult) -> dict[str, Any]:
  arrays = ("x_adv", "robust", "broken_by")
  names = [f.name for f in dataclasses.fields(found) if f.name not in arrays]
  row = {name: getattr(found, name) for name in names}
  row["warnings"] = list(found.warnings)
  return row | {"robust_accuracy": found.robust_accuracy}


@functools.partial(jax.jit, static_argnames="model")
def _nearest(model, variables, images, labels, indices, cfg):
  x = ds.to_float(sharding.split_batch(images[indices]))

  def logits_fn(z):
    return models.apply(model, variables, z).logits

  y = labels[indices]
  found = carlini_wagner.minimize_distance(logits_fn, x, y, cfg)
  return found.distance, found.nonfinite_gradients > 0


def nearest_errors(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  cfg: attacks.CarliniWagnerConfig,
  batch_size: int,
  measured: Measured | None = None,
) -> tuple[np.ndarray, float]:
  """Returns the l2 distance `[N]` of the nearest error that CW-l2 finds.

  Robust accuracy at eps is the fraction above eps. The second value is the
  share of images that met a gradient that is not finite.

  Raises:
    ValueError: If images or labels are none, or there are too few logits.

  Reference: arXiv:1608.04644, section VI.A.
  """
  evaluate.check_fit(model, variables, dataset)
  images, labels = sharding.replicate((dataset.images, dataset.labels))
  batch_size = batching.even_batch(batch_size, dataset.num_examples)
  attack = functools.partial(
    _nearest, model, variables, images, labels, cfg=cfg
  )
  run = functools.partial(
    (measured or Measured()).run,
    "distance",
    function=attack,
  )
  with progress(dataset.num_examples, "CW-l2", unit="image") as bar:
    distances, bad = batching.map_batches(
      run, np.arange(dataset.num_examples), batch_size, bar=bar
    )
  return distances, float(bad.mean())
