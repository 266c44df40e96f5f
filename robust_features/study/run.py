"""Runs a study: every stage that is missing, then its tables and figures."""

import pathlib
import time
from typing import Any

import jax

from robust_features.runtime import (
  compilation,
  files,
  logs,
  memory,
  paths,
  preemption,
  processes,
)
from robust_features.runtime.workdir import hold
from robust_features.study import (
  config_text,
  folder,
  outlook,
  provenance,
  publish,
  settings,
)
from robust_features.study.graph import Study
from robust_features.study.kinds import KINDS
from robust_features.study.parse import parse
from robust_features.study.reuse import take


class FailedError(ValueError):
  """A statement does not hold; everything was written all the same."""


def run(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Runs the study of a config, as `complete` does.

  Args:
    config: As made by a file of `configs/`.
    workdir: Where everything goes; made if missing.
  """
  return complete(Study(parse(config), paths.folder(workdir, "workdir")))


def complete(
  study: Study, only: str | None = None, reuse: pathlib.Path | None = None
) -> dict[str, Any]:
  """Runs every stage that is missing; writes and returns the results.

  Args:
    study: What to run; nothing is written where it cannot be.
    only: A stage: it and what it needs are run, and no results are written.
    reuse: A workdir, or a folder of workdirs, whose finished stages that do not
      differ are linked to instead of made again.

  Returns:
    The content of `results.json`, or the stage's result.

  Raises:
    FailedError: If a statement that a stage checks does not hold.
    ValueError: For bad input; the message is one line with the remedy.
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  compilation.listen()
  begin = compilation.mark()
  names = outlook.order(study.plan, only)
  _check_claim(study)
  study.preflight(names)
  with hold(study.workdir):
    _claim(study)
    take(study, names, reuse)
    with compilation.optimized(study.plan.run.optimize):
      _run_stages(study, names)
    if only is not None:
      return study.require(only)
    results = publish.nothing() | study.results(names)
    results |= provenance.provenance()
    results["config"] = config_text.python(study.plan.config)
    programs, results["compile_seconds"] = compilation.since(begin)
    publish.publish(results, study.workdir)
  # The first process writes the page alone; at the end JAX waits 10 s for it.
  processes.wait("published")
  if programs:
    seconds = results["compile_seconds"]
    logs.say(f"compiled {programs} programs in {seconds:.1f} s")
  _require_no_failure(results)
  return results


def _run_stages(study: Study, names: list[str]) -> None:
  """Runs stages in order, telling where the run is and what is left of it."""
  states = {name: study.state(name) for name in names}
  missing = [name for name in names if states[name] != "done"]
  left = outlook.TimeLeft(outlook.costs(study, missing))
  for number, name in enumerate(names, 1):
    # A stage looks only once it has compiled something, which may take minutes.
    preemption.check()
    state = states[name]
    line = f"stage {number} of {len(names)}: {name}"
    line += f" ({study.plan.config.stages[name].kind})"
    if state:
      line += ", done before" if state == "done" else f", goes on {state}"
    logs.say(line)
    start, mark = time.monotonic(), compilation.mark()
    try:
      study.require(name)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
      if not memory.is_short(error):
        raise
      remedy = _less_memory(study, name)
      raise memory.explained(error, f"stages.{name}", remedy) from None
    if state == "done":
      continue
    seconds = time.monotonic() - start
    # What was begun before tells nothing about the others, nor does compiling.
    working = seconds - compilation.since(mark)[1]
    left.finish(name, 0.0 if state else working)
    logs.say(f"{name}: {outlook.duration(seconds)}{left.text()}")


def _less_memory(study: Study, name: str) -> str:
  """Returns what makes a stage need less memory."""
  config = study.plan.config.stages[name]
  fields = settings.flatten(config, f"stages.{name}")
  parts = f"stages.{name}.train.accumulate_steps"
  if parts in fields:
    remat = f"models.{config.architecture}.remat"
    remedy = f"raise {parts} (now {fields[parts]}) or set {remat} to True"
  else:
    sizes = [f for f in fields if f.endswith("batch_size")]
    lower = [f"lower {field} (now {fields[field]})" for field in sizes]
    remedy = " or ".join(lower) or "take fewer images"
  return f"{remedy}; what is done so far is kept"


def _require_no_failure(results: dict[str, Any]) -> None:
  failed = [
    line
    for kind in KINDS.values()
    for line in kind.failed(results[kind.section])
  ]
  if failed:
    raise FailedError(f"{len(failed)} checks failed: {'; '.join(failed)}")


def _check_claim(study: Study) -> None:
  """Raises ValueError if the workdir is another study's."""
  path, name = study.workdir / "study.json", study.plan.config.name
  owner = folder.read_mark(path, "name") if path.exists() else name
  if owner != name:
    raise ValueError(
      f"{study.workdir} belongs to the study {owner!r}, not {name!r}; choose "
      "another --workdir"
    )


def _claim(study: Study) -> None:
  """Marks the workdir as this study's."""
  config = study.plan.config
  files.write_json(study.workdir / "study.json", {"name": config.name})
  files.write_text(study.workdir / "config.py", config_text.python(config))
