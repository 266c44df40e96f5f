"""Accuracy by several labels against the epoch."""

import pathlib
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib.ticker import MaxNLocator

from robust_features.study.report import figures, tables

_COLUMNS = 4


@figures.styled
def labels(
  name: str, found: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws a panel a model and a line a rule of labels, its peak marked.

  Args:
    name: Of the stage and of the file.
    found: A curve stage's result.
    folder: Of the files.
  """
  models = found["models"]
  columns = min(_COLUMNS, len(models))
  lines = -(-len(models) // columns)
  figure = matplotlib.figure.Figure(
    figsize=(1.2 + 2.4 * columns, 0.8 + 2.1 * lines), layout="constrained"
  )
  grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
  for axes in grid.flat[len(models) :]:
    axes.axis("off")
  for axes, (model, result) in zip(grid.flat, models.items(), strict=False):
    _panel(axes, model, result)
  for axes in grid[:, 0]:
    axes.set_ylabel("accuracy (%)")
  handles, names = grid[0, 0].get_legend_handles_labels()
  figure.legend(
    handles, names, ncols=len(names), loc="outside lower center", fontsize=8
  )
  sizes = sorted({result["num_validation"] for result in models.values()})
  figure.suptitle(
    f"{found['study']}, {name}: n = {', '.join(map(str, sizes))} held out, "
    f"bands are standard errors; seed {found['seed']}",
    fontsize=8,
  )
  return figures.save(figure, folder, name)


def _panel(axes, model: str, result: dict[str, Any]) -> None:
  """Draws the curves of one model."""
  epochs = np.asarray(result["epochs"])
  for shift, values in result["accuracy"].items():
    values = np.asarray(values)
    error = np.sqrt(values * (1 - values) / result["num_validation"])
    (line,) = axes.plot(
      epochs, 100 * values, marker=".", ms=4,
      label=f"label {tables.shifted(int(shift))}",
    )  # fmt: skip
    axes.fill_between(
      epochs, 100 * (values - error), 100 * (values + error), alpha=0.15,
      lw=0, color=line.get_color(),
    )  # fmt: skip
    peak = int(values.argmax())
    axes.plot(epochs[peak], 100 * values[peak], "o", ms=6, mfc="none",
              color=line.get_color())  # fmt: skip
  axes.axhline(100 / result["num_classes"], color="0.4", lw=0.9, ls=":",
               label="chance")  # fmt: skip
  axes.set_title(model, fontsize=8)
  axes.set_xlabel("epoch")
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  axes.set_ylim(0, 102)
