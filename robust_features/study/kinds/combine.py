"""A stage that mixes two sets: partial poisons, or D_R beside D.

It also deals the changes of a set out among other images, which is the control
of a poison: the same changes, as large and as many, that tell no class.
"""

import dataclasses
import math
import pathlib
from typing import Annotated

import jax
import numpy as np

from robust_features.data import dataset as ds
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import derived


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a combine stage.

  Attributes:
    data: A source, or a stage that makes a data set.
    also: Another, of the same classes and image shape.
    split: Of a source: "train", "validation" or "test".
    how: "replace" takes a random `fraction` of the examples, in their places,
      from `also`, which has as many; "append" puts that many, drawn from
      `also`, behind `data`; "changes" takes a random `fraction` of the
      examples and gives each what another one of them was changed by to become
      that of `also`, labels as they are.
    fraction: Share of the number of `data`'s examples. Above 1 only to append:
      7 / 3 makes 70% of a batch, on average, examples of `also`.
  """

  data: settings.DataName
  also: settings.DataName
  split: Annotated[str, settings.PartOf(settings.SPLITS, ("data", "also"))]
  how: Annotated[str, settings.OneOf(("replace", "append", "changes"))]
  fraction: float

  def __post_init__(self):
    most = math.inf if self.how == "append" else 1.0
    if not 0 < self.fraction <= most or math.isinf(self.fraction):
      raise ValueError(
        "fraction must be in (0, 1], or more to append, got "
        f"{self.fraction!r} for {self.how!r}"
      )


def mix(data: ds.Dataset, also: ds.Dataset, how: str, fraction: float, key):
  """Returns the mixture of two sets; see `Stage`."""
  order = np.asarray(jax.random.permutation(key, also.num_examples))
  dealt = order[: round(fraction * data.num_examples)]
  chosen = np.sort(dealt)
  if how == "changes":
    return _dealt_out(data, also, chosen, dealt)
  images, labels = ds.to_float(data.images), data.labels
  images, other = np.array(images), np.asarray(ds.to_float(also.images))
  if data.images.dtype == also.images.dtype:
    images, other = data.images.copy(), also.images
  labels = labels.copy()
  if how == "replace":
    images[chosen], labels[chosen] = other[chosen], also.labels[chosen]
  else:
    images = np.concatenate([images, other[chosen]])
    labels = np.concatenate([labels, also.labels[chosen]])
  return ds.make(images, labels, data.class_names)


def _dealt_out(data, also, chosen, dealt) -> ds.Dataset:
  """Returns `data` with the changes of the images `dealt` at `chosen`."""
  x, z = (np.asarray(ds.to_float(each.images)) for each in (data, also))
  images = np.array(x)
  images[chosen] = np.clip(x[chosen] + (z - x)[dealt], 0.0, 1.0)
  if data.images.dtype == np.uint8:
    images = np.round(images * np.float32(255)).astype(np.uint8)
  return ds.make(images, data.labels, data.class_names)


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  data, also = (
    study.dataset(source, stage.split) for source in (stage.data, stage.also)
  )
  fits = data.num_examples == also.num_examples
  if stage.how == "append":
    fits = round(stage.fraction * data.num_examples) <= also.num_examples
  if not fits or data.image_shape != also.image_shape:
    raise ValueError(
      f"stages.{name}.also has {also.num_examples} images of {also.image_shape}"
      f", which do not fit the {data.num_examples} of {data.image_shape} of "
      f"{stage.data}"
    )
  if data.class_names != also.class_names:
    raise ValueError(f"stages.{name}.also has other classes than {stage.data}")
  mixed = mix(data, also, stage.how, stage.fraction, study.key(name))
  return derived.save(directory, mixed)


def _work(stage: Stage, num_images) -> Work:
  images = num_images(stage.data, stage.split)
  more = round(stage.fraction * images) if stage.how == "append" else 0
  return Work(images + more)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="combined",
  claim=("Two sets in one tell how much of either a network has to see."),
  load=derived.load,
  report=derived.report("Combined sets"),
  work=_work,
)
