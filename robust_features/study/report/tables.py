"""Tables in markdown: the one printer, and the table of a study's rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# (title, lines) of one piece of a report.
Section = tuple[str, Sequence[str]]


def percent(value: float | None) -> str:
  """Returns a fraction in percent; "-" where there is none."""
  return "-" if value is None else f"{100 * value:.2f}"


class Table(str):
  """A markdown table that remembers its cells.

  Attributes:
    rows: Cells, those of the header first.
    num_words: So many columns are words; then come numbers.
  """

  rows: list[list[str]]
  num_words: int


def standard_error(fraction: float | None, num_examples: int) -> float | None:
  """Returns the binomial standard error of a fraction, None for none."""
  if fraction is None:
    return None
  return math.sqrt(fraction * (1 - fraction) / num_examples)


def aligned(rows: list[list[str]], num_words: int = 1) -> Table:
  """Returns a markdown table whose columns line up.

  Args:
    rows: Cells, those of the header first.
    num_words: So many columns are words, to the left; then come numbers.
  """
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rule = ["-" * w for w in widths[:num_words]]
  rule += ["-" * (w - 1) + ":" for w in widths[num_words:]]
  lines = []
  for row in [rows[0], rule, *rows[1:]]:
    cells = [
      cell.ljust(width) if i < num_words else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    lines.append("| " + " | ".join(cells) + " |")
  found = Table("\n".join(lines))
  found.rows, found.num_words = rows, num_words
  return found


def radii(rows: list[dict[str, Any]]) -> list[str]:
  """Returns every radius of a table, ascending."""
  return sorted({e for r in rows for e in r["robust_accuracy"]}, key=float)


def shifted(shift: int) -> str:
  """Returns the heading of an accuracy on labels y plus a shift."""
  return f"y{shift:+d}" if shift else "y"


class Column(NamedTuple):
  """A column of the table of a study's rows.

  Attributes:
    title: Its heading.
    value: Gives a row's fraction, None where it was not measured.
    count: Names the field of a row that says over how many images.
  """

  title: str
  value: Callable[[dict[str, Any]], float | None]
  count: str = "num_examples"


def class_accuracies(row: dict[str, Any]) -> list[float | None]:
  """Returns the unattacked accuracy of each class, None for one not there."""
  return [
    seen[label] / sum(seen) if sum(seen) else None
    for label, seen in enumerate(row["confusion"][: len(row["class_names"])])
  ]


def largest_class(row: dict[str, Any]) -> float:
  """Returns the share of the largest class: what naming it always is right."""
  sizes = [sum(seen) for seen in row["confusion"]]
  return max(sizes) / sum(sizes)


def is_uneven(row: dict[str, Any]) -> bool:
  """Returns whether the largest class is more than twice an equal share."""
  return largest_class(row) * len(row["class_names"]) > 2


def _class_mean(row: dict[str, Any]) -> float:
  found = [value for value in class_accuracies(row) if value is not None]
  return sum(found) / len(found)


def columns(rows: list[dict[str, Any]]) -> list[Column]:
  """Returns what was measured of at least one row, in the table's order."""

  def inside(section: str, key: str) -> Callable:
    return lambda row: row[section].get(key)

  shifts = {s for row in rows for s in row["shifted_accuracy"]}
  found = [Column("accuracy", lambda row: row["accuracy"])]
  if any(map(is_uneven, rows)):
    found += [
      Column("largest class", largest_class),
      Column("mean of classes", _class_mean),
    ]
  found += [
    Column(shifted(int(s)), inside("shifted_accuracy", s))
    for s in sorted(shifts, key=int, reverse=True)
  ]
  found += [
    Column(f"eps={e}", inside("robust_accuracy", e)) for e in radii(rows)
  ]
  if any("cues" in row for row in rows):
    found += [
      Column(f"follows {cue}",
             lambda row, cue=cue: row["cues"][cue] if "cues" in row else None,
             "num_conflicts")
      for cue in ("shape", "texture")
    ]  # fmt: skip
  return found


def papers_columns(rows: list[dict[str, Any]]) -> list[Column]:
  """Returns columns of the paper's numbers; none where it has none."""
  if not any(row["paper"] for row in rows):
    return []

  def printed(eps: str) -> Callable:
    return lambda row: (
      row["paper"]["robust_accuracy"].get(eps) if row["paper"] else None
    )

  return [
    Column("paper", lambda row: row["paper"] and row["paper"]["accuracy"]),
    *(Column(f"paper eps={e}", printed(e)) for e in radii(rows)),
  ]


def table(results: dict[str, Any]) -> str:
  """Returns the table of a study, ours and the paper's, in percent."""
  rows = results["rows"]
  shown = [*columns(rows), *papers_columns(rows)]
  cells = [["model", *(column.title for column in shown)]]
  cells += [
    [row["title"], *(percent(column.value(row)) for column in shown)]
    for row in rows
  ]
  return aligned(cells)


_FLAWS = ("zero", "nonfinite")  # Of gradients.


def notes(results: dict[str, Any]) -> list[str]:
  """Returns what a reader of the table must know, a line each."""
  attacks, sizes = {}, set()
  for row in results["rows"]:
    shown = dict(row["attack"])
    stuck = [shown.pop(f"{what}_gradient_fraction", 0.0) for what in _FLAWS]
    text = ", ".join(f"{k} {v}" for k, v in shown.items())
    worst = zip(stuck, attacks.get(text, stuck), strict=True)
    attacks[text] = [max(pair) for pair in worst]
    sizes.add(row["num_examples"])
  lines = []
  for text, (zero, bad) in attacks.items():
    line = f"attack: {text}; examples that met a zero gradient: at most "
    lines.append(f"{line}{zero:.2%}")
    if bad:
      lines.append(
        f"warning: at most {bad:.2%} of the examples met a gradient that is "
        "not finite, whose entries were taken for zero; robustness may be "
        "overestimated"
      )
  lines.append(
    "percent correct of "
    + ", ".join(str(size) for size in sorted(sizes))
    + f" test images; seed {results['seed']}"
  )
  most = max(
    error
    for row in results["rows"]
    for error in (
      standard_error(value, row["num_examples"])
      for value in (row["accuracy"], *row["robust_accuracy"].values())
    )
    if error is not None
  )
  lines.append(f"standard error of a number: at most {100 * most:.2f}")
  return lines
