"""A study's report as one page: opens from disk, needs nothing beside it.

Tables and lists come from the same sections as `results.md`; pictures are
embedded. The page reads without JavaScript, light and dark, narrow and wide.
"""

import base64
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from robust_features.study.report import tables

Section = tuple[str, Sequence[str]]


class Picture(NamedTuple):
  """A figure that the study drew.

  Attributes:
    path: A PNG file.
    caption: What it shows, in words.
  """

  path: pathlib.Path
  caption: str


class Part(NamedTuple):
  """What stages of one kind found.

  Attributes:
    name: Of the kind.
    claim: What they show, in one sentence.
    sections: (title, lines), as in `results.md`.
    pictures: Their figures.
  """

  name: str
  claim: str
  sections: Sequence[Section]
  pictures: list[Picture]


def _environment() -> Any:
  import jinja2  # Late: studies run without it, and say so.

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("robust_features.study.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters["percent"] = tables.percent
  environment.filters["embedded"] = _embedded
  environment.filters["blocks"] = _blocks
  return environment


def _embedded(path: pathlib.Path) -> str:
  """Returns a picture as a URI that holds it."""
  encoded = base64.b64encode(path.read_bytes()).decode()
  return f"data:image/png;base64,{encoded}"


def _blocks(lines: Sequence[str]) -> list[tuple[str, Any]]:
  """Returns what lines of markdown are: tables, lists and sentences."""
  found: list[tuple[str, Any]] = []
  for line in lines:
    if isinstance(line, tables.Table):
      found.append(("table", line))
    elif line.startswith("- "):
      if not found or found[-1][0] != "list":
        found.append(("list", []))
      found[-1][1].append(line[2:])
    elif line:
      found.append(("text", line))
  return found


def render(results: dict[str, Any], parts: list[Part], duration: str) -> str:
  """Returns the page of one run.

  Args:
    results: The content of `results.json`.
    parts: What its stages found, in the order of the page.
    duration: Of all stages together, in words.
  """
  rows = results["rows"]
  radii = sorted({e for r in rows for e in r["robust_accuracy"]}, key=float)
  return (
    _environment()
    .get_template("run.html")
    .render(
      results=results,
      parts=parts,
      radii=radii,
      notes=tables.notes(results) if rows else [],
      cell=_cell,
      duration=duration,
    )
  )


def _cell(row: dict[str, Any], eps: str) -> str:
  """Returns a row's accuracy at a radius, "" for clean, with its error."""
  value = row["robust_accuracy"].get(eps) if eps else row["accuracy"]
  if value is None:
    return "not measured"
  error = tables.standard_error(value, row["num_examples"]) or 0.0
  return f"{100 * value:.1f} ± {100 * error:.1f}"


def compare(runs: list[dict[str, Any]]) -> str:
  """Returns a page that lays several runs of one study side by side.

  Args:
    runs: The content of each `results.json`.

  Raises:
    ValueError: If their tables have other rows.
  """
  titles = [row["title"] for row in runs[0]["rows"]]
  for run in runs:
    if [row["title"] for row in run["rows"]] != titles:
      raise ValueError(
        f"runs to compare must have the same rows, got {titles} and "
        f"{[row['title'] for row in run['rows']]}"
      )
  rows = runs[0]["rows"]
  radii = sorted({e for r in rows for e in r["robust_accuracy"]}, key=float)
  columns = ["", *radii]
  values = [
    [[_fraction(run["rows"][i], eps) for run in runs] for eps in columns]
    for i in range(len(titles))
  ]
  spread = [[_spread(found) for found in row] for row in values]
  paired = [
    [
      _spread([None if a is None or b is None else a - b
               for a, b in zip(found, first, strict=True)])
      for found, first in zip(row, values[0], strict=True)
    ]
    for row in values[1:]
  ]  # fmt: skip
  return (
    _environment()
    .get_template("compare.html")
    .render(
      runs=runs, titles=titles, columns=columns, spread=spread, paired=paired
    )
  )


def _fraction(row: dict[str, Any], eps: str) -> float | None:
  return row["robust_accuracy"].get(eps) if eps else row["accuracy"]


def _spread(values: list[float | None]) -> str:
  """Returns mean ± deviation (least to most) in percent."""
  found = [100 * value for value in values if value is not None]
  if not found:
    return "not measured"
  deviation = statistics.stdev(found) if len(found) > 1 else 0.0
  return (
    f"{statistics.mean(found):.1f} ± {deviation:.1f} "
    f"({min(found):.1f} to {max(found):.1f})"
  )
