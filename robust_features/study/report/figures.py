"""Figures of a study, drawn with matplotlib; colour-blind safe."""

import functools
import io
import pathlib
from typing import Any

import cycler
import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.ticker import MaxNLocator

from robust_features.runtime import files
from robust_features.study.report import tables

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


# The lines of a training curve, by field of its history.
_CURVES = {
  "train_accuracy": COLOURS[0],
  "validation_accuracy": COLOURS[1],
  "validation_robust_accuracy": COLOURS[2],
}


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
  """Draws every row's accuracies as bars, the paper's as lines (figure 2b).

  Error bars are binomial standard errors. A bar of height 0 is marked "0", a
  radius that was not measured "n/a".
  """
  radii = sorted({e for r in rows for e in r["robust_accuracy"]}, key=float)
  figure, axes = _new(max(5.2, 1.6 + 0.95 * len(rows)), 3.4)
  width = 0.8 / (1 + len(radii))
  for i, eps in enumerate(["", *radii]):
    at = np.arange(len(rows)) + (i - len(radii) / 2) * width
    _bars(axes, rows, eps, at, width)
  if any(row["paper"] for row in rows):
    axes.plot([], [], color="black", lw=1.5, label="the paper's")
  chance = 100 / len(rows[0]["class_names"])
  axes.axhline(chance, color="0.4", lw=0.9, ls=":", label="chance")
  axes.set_xticks(
    range(len(rows)), [r["title"] for r in rows], rotation=30, ha="right"
  )
  axes.set_ylabel("accuracy (%)")
  axes.set_ylim(0, 102)
  axes.legend(ncols=5, loc="lower left", bbox_to_anchor=(0, 1.08), fontsize=8)
  axes.set_title(_measured(rows), fontsize=8, loc="left")
  return save(figure, folder, "accuracies")


def _measured(rows: list[dict[str, Any]]) -> str:
  """Returns what a reader of the numbers must know, in one line."""
  attacks = {
    f"{r['attack']['name']}, {r['attack']['norm']}, "
    f"{r['attack']['num_steps']} steps"
    for r in rows
  }
  sizes = sorted({r["num_examples"] for r in rows})
  return (
    f"{rows[0]['study']}: {' or '.join(sorted(attacks))}; "
    f"n = {', '.join(map(str, sizes))}; seed {rows[0]['seed']}"
  )


def _bars(axes, rows, eps: str, at, width: float) -> None:
  """Draws the bars of one radius, "" for clean images."""
  found = [_value(row, eps) for row in rows]
  heights = [100 * (value or 0.0) for value in found]
  errors = [
    100 * (tables.standard_error(value, row["num_examples"]) or 0.0)
    for value, row in zip(found, rows, strict=True)
  ]
  axes.bar(
    at, heights, width, yerr=errors, label=f"ε = {eps}" if eps else "clean",
    error_kw={"elinewidth": 0.8, "ecolor": "0.25"},
  )  # fmt: skip
  for x, value, row in zip(at, found, rows, strict=True):
    if not value:
      axes.text(x, 1, "n/a" if value is None else "0", ha="center", va="bottom",
                fontsize=6, rotation=90 if value is None else 0)  # fmt: skip
    printed = _value(row["paper"], eps) if row["paper"] else None
    if printed is not None:
      axes.hlines(
        100 * printed, x - width / 2, x + width / 2, color="black", lw=1.5
      )


def _value(row: dict[str, Any], eps: str) -> float | None:
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
  for axes, result in zip(grid.flat, models.values(), strict=False):
    epochs = [r["epoch"] for r in result["history"]]
    for key, label, style in (
      (
        "train_accuracy",
        "training set, under attack" if result["attacked"] else "training set",
        (0, (4, 1, 1, 1)) if result["attacked"] else "--",
      ),
      ("validation_accuracy", "held out of D", "-"),
      ("validation_robust_accuracy", "held out, under attack", ":"),
    ):
      if key in result["history"][-1]:
        values = [100 * r[key] for r in result["history"]]
        colour = _CURVES[key]
        axes.plot(epochs, values, ls=style, marker=".", ms=4, color=colour,
                  label=label)  # fmt: skip
    axes.set_title(result["title"], fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 102)
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
    labels.values(), labels.keys(), ncols=4, loc="lower center",
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
def examples(
  name: str,
  shown: dict[str, np.ndarray],
  class_names: list[str],
  folder: pathlib.Path,
) -> pathlib.Path:
  """Draws one image of each class and what was made of it (figures 2a, 9).

  Args:
    name: Of the set and of the file.
    shown: "original", "start" and "constructed" `[K, H, W, C]` in [0, 1], and
      labels "old" and "new" `[K]`.
    class_names: By label.
    folder: Of the files.
  """
  original, made = shown["original"], shown["constructed"]
  difference = made - original
  largest = float(np.abs(difference).max())
  factor = max(1, int(0.5 / largest)) if largest else 1
  lines = {"original": original, "start": shown["start"], "constructed": made}
  if np.array_equal(shown["start"], original):
    del lines["start"]
  lines[f"difference\nx {factor}"] = 0.5 + factor * difference
  count = len(original)
  figure = matplotlib.figure.Figure(
    figsize=(0.9 + 0.8 * count, 0.9 + 0.8 * len(lines)), layout="constrained"
  )
  grid = figure.subplots(len(lines), count, squeeze=False)
  for row, (label, images) in zip(grid, lines.items(), strict=True):
    row[0].set_ylabel(label, fontsize=8)
    for axes, image in zip(row, np.clip(images, 0, 1), strict=True):
      picture = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
      axes.imshow(picture, interpolation="nearest")
      axes.set_xticks([])
      axes.set_yticks([])
      axes.spines[:].set_visible(False)
  for axes, old, new in zip(grid[0], shown["old"], shown["new"], strict=True):
    axes.set_title(class_names[old], fontsize=7)
    arrow = "label kept" if old == new else f"→ {class_names[new]}"
    grid[-1][list(grid[0]).index(axes)].set_xlabel(arrow, fontsize=7)
  figure.suptitle(f"{name}: class of the original above, new label below",
                  fontsize=8)  # fmt: skip
  return save(figure, folder, name)
