"""Error under waves of one frequency each, beside white noise of their norm.

Reference: arXiv:1906.08988.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from robust_features import changes, evaluate, fourier
from robust_features.runtime.measured import Measured
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import compared
from robust_features.study.report import change_figures, tables

_BANDS = ("low", "middle", "high")


@dataclasses.dataclass(frozen=True)
class Stage(compared.Compared):
  """Fields of a fourier_map stage.

  Attributes:
    fourier: Norm and frequencies.
  """

  fourier: fourier.FourierConfig


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  start = time.monotonic()
  cfg, data = stage.fourier, stage.dataset(study)
  shape, measured = data.image_shape, Measured(directory / "parts")
  key, size = study.key(name), cfg.batch_size
  models, right = {}, {}
  for each in stage.models:
    model, variables = study.model(each, stage.which)
    waves, white = (
      changes.hits(
        model, variables, data, change, points, key, size, f"{each}-{what}",
        measured,
      )
      for change, points, what in (
        (fourier.add_wave, fourier.points(cfg, shape), "waves"),
        (fourier.add_white, fourier.white_points(cfg), "white"),
      )
    )  # fmt: skip
    clean = evaluate.accuracy(model, variables, data, size)
    shown = fourier.heat_map(1.0 - waves.mean(axis=0), cfg, shape)
    models[each] = {
      "clean": 1.0 - clean,
      "white": 1.0 - float(white.mean()),
      "bands": [_mean(shown, inside) for inside in fourier.bands(shown.shape)],
      "map": shown.tolist(),
    }
    right[each] = waves.mean(axis=1)
  return {
    "models": models,
    "differences": compared.differences(right),
    "eps": cfg.eps,
    "num_frequencies": len(fourier.frequencies(cfg, shape)),
    "extent": list(cfg.extent(shape)),
    "num_white": cfg.num_white,
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _mean(values: np.ndarray, inside: np.ndarray) -> float | None:
  """Returns a band's mean; None where so small a map has none of it."""
  return float(values[inside].mean()) if inside.any() else None


def _lines(found: dict[str, Any]) -> list[str]:
  rows = [["model", "clean", "white noise",
           *(f"{band} frequencies" for band in _BANDS)]]  # fmt: skip
  for name, result in found["models"].items():
    cells = [result["clean"], result["white"], *result["bands"]]
    rows.append([name, *map(tables.percent, cells)])
  down, right = found["extent"]
  return [
    tables.aligned(rows),
    "",
    f"- percent of {found['num_examples']} images that are wrong under each of "
    f"{found['num_frequencies']} waves of at most {down} periods down and "
    f"{right} to the right, of l2 norm {found['eps']:g} in every channel; low, "
    "middle and high are thirds of the largest frequency",
    f"- the control is white noise of the same norm, {found['num_white']} "
    "draws an image: a band above it holds what the model depends on",
    *compared.lines(found, "accuracy over all waves"),
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: errors by frequency", _lines(f)) for name, f in found.items()
  ]


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  folder = workdir / "figures"
  return [change_figures.maps(name, f, folder) for name, f in found.items()]


def _shrink(stage: Any) -> None:
  stage.num_examples, cfg = 16, stage.fourier
  cfg.max_frequency, cfg.num_white, cfg.batch_size = 2, 2, 16


def _work(stage: Stage, num_images) -> Work:
  images, cfg = stage.num_images(num_images), stage.fourier
  waves = ((2 * cfg.max_frequency + 1) ** 2 + 1) // 2
  return Work(images, passes=float(images * (waves + cfg.num_white + 1)))


KIND = Kind(
  stage=Stage,
  run=_run,
  section="fourier_maps",
  heading="Frequencies",
  claim=(
    "A model errs under the frequencies that it depends on; white noise of the "
    "same norm, which has them all, is the control."
  ),
  caption=(
    "Error under each wave, no period in the middle of a map; below it the "
    "errors of clean images and under white noise."
  ),
  report=_report,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
