"""Grids of labelled pictures: what the stage kind `pictures` shows."""

import pathlib
from typing import Any

import matplotlib.figure
import numpy as np

from robust_features.runtime import logs
from robust_features.study.report import figures

_INCH = 0.62  # Of one picture.
# Where climbs begin, in words.
STARTS = {"noise": "noise", "image": "another image"}


def pairs(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns which classes are joined: 0 and 1, 2 and 3, an odd one with 0."""
  begin = np.arange(0, num_classes, 2)
  return begin, (begin + 1) % num_classes


def as_pixels(images: Any) -> np.ndarray:
  """Returns images in [0, 1], or already uint8, as uint8."""
  images = np.asarray(images)
  if images.dtype == np.uint8:
    return images
  return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def grid(pictures: np.ndarray, rows: list[str], columns: list[str]) -> Any:
  """Returns a figure of pictures with a label to each row and column.

  Args:
    pictures: `[R, K, H, W, C]` uint8, of one or three channels.
    rows: R labels, on the left.
    columns: K labels, on top.
  """
  num_rows, num_columns, height, width = pictures.shape[:4]
  figure = matplotlib.figure.Figure(
    figsize=(_INCH * num_columns, _INCH * num_rows * height / width)
  )
  axes = figure.add_axes((0, 0, 1, 1))
  axes.imshow(logs.grid(list(pictures)), interpolation="nearest", aspect="auto")
  axes.set_xticks(
    (np.arange(num_columns) + 0.5) * (width + 1) - 0.5, columns,
    rotation=45, ha="left", rotation_mode="anchor",
  )  # fmt: skip
  axes.set_yticks((np.arange(num_rows) + 0.5) * (height + 1) - 0.5, rows)
  axes.tick_params(length=0, labelsize=7, pad=1)
  axes.xaxis.tick_top()
  for spine in axes.spines.values():
    spine.set_visible(False)
  return figure


def draw(
  name: str,
  result: dict[str, Any],
  arrays: dict[str, np.ndarray],
  folder: pathlib.Path,
) -> list[pathlib.Path]:
  """Draws what a pictures stage found; returns the PNGs.

  Args:
    name: The stage's, which the files' names begin with.
    result: What the stage returned.
    arrays: Its pictures, uint8.
    folder: Where the files go.
  """
  drawn = {
    "inversion": _inversion(result, arrays),
    "interpolation": _interpolation(result, arrays),
    "features": _features(result, arrays),
  }
  for start in STARTS:
    drawn[f"frames_{start}"] = _frames(result, arrays, start)
  return [
    figures.save(figure, folder, f"{name}_{what}")
    for what, figure in drawn.items()
  ]


def _inversion(result, arrays):
  """Rows: originals, then each start and where every model went from it."""
  rows, labels = [arrays["original"]], ["original"]
  for start, words in STARTS.items():
    rows.append(arrays[f"start-{start}"])
    labels.append(f"start: {words}")
    for model in result["models"]:
      rows.append(arrays[f"{model}-frames-{start}"][-1])
      labels.append(f"{model}, from {words}")
  return grid(np.stack(rows), labels, result["classes"])


def _frames(result, arrays, start: str):
  """Columns: the original, then the way of every model's inversion."""
  steps = [str(step) for step in result["inversion"]["frame_steps"]]
  columns, labels = [arrays["original"]], ["original"]
  for model in result["models"]:
    columns += list(arrays[f"{model}-frames-{start}"])
    labels += [f"{model}, step {step}" for step in steps]
  return grid(np.stack(columns, axis=1), result["classes"], labels)


def _interpolation(result, arrays):
  """Rows: for each pair, the line between pixels and every model's."""
  models = list(result["models"])
  num_points = len(arrays[f"{models[0]}-pixels"])
  rows, labels = [], []
  joined = pairs(len(result["classes"]))
  for i, (a, b) in enumerate(zip(*joined, strict=True)):
    names = f"{result['classes'][a]} to {result['classes'][b]}"
    for what, key in (
      ("pixels", f"{models[0]}-pixels"),
      *((model, f"{model}-interpolation") for model in models),
    ):
      rows.append(arrays[key][:, i])
      labels.append(f"{names}: {what}" if what == "pixels" else what)
  columns = [f"{t:.2f}" for t in np.linspace(0, 1, num_points)]
  return grid(np.stack(rows), labels, columns)


def _features(result, arrays):
  """Rows: a class's entry; columns: where it is high, for every model."""
  columns, labels = [], []
  for start, words in STARTS.items():
    columns.append(arrays[f"start-{start}"])
    labels.append(f"start: {words}")
  for model in result["models"]:
    columns.append(arrays[f"{model}-highest"])
    labels.append(f"{model}: highest in the set")
    for start, words in STARTS.items():
      columns.append(arrays[f"{model}-feature-{start}"])
      labels.append(f"{model}: from {words}")
  return grid(np.stack(columns, axis=1), result["classes"], labels)
