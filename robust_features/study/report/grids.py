"""Grids of images: one of each class, and what was made of it."""

import pathlib
from typing import Any

import matplotlib.figure
import numpy as np

from robust_features.study.report import figures

_COLUMNS = 10  # Classes beside each other; more go below.


@figures.styled
def examples(
  name: str,
  found: dict[str, Any],
  shown: dict[str, np.ndarray],
  folder: pathlib.Path,
) -> pathlib.Path:
  """Draws one image of each class and what was made of it (figures 2a, 9).

  The class of the original stands above a column, the new label below it.

  Args:
    name: Of the set and of the file.
    found: The set's result: "class_names", "study", "seed", "num_examples".
    shown: "original", "start" and "constructed" `[K, H, W, C]` in [0, 1], and
      labels "old" and "new" `[K]`.
    folder: Of the files.
  """
  lines = _lines(shown)
  num_classes = len(shown["old"])
  columns = min(_COLUMNS, num_classes)
  blocks = -(-num_classes // columns)
  figure = matplotlib.figure.Figure(
    figsize=(0.9 + 0.8 * columns, 0.4 + blocks * (0.5 + 0.8 * len(lines))),
    layout="constrained",
  )
  figure.suptitle(
    f"{found['study']}, {name}: class of the original above, label below; one "
    f"of {found['num_examples']:,} for each class; seed {found['seed']}",
    fontsize=8,
  )
  parts = figure.subfigures(blocks, 1, squeeze=False)[:, 0]
  for first, part in zip(range(0, num_classes, columns), parts, strict=True):
    inside = slice(first, first + columns)
    old, new = shown["old"][inside], shown["new"][inside]
    grid = part.subplots(len(lines), columns, squeeze=False)
    for row, (label, images) in zip(grid, lines.items(), strict=True):
      row[0].set_ylabel(label, fontsize=8)
      for axes in row:
        _bare(axes)
      for axes, image in zip(row, images[inside], strict=False):
        axes.imshow(_rgb(image), interpolation="nearest")
    for axes, label in zip(grid[0], old, strict=False):
      axes.set_title(found["class_names"][label], fontsize=7)
    for axes, before, label in zip(grid[-1], old, new, strict=False):
      same = before == label
      text = "label kept" if same else f"→ {found['class_names'][label]}"
      axes.set_xlabel(text, fontsize=7)
  return figures.save(figure, folder, name)


def _lines(shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the lines of a grid by label, the difference amplified last."""
  original, made = shown["original"], shown["constructed"]
  difference = made - original
  largest = float(np.abs(difference).max())
  factor = max(1, int(0.5 / largest)) if largest else 1
  lines = {"original": original, "start": shown["start"], "constructed": made}
  if np.array_equal(shown["start"], original):
    del lines["start"]
  return lines | {f"difference\nx {factor}": 0.5 + factor * difference}


def _rgb(image: np.ndarray) -> np.ndarray:
  image = np.clip(image, 0, 1)
  return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _bare(axes) -> None:
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines[:].set_visible(False)
