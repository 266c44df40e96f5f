"""One study over several processes, on one machine, through gloo."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / "tests" / "processes_study.py"
# What two runs that found the same need not share.
NOT_NUMBERS = (
  "seconds", "train_seconds", "compile_seconds", "date", "commit", "devices",
  "xla_flags", "input_seconds", "command", "config",
)  # fmt: skip


def free_port():
  """Returns a port that nobody listens on."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def start(*command, log):
  """Starts a Python with one device; its output goes to a file."""
  environment = os.environ | {
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "JAX_NUM_CPU_DEVICES": "1",
  }
  with log.open("w") as file:
    return subprocess.Popen(
      [sys.executable, *map(str, command)],
      cwd=ROOT, env=environment, stdout=file, stderr=file,
    )  # fmt: skip


class Run:
  """Some processes of one study; `workdir` takes a process's number."""

  def __init__(self, test, root, number, workdir, *flags):
    port, self.processes = free_port(), []
    self.logs = [root / f"{port}-{i}.log" for i in range(number)]
    for i, log in enumerate(self.logs):
      together = (
        f"--coordinator=127.0.0.1:{port}",
        f"--num_processes={number}", f"--process_id={i}",
      ) if number > 1 else ()  # fmt: skip
      process = start(
        "-m", "robust_features.main", f"--config={CONFIG}",
        f"--config.data.D.data_dir={root}", "--config.run.chunk_steps=1",
        f"--workdir={workdir(i)}", f"--compilation_cache={root / 'cache'}",
        *together, *flags, log=log,
      )  # fmt: skip
      self.processes.append(process)
      test.addCleanup(process.wait)
      test.addCleanup(process.kill)

  def until(self, path):
    """Waits for a file."""
    while not path.exists():
      if any(process.poll() is not None for process in self.processes):
        raise AssertionError(f"ended too soon: {self.text()}")
      time.sleep(0.02)

  def statuses(self, timeout=300):
    """Returns every exit status."""
    return [process.wait(timeout) for process in self.processes]

  def text(self):
    """Returns what was printed last."""
    return "\n".join(log.read_text()[-2000:] for log in self.logs)


def differences(one, other, where=""):
  """Yields where two JSON values differ by more than 1e-5."""
  if isinstance(one, dict) and isinstance(other, dict):
    for key in sorted(one.keys() | other.keys()):
      # A model's digest is of every bit.
      if key not in NOT_NUMBERS and "digest" not in str(key):
        yield from differences(one.get(key), other.get(key), f"{where}.{key}")
  elif isinstance(one, list) and isinstance(other, list):
    yield from differences(dict(enumerate(one)), dict(enumerate(other)), where)
  elif isinstance(one, float) and isinstance(other, float):
    if not np.isclose(one, other, rtol=1e-5, atol=1e-5):
      yield f"{where}: {one}, {other}"
  elif one != other:
    yield f"{where}: {one}, {other}"


def checksums(workdir):
  """Returns the SHA-256 of every array of every constructed data set."""
  return {
    str(path.relative_to(workdir)): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in workdir.glob("*/data/*.npy")
  }


class StudyTest(absltest.TestCase):
  def test_killed_stopped_and_with_another_number_of_processes(self):
    root = toys.folder(self)
    toy_study.write_npz(root)
    alone, together = root / "alone", root / "together"
    first = Run(self, root, 1, lambda i: alone)
    self.assertEqual(first.statuses(), [0], first.text())

    # Streamed or not makes no difference either.
    streamed = "--config.data.D.streamed=True"
    killed = Run(self, root, 2, lambda i: together, streamed)
    killed.until(together / "d_rand" / "config.json")
    killed.processes[1].kill()
    begin = time.monotonic()
    status, _ = killed.statuses()
    self.assertIn(status, (134, -signal.SIGABRT), killed.text())
    self.assertLess(time.monotonic() - begin, 45)

    stopped = Run(self, root, 2, lambda i: together)
    stopped.until(together / "robust" / "config.json")
    stopped.processes[0].terminate()
    self.assertEqual(stopped.statuses(), [143, 143], stopped.text())
    self.assertIn("stopped by SIGTERM", stopped.logs[1].read_text())

    last = Run(self, root, 3, lambda i: together, streamed)
    self.assertEqual(last.statuses(), [0, 0, 0], last.text())

    self.assertEqual(checksums(alone), checksums(together))
    self.assertLen(checksums(alone), 18)
    one, other = (
      json.loads((workdir / "results.json").read_text())
      for workdir in (alone, together)
    )
    self.assertEqual(list(differences(one, other)), [])
    self.assertEqual(other["devices"], "3 x cpu")
    left = [path.name for path in together.rglob(".*")]
    self.assertEqual(left, [".lock"])  # Held by nobody.


class RefusalTest(parameterized.TestCase):
  def join(self, *calls):
    """Starts one process for each call; returns statuses and outputs."""
    root = toys.folder(self)
    code = (
      "import sys\nfrom robust_features.runtime import processes\n"
      "try:\n  processes.join({})\nexcept ValueError as error:\n"
      "  sys.exit(f'error: {{error}}')"
    )
    logs = [root / f"{i}.log" for i in range(len(calls))]
    started = [
      start("-c", code.format(call), log=log)
      for call, log in zip(calls, logs, strict=True)
    ]
    statuses = [process.wait(120) for process in started]
    return statuses, [log.read_text() for log in logs]

  @parameterized.parameters(0, 1)
  def test_the_others_do_not_come(self, process_id):
    address = f"127.0.0.1:{free_port()}"
    statuses, (text,) = self.join(f"'{address}', 2, {process_id}, 2.0")
    self.assertEqual(statuses, [1], text)
    self.assertEqual(
      text,
      f"error: process {process_id} of 2 waited 2 s in vain for the others at "
      f"{address}; start them all, with the same --coordinator and "
      "--num_processes and each with a --process_id of its own\n",
    )

  def test_a_process_that_is_stopped_while_it_waits(self):
    log = toys.folder(self) / "log"
    process = start(
      "-c",
      "from robust_features.runtime import preemption, processes\n"
      "preemption.install()\nprint('ready', flush=True)\n"
      f"processes.join('127.0.0.1:{free_port()}', 2, 1, 100.0, "
      "preemption.pending)",
      log=log,
    )
    while "ready" not in log.read_text():
      time.sleep(0.05)
    process.terminate()
    self.assertEqual(process.wait(60), 143, log.read_text())
    self.assertIn("stopped before all processes met", log.read_text())

  def test_numbers_of_processes_that_differ(self):
    address = f"127.0.0.1:{free_port()}"
    statuses, texts = self.join(f"'{address}', 2, 0", f"'{address}', 3, 1")
    self.assertEqual(statuses, [1, 1], texts)
    for text in texts:
      self.assertIn(
        "error: --num_processes must be the same for every process, got 2 "
        "and 3\n",
        text,
      )

  def test_workdirs_that_are_not_shared(self):
    root = toys.folder(self)
    found = Run(self, root, 2, lambda i: root / f"local-{i}")
    self.assertEqual(found.statuses(), [1, 1], found.text())
    for i, log in enumerate(found.logs):
      self.assertEndsWith(
        log.read_text(),
        f"error: --workdir={root / f'local-{i}'} is not one folder for all "
        "processes; choose one on a file system that all hosts share, such as "
        "NFS, Lustre or Filestore\n",
      )
    self.assertEqual(list(root.glob("local-*/**/*")), [])


class SignalTest(parameterized.TestCase):
  @parameterized.parameters("join install", "install join")
  def test_our_handler_hears_whichever_comes_first(self, order):
    """JAX's own would mute ours, or be muted by it."""
    code = f"""
import os, signal
from robust_features.runtime import preemption, processes
for step in "{order}".split():
  if step == "join":
    processes.join("127.0.0.1:{free_port()}", 1, 0)
  else:
    preemption.install()
os.kill(os.getpid(), signal.SIGTERM)
print("pending", preemption.pending())
"""
    log = toys.folder(self) / "log"
    self.assertEqual(start("-c", code, log=log).wait(120), 0, log.read_text())
    self.assertIn("pending True\n", log.read_text())


if __name__ == "__main__":
  absltest.main()
