"""A stage that opens a model trained elsewhere."""

import dataclasses
import pathlib
from typing import Annotated, Any

from robust_features import models, trained
from robust_features.runtime import checkpoint
from robust_features.study import settings
from robust_features.study.graph import Kind, Plan, Study
from robust_features.study.report import tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of an imported stage.

  Attributes:
    checkpoint: What `pytorch.import_checkpoint` wrote, or a train stage's
      folder. What lies there counts, not where it lies.
    data: What the model is to be shown.
    dtype: "float32" or "bfloat16", to compute in.
  """

  checkpoint: settings.Label
  data: settings.DataName
  dtype: Annotated[str, settings.OneOf(("float32", "bfloat16"))]


def _preflight(study: Study, name: str, stage: Stage) -> None:
  field = f"stages.{name}.checkpoint"
  if not stage.checkpoint:
    raise ValueError(
      f"{field} is empty; give a folder that `python -m "
      "robust_features.pytorch.import_checkpoint` wrote, or a train stage's"
    )
  try:
    model = trained.load(stage.checkpoint).config
  except ValueError as error:
    raise ValueError(f"{field}: {error}") from None
  colours = study.image_shape(name)[-1]
  classes = study.num_classes(stage.data)
  own = ":" in model.name  # Such a network normalises in its own way.
  fits = own or len(model.mean) in (1, colours)
  if model.num_classes != classes or not fits:
    raise ValueError(
      f"{field} is a model of {model.num_classes} classes and "
      f"{len(model.mean)} colours, but data.{stage.data} has {classes} and "
      f"{colours}"
    )


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del directory
  found = trained.load(stage.checkpoint)
  model = found.config
  return {
    "model": dataclasses.asdict(model) | {"dtype": stage.dtype},
    "digest": checkpoint.digest(found.variables),
    "origin": found.origin,
    "num_params": models.num_params(found.variables["params"]),
    "seconds": 0.0,
  }


def _open(study: Study, name: str, stage: Stage, which: str):
  del which  # It is both.
  found = trained.load(stage.checkpoint)
  result = study.require(name)
  if checkpoint.digest(found.variables) != result["digest"]:
    raise checkpoint.CheckpointError(
      f"{stage.checkpoint} holds another model than when {study.workdir} "
      "was begun; bring it back or choose another --workdir"
    )
  return found._replace(config=models.ModelConfig(**result["model"]))


def _network(plan: Plan, stage: Stage) -> models.ModelConfig:
  del plan
  return trained.load(stage.checkpoint).config


def _report(found: dict[str, Any]):
  rows = [["model", "architecture", "parameters", "file", "sha256"]]
  for name, result in found.items():
    origin = result["origin"]
    rows.append(
      [
        name,
        result["model"]["name"],
        f"{result['num_params']:,}",
        str(origin.get("source", "trained here")),
        str(origin.get("source_sha256", "-")),
      ]
    )
  return [("Imported models", [tables.aligned(rows)])] if found else []


KIND = Kind(
  stage=Stage,
  run=_run,
  section="imported",
  claim=("Models trained elsewhere, measured as ours are."),
  open=_open,
  preflight=_preflight,
  report=_report,
  network=_network,
)
