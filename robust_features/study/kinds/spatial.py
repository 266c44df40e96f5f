"""Accuracy under the worst of a grid of rotations and shifts.

Robustness in a ball need not carry over to changes that people hardly see.

Reference: arXiv:1712.02779.
"""

import dataclasses
import pathlib
import time
from typing import Any

from robust_features import changes, spatial
from robust_features.runtime.measured import Measured
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import compared
from robust_features.study.report import change_figures, tables


@dataclasses.dataclass(frozen=True)
class Stage(compared.Compared):
  """Fields of a spatial stage.

  Attributes:
    spatial: The grid.
  """

  spatial: spatial.SpatialConfig


def _preflight(study: Study, name: str, stage: Stage) -> None:
  try:
    spatial.check_fit(stage.spatial, study.image_shape(name))
  except ValueError as error:
    raise ValueError(f"stages.{name}.spatial.{error}") from None


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  start = time.monotonic()
  cfg, data = stage.spatial, stage.dataset(study)
  worst, models = {}, {}
  for each in stage.models:
    hits = changes.hits(
      *study.model(each, stage.which), data, spatial.move, cfg.points(),
      study.key(name), cfg.batch_size, each, Measured(directory / "parts"),
    )  # fmt: skip
    worst[each] = spatial.worst(hits, cfg)
    curves = spatial.by_angle(hits, cfg)
    models[each] = {
      "worst": {part: float(v.mean()) for part, v in worst[each].items()},
      "mean": float(hits.mean()),
      "by_angle": {curve: v.tolist() for curve, v in curves.items()},
    }
  shifts, angles = cfg.axes()
  return {
    "models": models,
    "differences": compared.differences(
      {each: found["grid"] for each, found in worst.items()}
    ),
    "num_points": cfg.num_points,
    "shifts": shifts.tolist(),
    "angles": angles.tolist(),
    "num_classes": data.num_classes,
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _lines(found: dict[str, Any]) -> list[str]:
  rows = [["model", "natural", "mean of the grid", "worst shift down",
           "worst shift right", "worst shift", "worst rotation",
           "worst of the grid"]]  # fmt: skip
  for name, result in found["models"].items():
    worst = result["worst"]
    cells = [worst["natural"], result["mean"],
             *(worst[part] for part in spatial.PARTS)]  # fmt: skip
    rows.append([name, *map(tables.percent, cells)])
  shifts, angles = found["shifts"], found["angles"]
  errors = [
    tables.standard_error(value, found["num_examples"]) or 0.0
    for result in found["models"].values()
    for value in result["worst"].values()
  ]
  return [
    tables.aligned(rows),
    "",
    f"- {found['num_points']} points: {len(shifts)} x {len(shifts)} shifts of "
    f"at most {shifts[-1]:g} pixels, {len(angles)} rotations of at most "
    f"{angles[-1]:g} degrees; bilinear, zeros from outside",
    f"- percent of {found['num_examples']} images that are right wherever a "
    "part of the grid moves them; the mean is that of moving them at random; "
    f"standard error of a worst case: at most {100 * max(errors):.2f}",
    *compared.lines(found, "worst of the grid"),
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: rotations and shifts", _lines(f)) for name, f in found.items()
  ]


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  folder = workdir / "figures"
  return [change_figures.angles(name, f, folder) for name, f in found.items()]


def _shrink(stage: Any) -> None:
  stage.num_examples, grid = 16, stage.spatial
  grid.num_shifts = min(3, grid.num_shifts)
  grid.num_angles = min(3, grid.num_angles)
  grid.batch_size = 16


def _work(stage: Stage, num_images) -> Work:
  images = stage.num_images(num_images)
  return Work(images, passes=float(images * stage.spatial.num_points))


KIND = Kind(
  stage=Stage,
  run=_run,
  section="spatial",
  heading="Rotations and shifts",
  claim=(
    "Robustness in a ball is no robustness to rotations and shifts; a model "
    "trained on D, moved over the same grid, is the control."
  ),
  caption=(
    "Accuracy against the angle of a rotation, unshifted and under the worst "
    "shift; a colour a model."
  ),
  preflight=_preflight,
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
