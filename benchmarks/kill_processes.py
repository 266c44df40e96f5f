"""Shows that a study of two processes survives what ends processes.

Runs a study on two processes in peace, its images resident, then streamed and
under fire: at random moments one process, or both, gets SIGKILL, SIGTERM or
SIGSTOP. Each time the exit statuses must be those of the contract (143 for
stopped and saved, 128 and above for a lost process), the others must end within
45 seconds, and the same command is given again. A study that is finished so is
followed by a new one. At the end of each every number of `results.json` (all
but wall times, versions and the commit), every checksum and every shard must
equal those of the run in peace, and no process, lock, shared memory or
half-written file may be left.

Images are read by threads, so there are no worker processes to kill.

Command, about half a minute a kill on two idle cores:
  python -m benchmarks.kill_processes --kills=25
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from benchmarks import common, kill_and_resume

_PATIENCE = 45.0  # Seconds that the others may take to end.
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
_TARGETS = ((0,), (1,), (0, 1))


def start(
  args: argparse.Namespace, workdir: pathlib.Path, cache: pathlib.Path,
  streamed: bool = True,
) -> list[subprocess.Popen]:  # fmt: skip
  """Starts the study's two processes, with one device each."""
  coordinator = f"127.0.0.1:{common.free_port()}"
  one_device = "--xla_force_host_platform_device_count=1"
  started = []
  for number in range(2):
    with (workdir.parent / f"process_{number}.log").open("ab") as log:
      started.append(
        subprocess.Popen(
          [
            *kill_and_resume.command(args, workdir, cache),
            "--config.run.chunk_steps=1", f"--coordinator={coordinator}",
            f"--config.data.D.streamed={streamed}",
            "--num_processes=2", f"--process_id={number}",
          ],
          stdout=log, stderr=log, start_new_session=True,
          env=os.environ | {"XLA_FLAGS": one_device},
        )
      )  # fmt: skip
  return started


def run_through(
  args, workdir: pathlib.Path, cache: pathlib.Path, streamed: bool = True
) -> float:
  """Runs the study to its end; returns the seconds.

  Raises:
    RuntimeError: If it fails.
  """
  begin = time.monotonic()
  statuses = [
    process.wait() for process in start(args, workdir, cache, streamed)
  ]
  if statuses != [0, 0]:
    raise RuntimeError(f"the study ended with {statuses}; see {workdir.parent}")
  return time.monotonic() - begin


def disturb(
  processes: list[subprocess.Popen], number: int, targets: tuple[int, ...],
  finished: pathlib.Path,
) -> str:  # fmt: skip
  """Sends a signal; returns what is wrong with how the processes end.

  Args:
    processes: The study's.
    number: The signal.
    targets: Which of them get it.
    finished: What the study writes last: from then on 0 is right as well.
  """
  for target in targets:
    processes[target].send_signal(number)
  end, wrong = time.monotonic() + _PATIENCE, []
  for i, process in enumerate(processes):
    if number == signal.SIGSTOP and i in targets:
      continue
    try:
      status = process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
      wrong.append(f"process {i} still runs after {_PATIENCE:g} s")
      continue
    # Killed by a signal, as a shell tells it.
    status = 128 - status if status < 0 else status
    right = status == 143 if number == signal.SIGTERM else status >= 128
    if not right and not (status == 0 and finished.exists()):
      wrong.append(f"process {i} ended with status {status}")
  for process in processes:
    process.kill()  # The stopped ones, and those that would not end.
    process.wait()
  return "; ".join(wrong)


def under_fire(args, peace, war, cache, seconds: float) -> list[str]:
  """Disturbs studies `args.kills` times in all; finishes and compares each.

  Returns:
    What went wrong.
  """
  generator, wrong, kills, studies = random.Random(args.seed), [], 0, 0
  finished = war / "results.json"
  while True:
    if kills == args.kills or finished.exists():
      run_through(args, war, cache)
      wrong += kill_and_resume.compare(peace, war)
      wrong += [f"left: {name}" for name in left_behind(war)]
      shutil.rmtree(war)
      studies += 1
      print(f"study {studies} compared", flush=True)
      if kills == args.kills:
        return wrong
    marker = war / kill_and_resume.MARKER
    before = kill_and_resume.stamp(marker)
    processes = start(args, war, cache)
    while (
      kill_and_resume.stamp(marker) == before and processes[0].poll() is None
    ):
      time.sleep(0.05)
    time.sleep(generator.uniform(0.0, seconds / 2))
    if all(process.poll() is not None for process in processes):
      statuses = [process.wait() for process in processes]
      if statuses != [0, 0]:
        wrong.append(f"ended by itself with {statuses}")
        return wrong
      continue
    number, targets = _SIGNALS[kills % 3], generator.choice(_TARGETS)
    begin = time.monotonic()
    found = disturb(processes, number, targets, finished)
    took = time.monotonic() - begin
    kills += 1
    name = signal.Signals(number).name
    print(
      f"{kills}: {name} to {targets}, over after {took:.1f} s"
      + (f": {found}" if found else ""),
      flush=True,
    )
    wrong += [found] if found else []


def shared_memory() -> set[str]:
  """Returns the segments of shared memory that there are."""
  return {path.name for path in pathlib.Path("/dev/shm").iterdir()}


def left_behind(workdir: pathlib.Path) -> list[str]:
  """Returns what a finished study should not leave: files, locks, processes."""
  found = [
    str(path.relative_to(workdir))
    for path in sorted(workdir.rglob("*"))
    if path.name.endswith(".orbax-checkpoint-tmp")
    or (path.name.startswith(".") and path.name != ".lock")
  ]
  with (workdir / ".lock").open("ab") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      found.append("a lock")
  for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    with contextlib.suppress(OSError):  # It ended meanwhile.
      if f"--workdir={workdir}".encode() in path.read_bytes().split(b"\0"):
        found.append(f"process {path.parent.name}")
  return found


def main(argv: list[str] | None = None) -> None:
  """Prints a verdict; exits with status 1 if anything is wrong."""
  parser = argparse.ArgumentParser(
    description="Kills a study of two processes and compares its results.",
    allow_abbrev=False,
  )
  parser.add_argument("--config", default="configs/quickstart.py:smoke")
  parser.add_argument("--kills", type=int, default=25)
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  parser.add_argument(
    "--checkpoint_every_seconds", type=float, default=0.5,
    help="least time between two checkpoints",
  )  # fmt: skip
  args = parser.parse_args(argv)
  root = pathlib.Path(tempfile.mkdtemp(prefix="kills-"))
  peace, war, cache = root / "peace", root / "war", root / "cache"
  seconds = run_through(args, peace, cache, streamed=False)
  print(f"undisturbed, not streamed: {seconds:.1f} s", flush=True)
  again = root / "again"  # Compiled by now: what there is to disturb.
  seconds = run_through(args, again, cache)
  wrong = kill_and_resume.compare(peace, again)
  before = shared_memory()
  wrong += under_fire(args, peace, war, cache, seconds)
  wrong += [f"left: shared memory {n}" for n in shared_memory() - before]
  if wrong:
    sys.exit(f"FAILED, see {root}\n" + "\n".join(wrong[:20]))
  count = len(kill_and_resume.shard_checksums(peace))
  print(f"PASSED: equal numbers and {count} equal shard files, nothing left")
  shutil.rmtree(root)


if __name__ == "__main__":
  main()
