"""A stage that keeps some examples of a set, such as a model's errors."""

import dataclasses
import pathlib
from typing import Annotated, Any

import numpy as np

from robust_features import evaluate
from robust_features.data import dataset as ds
from robust_features.data import select
from robust_features.study import settings
from robust_features.study.graph import Kind, Plan, Study, Work
from robust_features.study.kinds import derived

_BY_MODEL = ("right", "wrong", "margin")
_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a select stage.

  Attributes:
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    by: What is kept: examples that a model has "right" or "wrong", those of
      extreme "margin" of the label, of some "classes", or the "first".
    model: The stage whose model decides; empty for none.
    which: Its "last" weights, or the "best" on the held-out split.
    judged: The set whose images that model sees, example by example, beside
      the labels of `data`; empty for `data` itself.
    fraction: Share that is kept by margin.
    end: "top" for the largest margins, or "bottom".
    classes: To keep.
    num_examples: To keep of the first.
  """

  data: settings.DataName
  split: Annotated[str, settings.PartOf(settings.SPLITS, ("data", "judged"))]
  by: Annotated[str, settings.OneOf((*_BY_MODEL, "classes", "first"))]
  model: settings.OptionalModelName
  which: settings.Which
  judged: settings.OptionalDataName
  fraction: float
  end: Annotated[str, settings.OneOf(("top", "bottom"))]
  classes: tuple[settings.Count, ...]
  num_examples: settings.Count

  def __post_init__(self):
    for field, wanted, idle in (
      ("model", self.by in _BY_MODEL, ""),
      ("classes", self.by == "classes", ()),
      ("num_examples", self.by == "first", 0),
    ):
      value = getattr(self, field)
      if (value != idle) != wanted:
        raise ValueError(
          f"{field} must be {'given' if wanted else repr(idle)} by "
          f"{self.by!r}, got {value!r}"
        )
    if self.judged and not self.model:
      raise ValueError(f"judged needs a model, got {self.judged!r}")
    if not 0 < self.fraction <= 1:
      raise ValueError(f"fraction must be in (0, 1], got {self.fraction!r}")


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises where a fraction would be ignored."""
  del plan
  if stage.by != "margin" and stage.fraction != 1.0:
    raise ValueError(
      f"stages.{name}.fraction must be 1 by {stage.by!r}, got {stage.fraction}"
    )


def _indices(
  study: Study, name: str, stage: Stage, data: ds.Dataset
) -> np.ndarray:
  if stage.by == "classes":
    return np.flatnonzero(np.isin(data.labels, stage.classes))
  seen = data
  if stage.judged:
    seen = study.dataset(stage.judged, stage.split)
  logits = evaluate.predict(
    *study.model(stage.model, stage.which), seen.images, _BATCH
  )
  if logits.shape[1] < data.num_classes:
    raise ValueError(
      f"stages.{name}.model tells {logits.shape[1]} classes, but {stage.data} "
      f"has {data.num_classes}; name a model of as many"
    )
  if stage.by == "margin":
    margins = select.margins(logits, data.labels)
    return select.extreme(margins, stage.fraction, stage.end)
  right = logits.argmax(1) == data.labels
  return np.flatnonzero(right if stage.by == "right" else ~right)


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  data = study.dataset(stage.data, stage.split)
  if stage.judged:
    size = study.dataset(stage.judged, stage.split).num_examples
    if size != data.num_examples:
      raise ValueError(
        f"stages.{name}.judged has {size} images for {data.num_examples} of "
        f"{stage.data}; both must be of the same originals"
      )
  if stage.by == "first":
    count = min(stage.num_examples, data.num_examples)
    found = ds.take(data, np.arange(count))
  else:
    found = ds.take(data, _indices(study, name, stage, data))
  if not found.num_examples:
    raise ValueError(
      f"stages.{name} keeps none of the {data.num_examples} images of "
      f"{stage.data}; select by something else"
    )
  return derived.save(directory, found) | {"of": data.num_examples}


def _work(stage: Stage, num_images) -> Work:
  images = num_images(stage.data, stage.split)
  kept = {
    "margin": round(stage.fraction * images),
    "first": min(stage.num_examples, images),
  }
  return Work(
    images=kept.get(stage.by, images), passes=images if stage.model else 0
  )


def _shrink(stage: Any) -> None:
  # A model of two epochs may have no error, or nothing right.
  if stage.by in ("right", "wrong"):
    stage.by, stage.fraction = "margin", 0.5


KIND = Kind(
  stage=Stage,
  run=_run,
  section="selections",
  claim=(
    "A model's errors alone, labelled as it sees them, teach the true classes."
  ),
  load=derived.load,
  check=_check,
  report=derived.report("Selected examples"),
  shrink=_shrink,
  work=_work,
)
