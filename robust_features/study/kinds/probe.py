"""How far a linear classifier in closed form gets on what a model sees.

Fitted on one set and tested on another, it bounds from below what the first
tells of the second: of D_rand and D_det over a robust model's representation,
how much of what they teach is robust features that leaked into them.

Reference: Goh, "Robust feature leakage", Distill 2019.
"""

import dataclasses
import math
import pathlib
import time
from typing import Annotated, Any

import numpy as np

from robust_features import evaluate, ridge
from robust_features.data import dataset as ds
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.report import tables

_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a probe stage.

  Attributes:
    model: The stage whose representation is read; empty for the images.
    which: Its "last" weights, or the "best" on the held-out split.
    data: What is fitted on: a source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    originals: The images that `data` was made of, if its changes are read
      instead of its images; empty for none.
    test: What is tested on: a source, or a stage that makes a data set.
    test_split: Of a source.
    label_shifts: Added to the test's labels, modulo the number of classes; an
      accuracy each.
    strength: Of the ridge, in units of the mean eigenvalue.
  """

  model: settings.OptionalModelName
  which: settings.Which
  data: settings.DataName
  split: Annotated[str, settings.PartOf(settings.SPLITS, ("data", "originals"))]
  originals: settings.OptionalDataName
  test: settings.DataName
  test_split: Annotated[str, settings.PartOf(settings.SPLITS, ("test",))]
  label_shifts: tuple[int, ...]
  strength: float

  def __post_init__(self):
    if not 0 < self.strength < math.inf:
      raise ValueError(
        f"strength must be a finite number above 0, got {self.strength!r}"
      )
    if self.model and self.originals:
      raise ValueError("originals is for images alone; model must be ''")


def _features(study: Study, stage: Stage, images: Any) -> np.ndarray:
  """Returns what is read of images, float32 `[N, D]`."""
  if not stage.model:
    return np.asarray(ds.to_float(images)).reshape(len(images), -1)
  model, variables = study.model(stage.model, stage.which)
  found = evaluate.represent(model, variables, images, _BATCH)
  return found.reshape(len(images), -1)


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del directory
  start = time.monotonic()
  data = study.dataset(stage.data, stage.split)
  test = study.dataset(stage.test, stage.test_split)
  x = _features(study, stage, data.images)
  if stage.originals:
    originals = study.dataset(stage.originals, stage.split)
    if originals.num_examples != data.num_examples:
      raise ValueError(
        f"stages.{name}.originals has {originals.num_examples} images for "
        f"{data.num_examples} of {stage.data}"
      )
    x = x - _features(study, stage, originals.images)
  found = ridge.fit(x, data.labels, data.num_classes, stage.strength)
  tested = _features(study, stage, test.images)
  accuracies = {
    str(shift): ridge.accuracy(
      found, tested, (test.labels + shift) % test.num_classes
    )
    for shift in stage.label_shifts
  }
  return {
    "model": stage.model,
    "data": stage.data,
    "originals": stage.originals,
    "test": stage.test,
    "fitted": ridge.accuracy(found, x, data.labels),
    "accuracy": accuracies,
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _report(found: dict[str, Any]):
  if not found:
    return []
  shifts = sorted({s for f in found.values() for s in f["accuracy"]}, key=int)
  rows = [["probe", "reads", "fitted on", "its own", "tested on",
           *(tables.shifted(int(s)) for s in shifts)]]  # fmt: skip
  for name, result in found.items():
    reads = f"representation of {result['model']}"
    if not result["model"]:
      reads = "changes" if result["originals"] else "pixels"
    cells = [tables.percent(result["accuracy"].get(s)) for s in shifts]
    own = tables.percent(result["fitted"])
    rows.append([name, reads, result["data"], own, result["test"], *cells])
  return [("Linear probes", [tables.aligned(rows)])]


def _work(stage: Stage, num_images) -> Work:
  images = num_images(stage.data, stage.split)
  images += num_images(stage.test, stage.test_split)
  return Work(images=images, passes=images if stage.model else 0)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="probes",
  claim=(
    "A linear classifier over a robust model's representation tells how much "
    "robust features leaked into a constructed set."
  ),
  report=_report,
  work=_work,
)
