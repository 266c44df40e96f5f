"""A stage that trains a network on a data set, standard or adversarially.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import pathlib
from typing import Any

from robust_features import models, trained
from robust_features import train as training
from robust_features.study import folder, settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import architecture
from robust_features.study.report import figures, tables
from robust_features.train_step import TrainConfig


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a train stage.

  Attributes:
    architecture: Of `config.models`.
    data: A source, or a stage that makes a data set.
    validation: The source whose held-out split is evaluated in training.
    train: The recipe.
  """

  architecture: settings.Architecture
  data: settings.DataName
  validation: settings.SourceName
  train: TrainConfig


def _fitted(study: Study, stage: Stage) -> tuple[models.ModelConfig, str]:
  """Returns the architecture with what the data tell, and its place."""
  return architecture.fitted(
    study, stage.architecture, stage.data, stage.validation
  )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  model, _ = _fitted(study, stage)
  data = study.dataset(stage.data, "train")
  found = training.train(
    stage.train,
    study.plan.run,
    models.make_model(model),
    data,
    study.splits(stage.validation).validation,
    directory,
    study.key(name),
    name,
  )
  return {
    "model": dataclasses.asdict(model),
    "digest": found.digest,
    "best_digest": found.best_digest,
    "history": found.history,
    "num_examples": data.num_examples,
    "image_shape": list(data.image_shape),
    "num_params": models.num_params(found.variables["params"]),
    "seconds": found.seconds,
    "input_seconds": found.input_seconds,
  }


def _preflight(study: Study, name: str, stage: Stage) -> None:
  num_examples = study.num_images(stage.data, "train")
  shape = study.image_shape(name)
  try:
    streamed = study.streamed(stage.data)
    training.check_fit(stage.train, num_examples, shape, streamed)
  except ValueError as error:
    raise ValueError(f"stages.{name}.train.{error}") from None
  cfg, where = _fitted(study, stage)
  try:
    models.check(models.make_model(cfg), shape, cfg.num_classes)
  except ValueError as error:
    raise ValueError(f"{where}: {error}") from None


def _open(study: Study, name: str, stage: Stage, which: str):
  del stage
  with folder.remade(study.workdir / name):
    return trained.load(study.workdir / name, which)


def _present(study: Study, name: str, stage: Stage) -> dict[str, Any]:
  """Adds the title of the row that evaluates the model, if one does."""
  titles = [
    node.stage.title
    for node in study.plan.nodes.values()
    if node.kind.is_row and node.stage.model == name
  ]
  return study.require(name) | {
    "title": titles[0] if titles else name,
    "attacked": stage.train.adversary.eps > 0,
    "num_validation": study.splits(stage.validation).validation.num_examples,
  }


def _report(found: dict[str, Any]):
  rows = [["model", "parameters", "train accuracy", "validation", "seconds"]]
  for name, result in found.items():
    last = result["history"][-1]
    rows.append(
      [
        name,
        f"{result['num_params']:,}",
        tables.percent(last["train_accuracy"]),
        tables.percent(last.get("validation_accuracy")),
        f"{result['seconds']:.0f}",
      ]
    )
  return [("Models", [tables.aligned(rows)])] if found else []


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  return [figures.curves(found, workdir / "figures")]


def _shrink(stage: Any) -> None:
  stage.train.num_epochs = 2
  stage.train.batch_size = 16
  adversary = stage.train.adversary
  adversary.num_steps = min(2, adversary.num_steps)


def _work(stage: Stage, num_images) -> Work:
  cfg = stage.train
  images = num_images(stage.data, "train") // cfg.batch_size * cfg.batch_size
  attack = cfg.adversary.forward_passes() if cfg.adversary.eps else 0.0
  climb = cfg.adversary.gradients() if cfg.adversary.eps else 0
  times = -(-cfg.num_epochs // cfg.eval_every_epochs)
  trained_on = cfg.num_epochs * images
  checked_on = times * num_images(stage.validation, "validation")
  check = 1.0 + (attack + 1.0 if attack else 0.0)
  # TRADES passes the images beside the attacked ones, and predicts them first;
  # weights that are moved up the loss take every gradient twice.
  trades = cfg.trades_beta > 0
  gradients = (1 + trades) * (1 + (cfg.awp_gamma > 0))
  return Work(
    trained_on + checked_on,
    trained_on * (climb + gradients) + checked_on * climb,
    trained_on * (attack + 3.0 * gradients + trades) + checked_on * check,
  )


def _how_far(directory: pathlib.Path) -> str:
  paths = directory.glob("checkpoints/*")
  steps = [int(path.name) for path in paths if path.name.isdigit()]
  return f"at step {max(steps)}" if steps else ""


KIND = Kind(
  stage=Stage,
  run=_run,
  section="models",
  heading="Models",
  claim=(
    "Networks are trained the same way on each set; what they learn shows what "
    "the set teaches."
  ),
  caption=("Accuracy by epoch on the training set and on images held out."),
  open=_open,
  preflight=_preflight,
  radii=lambda stage: [("train.adversary", stage.train.adversary)],
  present=_present,
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
  network=lambda plan, stage: plan.models[stage.architecture],
  how_far=_how_far,
)
