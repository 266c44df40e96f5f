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
  axes.legend(ncols=5, loc="lower left", bbox_to_anchor=(0, 1.06), fontsize=8)
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


# The lines of a training curve by field of its history: what it is of, plain
# and under attack, its style and colour.
_CURVES = (
  ("train_accuracy", ("training set", "training set, under attack"),
   ("--", (0, (4, 1, 1, 1))), COLOURS[0]),
  ("validation_accuracy", ("held out of D", "held out of D"), ("-", "-"),
   COLOURS[1]),
  ("validation_robust_accuracy", ("", "held out of D, under attack"),
   ("", ":"), COLOURS[2]),
)  # fmt: skip


@styled
def curves(models: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
  """Draws training and validation accuracy per epoch (figure 10).

  Bands are a standard error of the held-out images to either side.
  """
  columns = min(4, len(models))
  lines = -(-len(models) // columns)
  figure = matplotlib.figure.Figure(figsize=(2.6 * columns, 2.1 * lines))
  grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
  for axes in grid.flat[len(models) :]:
    axes.axis("off")
  for axes, result in zip(grid.flat, models.values(), strict=False):
    _curves_panel(axes, result)
  for axes in grid[:, 0]:
    axes.set_ylabel("accuracy (%)")
  for axes in grid.flat[max(0, len(models) - columns) : len(models)]:
    axes.set_xlabel("epoch")
  labels: dict[str, Any] = {}
  for axes in grid.flat:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      labels.setdefault(label, handle)
  first = next(iter(models.values()))
  held = sorted({m["num_validation"] for m in models.values()})
  figure.suptitle(
    f"{first['study']}: n = {', '.join(map(str, held))} held out; seed "
    f"{first['seed']}",
    fontsize=8,
  )
  figure.tight_layout()
  figure.legend(
    labels.values(), labels.keys(), ncols=min(5, 2 * columns),
    loc="lower center", fontsize=8, bbox_to_anchor=(0.5, 1),
  )  # fmt: skip
  return save(figure, folder, "curves")


def _curves_panel(axes, result: dict[str, Any]) -> None:
  """Draws the curves of one model."""
  attacked = result["attacked"]
  for key, labels, styles, colour in _CURVES:
    points = [(r["epoch"], r[key]) for r in result["history"] if key in r]
    if not points:
      continue
    epochs, values = np.array(points).T
    axes.plot(epochs, 100 * values, ls=styles[attacked], marker=".", ms=4,
              color=colour, label=labels[attacked])  # fmt: skip
    if key != "train_accuracy":
      error = np.sqrt(values * (1 - values) / result["num_validation"])
      axes.fill_between(epochs, 100 * (values - error), 100 * (values + error),
                        color=colour, alpha=0.15, lw=0)  # fmt: skip
  chance = 100 / result["model"]["num_classes"]
  axes.axhline(chance, color="0.4", lw=0.9, ls=":", label="chance")
  axes.set_title(result["title"], fontsize=8)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  axes.set_ylim(0, 102)


@styled
def step_sweep(
  name: str, sweep: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws robust accuracy against the attack's steps (figure 8)."""
  figure, axes = _new(3.9, 2.6)
  steps = [row["num_steps"] for row in sweep["rows"]]
  found = [row["robust_accuracy"] for row in sweep["rows"]]
  errors = [
    tables.standard_error(value, sweep["num_examples"]) or 0.0
    for value in found
  ]
  axes.errorbar(
    steps, 100 * np.array(found), 100 * np.array(errors), marker="o", ms=4,
    elinewidth=0.8,
  )  # fmt: skip
  chance = 100 / sweep["num_classes"]
  axes.axhline(chance, color="0.4", lw=0.9, ls=":", label="chance")
  axes.legend(fontsize=8)
  axes.set_xscale("symlog", linthresh=1)
  axes.set_xticks(steps, [str(count) for count in steps], fontsize=7)
  axes.minorticks_off()
  axes.set_xlabel("PGD steps, the strongest step size of each")
  axes.set_ylabel("robust accuracy (%)")
  axes.set_ylim(bottom=0)
  axes.set_title(
    f"{sweep['study']}, {name}: {sweep['norm']}, ε = {sweep['eps']:g}; "
    f"n = {sweep['num_examples']}; seed {sweep['seed']}",
    fontsize=8, loc="left",
  )  # fmt: skip
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
    _error_bars(axes, found, kind)
    axes.axvline(100 / found["num_classes"], color="0.4", lw=0.9, ls=":",
                 label="chance")  # fmt: skip
    axes.set_xlabel("test accuracy, trained on D_det (%)")
    axes.set_ylabel(f"{kind} examples that succeed (%)")
    axes.margins(x=0.3, y=0.16)
  figure.axes[0].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
  attack = found["attack"]
  figure.suptitle(
    f"{found['study']}, {name}: examples of {found['source_architecture']}, "
    f"{attack['norm']}, ε = {attack['eps']:g}, {attack['num_steps']} steps; "
    f"n = {found['num_examples']} attacked, {found['num_test']} tested; seed "
    f"{found['seed']}",
    fontsize=8,
  )
  figure.tight_layout()
  return save(figure, folder, name)


def _error_bars(axes, found: dict[str, Any], kind: str) -> None:
  """Draws binomial standard errors of our points."""
  for point in found["rows"]:
    accuracy, success = point["learner_accuracy"], point[kind]
    # Only images that the model has right can be taken from it.
    count = max(1, round(point["accuracy"] * found["num_examples"]))
    error_x = tables.standard_error(accuracy, found["num_test"]) or 0.0
    error_y = tables.standard_error(success, count) or 0.0
    axes.errorbar(
      100 * accuracy, 100 * success, xerr=100 * error_x, yerr=100 * error_y,
      fmt="none", ecolor=COLOURS[0], elinewidth=0.8,
    )  # fmt: skip


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
