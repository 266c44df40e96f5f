"""Runs a study many times over: seeds, or a grid of hyper-parameters.

A config file may define `sweep()`, which returns a list of {field: value}
dicts; each is one run of the study with these fields changed, in a folder of
its own below the sweep's workdir. Without `--run` the commands are printed, one
a line, to be spread over machines as one likes; with it they run one after
another. Either way, running the same command again goes on where it stopped,
and once all runs are there it writes their table.

Commands:
  python launch/sweep.py --config=configs/quickstart.py
  python launch/sweep.py --config=configs/quickstart.py --run

Written into the sweep's workdir (runs/<config's name>_sweep by default):
  sweep.json  every run's rows; mean and spread of each row over seeds
  sweep.md    the same as tables
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

Changes = dict[str, Any]
_FIELD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
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
    config: Path of the file, with or without `:variant`.

  Raises:
    ValueError: If there is no such file or function, or the list is empty,
      repeats itself or names no fields.
  """
  path = pathlib.Path(config.partition(":")[0])
  if not path.is_file():
    raise ValueError(f"--config: there is no file {str(path)!r}")
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if spec is None or spec.loader is None:
    raise ValueError(f"--config must be a Python file, got {str(path)!r}")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "sweep"):
    raise ValueError(f"{path} defines no sweep()")
  found = [dict(changes) for changes in module.sweep()]
  if not found:
    raise ValueError(f"sweep() of {path} is empty")
  for changes in found:
    for field in changes:
      if not _FIELD.fullmatch(field):
        raise ValueError(f"sweep() of {path} names no field: {field!r}")
    if found.count(changes) > 1:
      raise ValueError(f"sweep() of {path} repeats {changes}")
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
  python: str = sys.executable,
) -> list[Run]:
  """Returns the runs of a sweep.

  Raises:
    ValueError: If two of them would share a folder.
  """
  runs = []
  for changes in sweep:
    name = run_name(changes)
    folder = workdir / name
    command = [python, "-m", "robust_features.main", f"--config={config}"]
    command += [f"--config.{k}={_text(v)}" for k, v in changes.items()]
    runs.append(Run(name, changes, folder, [*command, f"--workdir={folder}"]))
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


def _is_seed(field: str) -> bool:
  return _last(field) == "seed"


def _summary(values: list[float]) -> dict[str, float]:
  """Returns mean, sample standard deviation, extremes and count."""
  return {
    "mean": statistics.fmean(values),
    "std": statistics.stdev(values) if len(values) > 1 else 0.0,
    "min": min(values),
    "max": max(values),
    "count": len(values),
  }


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


def collect(config: str, runs: list[Run]) -> dict[str, Any]:
  """Returns the content of `sweep.json` from the runs that have finished."""
  finished = []
  for run in runs:
    path = run.workdir / "results.json"
    if path.is_file():
      finished.append((run, json.loads(path.read_text())))
  groups: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
  for run, results in finished:
    setting = {k: v for k, v in run.changes.items() if not _is_seed(k)}
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
      }
      for name, members in groups.items()
    ],
  }  # fmt: skip


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
    lines += [f"## {group['name']}", ""]
    lines += [_table(group["rows"]), ""]
    runs = "run" if count == 1 else "runs"
    lines += [f"{count} {runs}: {', '.join(group['runs'])}", ""]
  lines += _validation_table(summary["runs"])
  if summary["missing"]:
    lines += [f"Missing: {', '.join(summary['missing'])}", ""]
  return "\n".join(lines)


def _cell(summary: dict[str, float] | None) -> str:
  if summary is None:
    return "-"
  mean = f"{100 * summary['mean']:.2f}"
  if summary["count"] < 2:
    return mean
  low, high = 100 * summary["min"], 100 * summary["max"]
  return f"{mean} ± {100 * summary['std']:.2f} ({low:.2f} to {high:.2f})"


def _table(rows: list[dict[str, Any]]) -> str:
  """Returns mean ± standard deviation (extremes) of every row, in percent."""
  radii = sorted({e for row in rows for e in row["robust_accuracy"]}, key=float)
  cells = [["model", "accuracy", *(f"eps={eps}" for eps in radii)]]
  for row in rows:
    robust = [_cell(row["robust_accuracy"].get(eps)) for eps in radii]
    cells.append([row["title"], _cell(row["accuracy"]), *robust])
  return _aligned(cells)


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
  return ["## Validation accuracy", "", _aligned(cells), ""]


def _aligned(rows: list[list[str]]) -> str:
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
  lines = []
  for row in [rows[0], rule, *rows[1:]]:
    cells = [row[0].ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
  """Returns the command line's flags."""
  parser = argparse.ArgumentParser(
    description="Runs a study many times over.", allow_abbrev=False
  )
  parser.add_argument(
    "--config", required=True, help="file with a sweep(); :variant allowed"
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
  args = parse(argv)
  stem = pathlib.Path(args.config.partition(":")[0]).stem
  workdir = pathlib.Path(args.workdir or f"runs/{stem}_sweep")
  python = sys.executable if args.run else "python"
  try:
    sweep = load_sweep(args.config)
    runs = make_runs(args.config, workdir, sweep, python)
  except ValueError as error:
    sys.exit(f"error: {error}")
  if not args.run:
    print("\n".join(shlex.join(run.command) for run in runs))
    return
  failed = run_all(runs)
  summary = collect(args.config, runs)
  workdir.mkdir(parents=True, exist_ok=True)
  text = markdown(summary)
  (workdir / "sweep.json").write_text(json.dumps(summary, indent=2) + "\n")
  (workdir / "sweep.md").write_text(text)
  print(text)
  if failed:
    sys.exit(f"error: failed: {', '.join(run.name for run in failed)}")


if __name__ == "__main__":
  main()
