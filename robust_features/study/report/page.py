"""A study's report as one page: opens from disk, needs nothing beside it.

Tables and lists come from the same sections as `results.md`; pictures are
embedded. The page reads without JavaScript, light and dark, narrow and wide.
"""

import base64
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from robust_features.study.report import stage_graph, tables


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
    heading: What it is called on the page.
    claim: What they show, in one sentence.
    sections: (title, lines), as in `results.md`.
    pictures: Their figures.
    is_table: Whether the stages are the rows of the study's table.
  """

  name: str
  heading: str
  claim: str
  sections: Sequence[tables.Section]
  pictures: list[Picture]
  is_table: bool


def environment() -> Any:
  """Returns what renders the templates of the pages."""
  import jinja2  # Late: studies run without it, and say so.

  made = jinja2.Environment(
    loader=jinja2.PackageLoader("robust_features.study.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  made.filters["embedded"] = _embedded
  made.filters["blocks"] = _blocks
  made.filters["as_file"] = _as_file
  made.filters["minute"] = _minute
  return made


def _embedded(path: pathlib.Path) -> str:
  """Returns a picture as a URI that holds it."""
  encoded = base64.b64encode(path.read_bytes()).decode()
  return f"data:image/png;base64,{encoded}"


def _as_file(text: str) -> str:
  """Returns a text as a URI that holds it, to be saved."""
  encoded = base64.b64encode(text.encode()).decode()
  return f"data:text/plain;charset=utf-8;base64,{encoded}"


def _minute(date: str) -> str:
  """Returns a date of ISO 8601 in UTC as one reads it."""
  return f"{date[:16].replace('T', ' ')} UTC"


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
  template = environment().get_template("run.html")
  return template.render(
    results=results,
    parts=parts,
    accuracy=_accuracy(rows),
    has_paper=any(row["paper"] for row in rows),
    notes=tables.notes(results) if rows else [],
    by_class=_by_class(rows) if rows else [],
    drawing=stage_graph.layout(results["stages"]),
    box=(stage_graph.WIDTH, stage_graph.HEIGHT),
    overrides=_overrides(results["command"]),
    duration=duration,
  )


def _accuracy(rows: list[dict[str, Any]]) -> list[list[str]]:
  """Returns the cells of the study's table, the header first."""
  ours, papers = tables.columns(rows), tables.papers_columns(rows)
  titles = [[column.title for column in part] for part in (ours, papers)]
  found = [["model", *titles[0], "images", *titles[1]]]
  for row in rows:
    title = row["title"] + (", a control" if row["control_of"] else "")
    found.append(
      [
        title,
        *(_cell(row, column) for column in ours),
        str(row["num_examples"]),
        *(tables.percent(column.value(row)) for column in papers),
      ]
    )
  return found


def _cell(row: dict[str, Any], column: tables.Column) -> str:
  """Returns a row's number with its standard error, in percent."""
  value = column.value(row)
  if value is None:
    return "not measured"
  error = tables.standard_error(value, row[column.count]) or 0.0
  return f"{100 * value:.1f} ± {100 * error:.1f}"


def _by_class(rows: list[dict[str, Any]]) -> list[tuple[str, list[list[str]]]]:
  """Returns (caption, cells) of tables by class: clean, then each radius."""

  def cells(by_row: list[list[float | None]]) -> list[list[str]]:
    return [["model", *rows[0]["class_names"]]] + [
      [row["title"], *("-" if v is None else f"{100 * v:.0f}" for v in values)]
      for row, values in zip(rows, by_row, strict=True)
    ]

  clean = cells([tables.class_accuracies(row) for row in rows])
  found = [("Percent correct, clean", clean)]
  for eps in tables.radii(rows):
    unknown = [None] * len(rows[0]["class_names"])
    lines = [row["class_robust_accuracy"].get(eps, unknown) for row in rows]
    caption = f"Percent correct under attack, eps={eps}"
    found.append((caption, cells(lines)))
  return found


def _overrides(command: str) -> list[str]:
  """Returns the fields that a command changes, as `field=value`."""
  prefix = "--config."
  return [
    word.removeprefix(prefix)
    for word in shlex.split(command)
    if word.startswith(prefix)
  ]
