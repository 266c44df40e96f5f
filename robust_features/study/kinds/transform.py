"""A stage that changes a whole set: JPEG, grey, frequencies, labels."""

import dataclasses
import pathlib
from typing import Annotated

import jax
import numpy as np

from robust_features.data import dataset as ds
from robust_features.data import transform
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import derived

# What `amount` may be: from, to.
_AMOUNTS = {
  "jpeg": (1, 95),
  "grey": (0, 0),
  "low_pass": (0, float("inf")),
  "high_pass": (0, float("inf")),
  "shuffle_labels": (0, 0),
}


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a transform stage.

  Attributes:
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    transform: "jpeg", "grey", "low_pass", "high_pass" or "shuffle_labels",
      which deals the labels out again among the images.
    amount: JPEG's quality, a filter's radius in periods an image; else 0.
  """

  data: settings.DataName
  split: settings.Split
  transform: Annotated[str, settings.OneOf(tuple(_AMOUNTS))]
  amount: float

  def __post_init__(self):
    low, high = _AMOUNTS[self.transform]
    if not low <= self.amount <= high:
      raise ValueError(
        f"amount must be in [{low}, {high}] for {self.transform!r}, got "
        f"{self.amount!r}"
      )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  data = study.dataset(stage.data, stage.split)
  if stage.transform == "shuffle_labels":
    order = jax.random.permutation(study.key(name), data.num_examples)
    labels = data.labels[np.asarray(order)]
    found = ds.make(data.images, labels, data.class_names)
  else:
    found = transform.apply(stage.transform, data, stage.amount)
  return derived.save(directory, found)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="transformed",
  claim=(
    "A set without some of what images hold tells which features were used."
  ),
  load=derived.load,
  report=derived.report("Changed sets"),
  work=lambda stage, num_images: Work(num_images(stage.data, stage.split)),
)
