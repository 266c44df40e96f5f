"""What networks know of several labels while they train, peak and end.

A poison may do its harm late: whoever stops early is spared it, so that the
peak belongs beside the last epoch. Where labels conflict the curves tell which
of them is learnt first.

Reference: arXiv:2204.08615 (the peak); Benz et al., ICCV 2021 (conflicts).
"""

import dataclasses
import pathlib
from typing import Any

from robust_features.study import folder, settings
from robust_features.study.graph import Kind, Plan, Study
from robust_features.study.report import curve_figures, tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a curve stage.

  Attributes:
    models: Train stages; those after the first are its controls. Each was
      evaluated on images held out of its `validation` every
      `train.eval_every_epochs`.
    label_shifts: Added to every label, modulo the number of classes; a curve
      each.
  """

  models: tuple[settings.ModelName, ...]
  label_shifts: tuple[int, ...]

  def __post_init__(self):
    for field in ("models", "label_shifts"):
      value = getattr(self, field)
      if not value or len(set(value)) < len(value):
        raise ValueError(
          f"{field} must have at least one entry, each once, got {value!r}"
        )


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises unless every model is trained here, on a source with images left."""
  for each in stage.models:
    trained = plan.nodes[each].stage
    if not hasattr(trained, "validation"):
      raise ValueError(
        f"stages.{name}.models must name stages that train, got {each!r}"
      )


def _preflight(study: Study, name: str, stage: Stage) -> None:
  del name
  for each in stage.models:
    study.dataset(study.plan.nodes[each].stage.validation, "validation")


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del directory
  found = {}
  for each in stage.models:
    history = study.require(each)["history"]
    if any("validation_shifted" not in record for record in history):
      raise ValueError(
        f"stages.{name}.models names {each!r}, which was trained before "
        f"accuracies by label were kept; {folder.remedy(study.workdir / each)}"
      )
    by_shift = {
      str(shift): [r["validation_shifted"][_place(r, shift)] for r in history]
      for shift in stage.label_shifts
    }
    source = study.plan.nodes[each].stage.validation
    found[each] = {
      "epochs": [record["epoch"] for record in history],
      "accuracy": by_shift,
      "train_accuracy": history[-1]["train_accuracy"],
      "num_validation": study.splits(source).validation.num_examples,
      "num_classes": study.num_classes(source),
    }
  return {"models": found}


def _place(record: dict[str, Any], shift: int) -> int:
  return shift % len(record["validation_shifted"])


def _lines(found: dict[str, Any]) -> list[str]:
  models = found["models"]
  first = next(iter(models.values()))
  header = ["model", "its training set"]
  for shift in first["accuracy"]:
    label = tables.shifted(int(shift))
    header += [f"{label}: peak", "at epoch", "last"]
  rows, errors = [header], []
  for name, result in models.items():
    cells = [tables.percent(result["train_accuracy"])]
    for values in result["accuracy"].values():
      peak = max(values)
      epoch = result["epochs"][values.index(peak)]
      cells += [tables.percent(peak), str(epoch), tables.percent(values[-1])]
      errors += [
        tables.standard_error(value, result["num_validation"]) or 0.0
        for value in values
      ]
    rows.append([name, *cells])
  sizes = sorted({result["num_validation"] for result in models.values()})
  counts = sorted({len(result["epochs"]) for result in models.values()})
  return [
    tables.aligned(rows),
    "",
    f"- percent correct of {', '.join(map(str, sizes))} clean images, held "
    "out; standard error of a number: at most "
    f"{100 * max(errors):.2f}, and the largest of {', '.join(map(str, counts))}"
    " evaluations is too high by about as much",
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: accuracy while they train", _lines(f))
    for name, f in found.items()
  ]


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  folder = workdir / "figures"
  return [curve_figures.labels(name, f, folder) for name, f in found.items()]


KIND = Kind(
  stage=Stage,
  run=_run,
  section="curves",
  heading="Accuracy while they train",
  claim=(
    "A network that stops early may be spared what a poison does to it in the "
    "end, and learns first what is robust; the network on D is the control."
  ),
  caption=(
    "Accuracy on images held out against the epoch, a line a rule of labels; a "
    "panel a model."
  ),
  check=_check,
  preflight=_preflight,
  report=_report,
  draw=_draw,
)
