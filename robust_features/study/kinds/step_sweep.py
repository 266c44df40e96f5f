"""Robust accuracy against the attack's steps.

Reference: arXiv:1905.02175, appendix D.2, figure 8.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

from robust_features import evaluate as evaluation
from robust_features.runtime.measured import Measured
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import evaluate
from robust_features.study.kinds.subject import Subject, subject
from robust_features.study.report import figures, tables


@dataclasses.dataclass(frozen=True)
class Stage(Subject):
  """Fields of a step sweep.

  Attributes:
    steps: Numbers of steps, one row each.
    step_ratios: Step sizes tried for each, in units of eps / steps.
    evaluate: The attack; its first radius counts.
  """

  steps: tuple[int, ...]
  step_ratios: tuple[float, ...]
  evaluate: evaluation.EvaluateConfig

  def __post_init__(self):
    if not self.evaluate.eps:
      raise ValueError("evaluate.eps must hold a radius, got ()")
    for name in ("steps", "step_ratios"):
      values = getattr(self, name)
      if not values or not all(0 <= value < math.inf for value in values):
        raise ValueError(
          f"{name} must be finite numbers >= 0, at least one, got {values}"
        )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  start = time.monotonic()
  model, variables, data = subject(study, stage)
  cfg = stage.evaluate
  rows = evaluation.step_sweep(
    model, variables, data, cfg, study.key(name), stage.steps,
    stage.step_ratios, Measured(directory / "parts"),
  )  # fmt: skip
  return {
    "eps": cfg.eps[0],
    "norm": cfg.norm,
    "num_examples": data.num_examples,
    "rows": rows,
    "seconds": time.monotonic() - start,
  }


def _present(study: Study, name: str, stage: Stage) -> dict[str, Any]:
  return study.require(name) | {"num_classes": study.num_classes(stage.data)}


def _report(found: dict[str, Any]):
  sections = []
  for name, sweep in found.items():
    rows = [["steps", "robust accuracy", "step (eps / steps)"]]
    rows += [
      [
        str(row["num_steps"]),
        tables.percent(row["robust_accuracy"]),
        f"{row['step_ratio']:g}",
      ]
      for row in sweep["rows"]
    ]
    title = f"{name}: {sweep['norm']}, eps={sweep['eps']}"
    sections.append((title, [tables.aligned(rows)]))
  return sections


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  folder = workdir / "figures"
  return [figures.step_sweep(name, f, folder) for name, f in found.items()]


def _shrink(stage: Any) -> None:
  evaluate.shrink(stage)
  stage.steps = (*stage.steps[:1], 2)


def _work(stage: Stage, num_images) -> Work:
  attack = stage.evaluate.attack(stage.evaluate.eps[0])
  climbs = [
    dataclasses.replace(attack, num_steps=steps) for steps in stage.steps
  ]
  images = stage.num_images(num_images)
  times = images * len(stage.step_ratios)
  gradients = times * sum(climb.gradients() for climb in climbs)
  passes = times * sum(climb.forward_passes() + 2.0 for climb in climbs)
  return Work(images, gradients, passes)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="step_sweeps",
  claim=(
    "Robust accuracy that stops falling with more steps says that the attack "
    "has done its work."
  ),
  caption=("Robust accuracy against the number of steps of the attack."),
  radii=lambda stage: [("evaluate", stage.evaluate)],
  present=_present,
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
