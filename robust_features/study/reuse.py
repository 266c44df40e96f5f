"""Takes finished stages from other runs, where these do not differ.

A stage is a function of its fields and its inputs' digests, so a run that
changes one stage need not make the others again. What is taken is linked to,
not copied.
"""

import json
import os
import pathlib
import shutil

from robust_features.runtime import logs, processes
from robust_features.study.graph import Study


def take(study: Study, names: list[str], where: pathlib.Path | None) -> None:
  """Links to stages that other runs have finished.

  Links to other runs that lead to no finished stage are removed first: it is
  made here then, not in the other run's folder.

  Args:
    study: Its workdir is held by this run.
    names: Stages, parents before those that need them.
    where: A workdir, or a folder of workdirs; None takes nothing.

  Raises:
    ValueError: If there is no such folder.
  """
  if processes.is_first():
    for name in names:
      _drop_lost(study.workdir / name)
  processes.wait("links are whole")
  others = _others(study, where)
  for name in names if others else ():
    here = study.workdir / name
    if study.state(name) or _is_foreign(here) or not _has_parents(study, name):
      continue
    found = _find(study, name, others)
    if found and processes.is_first():
      _link(found, here)
    processes.wait(f"{name} is taken")
    if found:
      logs.say(f"{name}: taken from {found}")


def _drop_lost(path: pathlib.Path) -> None:
  there = path.resolve()
  # Who moved a stage to another disk keeps the link.
  is_a_runs = (there.parent / "study.json").is_file() or not there.exists()
  done = (there / "result.json").exists()
  if path.is_symlink() and is_a_runs and not done:
    path.unlink()


def _is_foreign(path: pathlib.Path) -> bool:
  """Returns whether a folder holds files, and none that a stage begins with."""
  if not path.exists() or (path / "config.json").exists():
    return False
  return not path.is_dir() or any(path.iterdir())


def _has_parents(study: Study, name: str) -> bool:
  parents = study.plan.nodes[name].parents
  return all(study.state(parent) == "done" for parent in parents)


def _others(study: Study, where: pathlib.Path | None) -> list[Study]:
  """Returns the runs of a folder."""
  if where is None:
    return []
  if not where.is_dir():
    raise ValueError(
      f"--reuse={where} is no folder; give a --workdir of before"
    )
  return [
    Study(study.plan, folder)
    for folder in (where, *sorted(where.iterdir()))
    if (folder / "study.json").is_file()
  ]


def _find(study: Study, name: str, others: list[Study]) -> pathlib.Path | None:
  """Returns the folder of the same stage of the first run that has it."""
  wanted = {"config.json": study.resolved(name),
            "inputs.json": study.inputs(name)}  # fmt: skip
  for other in others:
    folder = other.workdir / name
    try:
      there = {n: json.loads((folder / n).read_text()) for n in wanted}
      other.read(name)
    except (OSError, ValueError):
      continue  # Not done, or damaged, which its own run will say.
    if there == wanted:
      return folder.resolve()
  return None


def _link(there: pathlib.Path, here: pathlib.Path) -> None:
  # It holds no work, at most what a run that was killed wrote before.
  if here.is_symlink():
    here.unlink()
  elif here.exists():
    shutil.rmtree(here)
  here.symlink_to(os.path.relpath(there, here.parent.resolve()))
