"""A stage that trains a network on a data set, standard or adversarially.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import pathlib
from typing import Annotated, Any

import jax

from robust_features import models, trained
from robust_features import train as training
from robust_features.study import folder, settings
from robust_features.study.graph import Kind, Plan, Study, Work, assert_makes
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
    init_from: The stage from whose model's variables it begins; empty for
      fresh ones.
    init_which: Those it had "initial"ly, its "last", or its "best".
    teacher: The stage whose model it learns from, with `train.distil_weight`;
      empty for none.
    teacher_which: Its "last" weights, or the "best" on the held-out split.
    train: The recipe.
  """

  architecture: settings.Architecture
  data: settings.DataName
  validation: settings.SourceName
  init_from: settings.OptionalModelName
  init_which: Annotated[str, settings.OneOf(("initial", "last", "best"))]
  teacher: settings.OptionalModelName
  teacher_which: settings.Which
  train: TrainConfig


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises where a stage that is named is not what the fields ask for."""
  if bool(stage.teacher) != bool(stage.train.distil_weight):
    raise ValueError(
      f"stages.{name}.teacher must name a stage where train.distil_weight is "
      f"above 0, and only there, got {stage.teacher!r} for "
      f"{stage.train.distil_weight}"
    )
  if not stage.init_from or stage.init_which != "initial":
    return
  if not isinstance(plan.nodes[stage.init_from].stage, Stage):
    raise ValueError(
      f"stages.{name}.init_which must be 'last' or 'best', got 'initial': "
      f"nobody knows how {stage.init_from} began"
    )


def _network(study: Study, name: str) -> models.Model:
  """Returns the network of a stage that makes a model."""
  kind, stage, _, _ = study.plan.nodes[name]
  if isinstance(stage, Stage):
    return models.make_model(_fitted(study, stage)[0])
  assert_makes(kind, "model")
  return models.make_model(kind.network(study.plan, stage))  # pyright: ignore[reportOptionalCall]


def _initial(study: Study, name: str) -> Any:
  """Returns the variables that a train stage is to begin from; None for fresh.

  Those that another began with are its own beginning's, or made again.
  """
  stage = study.plan.nodes[name].stage
  source = stage.init_from
  if not source:
    return None
  if stage.init_which != "initial":
    return study.open(source, stage.init_which).variables
  begun = _initial(study, source)
  if begun is not None:
    return begun
  return training.initial_variables(
    _network(study, source), study.image_shape(source), study.key(source)
  )


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
    initial=_initial(study, name),
    teacher=(
      study.model(stage.teacher, stage.teacher_which) if stage.teacher else None
    ),
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
  _check_others(study, name, stage, models.make_model(cfg))


def _check_others(study: Study, name: str, stage: Stage, model: Any) -> None:
  """Raises where the models that a stage names do not fit its own."""
  shape = study.image_shape(name)
  if stage.init_from:
    shapes = [
      jax.tree.map(lambda leaf: leaf.shape, models.variable_shapes(net, of))
      for net, of in (
        (model, shape),
        (_network(study, stage.init_from), study.image_shape(stage.init_from)),
      )
    ]
    if shapes[0] != shapes[1]:
      raise ValueError(
        f"stages.{name}.init_from must name a model of the same network for "
        f"images and classes of the same number, got {stage.init_from!r}"
      )
  if stage.teacher:
    try:
      training.check_teacher(
        stage.train, model, _network(study, stage.teacher), shape,
        study.num_classes(stage.data),
      )  # fmt: skip
    except ValueError as error:
      raise ValueError(f"stages.{name}.teacher: {error}") from None


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
  taught = float(cfg.distil_weight > 0)
  return Work(
    trained_on + checked_on,
    trained_on * (climb + gradients) + checked_on * climb,
    trained_on * (attack + 3.0 * gradients + trades + taught)
    + checked_on * check,
  )


def _how_far(directory: pathlib.Path) -> str:
  last = folder.last_checkpoint(directory)
  return "" if last is None else f"at step {last}"


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
  check=_check,
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
