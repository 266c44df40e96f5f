"""Runs one piece of a study: so many minutes, then saves and stops.

For machines that are lent for minutes. A piece runs `robust_features.main`,
asks it to stop shortly before its time is up, and main saves its work; the next
piece, the same command on the same workdir, goes on from there. It ends with
one line that says what is done and what is left, and exits with status 0
whether the study is finished or not. What follows `--` goes to main.

Command:
  python launch/piece.py --config=configs/cifar_robust.py --minutes=9 \\
    --out=piece -- --config.data.D.data_dir=DIR

Written into the workdir (runs/<config's name> by default):
  piece.log      what main printed, all pieces after one another
Written into the folder `--out`, a few small files fit to be sent home:
  progress.json  every finished stage's result, and what is left
  results.json, results.md, report.html and figures/*.png, once the study is
    finished
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from robust_features.recipes import config_file
from robust_features.runtime import files, paths
from robust_features.runtime.command import Parser

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of a main that was asked to stop: it has saved, or had nothing to save yet.
_STOPPED = (143, -signal.SIGTERM)
_PROGRESS = "progress.json"


def command(config: str, workdir: pathlib.Path, rest: list[str]) -> list[str]:
  """Returns the command line of main."""
  return [
    sys.executable, "-m", "robust_features.main", f"--config={config}",
    f"--workdir={workdir}", *rest,
  ]  # fmt: skip


def run_for(
  arguments: list[str], seconds: float, grace: float, log: pathlib.Path
) -> int:
  """Runs a command, asks it to stop in time, and waits until it has.

  Args:
    arguments: The command.
    seconds: How long it may take in all.
    grace: The part of these that it may need to save and stop.
    log: Its output is appended here.

  Returns:
    Its exit status; -9 if it had not stopped in time and was killed.
  """
  end = time.monotonic() + seconds
  path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
  with log.open("ab") as file:
    process = subprocess.Popen(
      arguments, stdout=file, stderr=file,
      env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)},
    )  # fmt: skip
  asked = False

  def stop(*unused):
    nonlocal asked
    del unused
    if not asked:  # A second signal would end main before it has saved.
      asked = True
      process.terminate()

  # Whoever stops the piece stops the study.
  previous = {
    number: signal.signal(number, stop)
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    with contextlib.suppress(subprocess.TimeoutExpired):
      return process.wait(timeout=max(seconds - grace, seconds / 2))
    stop()
    with contextlib.suppress(subprocess.TimeoutExpired):
      return process.wait(timeout=max(end - time.monotonic(), 0.0))
    process.kill()
    return process.wait()
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def progress(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
  """Returns {"done": {stage: result}, "begun": {stage: how far}, "left": []}.

  Stages come in the config's order, which is not quite that of their running.
  """
  from robust_features.study.kinds import KINDS  # Late: it takes seconds.

  found: dict[str, Any] = {"done": {}, "begun": {}, "left": []}
  for name, stage in config.stages.items():
    folder = workdir / name
    how_far = KINDS[stage.kind].how_far(folder)
    if (folder / "result.json").is_file():
      found["done"][name] = json.loads((folder / "result.json").read_text())
    elif how_far:
      found["begun"][name] = how_far
    else:
      found["left"].append(name)
  return found


def collect(
  workdir: pathlib.Path, out: pathlib.Path, found: dict[str, Any]
) -> None:
  """Copies what is small and worth keeping."""
  out.mkdir(parents=True, exist_ok=True)
  content = json.dumps(found, indent=2) + "\n"
  files.write_here(out / _PROGRESS, content.encode())
  for name in ("results.json", "results.md", "report.html"):
    if (workdir / name).is_file():
      shutil.copy(workdir / name, out / name)
  for path in sorted((workdir / "figures").glob("*.png")):
    (out / "figures").mkdir(exist_ok=True)
    shutil.copy(path, out / "figures" / path.name)


def describe(found: dict[str, Any], status: int, seconds: float) -> str:
  """Returns the line that a piece ends with."""
  done, begun, left = (found[key] for key in ("done", "begun", "left"))
  total = len(done) + len(begun) + len(left)
  parts = [f"{seconds / 60:.1f} minutes: {len(done)} of {total} stages done"]
  parts += [f"{name} {where}" for name, where in begun.items()]
  if left:
    parts.append(f"not begun: {' '.join(left)}")
  if status == -signal.SIGKILL:
    parts.append("killed, it did not stop in time; it goes on from its last "
                 "checkpoint")  # fmt: skip
  return "; ".join(parts)


def parse(argv: list[str] | None) -> argparse.Namespace:
  """Returns the command line's flags; `rest` is main's."""
  parser = Parser(description="Runs one piece of a study.", allow_abbrev=False)
  parser.add_argument("--config", required=True, help=":variant allowed")
  parser.add_argument("--workdir", help="default runs/<config's name>")
  parser.add_argument("--minutes", type=float, default=9.0, help="in all")
  parser.add_argument(
    "--grace_seconds", type=float, default=75.0,
    help="of these minutes, kept for saving",
  )  # fmt: skip
  parser.add_argument("--out", help="folder of the small results")
  parser.add_argument("rest", nargs="*", help="after --: flags of main")
  args = parser.parse_args(argv)
  if not args.minutes > 0:
    parser.error(f"--minutes must be positive, got {args.minutes}")
  if not args.grace_seconds >= 0:
    parser.error(
      f"--grace_seconds must not be below 0, got {args.grace_seconds}"
    )
  return args


def main(argv: list[str] | None = None) -> None:
  """Runs a piece; fails only if main does."""
  start, args = time.monotonic(), parse(argv)
  try:
    config = config_file.load(args.config)
    workdir = paths.folder(args.workdir or f"runs/{config.name}", "--workdir")
    out = paths.folder(args.out, "--out") if args.out else None
    with paths.writing(workdir, "--workdir"):
      workdir.mkdir(parents=True, exist_ok=True)
      log = workdir / "piece.log"
      log.touch()
  except ValueError as error:
    sys.exit(f"error: {error}")
  status = run_for(
    command(args.config, workdir, args.rest),
    60.0 * args.minutes, args.grace_seconds, log,
  )  # fmt: skip
  found = progress(config, workdir)
  if out:
    collect(workdir, out, found)
  print(describe(found, status, time.monotonic() - start))
  if status not in (0, *_STOPPED, -signal.SIGKILL):
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    sys.exit(f"error: main failed with status {status}: {' '.join(last)}")


if __name__ == "__main__":
  main()
