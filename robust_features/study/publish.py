"""Writes what people look at, from results alone: tables, figures, a page."""

import importlib.util
import pathlib
from typing import Any

import jax

from robust_features.runtime import board, files, logs
from robust_features.study import outlook, report
from robust_features.study.kinds import KINDS
from robust_features.study.report import events, page, tables


def nothing() -> dict[str, Any]:
  """Returns the results of a study without stages."""
  return {kind.section: {} for kind in KINDS.values()}


def publish(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Writes results.json, results.md, figures/, report.html; prints."""
  made, measured = sections(results)
  drawn = draw(results, workdir)
  pictures = [path for part in drawn.values() for path in part]
  report.write(results, made, measured, workdir, pictures)
  write_page(results, workdir, drawn)
  if jax.process_index() == 0 and board.is_installed():
    events.write(_by_stage(results), pictures, workdir)


def _by_stage(results: dict[str, Any]) -> dict[str, Any]:
  """Returns what every stage found, by its name."""
  found = {}
  for kind in KINDS.values():
    section = results[kind.section]
    found |= {r["name"]: r for r in section} if kind.is_row else section
  return found


def write_page(
  results: dict[str, Any],
  workdir: pathlib.Path,
  drawn: dict[str, list[pathlib.Path]],
) -> None:
  """Writes report.html, of figures that are there."""
  if jax.process_index() != 0:
    return
  if importlib.util.find_spec("jinja2") is None:
    logs.say(
      "report.html is not written: jinja2 is missing; pip install jinja2"
    )
    return
  parts = [
    page.Part(
      name,
      kind.heading or name.replace("_", " ").capitalize(),
      kind.claim,
      kind.report(results[kind.section]),
      [page.Picture(path, kind.caption) for path in drawn[name]],
      kind.is_row,
    )
    for name, kind in KINDS.items()
    if results[kind.section]
  ]
  # The table's rows and their figure come first.
  parts.sort(key=lambda part: not part.is_table)
  seconds = sum(stage["seconds"] for stage in results["stages"])
  text = page.render(results, parts, outlook.duration(seconds))
  files.write_here(workdir / "report.html", text.encode())  # No other is here.
  logs.say(f"report: {workdir / 'report.html'}")


def sections(
  results: dict[str, Any],
) -> tuple[list[tables.Section], list[tables.Section]]:
  """Returns what the stages made, and what they measured beside the table."""
  made, measured = [], []
  for kind in KINDS.values():
    found = kind.report(results.get(kind.section, {}))
    (made if kind.makes() else measured).extend(found)
  return made, measured


def draw(
  results: dict[str, Any], workdir: pathlib.Path
) -> dict[str, list[pathlib.Path]]:
  """Draws what there is to draw; returns the files by kind."""
  return {
    name: kind.draw(results[kind.section], workdir)
    if results[kind.section]
    else []
    for name, kind in KINDS.items()
  }
