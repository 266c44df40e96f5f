"""Writes a study's results for people: table, markdown, figures.

The sections of each kind of stage come from its kind.
"""

import pathlib
from typing import Any

from robust_features.runtime import files
from robust_features.runtime.logs import say
from robust_features.study.report import tables


def write(
  results: dict[str, Any],
  made: list[tables.Section],
  measured: list[tables.Section],
  workdir: pathlib.Path,
  drawn: list[pathlib.Path],
) -> None:
  """Writes results.json and results.md; prints the table and measurements.

  Args:
    results: The content of results.json.
    made: Sections on models and data sets, for results.md alone.
    measured: Sections on measurements that are no row of the table.
    workdir: Of the study.
    drawn: Figures, to be named.
  """
  files.write_json(workdir / "results.json", results)
  files.write_text(
    workdir / "results.md", markdown(results, [*made, *measured])
  )
  if results["rows"]:
    say("\n" + tables.table(results))
    say("\n".join(tables.notes(results)))
  for title, lines in measured:
    say("\n".join(["", title, "", *lines]))
  say(f"\nresults: {workdir / 'results.json'} and results.md")
  say(f"figures: {', '.join(str(path) for path in drawn)}")


def markdown(results: dict[str, Any], sections: list[tables.Section]) -> str:
  """Returns `results.md`."""
  lines = [f"# {results['study']}", ""]
  if results["rows"]:
    lines += [tables.table(results), ""]
    lines += [f"- {note}" for note in tables.notes(results)]
  for title, found in sections:
    lines += ["", f"## {title}", "", *found]
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += ["", "## Made with", "", f"- commit `{results['commit']}`"]
  lines += [f"- {results['devices']}, {results['cores']} cores"]
  lines += [f"- {results['compile_seconds']:.1f} s of compiling"]
  lines += [f"- {versions}", f"- XLA_FLAGS: {results['xla_flags'] or '-'}", ""]
  return "\n".join(lines)
