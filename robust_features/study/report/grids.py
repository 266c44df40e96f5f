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
    axes = part.subplots()
    rows = {label: images[inside] for label, images in lines.items()}
    _show(axes, rows, columns)
    _name(axes, "top", [found["class_names"][label] for label in old])
    arrows = [f"→ {found['class_names'][label]}" for label in new]
    kept = old == new
    _name(axes, "bottom", np.where(kept, "label kept", arrows).tolist())
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


def _show(axes, rows: dict[str, np.ndarray], columns: int) -> None:
  """Draws images as one picture, a unit each, the rows named at the left.

  An axes for every image takes seconds to lay out.
  """
  cells = np.stack(list(rows.values()))  # [R, K, H, W, C].
  num_rows, count, height, width, _ = cells.shape
  cells = np.broadcast_to(np.clip(cells, 0, 1), (*cells.shape[:4], 3))
  gap = [-(-size // 16) for size in (height, width)]
  framed = np.pad(
    cells, ((0, 0), (0, 0), (0, gap[0]), (0, gap[1]), (0, 0)),
    constant_values=1.0,
  )  # fmt: skip
  whole = framed.transpose(0, 2, 1, 3, 4)
  whole = whole.reshape(num_rows * framed.shape[2], count * framed.shape[3], 3)
  axes.imshow(
    whole, interpolation="nearest", extent=(0, count, num_rows, 0),
    aspect=framed.shape[2] / framed.shape[3],
  )  # fmt: skip
  axes.set_xlim(0, columns)
  axes.set_yticks(np.arange(num_rows) + 0.5, list(rows), fontsize=8)
  axes.set_xticks([])
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def _name(axes, side: str, names: list[str]) -> None:
  """Writes a name at every column."""
  ruler = axes.secondary_xaxis(side)
  ruler.set_xticks(np.arange(len(names)) + 0.5, names, fontsize=7)
  ruler.tick_params(length=0)
  ruler.spines[:].set_visible(False)
