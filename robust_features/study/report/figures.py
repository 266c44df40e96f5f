"""Figures of a study, drawn with matplotlib; colour-blind safe."""

import functools
import io
import pathlib
from typing import Any

import cycler
import matplotlib
import matplotlib.figure
import numpy as np
from PIL import Image

from robust_features.runtime import files

# Okabe and Ito's palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
           "#F0E442", "#000000")  # fmt: skip
STYLE: Any = {
  "font.size": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.prop_cycle": cycler.cycler(color=COLOURS),
  "legend.frameon": False,
  "svg.hashsalt": "robust_features",
}


def styled(draw):
  """Draws in the project's style, and leaves everybody else's alone."""

  @functools.wraps(draw)
  def wrapped(*args, **kwargs):
    with matplotlib.rc_context(STYLE):
      return draw(*args, **kwargs)

  return wrapped


def _new(width: float, height: float):
  figure = matplotlib.figure.Figure(figsize=(width, height))
  return figure, figure.add_subplot()


@styled
def save(figure, folder: pathlib.Path, name: str) -> pathlib.Path:
  """Writes `<name>.png` and `<name>.pdf`; returns the former's path."""
  for suffix in ("pdf", "png"):
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=160, bbox_inches="tight")
    files.write_bytes(folder / f"{name}.{suffix}", buffer.getvalue())
  return folder / f"{name}.png"


@styled
def accuracies(
  rows: list[dict[str, Any]], folder: pathlib.Path
) -> pathlib.Path:
  """Draws every row's accuracies as bars, the paper's as lines (figure 2b)."""
  radii = sorted({e for r in rows for e in r["robust_accuracy"]}, key=float)
  figure, axes = _new(1.6 + 0.95 * len(rows), 3.4)
  width = 0.8 / (1 + len(radii))
  for i, eps in enumerate(["", *radii]):
    at = np.arange(len(rows)) + (i - len(radii) / 2) * width
    label = f"ε = {eps}" if eps else "clean"
    heights = [100 * (_value(r, eps) or 0.0) for r in rows]
    axes.bar(at, heights, width, label=label)
    for x, row in zip(at, rows, strict=True):
      printed = _value(row["paper"], eps) if row["paper"] else None
      if printed is not None:
        axes.hlines(
          100 * printed, x - width / 2, x + width / 2, color="black", lw=1.5
        )
  if any(row["paper"] for row in rows):
    axes.plot([], [], color="black", lw=1.5, label="the paper's")
  axes.set_xticks(
    range(len(rows)), [r["title"] for r in rows], rotation=30, ha="right"
  )
  axes.set_ylabel("accuracy (%)")
  axes.set_ylim(0, 100)
  axes.legend(ncols=2 + len(radii), loc="lower left", bbox_to_anchor=(0, 1))
  return save(figure, folder, "accuracies")


def _value(row: dict[str, Any], eps: str):
  return row["robust_accuracy"].get(eps) if eps else row["accuracy"]


@styled
def curves(models: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
  """Draws training and validation accuracy per epoch (figure 10)."""
  columns = min(4, len(models))
  lines = -(-len(models) // columns)
  figure = matplotlib.figure.Figure(figsize=(2.6 * columns, 2.1 * lines))
  grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
  for axes in grid.flat[len(models) :]:
    axes.axis("off")
  for axes, (name, result) in zip(grid.flat, models.items(), strict=False):
    epochs = [r["epoch"] for r in result["history"]]
    for key, label, style in (
      ("train_accuracy", "training set", "--"),
      ("validation_accuracy", "held out of D", "-"),
      ("validation_robust_accuracy", "held out, attacked", ":"),
    ):
      if key in result["history"][-1]:
        values = [100 * r[key] for r in result["history"]]
        axes.plot(epochs, values, style, label=label)
    axes.set_title(name, fontsize=9)
    axes.set_ylim(0, 100)
  for axes in grid[:, 0]:
    axes.set_ylabel("accuracy (%)")
  for axes in grid[-1]:
    axes.set_xlabel("epoch")
  labels: dict[str, Any] = {}
  for axes in grid.flat:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      labels.setdefault(label, handle)
  figure.tight_layout()
  figure.legend(
    labels.values(), labels.keys(), ncols=3, loc="lower center",
    bbox_to_anchor=(0.5, 1),
  )  # fmt: skip
  return save(figure, folder, "curves")


@styled
def step_sweep(
  name: str, sweep: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws robust accuracy against the attack's steps (figure 8)."""
  figure, axes = _new(3.6, 2.6)
  steps = [max(r["num_steps"], 0.5) for r in sweep["rows"]]
  axes.plot(steps, [100 * r["robust_accuracy"] for r in sweep["rows"]], "o-")
  axes.set_xscale("symlog", linthresh=1)
  axes.set_xlabel(f"PGD steps ({sweep['norm']}, ε = {sweep['eps']:g})")
  axes.set_ylabel("robust accuracy (%)")
  axes.set_ylim(bottom=0)
  return save(figure, folder, name)


@styled
def transfer(
  name: str, found: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws success of transfer against what was learnt (figures 3 and 13)."""
  figure = matplotlib.figure.Figure(figsize=(9.6, 3.8))
  for axes, kind in zip(
    figure.subplots(1, 2), ("untargeted", "targeted"), strict=True
  ):
    for points, label, style in (
      (found["paper"], "the paper's", {"marker": "D", "mfc": "none"}),
      (found["rows"], "ours", {"marker": "o"}),
    ):
      if points:
        colour = "0.45" if label != "ours" else COLOURS[0]
        _points(axes, points, kind, label=label, color=colour, **style)
    axes.set_xlabel("test accuracy, trained on D_det (%)")
    axes.set_ylabel(f"{kind} examples that succeed (%)")
    axes.margins(x=0.3, y=0.16)
  figure.axes[0].legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
  figure.tight_layout()
  return save(figure, folder, name)


def _points(axes, points: list[dict[str, Any]], kind: str, **style) -> None:
  """Draws one mark an architecture, its name away from the nearest other."""
  places = np.array([[p["learner_accuracy"], p[kind]] for p in points]) * 100
  axes.plot(*places.T, linestyle="none", **style)
  spread = np.ptp(places, axis=0) + 1e-9
  for place, point in zip(places, points, strict=True):
    away = (place - places) / spread
    distance = np.square(away).sum(axis=1)
    distance[distance == 0] = np.inf
    right, above = away[np.argmin(distance)] >= 0
    axes.annotate(
      point["architecture"], place, ha="left" if right else "right",
      xytext=(4 if right else -4, 4 if above else -9),
      textcoords="offset points", fontsize=7, color=style["color"],
    )  # fmt: skip


@styled
def data_sets(
  grids: dict[str, pathlib.Path], folder: pathlib.Path
) -> pathlib.Path:
  """Stacks the grid of every data set (figures 2a and 9)."""
  pictures = []
  for path in grids.values():
    with Image.open(path) as image:
      pictures.append(np.asarray(image.convert("RGB")))
  return picture_rows(list(grids), pictures, folder)


@styled
def picture_rows(
  names: list[str], pictures: list[np.ndarray], folder: pathlib.Path
) -> pathlib.Path:
  """Draws labelled pictures `[H, W, 3]` under each other (figures 2a, 9)."""
  height = sum(p.shape[0] / p.shape[1] for p in pictures)
  figure = matplotlib.figure.Figure(figsize=(6, 6 * height + 0.35 * len(names)))
  grid = figure.subplots(len(names), 1, squeeze=False)
  for axes, name, picture in zip(grid[:, 0], names, pictures, strict=True):
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(f"{name}: originals above", fontsize=8, loc="left")
    axes.axis("off")
  return save(figure, folder, "data_sets")
