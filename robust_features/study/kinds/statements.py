"""The theory's statements as rows that pass or fail, and its figures.

Needs no data and no model. A row that fails makes the run fail, once
everything has been written.

Reference: arXiv:1905.02175, sections 2, 4, D.10 and E.
"""

import dataclasses
import math
import pathlib
import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks
from robust_features.study import settings
from robust_features.study.graph import Kind, Study
from robust_features.study.report import figures, tables, theory_figures
from robust_features.theory import checks
from robust_features.theory.checks import examples
from robust_features.theory.checks.rows import Row


@dataclasses.dataclass(frozen=True)
class Checks:
  """How much the random checks draw.

  Attributes:
    num_samples: Samples of each expectation.
    num_draws: Random matrices or means of each inequality.
  """

  num_samples: Annotated[int, settings.AtLeast(2)]
  num_draws: settings.Size


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a statements stage.

  Attributes:
    checks: Sizes of the random checks.
    metrics: Figure 4.
    path: Eigenvalues, multiplier and alignment against eps.
    two_features: Figure 14.
    gap: Problem (13) against (20).
  """

  checks: Checks
  metrics: examples.Metrics
  path: examples.Path
  two_features: examples.TwoFeatures
  gap: examples.Gap


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  del name, directory
  start = time.monotonic()
  seed = study.plan.config.seed
  rows = checks.run(
    make_maximize,
    seed=seed,
    num_samples=stage.checks.num_samples,
    num_draws=stage.checks.num_draws,
  )
  shown = {
    "metrics": examples.metrics(stage.metrics, seed),
    "path": examples.path(stage.path),
    "two_features": examples.two_features(stage.two_features, seed),
    "gap": examples.gap(stage.gap, seed),
  }
  for example in shown.values():
    rows += example.rows
  return {
    "statements": [plain(row) for row in rows],
    "examples": _plain_tree({k: v.drawn for k, v in shown.items()}),
    "seconds": time.monotonic() - start,
  }


def make_maximize(norm: str, eps: float):
  """Returns an attack strong enough to be exact on linear features."""
  cfg = attacks.AttackConfig(norm=norm, eps=eps, step_size=eps, num_steps=20)

  def maximize(objective_fn, x):
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
    return attacks.maximize(objective_fn, x, keys, cfg).x_adv

  return maximize


def plain(row: Row) -> dict[str, Any]:
  """Returns a row for JSON, which has no NaN and no infinity."""
  return {
    name: str(value)
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for name, value in row._asdict().items()
  }


def _plain_tree(tree: Any) -> Any:
  """Returns a tree of arrays as one of lists, for JSON."""
  return jax.tree.map(
    lambda leaf: leaf if isinstance(leaf, str) else np.asarray(leaf).tolist(),
    tree,
  )


def lines(rows: list[dict[str, Any]]) -> list[str]:
  """Returns the table of statements, and how many passed."""
  units = {"relative": "", "standard errors": " s.e.", "shortfall": " short"}
  cells = [["statement", "claim", "function", "value", "reference", "error",
            "tolerance", ""]]  # fmt: skip
  for row in rows:
    numbers = [f"{float(row[field]):.6g}" for field in ("value", "reference")]
    error = f"{float(row['error']):.2g}{units[row['measure']]}"
    claim = row["statement"].replace("|", "\\|")
    cells.append(
      [row["name"], claim, f"`{row['function']}`", *numbers, error,
       f"{row['tolerance']:.2g}", "pass" if row["passed"] else "FAIL"]
    )  # fmt: skip
  passed = sum(row["passed"] for row in rows)
  summary = f"{passed} of {len(rows)} checks passed."
  return [tables.aligned(cells, num_words=3), "", summary]


def failed(found: dict[str, Any]) -> list[str]:
  """Returns the statements that do not hold, by name."""
  return [
    f"{row['name']}: {row['statement']}"
    for result in found.values()
    for row in result["statements"]
    if not row["passed"]
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: statements of sections 2, 4 and E", lines(result["statements"]))
    for name, result in found.items()
  ]


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  drawn = []
  for name, result in found.items():
    for suffix, figure in theory_figures.examples(result["examples"]).items():
      where = workdir / "figures"
      drawn.append(figures.save(figure, where, f"{name}_{suffix}"))
  return drawn


def _shrink(stage: Any) -> None:
  stage.checks.num_samples, stage.checks.num_draws = 2000, 50
  stage.path.num_eps = 20
  stage.gap.dims = (stage.gap.dims[0], 4 * stage.gap.dims[0])
  stage.gap.num_samples = 100


KIND = Kind(
  stage=Stage,
  run=_run,
  section="statements",
  claim=(
    "Every lemma and theorem on the Gaussian model holds for the functions "
    "that claim to compute it."
  ),
  caption=(
    "What the theory says of the Gaussian model; each curve and point is named "
    "in the figure."
  ),
  report=_report,
  failed=failed,
  draw=_draw,
  shrink=_shrink,
)
