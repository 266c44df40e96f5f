"""Runs a study: every stage that is missing, then its tables and figures."""

import pathlib
from typing import Any

from robust_features.runtime import compilation, files, logs
from robust_features.study import provenance, report
from robust_features.study.graph import Section, Study
from robust_features.study.kinds import KINDS
from robust_features.study.parse import parse


class FailedError(ValueError):
  """A statement does not hold; everything was written all the same."""


def run(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Runs every stage that is missing; writes and returns the results.

  Args:
    config: As made by a file of `configs/`.
    workdir: Where everything goes; made if missing.

  Returns:
    The content of `results.json`.

  Raises:
    FailedError: If a statement that a stage checks does not hold.
    ValueError: For bad input; the message is one line with the remedy.
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  workdir = pathlib.Path(workdir)
  compilation.listen()
  begin = compilation.mark()
  study = Study(parse(config), workdir)
  _claim(config, workdir)
  study.preflight()
  for name in [*config.table, *config.stages]:
    study.require(name)
  nothing = {kind.section: {} for kind in KINDS.values()}
  results = nothing | study.results() | provenance.provenance()
  programs, results["compile_seconds"] = compilation.since(begin)
  publish(results, workdir)
  if programs:
    seconds = results["compile_seconds"]
    logs.say(f"compiled {programs} programs in {seconds:.1f} s")
  _require_no_failure(results)
  return results


def _require_no_failure(results: dict[str, Any]) -> None:
  failed = [
    line
    for kind in KINDS.values()
    for line in kind.failed(results[kind.section])
  ]
  if failed:
    raise FailedError(f"{len(failed)} checks failed: {'; '.join(failed)}")


def publish(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Writes results.json, results.md and figures/; prints what was measured."""
  made, measured = sections(results)
  report.write(results, made, measured, workdir, _draw(results, workdir))


def _claim(config: Any, workdir: pathlib.Path) -> None:
  """Marks the workdir as this study's.

  Raises:
    ValueError: If it is another study's.
  """
  path = workdir / "study.json"
  if path.exists() and files.read_json(path)["name"] != config.name:
    raise ValueError(
      f"{workdir} belongs to the study {files.read_json(path)['name']!r}, "
      f"not {config.name!r}; choose another --workdir"
    )
  files.write_json(path, {"name": config.name})
  files.write_text(workdir / "config.txt", f"{config}\n")


def sections(results: dict[str, Any]) -> tuple[list[Section], list[Section]]:
  """Returns what the stages made, and what they measured beside the table."""
  made, measured = [], []
  for kind in KINDS.values():
    found = kind.report(results.get(kind.section, {}))
    (made if kind.makes() else measured).extend(found)
  return made, measured


def _draw(results: dict[str, Any], workdir: pathlib.Path):
  """Draws what there is to draw; returns the files."""
  drawn = []
  for kind in KINDS.values():
    found = results.get(kind.section)
    if found:
      drawn += kind.draw(found, workdir)
  return drawn
