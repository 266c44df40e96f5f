"""One perturbation for each class, climbed over all its images.

Every image of a class gets the same perturbation, under which a network is led
towards another class, or towards the own one. The labels stay, so that the set
is a poison (P3 of its reference), or one that promises too much (P4).

Reference: arXiv:2102.04716 (Tao et al., NeurIPS 2021), section 4 and its code:
500 steps of eps/5 on batches of the class, l2 0.5.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, evaluate, models, objectives, whole_set
from robust_features.attacks import geometry
from robust_features.data import dataset as ds
from robust_features.runtime import paths, preemption, sharding
from robust_features.runtime.logs import progress
from robust_features.runtime.measured import Measured

TARGETS = ("next", "own")


@dataclasses.dataclass(frozen=True)
class ClassPerturbationConfig:
  """How perturbations of classes are made.

  Attributes:
    attack: The ball of a perturbation; its step size and number of steps.
    target: What the network is led to: the "next" class or the "own" one.
    class_batch_size: Images of the class in one step, drawn with replacement.
    pixels: What is stored and trained on: "uint8" or "float32".
    batch_size: Images at a time where the set is written.
    shard_size: Images in one file.
  """

  attack: attacks.AttackConfig
  target: str
  class_batch_size: int
  pixels: str
  batch_size: int
  shard_size: int

  def __post_init__(self):
    if self.target not in TARGETS:
      raise ValueError(f"target must be one of {TARGETS}, got {self.target!r}")
    for name in ("class_batch_size", "batch_size", "shard_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)!r}"
        )
    if self.pixels not in ("uint8", "float32"):
      raise ValueError(
        f"pixels must be 'uint8' or 'float32', got {self.pixels!r}"
      )
    if not 0 < self.attack.eps < math.inf:
      raise ValueError(
        f"attack.eps must be above 0 and finite, got {self.attack.eps!r}"
      )
    attacks.check_climbs("attack", self.attack)
    for name, want in (("start", "x"), ("num_restarts", 1),
                       ("keep_best", False)):  # fmt: skip
      if getattr(self.attack, name) != want:
        raise ValueError(
          f"attack.{name} must be {want!r} for a perturbation that many images "
          f"share, got {getattr(self.attack, name)!r}"
        )


@functools.partial(jax.jit, static_argnames=("model", "batch_size"))
def climb(
  model, variables, images, rows, num_rows, target, key, attack, *, batch_size
):
  """Returns one perturbation `[1, H, W, C]` for the images at some rows.

  Args:
    model: The architecture.
    variables: Its variables.
    images: `[N, H, W, C]` of all classes.
    rows: `[M]`, those of the class first.
    num_rows: How many of them are the class's.
    target: The class that the network is led to.
    key: Of the batches, folded with the step.
    attack: Norm, radius, step size and count.
    batch_size: Images of one step.
  """
  y = jnp.full(batch_size, target)

  def body(step, delta):
    drawn = jax.random.randint(
      jax.random.fold_in(key, step), (batch_size,), 0, num_rows
    )
    x = ds.to_float(images[sharding.split_batch(rows[drawn])])

    def mean(delta):
      objective = objectives.target_objective(model, variables, y)
      return objective(jnp.clip(x + delta, 0.0, 1.0)).mean()

    grad, _ = geometry.finite(jax.grad(mean)(delta))
    step = attack.step_size * geometry.unit_direction(grad, attack.norm)
    return geometry.into_ball(delta + step, attack.norm, attack.eps)

  begin = jnp.zeros((1, *images.shape[1:]), jnp.float32)
  return jax.lax.fori_loop(0, attack.num_steps, body, begin)


def perturbations(
  cfg: ClassPerturbationConfig,
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  key: jax.Array,
  name: str = "class_perturbation",
  measured: Measured | None = None,
) -> np.ndarray:
  """Returns a perturbation for every class, `[K, H, W, C]`.

  A class without images keeps a perturbation of zero.

  Args:
    cfg: What is climbed.
    model: The source model's architecture.
    variables: Its variables.
    dataset: The images; in memory.
    key: Of the batches, folded with the class.
    name: For the progress bar.
    measured: Where the classes are kept that an earlier sitting finished.

  Raises:
    ValueError: If images or labels are none, the network knows too few
      classes, or the radius exceeds the box.
    preemption.Stopped: If the process was asked to stop.
  """
  evaluate.check_fit(model, variables, dataset)
  attacks.check_radius(
    "attack.eps", cfg.attack.eps, cfg.attack.norm, dataset.image_shape
  )
  images = sharding.replicate(dataset.images)
  run = (measured or Measured()).run
  found = np.zeros((dataset.num_classes, *dataset.image_shape), np.float32)
  with progress(dataset.num_classes, name, unit="class") as bar:
    for label in range(dataset.num_classes):
      preemption.check()
      own = np.flatnonzero(dataset.labels == label)
      if len(own):
        rows = np.resize(own, dataset.num_examples)  # Of one shape.
        target = _wanted(cfg, label, dataset.num_classes)
        (delta,) = run(
          "class", np.array([label]),
          lambda _, own=own, rows=rows, target=target, label=label: (
            climb(
              model, variables, images, rows, len(own), target,
              jax.random.fold_in(key, label), cfg.attack,
              batch_size=cfg.class_batch_size,
            ),
          ),
        )  # fmt: skip
        found[label] = delta[0]
      bar.update(1)
  return found


def _wanted(cfg: ClassPerturbationConfig, labels: Any, num_classes: int):
  """Returns what the network is led to for labels."""
  return (labels + (cfg.target == "next")) % num_classes


def make(
  cfg: ClassPerturbationConfig,
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  directory: str | pathlib.Path,
  key: jax.Array,
  origin: dict[str, Any],
  name: str = "class_perturbation",
) -> dict[str, Any]:
  """Makes a data set, going on after the last class that is done.

  Args:
    cfg: What is climbed.
    model: The source model's architecture.
    variables: Its variables.
    dataset: The images, whose labels stay as they are; in memory.
    directory: Holds `classes/` and the set in `data/`.
    key: Of everything random.
    origin: Recorded in the manifest.
    name: For the progress bar.

  Returns:
    The manifest of the data set.

  Raises:
    ValueError: As `perturbations` does.
    preemption.Stopped: If the process was asked to stop.
  """
  directory = paths.folder(directory, "directory")
  delta = perturbations(
    cfg, model, variables, dataset, key, name, Measured(directory / "classes")
  )
  labels = dataset.labels
  x = np.asarray(ds.to_float(dataset.images))
  wanted = _wanted(cfg, labels, dataset.num_classes)
  return whole_set.write(
    "class_perturbation", directory / "data", model, variables, dataset,
    np.clip(x + delta[labels], 0.0, 1.0), wanted, origin, pixels=cfg.pixels,
    batch_size=cfg.batch_size, shard_size=cfg.shard_size,
  )  # fmt: skip
