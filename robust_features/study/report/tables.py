"""Tables in markdown: the one printer, and the table of a study's rows."""

import math
from typing import Any


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


def _columns(results: dict[str, Any]) -> list[str]:
  """Returns every radius of the table, ascending."""
  radii = {eps for row in results["rows"] for eps in row["robust_accuracy"]}
  return sorted(radii, key=float)


def shifted(shift: int) -> str:
  """Returns the heading of an accuracy on labels y plus a shift."""
  return f"y{shift:+d}" if shift else "y"


def table(results: dict[str, Any]) -> str:
  """Returns the table of a study, ours and the paper's, in percent."""
  radii = _columns(results)
  has_paper = any(row["paper"] for row in results["rows"])
  has_cues = any("cues" in row for row in results["rows"])
  shifts = {s for row in results["rows"] for s in row["shifted_accuracy"]}
  shifts = sorted(shifts, key=int, reverse=True)
  header = ["model", "accuracy", *(shifted(int(s)) for s in shifts)]
  header += [f"eps={eps}" for eps in radii]
  if has_cues:
    header += ["follows shape", "follows texture"]
  if has_paper:
    header += ["paper", *(f"paper eps={eps}" for eps in radii)]
  rows = [header]
  for row in results["rows"]:
    cells = [row["title"], percent(row["accuracy"])]
    cells += [percent(row["shifted_accuracy"].get(s)) for s in shifts]
    cells += [percent(row["robust_accuracy"].get(eps)) for eps in radii]
    if has_cues:
      cues = row.get("cues", {})
      cells += [percent(cues.get(c)) for c in ("shape", "texture")]
    if has_paper:
      printed = row["paper"] or {"accuracy": None, "robust_accuracy": {}}
      cells += [percent(printed["accuracy"])]
      cells += [percent(printed["robust_accuracy"].get(eps)) for eps in radii]
    rows.append(cells)
  return aligned(rows)


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
