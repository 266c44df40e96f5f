"""Runs a study many times over: seeds, or a grid of hyper-parameters.

A config file may define `sweep()`, which returns a list of {field: value}
dicts; each is one run of the study with these fields changed, in a folder of
its own below the sweep's workdir. Without `--run` the commands are printed, one
a line, to be spread over machines as one likes; with it they run one after
another. Either way, running the same command again goes on where it stopped,
and once all runs are there it writes their tables.

`--config.FIELD=VALUE` changes a field of every run. A stage that does not
differ between runs is made by the first that comes to it; the others link to it
(main's `--reuse`).

Commands:
  python launch/sweep.py --config=quickstart
  python launch/sweep.py --config=quickstart --run
  python launch/sweep.py --config=cifar_robust --config.data.D.data_dir=DIR

Written into the sweep's workdir (runs/<config's name>_sweep by default):
  sweep.json  every run's rows; mean, spread and count of each row over seeds
  sweep.md    the same as tables, and so every other table of results.md
"""

import argparse
import hashlib
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from robust_features.recipes import config_file
from robust_features.runtime import command, files, paths
from robust_features.study import publish
from robust_features.study.report import spread, tables

Changes = dict[str, Any]
_STOPPED = (130, 143, -2, -15)  # Exit statuses of a run asked to stop.


class Run(NamedTuple):
  """One run of a sweep.

  Attributes:
    name: Of its folder, made of what it changes.
    changes: {field: value}.
    workdir: Its folder.
    command: What to execute, as a list of arguments.
  """

  name: str
  changes: Changes
  workdir: pathlib.Path
  command: list[str]


def load_sweep(config: str) -> list[Changes]:
  """Returns what `sweep()` of a config file returns, checked.

  Args:
    config: As main takes it.

  Raises:
    ValueError: If there is no such file or function, or the list is empty or
      repeats itself.
  """
  module = config_file.find_module(config)
  if not hasattr(module, "sweep"):
    raise ValueError(f"{config} defines no sweep(), which returns a list")
  found = config_file.call(config, module.sweep)
  found = [dict(changes) for changes in found]
  if not found:
    raise ValueError(f"sweep() of {config} is empty")
  for changes in found:
    if found.count(changes) > 1:
      raise ValueError(f"sweep() of {config} repeats {changes}")
  return found


def _last(field: str) -> str:
  return field.rpartition(".")[2]


def _text(value: Any) -> str:
  """Returns a value as a command line takes it."""
  return value if isinstance(value, str) else repr(value)


def run_name(changes: Changes) -> str:
  """Returns the folder's name, a function of the changes alone.

  First the stages that are changed, then the last part of every field; where
  two fields end alike but differ in value, they are spelled out. A name too
  long for a folder is cut and told apart by a checksum.
  """
  values: dict[str, set[str]] = {}
  for field, value in changes.items():
    values.setdefault(_last(field), set()).add(_text(value))
  parts: dict[str, None] = {}  # A set that keeps its order.
  for field in changes:
    if field.startswith("stages."):
      parts[field.split(".")[1]] = None
  for field, value in changes.items():
    last = _last(field)
    name = last if len(values[last]) == 1 else field
    parts[f"{name}={_text(value)}"] = None
  name = re.sub(r"[^\w.,=+-]", "_", ",".join(parts)) or "default"
  if len(name) <= 150:
    return name
  whole = hashlib.sha256(repr(sorted(changes.items())).encode()).hexdigest()
  return f"{name[:140]}-{whole[:8]}"


def make_runs(
  config: str,
  workdir: pathlib.Path,
  sweep: list[Changes],
  overrides: Mapping[str, str],
  python: str = sys.executable,
) -> list[Run]:
  """Returns the runs of a sweep.

  Args:
    config: As main takes it.
    workdir: Of the sweep.
    sweep: What each run changes.
    overrides: {field: text} of every run.
    python: The interpreter.

  Raises:
    ValueError: If a field is not there or takes no such value, if a run changes
      what is overridden, or if two would share a folder.
  """
  runs = []
  for changes in sweep:
    fields = {field: _text(value) for field, value in changes.items()}
    if both := sorted(overrides.keys() & fields.keys()):
      raise ValueError(f"--config.{both[0]} is what the sweep itself changes")
    config_file.load(config, {**overrides, **fields})  # Sees what is wrong now.
    name = run_name(changes)
    command = [python, "-m", "robust_features.main", f"--config={config}"]
    command += [f"--config.{k}={v}" for k, v in {**overrides, **fields}.items()]
    command += [f"--workdir={workdir / name}", f"--reuse={workdir}"]
    runs.append(Run(name, changes, workdir / name, command))
  names = [run.name for run in runs]
  for name in names:
    if names.count(name) > 1:
      raise ValueError(f"two runs of the sweep would share the folder {name!r}")
  return runs


def run_all(runs: list[Run]) -> list[Run]:
  """Runs every command, going on after a failure; returns those that failed.

  Raises:
    SystemExit: If a run was asked to stop: then so is the sweep.
  """
  failed = []
  for number, run in enumerate(runs, start=1):
    print(f"[{number}/{len(runs)}] {run.name}", flush=True)
    status = subprocess.run(run.command, check=False).returncode
    if status in _STOPPED:
      print("stopped; run the same command to go on", file=sys.stderr)
      sys.exit(143)
    if status:
      failed.append(run)
  return failed


# What came of it.


def collect(config: str, runs: list[Run]) -> dict[str, Any]:
  """Returns the content of `sweep.json` from the runs that have finished."""
  finished = []
  for run in runs:
    path = run.workdir / "results.json"
    if path.is_file():
      finished.append((run, json.loads(path.read_text())))
  groups: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
  for run, results in finished:
    setting = {k: v for k, v in run.changes.items() if _last(k) != "seed"}
    groups.setdefault(run_name(setting), []).append((run, results))
  return {
    "config": config,
    "missing": [run.name for run in runs
                if run.name not in {done.name for done, _ in finished}],
    "runs": [
      {
        "name": run.name,
        "changes": run.changes,
        "rows": results["rows"],
        "validation": _validation(results),
      }
      for run, results in finished
    ],
    "groups": [
      {
        "name": name,
        "runs": [run.name for run, _ in members],
        "rows": summarize_rows([results["rows"] for _, results in members]),
        "tables": [
          {"title": title, "rows": table.rows, "num_words": table.num_words}
          for title, table in spread.merge([_tables(r) for _, r in members])
        ],
      }
      for name, members in groups.items()
    ],
  }  # fmt: skip


def _tables(results: dict[str, Any]) -> list[Any]:
  """Returns the sections of a run's results, its table first."""
  rows = [("", [tables.table(results)])] if results["rows"] else []
  made, measured = publish.sections(results)
  return [*rows, *made, *measured]


def summarize_rows(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
  """Returns every row's mean and spread over runs, in the first run's order.

  Args:
    tables: `rows` of each run's results; a row is known by its "name".
  """
  rows = []
  for row in tables[0]:
    same = [r for table in tables for r in table if r["name"] == row["name"]]
    robust = {
      eps: _summary([r["robust_accuracy"][eps] for r in same])
      for eps in row["robust_accuracy"]
    }
    rows.append(
      {
        "name": row["name"],
        "title": row.get("title", row["name"]),
        "accuracy": _summary([r["accuracy"] for r in same]),
        "robust_accuracy": robust,
      }
    )
  return rows


def _summary(values: list[float]) -> dict[str, float]:
  """Returns mean, sample standard deviation, extremes and count."""
  return {
    "mean": statistics.fmean(values),
    "std": statistics.stdev(values) if len(values) > 1 else 0.0,
    "min": min(values),
    "max": max(values),
    "count": len(values),
  }


def _validation(results: dict[str, Any]) -> dict[str, float]:
  """Returns each trained model's last accuracy on held-out training images."""
  found = {}
  for name, model in results.get("models", {}).items():
    last = model["history"][-1] if model["history"] else {}
    if "validation_accuracy" in last:
      found[name] = last["validation_accuracy"]
  return found


def markdown(summary: dict[str, Any]) -> str:
  """Returns `sweep.md`."""
  lines = [f"# Sweep of {summary['config']}", ""]
  for group in summary["groups"]:
    count = len(group["runs"])
    n = f"n = {count}: {', '.join(group['runs'])}"
    if count > 1:
      n += "; mean ± standard deviation"
    lines += [f"## {group['name']}", "", n, ""]
    for table in group["tables"]:
      if table["title"]:
        lines += [f"### {table['title']}", ""]
      lines += [tables.aligned(table["rows"], table["num_words"]), ""]
  lines += _validation_table(summary["runs"])
  if summary["missing"]:
    lines += [f"Missing: {', '.join(summary['missing'])}", ""]
  return "\n".join(lines)


def _validation_table(runs: list[dict[str, Any]]) -> list[str]:
  """Returns a section to choose hyper-parameters by, unlike the test set."""
  stages = sorted({stage for run in runs for stage in run["validation"]})
  if not stages or len(runs) < 2:
    return []
  cells = [["run", *stages]]
  for run in runs:
    found = [run["validation"].get(stage) for stage in stages]
    cells.append(
      [run["name"], *("-" if v is None else f"{100 * v:.2f}" for v in found)]
    )
  return ["## Validation accuracy", "", tables.aligned(cells), ""]


# The command line.


def parse(argv: list[str]) -> argparse.Namespace:
  """Returns the command line's flags."""
  parser = command.Parser(
    description="Runs a study many times over; --config.FIELD=VALUE changes a "
    "field of every run.",
    allow_abbrev=False,
  )
  parser.add_argument(
    "--config", required=True, help="a config with a sweep(); :variant allowed"
  )
  parser.add_argument(
    "--workdir", help="parent of the runs' folders; default runs/<name>_sweep"
  )
  parser.add_argument(
    "--run", action="store_true", help="run the commands one after another"
  )
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
  """Prints or runs the sweep."""
  try:
    overrides, rest = config_file.split_overrides(argv or sys.argv[1:])
    args = parse(rest)
    name = config_file.load(args.config, overrides).name
    workdir = paths.folder(args.workdir or f"runs/{name}_sweep", "--workdir")
    python = sys.executable if args.run else "python"
    sweep = load_sweep(args.config)
    runs = make_runs(args.config, workdir, sweep, overrides, python)
    if args.run:
      with paths.writing(workdir, "--workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
  except ValueError as error:
    sys.exit(f"error: {error}")
  if not args.run:
    command.show("\n".join(shlex.join(run.command) for run in runs))
    return
  failed = run_all(runs)
  summary = collect(args.config, runs)
  text = markdown(summary)
  content = json.dumps(summary, indent=2) + "\n"
  files.write_here(workdir / "sweep.json", content.encode())
  files.write_here(workdir / "sweep.md", text.encode())
  command.show(text)
  if failed:
    sys.exit(f"error: failed: {', '.join(run.name for run in failed)}")


if __name__ == "__main__":
  main()
