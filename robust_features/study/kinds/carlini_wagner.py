"""The nearest error that Carlini and Wagner's l2 attack finds.

Reference: arXiv:1905.02175, appendix D.2; arXiv:1608.04644, section VI.A.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from robust_features import attacks, strong_attacks
from robust_features import evaluate as evaluation
from robust_features.runtime.measured import Measured
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import evaluate
from robust_features.study.kinds.subject import Subject, subject
from robust_features.study.report import tables


@dataclasses.dataclass(frozen=True)
class Stage(Subject):
  """Fields of a Carlini-Wagner stage.

  Attributes:
    evaluate: The radii at which robust accuracy is counted.
    attack: The attack.
  """

  evaluate: evaluation.EvaluateConfig
  attack: attacks.CarliniWagnerConfig


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del name
  start = time.monotonic()
  model, variables, data = subject(study, stage)
  distances, nonfinite = strong_attacks.nearest_errors(
    model, variables, data, stage.attack, stage.evaluate.batch_size,
    Measured(directory / "parts"),
  )  # fmt: skip
  finite = distances[np.isfinite(distances) & (distances > 0)]
  return {
    "accuracy": float((distances > 0).mean()),
    "robust_accuracy": {
      str(eps): float((distances > eps).mean()) for eps in stage.evaluate.eps
    },
    "median_distance": float(np.median(finite)) if finite.size else None,
    "attack": {
      "name": "carlini_wagner_l2",
      **dataclasses.asdict(stage.attack),
      "nonfinite_gradient_fraction": nonfinite,
    },
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _report(found: dict[str, Any]):
  sections = []
  for name, result in found.items():
    lines = [
      f"- eps={eps}: {tables.percent(value)}% robust"
      for eps, value in result["robust_accuracy"].items()
    ]
    median = result["median_distance"]
    lines.append(f"- median distance of its errors: {median}")
    lines.append(f"- {result['attack']}")
    sections.append((f"{name}: Carlini and Wagner's l2 attack", lines))
  return sections


def _shrink(stage: Any) -> None:
  evaluate.shrink(stage)
  stage.attack.num_steps = stage.attack.num_searches = 2


def _work(stage: Stage, num_images) -> Work:
  images = stage.num_images(num_images)
  gradients = images * stage.attack.num_searches * stage.attack.num_steps
  return Work(images, gradients, 2.0 * gradients)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="carlini_wagner",
  heading="Carlini and Wagner",
  claim=("An attack of another design finds no much nearer errors."),
  radii=lambda stage: [("evaluate", stage.evaluate)],
  report=_report,
  shrink=_shrink,
  work=_work,
)
