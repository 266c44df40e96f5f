"""A row of the table: a model's accuracy and robust accuracy."""

import dataclasses
import pathlib
from typing import Annotated, Any

from robust_features import evaluate as evaluation
from robust_features.data import planted
from robust_features.runtime.measured import Measured
from robust_features.study import paper, settings
from robust_features.study.graph import Kind, Plan, Study, Work
from robust_features.study.kinds.subject import Subject, subject
from robust_features.study.report import figures, tables

NUM_CONFLICTS = 2000  # Images whose two planted cues disagree.


@dataclasses.dataclass(frozen=True)
class Stage(Subject):
  """Fields of an evaluate stage.

  Attributes:
    title: The row's name in the table.
    paper: The row of `study.paper` printed beside it where the data are the
      paper's; empty for none.
    control_of: The row whose claim this one could refute; empty for none.
    label_shifts: Further ones, each added to the labels as they are in `data`;
      their accuracies are shown beside the first.
    evaluate: The attack.
  """

  title: settings.Label
  paper: Annotated[str, settings.Shown(), settings.OneOf(("", *paper.ROWS))]
  control_of: settings.Label
  label_shifts: tuple[int, ...]
  evaluate: evaluation.EvaluateConfig

  def __post_init__(self):
    cfg = self.evaluate
    # The second restart begins at random: noise is an attack of a kind.
    if any(cfg.eps) and cfg.num_restarts == 1:
      for name in ("num_steps", "step_ratio"):
        if not getattr(cfg, name):
          raise ValueError(
            f"evaluate.{name} must be above 0, or nothing is attacked, got 0; "
            "evaluate.eps=() asks for the accuracy alone"
          )


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises unless a control is that of a row."""
  if stage.control_of and stage.control_of not in plan.config.table:
    raise ValueError(
      f"stages.{name}.control_of must be a row of the table, got "
      f"{stage.control_of!r}"
    )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  model, variables, data = subject(study, stage)
  found = evaluation.evaluate(
    model, variables, data, stage.evaluate, study.key(name), name,
    measured=Measured(directory / "parts"),
  )  # fmt: skip
  result = {
    "accuracy": found.accuracy,
    "robust_accuracy": {str(k): v for k, v in found.robust_accuracy.items()},
    "class_robust_accuracy": {
      str(k): v for k, v in found.class_robust_accuracy.items()
    },
    "confusion": found.confusion,
    "shifted_accuracy": {
      str(shift): evaluation.on_shifted_labels(
        found.confusion, data.num_classes, shift - stage.label_shift
      )
      for shift in stage.label_shifts
    },
    "attack": found.attack,
    "num_examples": found.num_examples,
    "seconds": found.seconds,
  }
  source = study.plan.data.get(stage.data)
  if source and source.source == "planted":
    conflict = planted.conflict(NUM_CONFLICTS, source.seed + 1)
    predicted = evaluation.predict(
      model, variables, conflict.images, stage.evaluate.batch_size
    ).argmax(1)
    result["cues"] = planted.cue_shares(predicted, conflict)
    result["num_conflicts"] = NUM_CONFLICTS
  return result


def _present(study: Study, name: str, stage: Stage) -> dict[str, Any]:
  model = study.require(stage.model)
  data = study.dataset(stage.data, stage.split)
  return study.require(name) | {
    "name": name,
    "class_names": list(data.class_names),
    "title": stage.title,
    "control_of": stage.control_of,
    "paper": _printed(study.plan, name, stage),
    "train_seconds": model["seconds"],
    "model_digest": model["digest"],
  }


def _printed(plan: Plan, name: str, stage: Stage) -> dict[str, Any] | None:
  if stage.paper and paper.applies(plan, name):
    return paper.ROWS[stage.paper]
  return None


def _report(rows: Any):
  """Tells what a table of accuracies leaves open: classes and controls."""
  return _class_report(rows or ()) + _control_report(rows)


def _class_report(rows: Any):
  """Returns the accuracy of each class where classes differ in size."""
  by_classes: dict[tuple[str, ...], list[list[str]]] = {}
  for row in filter(tables.is_uneven, rows):
    names = tuple(row["class_names"])
    lines = by_classes.setdefault(names, [["model", *names]])
    own = map(tables.percent, tables.class_accuracies(row))
    lines.append([row["title"], *own])
    lines += [
      [f"{row['title']}, eps={eps}", *map(tables.percent, values)]
      for eps, values in row["class_robust_accuracy"].items()
    ]
  found = [
    text for t in by_classes.values() for text in (tables.aligned(t), "")
  ]
  return [("Accuracy of each class", found[:-1])] if found else []


def _control_report(rows: Any):
  """Says of every claim with controls whether it stands clear of them."""
  by_name = {row["name"]: row for row in rows or ()}
  controls = [row for row in by_name.values() if row["control_of"]]
  lines = [["claim", "accuracy", "control", "accuracy", "difference",
            "standard error", "stands clear"]]  # fmt: skip
  for control in controls:
    claim = by_name[control["control_of"]]
    pair = claim, control
    lines.append(_clearance(pair, [row["accuracy"] for row in pair]))
    robust = [row["robust_accuracy"] for row in pair]
    lines += [
      _clearance(pair, [found[eps] for found in robust], f", eps={eps}")
      for eps in robust[0]
      if eps in robust[1]
    ]
  note = "A claim stands clear of a control by two standard errors, those of "
  note += "the test images; those between seeds are not in it."
  return [("Claims and controls", [tables.aligned(lines), "", note])] * bool(
    controls
  )


def _clearance(pair: Any, shares: list[float], under: str = "") -> list[str]:
  """Returns the cells of a claim and its control, clean or `under` attack."""
  variances = [
    share * (1 - share) / row["num_examples"]
    for share, row in zip(shares, pair, strict=True)
  ]
  difference, error = shares[0] - shares[1], sum(variances) ** 0.5
  return [
    pair[0]["title"] + under,
    tables.percent(shares[0]),
    pair[1]["title"],
    tables.percent(shares[1]),
    tables.percent(difference),
    tables.percent(error),
    "yes" if difference > 2 * error else "no",
  ]


def _draw(rows: Any, workdir: pathlib.Path):
  return [figures.accuracies(rows, workdir / "figures")]


def shrink(stage: Any) -> None:
  """Makes any stage with an `evaluate` section cheap."""
  stage.evaluate.num_steps = 2
  stage.evaluate.batch_size = 32


def _work(stage: Stage, num_images) -> Work:
  cfg = stage.evaluate
  climbs = [cfg.attack(eps) for eps in cfg.eps]
  images = stage.num_images(num_images)
  passes = 1.0 + sum(climb.forward_passes() + 1.0 for climb in climbs)
  gradients = sum(climb.gradients() for climb in climbs)
  return Work(images, images * gradients, images * passes)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="rows",
  heading="Accuracy",
  claim=(
    "Models trained on a set of only non-robust features still see the true "
    "classes; on a set of robust features, plain training gives robustness."
  ),
  caption=(
    "Accuracy of every row, clean and under attack, with standard errors; "
    "numbers are in the table."
  ),
  is_row=True,
  radii=lambda stage: [("evaluate", stage.evaluate)],
  check=_check,
  present=_present,
  report=_report,
  draw=_draw,
  shrink=shrink,
  work=_work,
)
