"""A stage that makes a data set with a model: D_R, D_NR, D_rand, D_det.

Reference: arXiv:1905.02175, sections 3.1 and 3.2, appendices C.4 and C.5.
"""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np

from robust_features import construct as construction
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.runtime import files
from robust_features.study import folder, provenance, settings
from robust_features.study.graph import Kind, Plan, Study, Work
from robust_features.study.report import grids, tables

_MOST_SHOWN = 100  # Classes in a set's figure.


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a construct stage.

  Attributes:
    source: The stage whose model it is made with.
    which: Its "last" weights, or the "best" on the held-out split.
    repel: Stages whose models are to stay unfooled.
    spared_by: The stage whose predictions spare images; empty for none.
    teacher: The stage whose predictions are aimed at; empty for none.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    construct: What is made, and its optimisation.
  """

  source: settings.ModelName
  which: settings.Which
  repel: tuple[settings.ModelName, ...]
  spared_by: settings.OptionalModelName
  teacher: settings.OptionalModelName
  data: settings.DataName
  split: settings.Split
  construct: construction.ConstructConfig


def _check(plan: Plan, name: str, stage: Stage) -> None:
  """Raises where the construction and the models do not fit together."""
  del plan
  try:
    construction.check_models(
      stage.construct,
      bool(stage.repel),
      bool(stage.spared_by),
      bool(stage.teacher),
    )
  except ValueError as error:
    raise ValueError(f"stages.{name}.{error}") from None


def _preflight(study: Study, name: str, stage: Stage) -> None:
  """Raises unless a source has training images, which others start from."""
  del name
  if stage.data in study.plan.data:
    study.dataset(stage.data, "train")


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  origin = {
    "source": stage.source,
    "source_digest": study.require(stage.source)["digest"],
    "originals": _originals(study, stage.data),
    "git_commit": provenance.git_commit(),
    "config": study.resolved(name),
  }
  manifest = construction.construct(
    stage.construct,
    *study.model(stage.source, stage.which),
    study.dataset(stage.data, stage.split),
    study.dataset(stage.data, "train"),
    directory / "data",
    study.key(name),
    origin,
    name,
    repel=tuple(study.model(other) for other in stage.repel),
    spared_by=study.model(stage.spared_by) if stage.spared_by else None,
    teacher=study.model(stage.teacher) if stage.teacher else None,
  )
  kept = ("sha256", "mean", "num_examples", "num_spared", "separability",
          "seconds")  # fmt: skip
  return {field: manifest[field] for field in kept}


def _originals(study: Study, data: str) -> str:
  """Returns what the images are called that a set was made of."""
  while data not in study.plan.data:
    data = study.plan.nodes[data].stage.data
  cfg = study.plan.data[data]
  return cfg.name if cfg.source == "tfds" else cfg.source


def _load(study: Study, name: str, stage: Stage):
  del stage
  with folder.remade(study.workdir / name):
    return constructed.load(
      study.workdir / name / "data", streamed=study.streamed(name)
    )


def _present(study: Study, name: str, stage: Stage) -> dict[str, Any]:
  """Keeps one image of each class beside what was made of it."""
  path = study.workdir / name / "examples.npz"
  data = study.dataset(stage.data, stage.split)
  if not path.exists():
    files.write_bytes(path, _examples(study, name, stage))
  return study.require(name) | {"class_names": list(data.class_names)}


def _examples(study: Study, name: str, stage: Stage) -> bytes:
  data, pool = (
    study.dataset(stage.data, split) for split in (stage.split, "train")
  )
  made = study.dataset(name, stage.split)
  _, indices = np.unique(data.labels, return_index=True)
  indices = indices[:_MOST_SHOWN]
  buffer = io.BytesIO()
  np.savez(
    buffer,
    original=ds.to_float(data.images[indices]),
    start=construction.starts(
      stage.construct, data, pool, study.key(name), indices
    ),
    constructed=ds.to_float(made.images[indices]),
    old=data.labels[indices],
    new=made.labels[indices],
  )
  return buffer.getvalue()


def _report(found: dict[str, Any]):
  rows = [["data set", "images", "left as they are", "moved (l2)",
           "source predicts label", "before rounding", "crop and flip",
           "linear on the change", "seconds"]]  # fmt: skip
  for name, result in found.items():
    mean = result["mean"]
    rows.append(
      [
        name,
        str(result["num_examples"]),
        str(result["num_spared"]),
        f"{mean['moved_from_original']:.3f}",
        tables.percent(mean["success"]),
        tables.percent(mean["success_before_rounding"]),
        tables.percent(mean["success_augmented"]),
        tables.percent(result["separability"]),
        f"{result['seconds']:.0f}",
      ]
    )
  return [("Data sets", [tables.aligned(rows)])] if found else []


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  drawn = []
  for name, result in found.items():
    path = workdir / name / "examples.npz"
    shown = folder.read_npz(path, f"delete {path} and run the same command")
    drawn.append(grids.examples(name, result, shown, workdir / "figures"))
  return drawn


def _shrink(stage: Any) -> None:
  attack = stage.construct.attack
  attack.num_steps = min(2, attack.num_steps)
  stage.construct.batch_size = 16
  stage.construct.shard_size = 32


def _work(stage: Stage, num_images) -> Work:
  cfg = stage.construct
  images = num_images(stage.data, stage.split) * cfg.examples_per_image
  copies = max(1, cfg.transform_copies) * (1 + len(stage.repel))
  gradients = images * cfg.attack.num_steps * copies
  # Besides the climb: the wanted representation, the objective thrice, the
  # predictions.
  return Work(images, gradients, 2.0 * gradients + 6.0 * images)


def _how_far(directory: pathlib.Path) -> str:
  count = len(list((directory / "data").glob("[0-9]*-images.npy")))
  return f"with {count} shards" if count else ""


KIND = Kind(
  stage=Stage,
  run=_run,
  section="data_sets",
  heading="Data sets",
  claim=(
    "A trained model's features, kept or aimed at, make data sets whose labels "
    "a person may find right or wrong."
  ),
  caption=(
    "One image of each class: the original, where the climb began, what was "
    "made of it, and the difference, amplified."
  ),
  load=_load,
  check=_check,
  preflight=_preflight,
  radii=lambda stage: [("construct.attack", stage.construct.attack)],
  present=_present,
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
  how_far=_how_far,
)
