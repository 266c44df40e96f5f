"""Usefulness against robust usefulness, a point a feature (section 2)."""

import pathlib
from typing import Any

import matplotlib.figure
import numpy as np

from robust_features.study.report import figures
from robust_features.theory import usefulness as us

# Every kind has a colour and a marker of its own.
_FEATURES = (
  (us.FeatureKind.ROBUST, "robust", figures.COLOURS[0], "o"),
  (us.FeatureKind.NON_ROBUST, "useful, non-robust", figures.COLOURS[1], "^"),
  (us.FeatureKind.USELESS, "useless", "#999999", "x"),
)


@figures.styled
def features(
  name: str, found: dict[str, Any], folder: pathlib.Path
) -> pathlib.Path:
  """Draws gamma against rho, one panel a table.

  Features of gamma below -1.2 are drawn at the lower edge, as arrowheads.

  Args:
    name: Of the file.
    found: "features", a list of "name" and "rho", "gamma" and "kind" `[F]`, and
      the standard errors of the former; "attack" with "norm" and "eps";
      "num_examples", "study" and "seed".
    folder: Of the files.
  """
  tables, attack = found["features"], found["attack"]
  figure = matplotlib.figure.Figure(
    figsize=(0.6 + 2.4 * len(tables), 3.2), layout="constrained"
  )
  grid = figure.subplots(
    1, len(tables), squeeze=False, sharex=True, sharey=True
  )
  least = min(min(table["gamma"]) for table in tables)
  most = max(max(table["rho"]) for table in tables)
  bottom, limit = max(-1.2, 1.1 * least), max(1.05 * most, 0.05)
  for axes, table in zip(grid[0], tables, strict=True):
    _features_panel(axes, table, bottom, limit)
  grid[0, 0].set_xlim(0, limit)
  grid[0, 0].set_ylim(bottom - 0.05, limit)
  norm = {"l2": r"\ell_2", "linf": r"\ell_\infty"}[attack["norm"]]
  grid[0, 0].set_ylabel(
    rf"robust usefulness $\gamma$ (${norm}$, $\varepsilon = {attack['eps']:g}$)"
  )
  handles, names = grid[0, 0].get_legend_handles_labels()
  figure.legend(
    handles, names, ncols=len(names), loc="outside lower center",
    fontsize=8,
  )  # fmt: skip
  figure.suptitle(
    f"{found['study']}, {name}: n = {found['num_examples']}, bars are standard "
    f"errors; seed {found['seed']}",
    fontsize=8,
  )
  return figures.save(figure, folder, name)


def _features_panel(axes, table, bottom, limit) -> None:
  """Draws the features of one table, by kind."""
  rho, gamma, kinds = (np.asarray(table[k]) for k in ("rho", "gamma", "kind"))
  rho_error, gamma_error = (
    np.asarray(table[f"{k}_standard_error"]) for k in ("rho", "gamma")
  )
  below = gamma < bottom
  axes.plot(
    [0, limit], [0, limit], "k:", lw=0.9,
    label=r"$\gamma = \rho$ ($\varepsilon = 0$)",
  )  # fmt: skip
  axes.axhline(0, color="black", lw=0.8)
  counts = []
  for kind, name, colour, marker in _FEATURES:
    at = kinds == kind
    counts.append(f"{at.sum()} {name.split()[-1]}")
    inside = at & ~below
    axes.scatter(
      rho[inside], gamma[inside], s=16, c=colour, marker=marker, lw=0.9,
      label=name, alpha=0.8,
    )  # fmt: skip
    axes.errorbar(
      rho[inside], gamma[inside], gamma_error[inside], rho_error[inside],
      fmt="none", ecolor=colour, elinewidth=0.5, alpha=0.5,
    )  # fmt: skip
    outside = at & below
    axes.scatter(
      rho[outside], np.full(outside.sum(), bottom), s=16, c=colour, marker="v",
      lw=0.9, alpha=0.8, clip_on=False,
    )  # fmt: skip
  axes.set_title(f"{table['name']}\n{', '.join(counts)}", fontsize=8)
  axes.set_xlabel(r"usefulness $\rho$")
