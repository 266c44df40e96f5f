"""How well one model's adversarial examples fool others.

Reference: arXiv:1905.02175, section 3.3, figure 3; appendix D.9, figure 13.
"""

import dataclasses
import pathlib
import time
from typing import Annotated, Any

from robust_features import evaluate as evaluation
from robust_features import models
from robust_features import transfer as transferring
from robust_features.study import paper, settings
from robust_features.study.graph import Kind, Plan, Study, Work
from robust_features.study.kinds.subject import num_sampled, sampled
from robust_features.study.report import figures, tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a transfer stage.

  Attributes:
    source: The stage whose model the examples are made with.
    which: Its "last" weights, or the "best" on the held-out split.
    targets: Stages whose models are to be fooled.
    learners: Stages of the same architectures in the same order, trained on
      D_det of the source; none if only success is asked for.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    num_examples: Images to attack, every class in its share; 0 for all.
    paper: The points of `study.paper` drawn beside ours where the data are the
      paper's; empty for none.
    transfer: The attack.
  """

  source: settings.ModelName
  which: settings.Which
  targets: tuple[settings.ModelName, ...]
  learners: tuple[settings.ModelName, ...]
  data: settings.DataName
  split: settings.Split
  num_examples: settings.Count
  paper: Annotated[str, settings.Shown(), settings.OneOf(("", *paper.TRANSFER))]
  transfer: transferring.TransferConfig


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises unless every target has a learner of its own architecture."""
  if not stage.targets:
    raise ValueError(f"stages.{name}.targets must name at least one stage")
  if not stage.learners:
    return
  if len(stage.targets) != len(stage.learners):
    raise ValueError(
      f"stages.{name}.learners must name one stage for each of targets, got "
      f"{len(stage.learners)} for {len(stage.targets)}"
    )
  for pair in zip(stage.targets, stage.learners, strict=True):
    stages = [plan.nodes[n].stage for n in pair]
    for field, one, stage_of_it in zip(
      ("targets", "learners"), pair, stages, strict=True
    ):
      if not hasattr(stage_of_it, "architecture"):
        raise ValueError(
          f"stages.{name}.{field} must name stages that train, got {one!r}"
        )
    target, learner = (s.architecture for s in stages)
    if target != learner:
      raise ValueError(
        f"stages.{name}.learners must have the architectures of targets, got "
        f"{learner!r} ({pair[1]}) for {target!r} ({pair[0]})"
      )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del directory
  start = time.monotonic()
  cfg = stage.transfer
  whole = study.dataset(stage.data, stage.split)
  data = sampled(study, whole, stage.num_examples)
  source = study.open(stage.source, stage.which)
  attacked = models.make_model(source.config), source.variables
  examples = transferring.make_examples(*attacked, data, cfg, study.key(name))
  rows = []
  learners = stage.learners or (None,) * len(stage.targets)
  for target, learner in zip(stage.targets, learners, strict=True):
    accuracy = learner and evaluation.accuracy(
      *study.model(learner), whole, cfg.batch_size
    )
    opened = study.open(target)
    fooled = models.make_model(opened.config), opened.variables
    rows.append(
      {
        "target": target,
        "architecture": opened.config.name,
        "learner": learner,
        "learner_accuracy": accuracy,
        **transferring.rates(*fooled, data, examples, cfg.batch_size),
      }
    )
  return {
    "source": stage.source,
    "source_architecture": source.config.name,
    "source_rates": transferring.rates(
      *attacked, data, examples, cfg.batch_size
    ),
    "attack": dataclasses.asdict(cfg.attack),
    "target": cfg.target,
    "zero_gradient_fraction": examples.zero_gradient_fraction,
    "num_examples": data.num_examples,
    "rows": rows,
    "rank_correlation": (
      transferring.correlations(rows) if stage.learners else {}
    ),
    "seconds": time.monotonic() - start,
  }


def _present(study: Study, name: str, stage: Stage) -> dict[str, Any]:
  shown = stage.paper and paper.applies(study.plan, name)
  printed = paper.TRANSFER[stage.paper] if shown else ()
  data = study.dataset(stage.data, stage.split)
  return study.require(name) | {
    "paper": list(printed),
    "num_test": data.num_examples,
    "num_classes": data.num_classes,
  }


def _lines(found: dict[str, Any]) -> list[str]:
  rows = [["architecture", "trained on D_det", "untargeted", "targeted",
           "trained on D", "of all: untargeted", "targeted"]]  # fmt: skip
  fields = ("learner_accuracy", "untargeted", "targeted", "accuracy",
            "untargeted_of_all", "targeted_of_all")  # fmt: skip
  names = [point["architecture"] for point in found["rows"]]
  for points, whose in ((found["rows"], ""), (found["paper"], "the paper's ")):
    for point in points:
      title = whose + point["architecture"]
      if names.count(title) > 1:  # Its stage tells it from the others.
        title += f" ({point['target']})"
      cells = [tables.percent(point.get(field)) for field in fields]
      rows.append([title, *cells])
  correlations = ", ".join(
    f"{kind} {'-' if value is None else format(value, '.2f')}"
    for kind, value in sorted(found["rank_correlation"].items(), reverse=True)
  )
  source, attack = found["source_rates"], found["attack"]
  settings_shown = ", ".join(f"{k} {v}" for k, v in attack.items())
  lines = [
    tables.aligned(rows),
    "",
    "- against the source itself: "
    f"untargeted {tables.percent(source['untargeted'])}, "
    f"targeted {tables.percent(source['targeted'])}",
    f"- {found['num_examples']} test images; an untargeted example counts "
    "where the model is right on the image, a targeted one where it does not "
    f"see the target there; targets: {found['target']} class",
    f"- attack: {settings_shown}; examples that met a zero gradient: "
    f"{found['zero_gradient_fraction']:.2%}",
  ]
  if found["rank_correlation"]:
    lines.append(
      "- Spearman's rank correlation of success with the accuracy of the model "
      f"trained on D_det, over {len(found['rows'])} architectures: "
      f"{correlations}"
    )
  return lines


def _report(found: dict[str, Any]):
  return [
    (f"{name}: examples of {f['source']} ({f['source_architecture']})",
     _lines(f))
    for name, f in found.items()
  ]  # fmt: skip


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  folder = workdir / "figures"
  return [
    figures.transfer(name, f, folder)
    for name, f in found.items()
    if f["rank_correlation"]
  ]


def _shrink(stage: Any) -> None:
  stage.transfer.attack.num_steps = 2
  stage.transfer.batch_size = 32


def _work(stage: Stage, num_images) -> Work:
  whole = num_images(stage.data, stage.split)
  images = num_sampled(stage.num_examples, whole)
  # Both kinds of example, shown to the source and to every target.
  shown = 3.0 * (1 + len(stage.targets))
  climb = stage.transfer.attack
  passes = images * (2.0 * climb.forward_passes() + shown)
  # Learners see the whole split.
  passes += whole * len(stage.learners)
  return Work(images, images * 2.0 * climb.gradients(), passes)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="transfer",
  claim=(
    "Adversarial examples fool other models the more, the better these learn "
    "the features that the examples carry."
  ),
  caption=(
    "Share of examples that succeed against the accuracy of the same "
    "architecture trained on D_det."
  ),
  check=_check,
  radii=lambda stage: [("transfer.attack", stage.transfer.attack)],
  present=_present,
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
