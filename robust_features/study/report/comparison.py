"""Several runs of one study on a page: mean, spread, paired differences."""

import statistics
from collections.abc import Sequence
from typing import Any

from robust_features.study.report import page, tables


def compare(runs: list[dict[str, Any]]) -> str:
  """Returns a page that lays several runs of one study side by side.

  Args:
    runs: The content of each `results.json`.

  Raises:
    ValueError: If their tables have other rows.
  """
  titles, columns, values = _values(runs)
  paired = [
    [
      [a - b for a, b in zip(found, first, strict=True)
       if a is not None and b is not None]
      for found, first in zip(row, values[0], strict=True)
    ]
    for row in values[1:]
  ]  # fmt: skip
  template = page.environment().get_template("compare.html")
  return template.render(
    runs=runs,
    spread=_cells(titles, columns, values, _spread),
    paired=_cells(titles[1:], columns, paired, _spread),
  )


def markdown(runs: list[dict[str, Any]]) -> str:
  """Returns the table of means and standard deviations, in percent.

  Raises:
    ValueError: If the runs' tables have other rows.
  """
  titles, columns, values = _values(runs)
  return tables.aligned(_cells(titles, columns, values, _mean_and_deviation))


def _cells(titles, columns, values, text) -> list[list[str]]:
  """Returns the cells of a table, the header first, of what `text` tells."""
  return [["model", *(column.title for column in columns)]] + [
    [title, *map(text, row)] for title, row in zip(titles, values, strict=True)
  ]


def _values(runs: list[dict[str, Any]]):
  """Returns titles `[R]`, columns `[C]`, fractions `[R][C][run]`."""
  titles = [row["title"] for row in runs[0]["rows"]]
  for run in runs:
    if [row["title"] for row in run["rows"]] != titles:
      raise ValueError(
        f"runs to compare must have the same rows, got {titles} and "
        f"{[row['title'] for row in run['rows']]}"
      )
  columns = tables.columns([row for run in runs for row in run["rows"]])
  values = [
    [[column.value(run["rows"][i]) for run in runs] for column in columns]
    for i in range(len(titles))
  ]
  return titles, columns, values


def _measured(values: Sequence[float | None]) -> list[float]:
  """Returns what was measured, in percent."""
  return [100 * value for value in values if value is not None]


def _mean_and_deviation(values: Sequence[float | None]) -> str:
  found = _measured(values)
  if not found:
    return "-"
  deviation = statistics.stdev(found) if len(found) > 1 else 0.0
  return f"{statistics.mean(found):.1f} ± {deviation:.1f}"


def _spread(values: Sequence[float | None]) -> str:
  """Returns mean ± deviation (least to most), and of how many if not all."""
  found = _measured(values)
  if not found:
    return "not measured"
  text = f"{_mean_and_deviation(values)} ({min(found):.1f} to {max(found):.1f})"
  return text if len(found) == len(values) else f"{text}, n = {len(found)}"
