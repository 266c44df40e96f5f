"""Shows that a study killed at random moments ends as an undisturbed one does.

Runs a study once in peace and once with SIGKILL at random moments, each
followed by the same command again, and compares what they found: every number
of `results.json` (all but wall times, versions and the commit), the checksums
of the data sets, and the bytes of their shards.

The moments are spread over the study's work: each sitting lasts for a random
part of the work that is left, counted from when it has started up. Both runs
share one compilation cache, as reruns on one machine do.

Command, about three times the study's own time:
  python -m benchmarks.kill_and_resume --config=configs/quickstart.py --kills=10
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

# What may differ between two runs that found the same.
NOT_NUMBERS = (
  "seconds",
  "train_seconds",
  "compile_seconds",
  "input_seconds",
  "command",
  "config",
  "commit",
  "date",
  "versions",
  "devices",
)
# Written by every sitting before its first stage.
MARKER = "config.py"
# Files of a data set that tell wall times.
_NOT_BYTES = (".json", ".md")


def comparable(results: Any) -> Any:
  """Returns results without what may differ between two equal runs."""
  if isinstance(results, dict):
    return {
      key: comparable(value)
      for key, value in results.items()
      if key not in NOT_NUMBERS
    }
  if isinstance(results, list):
    return [comparable(value) for value in results]
  return results


def differences(one: Any, other: Any, where: str = "") -> list[str]:
  """Returns a line for every place where two JSON values differ."""
  if isinstance(one, dict) and isinstance(other, dict):
    return [
      line
      for key in sorted(one.keys() | other.keys())
      for line in differences(
        one.get(key), other.get(key), f"{where}.{key}" if where else str(key)
      )
    ]
  if isinstance(one, list) and isinstance(other, list):
    if len(one) != len(other):
      return [f"{where}: {len(one)} entries, {len(other)} entries"]
    return [
      line
      for i, pair in enumerate(zip(one, other, strict=True))
      for line in differences(*pair, f"{where}[{i}]")
    ]
  return [] if one == other else [f"{where}: {one!r}, {other!r}"]


def shard_checksums(workdir: pathlib.Path) -> dict[str, str]:
  """Returns the SHA-256 of every file of every constructed data set.

  Hidden files are left out: halves that a kill left and that nobody reads.
  """
  return {
    str(path.relative_to(workdir)): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in sorted(workdir.glob("*/data/**/*"))
    if path.is_file()
    and path.suffix not in _NOT_BYTES
    and not path.name.startswith(".")
  }


def command(
  args: argparse.Namespace, workdir: pathlib.Path, cache: pathlib.Path
) -> list[str]:
  """Returns the command line of the study."""
  return [
    sys.executable,
    "-m",
    "robust_features.main",
    f"--config={args.config}",
    f"--config.run.checkpoint_every_seconds={args.checkpoint_every_seconds}",
    f"--workdir={workdir}",
    f"--compilation_cache={cache}",
  ]


def stamp(marker: pathlib.Path) -> int:
  """Returns when a file was last written, in nanoseconds; 0 for never."""
  return marker.stat().st_mtime_ns if marker.exists() else 0


def run_through(
  arguments: list[str], marker: pathlib.Path, log: pathlib.Path
) -> float:
  """Runs a command to its end; returns its seconds after start-up.

  Args:
    arguments: The command.
    marker: A file that it writes when it has started up.
    log: Where its output goes.

  Raises:
    RuntimeError: If it fails.
  """
  with log.open("ab") as file:
    status = subprocess.run(
      arguments, stdout=file, stderr=file, check=False
    ).returncode
  if status:
    raise RuntimeError(f"the study failed with status {status}; see {log}")
  return time.time() - stamp(marker) / 1e9


def kill_after(
  arguments: list[str], marker: pathlib.Path, seconds: float, log: pathlib.Path
) -> bool:
  """Runs a command and kills it; returns False if it ended by itself.

  Args:
    arguments: The command.
    marker: A file that it writes when it has started up.
    seconds: How long it may work after that.
    log: Where its output goes.

  Raises:
    RuntimeError: If it failed by itself.
  """
  before = stamp(marker)
  with log.open("ab") as file:
    process = subprocess.Popen(
      arguments, stdout=file, stderr=file, start_new_session=True
    )
    while process.poll() is None and stamp(marker) == before:
      time.sleep(0.02)
    try:
      status = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
      return True
  if status:
    raise RuntimeError(f"the study failed with status {status}; see {log}")
  return False


def disturb(
  arguments: list[str], marker: pathlib.Path, kills: int, work: float,
  log: pathlib.Path, generator: random.Random,
) -> int:  # fmt: skip
  """Kills a study again and again; returns how often it could be.

  Args:
    arguments: Its command.
    marker: A file that it writes when it has started up.
    kills: How often it should be killed.
    work: Seconds that it takes undisturbed, start-up left out.
    log: Where its output goes.
    generator: Of the moments.
  """
  left = work
  for number in range(kills):
    # On average as much is left after the last kill as between two.
    part = generator.uniform(0.0, 2.0 * left / (kills - number + 1))
    if not kill_after(arguments, marker, part, log):
      return number
    left = max(left - part, 0.02 * work)
    print(f"kill {number + 1}: {part:.1f} s after start-up", flush=True)
  return kills


def compare(peace: pathlib.Path, war: pathlib.Path) -> list[str]:
  """Returns the differences between two finished studies."""
  one, other = (
    comparable(json.loads((folder / "results.json").read_text()))
    for folder in (peace, war)
  )
  found = differences(one, other)
  return found + differences(shard_checksums(peace), shard_checksums(war))


def parse(argv: list[str] | None) -> argparse.Namespace:
  """Returns the command line's flags."""
  parser = argparse.ArgumentParser(
    description="Kills a study at random moments and compares its results.",
    allow_abbrev=False,
  )
  parser.add_argument(
    "--config", default="configs/quickstart.py", help=":variant allowed"
  )
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  parser.add_argument(
    "--workdir", help="kept for inspection; default a temporary folder"
  )
  parser.add_argument(
    "--checkpoint_every_seconds", type=float, default=1.0,
    help="least time between two checkpoints",
  )  # fmt: skip
  return parser.parse_args(argv)


def measure(
  args: argparse.Namespace, root: pathlib.Path
) -> tuple[int, list[str]]:
  """Runs the study in peace and under fire.

  Returns:
    How often it was killed, and the differences between the two.

  Raises:
    RuntimeError: If the study fails by itself.
  """
  peace, war, cache = root / "peace", root / "war", root / "cache"
  log = root / "log.txt"
  work = run_through(command(args, peace, cache), peace / MARKER, log)
  before = comparable(json.loads((peace / "results.json").read_text()))
  rest = run_through(command(args, peace, cache), peace / MARKER, log)
  after = comparable(json.loads((peace / "results.json").read_text()))
  print(f"undisturbed: {work:.1f} s; with everything done: {rest:.1f} s")
  generator, done = random.Random(args.seed), 0
  for _ in range(6):
    done = disturb(
      command(args, war, cache), war / MARKER, args.kills, work, log, generator
    )
    if done == args.kills:
      break
    # The first run also filled the compilation cache: there was less to do
    # than it seemed, and the study ended before its last kill.
    print(f"it ended after {done} kills; once more, sooner", flush=True)
    shutil.rmtree(war)
    work /= 2
  run_through(command(args, war, cache), war / MARKER, log)
  return done, differences(before, after, "rerun") + compare(peace, war)


def main(argv: list[str] | None = None) -> None:
  """Prints a verdict; exits with status 1 if anything differs."""
  args = parse(argv)
  root = pathlib.Path(args.workdir or tempfile.mkdtemp(prefix="kills-"))
  if (root / "peace").exists() or (root / "war").exists():
    sys.exit(f"error: {root} holds a former run; choose another --workdir")
  root.mkdir(parents=True, exist_ok=True)
  try:
    done, found = measure(args, root)
  except (RuntimeError, OSError, ValueError) as error:
    sys.exit(f"error: {error}")
  count = len(shard_checksums(root / "peace"))
  print(f"killed {done} times; compared results.json and {count} shard files")
  if found:
    sys.exit("FAILED: the results differ\n" + "\n".join(found[:20]))
  if done < args.kills:
    sys.exit(f"FAILED: it ended after {done} of {args.kills} kills")
  print("PASSED: equal numbers, equal checksums")
  if args.workdir is None:
    shutil.rmtree(root)


if __name__ == "__main__":
  main()
