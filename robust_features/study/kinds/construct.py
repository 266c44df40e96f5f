"""A stage that makes a data set with a model: D_R, D_NR, D_rand, D_det.

Reference: arXiv:1905.02175, sections 3.1 and 3.2, appendices C.4 and C.5.
"""

import dataclasses
import pathlib
from typing import Any

from robust_features import construct as construction
from robust_features.data import constructed
from robust_features.study import provenance, settings
from robust_features.study.graph import Kind, Study
from robust_features.study.report import figures, tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a construct stage.

  Attributes:
    source: The stage whose model it is made with.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    construct: The kind of set and its optimisation.
  """

  source: settings.ModelName
  data: settings.DataName
  split: settings.Split
  construct: construction.ConstructConfig


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  origin = {
    "source": stage.source,
    "source_digest": study.require(stage.source)["digest"],
    "git_commit": provenance.git_commit(),
    "config": study.resolved(name),
  }
  manifest = construction.construct(
    stage.construct,
    *study.model(stage.source),
    study.dataset(stage.data, stage.split),
    study.dataset(stage.data, "train"),
    directory / "data",
    study.key(name),
    origin,
    name,
  )
  return {
    "sha256": manifest["sha256"],
    "mean": manifest["mean"],
    "num_examples": manifest["num_examples"],
    "seconds": manifest["seconds"],
  }


def _load(study: Study, name: str, stage: Stage):
  del stage
  return constructed.load(study.workdir / name / "data")


def _report(found: dict[str, Any]):
  rows = [["data set", "images", "moved (l2)", "source predicts label",
           "before rounding", "seconds"]]  # fmt: skip
  for name, result in found.items():
    mean = result["mean"]
    rows.append(
      [
        name,
        str(result["num_examples"]),
        f"{mean['moved_from_original']:.3f}",
        tables.percent(mean["success"]),
        tables.percent(mean["success_before_rounding"]),
        f"{result['seconds']:.0f}",
      ]
    )
  return [("Data sets", [tables.aligned(rows)])] if found else []


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  grids = {name: workdir / name / "data" / "grid.png" for name in found}
  return [figures.data_sets(grids, workdir / "figures")]


def _shrink(stage: Any) -> None:
  stage.construct.attack.num_steps = 2
  stage.construct.batch_size = 16
  stage.construct.shard_size = 32


def _passes(stage: Stage, num_images) -> float:
  # Besides the climb: the wanted representation, the objective thrice, two
  # predictions.
  each = 2.0 * stage.construct.attack.num_steps + 6.0
  return num_images(stage.data, stage.split) * each


def _how_far(directory: pathlib.Path) -> str:
  count = len(list((directory / "data").glob("[0-9]*-images.npy")))
  return f"with {count} shards" if count else ""


KIND = Kind(
  stage=Stage,
  run=_run,
  section="data_sets",
  load=_load,
  radii=lambda stage: [("construct.attack", stage.construct.attack)],
  report=_report,
  draw=_draw,
  shrink=_shrink,
  passes=_passes,
  how_far=_how_far,
)
