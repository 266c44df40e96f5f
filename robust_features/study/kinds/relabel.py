"""A stage that labels a set with what a model sees in it.

Reference: Wallace, "Learning from incorrectly labeled data", Distill 2019.
"""

import dataclasses
import pathlib

import numpy as np

from robust_features import evaluate
from robust_features.data import dataset as ds
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import derived

_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a relabel stage.

  Attributes:
    model: The stage whose model gives the labels.
    which: Its "last" weights, or the "best" on the held-out split.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
  """

  model: settings.ModelName
  which: settings.Which
  data: settings.DataName
  split: settings.Split


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  data = study.dataset(stage.data, stage.split)
  model, variables = study.model(stage.model, stage.which)
  logits = evaluate.predict(model, variables, data.images, _BATCH)
  labels = logits.argmax(1).astype(np.int32)
  seen = ds.make(
    data.images, labels, data.class_names,
    where=f"stages.{name}: what {stage.model} sees in {stage.data}",
  )  # fmt: skip
  return derived.save(directory, seen) | {
    "agreement": float((labels == data.labels).mean())
  }


def _work(stage: Stage, num_images) -> Work:
  images = num_images(stage.data, stage.split)
  return Work(images=images, passes=images)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="relabelled",
  claim=(
    "Labels that a model gives carry what it knows, even where all are wrong."
  ),
  load=derived.load,
  report=derived.report("Labelled by a model"),
  work=_work,
)
