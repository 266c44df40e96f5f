"""Standard AutoAttack on a model.

Reference: arXiv:2003.01690.
"""

import dataclasses
import pathlib
from typing import Any

from robust_features import strong_attacks
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds.subject import (
  Subject,
  num_sampled,
  sampled,
  subject,
)
from robust_features.study.report import tables


@dataclasses.dataclass(frozen=True)
class Stage(Subject):
  """Fields of an AutoAttack stage.

  Attributes:
    num_examples: Images to attack, every class in its share; 0 for all.
    autoattack: Norm, radii, attacks and their budget.
  """

  num_examples: settings.Count
  autoattack: strong_attacks.AutoAttackConfig

  def __post_init__(self):
    if not self.autoattack.eps:
      raise ValueError("autoattack.eps must hold a radius, got ()")


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  cfg = stage.autoattack
  model, variables, data = subject(study, stage)
  data = sampled(study, data, stage.num_examples)
  rows = strong_attacks.auto_attack(
    model, variables, data, cfg, study.key(name), directory, name
  )
  return {
    "model": stage.model,
    "norm": cfg.norm,
    "attacks": list(cfg.attacks),
    "budget": dataclasses.asdict(cfg.budget),
    "num_examples": data.num_examples,
    "seed": study.plan.config.seed,
    "rows": rows,
    "seconds": sum(sum(row["seconds"].values()) for row in rows),
  }


def _lines(found: dict[str, Any]) -> list[str]:
  attacks = ["clean", *found["attacks"]]
  header = ["eps", *attacks, "second pass", "largest move", "seconds"]
  rows, lines, errors = [header], [], []
  for row in found["rows"]:
    cells = [f"{row['eps']:.4g}"]
    cells += [tables.percent(row["accuracy"][name]) for name in attacks]
    errors += [
      tables.standard_error(row["accuracy"][name], found["num_examples"]) or 0.0
      for name in attacks
    ]
    cells += [tables.percent(row["second_pass_accuracy"])]
    cells += [f"{row['max_perturbation']:.4g}"]
    rows.append([*cells, f"{sum(row['seconds'].values()):.0f}"])
    cost = ", ".join(f"{k} {row['queries'][k]:,}" for k in found["attacks"])
    lines.append(f"- eps={row['eps']:.4g}: forward evaluations {cost}")
    lines += [f"- eps={row['eps']:.4g}: warning: {w}" for w in row["warnings"]]
  budget = ", ".join(f"{k} {v}" for k, v in found["budget"].items())
  return [
    tables.aligned(rows),
    "",
    f"- percent of {found['num_examples']} test images still classified "
    f"correctly after each attack; standard error of a number: at most "
    f"{100 * max(errors, default=0.0):.2f}; seed {found['seed']}",
    *lines,
    f"- {budget}",
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: AutoAttack on {f['model']}, {f['norm']}", _lines(f))
    for name, f in found.items()
  ]


def _shrink(stage: Any) -> None:
  stage.num_examples, stage.autoattack.batch_size = 8, 8
  stage.autoattack.eps = stage.autoattack.eps[:1]
  stage.autoattack.attacks = stage.autoattack.attacks[:1]
  budget = stage.autoattack.budget
  budget.num_steps = budget.num_targets = budget.num_queries = 2


def _work(stage: Stage, num_images) -> Work:
  cfg, budget = stage.autoattack, stage.autoattack.budget
  gradients = {
    "apgd-ce": budget.num_steps,
    "apgd-dlr": budget.num_steps,
    "apgd-t": budget.num_steps * budget.num_targets,
    "fab-t": budget.num_steps * budget.num_targets,
    "square": 0,
  }
  images = num_sampled(stage.num_examples, stage.num_images(num_images))
  times = images * len(cfg.eps) * budget.num_restarts
  climbed = times * sum(gradients[attack] for attack in cfg.attacks)
  queried = times * budget.num_queries if "square" in cfg.attacks else 0
  return Work(images, climbed, 2.0 * climbed + queried)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="autoattack",
  heading="AutoAttack",
  claim=(
    "The worst case over several attacks, one after the other, bounds the "
    "robust accuracy from above."
  ),
  radii=lambda stage: [("autoattack", stage.autoattack)],
  report=_report,
  shrink=_shrink,
  work=_work,
  how_far=lambda directory: "begun" if any(directory.glob("eps_*/*")) else "",
)
