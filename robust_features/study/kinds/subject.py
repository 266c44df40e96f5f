"""What stages that measure a model have in common: the model, the images."""

import dataclasses
from typing import Any

import numpy as np

from robust_features import models
from robust_features.data import dataset as ds
from robust_features.study import settings
from robust_features.study.graph import Study


@dataclasses.dataclass(frozen=True)
class Subject:
  """Fields that say what is measured.

  Attributes:
    model: The stage whose model it is.
    which: "last", or "best" on the held-out split.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    label_shift: Added to every label, modulo the number of classes.
  """

  model: settings.ModelName
  which: settings.Which
  data: settings.DataName
  split: settings.Split
  label_shift: int

  def num_images(self, num_images) -> int:
    """Returns how many images are measured; see `Kind.work`."""
    return num_images(self.data, self.split)


def subject(
  study: Study, stage: Subject
) -> tuple[models.Model, dict[str, Any], ds.Dataset]:
  """Returns (network, variables, data set) that a stage measures."""
  data = study.dataset(stage.data, stage.split)
  if stage.label_shift:
    labels = (data.labels + stage.label_shift) % data.num_classes
    data = dataclasses.replace(data, labels=labels.astype(np.int32))
  return *study.model(stage.model, stage.which), data


def num_sampled(num_examples: int, size: int) -> int:
  """Returns how many of so many images `sampled` takes."""
  return min(num_examples, size) if num_examples else size


def sampled(study: Study, data: ds.Dataset, num_examples: int) -> ds.Dataset:
  """Returns some examples, every class in its share; all of them for 0."""
  return ds.sample(data, num_examples, study.plan.config.seed)
