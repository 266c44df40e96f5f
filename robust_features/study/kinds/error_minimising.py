"""A stage that makes error-minimising noise, an "unlearnable" data set.

Reference: arXiv:2101.04898.
"""

import dataclasses
import pathlib
from typing import Any

from robust_features import error_minimising, evaluate, models
from robust_features.study import folder, settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import architecture, resident
from robust_features.study.report import tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of an error_minimising stage.

  Attributes:
    architecture: Of `config.models`, the network that the noise is made with.
    data: A source, whose training images get the noise.
    error_minimising: The noise and the network's steps.
  """

  architecture: settings.Architecture
  data: settings.SourceName
  error_minimising: error_minimising.ErrorMinimisingConfig


def _fitted(study: Study, stage: Stage) -> tuple[models.ModelConfig, str]:
  """Returns the architecture with what the data tell, and its place."""
  return architecture.fitted(study, stage.architecture, stage.data, stage.data)


def _preflight(study: Study, name: str, stage: Stage) -> None:
  resident.preflight(study, name, stage.data)
  cfg = stage.error_minimising
  shape = study.image_shape(name)
  size = study.num_images(stage.data, "train")
  try:
    error_minimising.check_fit(cfg, size, shape)
  except ValueError as error:
    raise ValueError(f"stages.{name}.error_minimising.{error}") from None
  network, where = _fitted(study, stage)
  try:
    models.check(models.make_model(network), shape, network.num_classes)
  except ValueError as error:
    raise ValueError(f"{where}: {error}") from None


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  network, _ = _fitted(study, stage)
  model = models.make_model(network)
  found = error_minimising.make(
    stage.error_minimising, model, study.dataset(stage.data, "train"),
    directory, study.key(name), resident.origin(study, name, stage.data), name,
    study.plan.run.checkpoint_every_seconds,
  )  # fmt: skip
  manifest, held_out = found.manifest, study.splits(stage.data).validation
  clean = None
  if held_out.num_examples:
    size = stage.error_minimising.batch_size
    clean = evaluate.accuracy(model, found.variables, held_out, size)
  return {
    **{field: manifest[field] for field in resident.KEPT},
    "history": found.history,
    "reached": found.reached,
    "stop_error": stage.error_minimising.stop_error,
    "clean_accuracy": clean,
    "seconds": found.seconds,
  }


def _lines(found: dict[str, Any]) -> list[str]:
  rows = [["data set", "images", "rounds", "training error", "as stored",
           "clean, held out", "moved (l2)", "linear on the change",
           "seconds"]]  # fmt: skip
  for name, result in found.items():
    rows.append(
      [
        name,
        str(result["num_examples"]),
        str(len(result["history"])),
        tables.percent(result["history"][-1]["error"]),
        tables.percent(1.0 - result["mean"]["success"]),
        tables.percent(result["clean_accuracy"]),
        f"{result['mean']['moved_from_original']:.3f}",
        tables.percent(result["separability"]),
        f"{result['seconds']:.0f}",
      ]
    )
  lines = [
    tables.aligned(rows),
    "",
    "- all but the change are of the network that the noise was made with; its "
    "control is the same noise, dealt out among the images (a combine stage's "
    "how='changes'), which must harm nobody",
  ]
  for name, result in found.items():
    if not result["reached"]:
      lines.append(
        f"- warning: {name} ended by max_rounds above a training error of "
        f"{tables.percent(result['stop_error'])}; its noise is not done"
      )
  return lines


def _report(found: dict[str, Any]):
  return [("Error-minimising noise", _lines(found))] if found else []


def _shrink(stage: Any) -> None:
  cfg = stage.error_minimising
  cfg.max_rounds, cfg.train_steps, cfg.train_batch_size = 2, 2, 16
  cfg.attack.num_steps = min(2, cfg.attack.num_steps)
  cfg.batch_size, cfg.shard_size = 16, 32


def _work(stage: Stage, num_images) -> Work:
  cfg, images = stage.error_minimising, num_images(stage.data, "train")
  trained_on = cfg.max_rounds * cfg.train_steps * cfg.train_batch_size
  shown = cfg.max_rounds * images
  return Work(
    images,
    trained_on + shown * cfg.attack.gradients(),
    3.0 * trained_on + shown * (cfg.attack.forward_passes() + 1.0),
  )


def _how_far(directory: pathlib.Path) -> str:
  last = folder.last_checkpoint(directory)
  return "" if last is None else f"after round {last}"


KIND = Kind(
  stage=Stage,
  run=_run,
  section="error_minimising",
  heading="Error-minimising noise",
  claim=(
    "Noise that brings a network's loss down leaves it nothing else to learn: "
    "who trains on such images knows the noise, and no clean image."
  ),
  load=resident.load,
  preflight=_preflight,
  radii=lambda stage: [
    ("error_minimising.attack", stage.error_minimising.attack)
  ],
  report=_report,
  shrink=_shrink,
  work=_work,
  network=lambda plan, stage: plan.models[stage.architecture],
  how_far=_how_far,
)
