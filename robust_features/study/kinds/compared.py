"""What stages that measure several models on the same images have in common."""

import dataclasses
from typing import Any

import numpy as np

from robust_features.data import dataset as ds
from robust_features.study import settings
from robust_features.study.graph import Study
from robust_features.study.kinds.subject import num_sampled, sampled


@dataclasses.dataclass(frozen=True)
class Compared:
  """Fields that say which models are measured, and on what.

  Attributes:
    models: Stages whose models are measured; those after the first are its
      controls.
    which: "last", or "best" on the held-out split.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    num_examples: Images, every class in its share; 0 for all.
  """

  models: tuple[settings.ModelName, ...]
  which: settings.Which
  data: settings.DataName
  split: settings.Split
  num_examples: settings.Count

  def __post_init__(self):
    if not self.models or len(set(self.models)) < len(self.models):
      raise ValueError(
        f"models must name at least one stage, each once, got {self.models!r}"
      )

  def num_images(self, num_images) -> int:
    """Returns how many images all models see together; see `Kind.work`."""
    size = num_images(self.data, self.split)
    return len(self.models) * num_sampled(self.num_examples, size)

  def dataset(self, study: Study) -> ds.Dataset:
    """Returns the images that every model sees."""
    whole = study.dataset(self.data, self.split)
    return sampled(study, whole, self.num_examples)


def differences(right: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
  """Returns how far the first model is ahead of each other one, for JSON.

  Args:
    right: By model, where it is right on the same images: bool, or shares of
      an image's changes, `[N]`.

  Returns:
    By every model but the first the mean difference and its standard error,
    that of pairs.
  """
  first, *others = right
  found = {}
  for each in others:
    away = right[first].astype(float) - right[each].astype(float)
    spread = away.std(ddof=1) if len(away) > 1 else 0.0
    found[each] = {
      "difference": float(away.mean()),
      "standard_error": float(spread / len(away) ** 0.5),
    }
  return found


def lines(found: dict[str, Any], of: str) -> list[str]:
  """Returns a line of the report for each control.

  Args:
    found: A stage's result: "models" by name, and "differences".
    of: What the accuracies are of.
  """
  first = next(iter(found["models"]))
  lines = []
  for each, pair in found["differences"].items():
    away, error = pair["difference"], pair["standard_error"]
    clear = abs(away) > 2 * error
    lines.append(
      f"- {of}: {first} less its control {each}: {100 * away:+.2f} ± "
      f"{100 * error:.2f} points, pairs of the same images"
      + ("" if clear else "; not clear of it by two standard errors")
    )
  return lines
