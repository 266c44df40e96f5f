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
  del study
  field = f"stages.{name}.checkpoint"
  if not stage.checkpoint:
    raise ValueError(
      f"{field} is empty; give a folder that `python -m "
      "robust_features.pytorch.import_checkpoint` wrote, or a train stage's"
    )
  try:
    trained.load(stage.checkpoint)
  except ValueError as error:
    raise ValueError(f"{field}: {error}") from None


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del directory
  found = trained.load(stage.checkpoint)
  data = study.dataset(stage.data, "test")
  model = found.config
  there = model.num_classes, len(model.mean)
  wanted = data.num_classes, data.image_shape[-1]
  if there[0] != wanted[0] or there[1] not in (1, wanted[1]):
    raise ValueError(
      f"stages.{name}.checkpoint is a model of {there[0]} classes and "
      f"{there[1]} colours, but data.{stage.data} has {wanted[0]} and "
      f"{wanted[1]}"
    )
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
  open=_open,
  preflight=_preflight,
  report=_report,
  network=_network,
)
