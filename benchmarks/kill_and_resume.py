"""Kills a study with SIGKILL at random moments and compares the outcome.

  python -m benchmarks.kill_and_resume --kills=10

Runs a study undisturbed, then again in another workdir with `--kills` SIGKILLs
at moments drawn uniformly over the undisturbed run's duration, each followed
by the same command. Succeeds if every number of results.json (all but times
and provenance) and every data set's checksum are equal.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

# Times differ from run to run; the code's version is no result.
NOT_RESULTS = {"seconds", "train_seconds", "commit", "versions", "devices"}


def results(value):
  """Returns results.json without what may differ."""
  if isinstance(value, dict):
    return {k: results(v) for k, v in value.items() if k not in NOT_RESULTS}
  return [results(v) for v in value] if isinstance(value, list) else value


def outcome(workdir: pathlib.Path) -> dict:
  """Returns every number and checksum of a finished study."""
  checksums = {
    path.parent.parent.name: json.loads(path.read_text())["shards"]
    for path in sorted(workdir.glob("*/data/manifest.json"))
  }
  found = json.loads((workdir / "results.json").read_text())
  return {"results": results(found), "data sets": checksums}


def command(args, workdir: pathlib.Path) -> list[str]:
  """Returns the study's command line."""
  return [
    sys.executable,
    "-m",
    "robust_features.main",
    f"--config={args.config}",
    f"--workdir={workdir}",
    "--config.run.checkpoint_every_seconds=1.0",
    *args.override,
  ]


def undisturbed(args, workdir: pathlib.Path) -> float:
  """Runs the study to its end; returns the seconds it took."""
  start = time.monotonic()
  subprocess.run(command(args, workdir), check=True, stderr=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL)  # fmt: skip
  return time.monotonic() - start


def disturbed(args, workdir: pathlib.Path, seconds: float) -> list[float]:
  """Runs the study with kills in between; returns when they came."""
  draw = random.Random(args.seed)
  moments = sorted(draw.uniform(0, seconds) for _ in range(args.kills))
  waits = [b - a for a, b in zip([0.0, *moments], moments, strict=False)]
  kills = []
  for wait in waits:
    # Starting up is no work, so it does not count as time in the study.
    process = subprocess.Popen(
      command(args, workdir),
      stderr=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
    )
    try:
      process.wait(wait + args.startup)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      kills.append(wait)
      last = max(
        workdir.glob("*/"), key=lambda p: p.stat().st_mtime, default="-"
      )
      print(f"killed after {wait + args.startup:.1f} s, in {last}", flush=True)
  undisturbed(args, workdir)
  return kills


def main() -> None:
  """Compares both runs and exits with 1 if they differ."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--config", default="configs/quickstart.py")
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--startup", type=float, default=4.0,
                      help="seconds that a start takes")  # fmt: skip
  parser.add_argument("override", nargs="*", help="--config.field=value")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    straight, broken = (pathlib.Path(folder, n) for n in ("straight", "broken"))
    seconds = undisturbed(args, straight)
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    kills = disturbed(args, broken, seconds)
    equal = outcome(straight) == outcome(broken)
  print(
    f"{len(kills)} kills: results and checksums are "
    + ("equal" if equal else "DIFFERENT")
  )
  sys.exit(0 if equal and kills else 1)


if __name__ == "__main__":
  main()
