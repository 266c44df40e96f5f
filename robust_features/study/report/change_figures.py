"""Figures of accuracy under rotations, shifts and waves of one frequency."""

import pathlib
from typing import Any

import matplotlib.figure
import numpy as np

from robust_features.study.report import figures, tables


@figures.styled
def angles(
  name: str, found: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws accuracy against the angle, unshifted and under the worst shift.

  Args:
    name: Of the stage and of the file.
    found: A spatial stage's result.
    folder: Of the files.
  """
  figure = matplotlib.figure.Figure(figsize=(5.2, 3.2))
  axes = figure.add_subplot()
  for colour, (model, result) in zip(
    figures.COLOURS * len(found["models"]), found["models"].items(),
    strict=False,
  ):  # fmt: skip
    for (curve, values), style in zip(
      result["by_angle"].items(), ("-", "--"), strict=True
    ):
      values = np.asarray(values)
      errors = [
        tables.standard_error(v, found["num_examples"]) or 0.0 for v in values
      ]
      axes.errorbar(
        found["angles"], 100 * values, 100 * np.asarray(errors), ls=style,
        marker=".", ms=4, elinewidth=0.6, color=colour,
        label=f"{model}, {curve}",
      )  # fmt: skip
  axes.axhline(100 / found["num_classes"], color="0.4", lw=0.9, ls=":",
               label="chance")  # fmt: skip
  axes.set_xlabel("rotation, counter-clockwise (degrees)")
  axes.set_ylabel("accuracy (%)")
  axes.set_ylim(0, 102)
  axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1.1), ncols=2)
  axes.set_title(
    f"{found['study']}, {name}: shifts of at most {found['shifts'][-1]:g} "
    f"pixels; n = {found['num_examples']}; seed {found['seed']}",
    fontsize=8, loc="left",
  )  # fmt: skip
  return figures.save(figure, folder, name)


@figures.styled
def maps(
  name: str, found: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws the error under each wave, a map a model on one scale.

  Args:
    name: Of the stage and of the file.
    found: A fourier_map stage's result.
    folder: Of the files.
  """
  models = found["models"]
  figure = matplotlib.figure.Figure(
    figsize=(0.9 + 2.3 * len(models), 3.1), layout="constrained"
  )
  grid = figure.subplots(1, len(models), squeeze=False)[0]
  down, right = found["extent"]
  for axes, (model, result) in zip(grid, models.items(), strict=True):
    axes.imshow(
      100 * np.asarray(result["map"]), vmin=0, vmax=100, cmap="viridis",
      extent=(-right - 0.5, right + 0.5, down + 0.5, -down - 0.5),
    )  # fmt: skip
    axes.set_title(model, fontsize=8)
    axes.set_xlabel(
      f"periods to the right\nclean {100 * result['clean']:.1f}, white noise "
      f"{100 * result['white']:.1f}",
      fontsize=8,
    )
  grid[0].set_ylabel("periods down")
  figure.colorbar(grid[-1].images[0], ax=list(grid), label="error (%)")
  figure.suptitle(
    f"{found['study']}, {name}: l2 norm {found['eps']:g} a channel; n = "
    f"{found['num_examples']}; seed {found['seed']}",
    fontsize=8,
  )
  return figures.save(figure, folder, name)
