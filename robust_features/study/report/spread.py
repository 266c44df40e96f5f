"""Tables of several runs as one: the mean and spread of every number."""

import re
import statistics

from robust_features.study.report import tables

_NUMBER = re.compile(r"-?[\d,]*\.?\d+(e[+-]?\d+)?%?")


def merge(runs: list[list[tables.Section]]) -> list[tuple[str, tables.Table]]:
  """Returns the tables that sections of all runs hold, merged.

  Args:
    runs: Sections of runs of one study; what is no table is left out. A table
      is known by its title and its place below it, a row by its words and its
      place among those of the same.

  Returns:
    (title, table). A number is followed by ± and the sample standard deviation
    where it differs; words that do are told one after another.
  """
  found = [_tables(sections) for sections in runs]
  return [
    (title, _merged([each[title, place] for each in found
                     if (title, place) in each]))
    for title, place in found[0]
  ]  # fmt: skip


def _tables(
  sections: list[tables.Section],
) -> dict[tuple[str, int], tables.Table]:
  found = {}
  for title, lines in sections:
    for line in lines:
      if isinstance(line, tables.Table):
        place = sum(key[0] == title for key in found)
        found[title, place] = line
  return found


def _merged(same: list[tables.Table]) -> tables.Table:
  first = same[0]
  alike = [t for t in same if t.rows[0] == first.rows[0]]
  runs = [_by_words(table.rows[1:]) for table in alike]
  rows = [first.rows[0]]
  for key in runs[0]:
    columns = zip(*(run[key] for run in runs if key in run), strict=True)
    rows.append([_cell(column) for column in columns])
  return tables.aligned(rows, first.num_words)


def _by_words(rows: list[list[str]]) -> dict[tuple[str, int], list[str]]:
  found = {}
  for row in rows:
    place = sum(key[0] == row[0] for key in found)
    found[row[0], place] = row
  return found


def _cell(column: tuple[str, ...]) -> str:
  """Returns what a cell holds over the runs."""
  if len(set(column)) == 1:
    return column[0]
  if not all(_NUMBER.fullmatch(text) for text in column):
    return ", ".join(dict.fromkeys(column))
  values = [float(text.replace(",", "").rstrip("%")) for text in column]
  mean, std = statistics.fmean(values), statistics.stdev(values)
  if any("e" in text for text in column):
    return f"{mean:.1e} ± {std:.1e}"
  places = max(len(text.rstrip("%").partition(".")[2]) for text in column)
  return f"{mean:,.{places}f} ± {std:.{places}f}"
