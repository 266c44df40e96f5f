"""What one process can know of several; several are in tests/processes_test."""

import os
import signal
import subprocess
import sys
import threading
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.runtime import processes


class AloneTest(parameterized.TestCase):
  def test_one_process_agrees_with_itself_and_waits_for_nobody(self):
    self.assertFalse(processes.several())
    self.assertTrue(processes.is_first())
    found = [processes.agree(v) for v in (True, False, 7)]
    self.assertEqual(found, [1, 0, 7])
    self.assertEqual({type(value) for value in found}, {int})
    processes.wait("here")

  @parameterized.parameters(
    (("localhost:1", None, None), "go together, got 'localhost:1', None and"),
    ((None, 2, 0), "go together, got None, 2 and 0"),
    (("localhost", 2, 0), "--coordinator must be HOST:PORT, got 'localhost'"),
    (("localhost:x", 2, 0), "--coordinator must be HOST:PORT"),
    ((":80", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:65536", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:80", 2, 2), r"--process_id must be in \[0, 2\), .* got 2"),
    (("localhost:80", 2, -1), r"--process_id must be in \[0, 2\), .* got -1"),
    (("localhost:²", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:0", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:80", 0, 0), r"--num_processes must be at least 1, got 0"),
  )
  def test_what_does_not_fit_together(self, given, message):
    with self.assertRaisesRegex(ValueError, message):
      processes.join(*given)

  def test_the_first_and_the_last_port_are_ports(self):
    for port in (1, 65535):
      processes._check(f"host:{port}", 1, 0)

  def test_statuses_are_a_contract(self):
    self.assertEqual((processes.STOPPED, processes.LOST), (143, 134))
    self.assertEqual(processes.STOPPED, 128 + signal.SIGTERM)
    self.assertEqual(processes.LOST, 128 + signal.SIGABRT)

  @parameterized.parameters(
    ("UNAVAILABLE: gone", True), ("ABORTED: x", True), ("gone", False),
    ("CANCELLED: x", True), ("DATA_LOSS: x", True), ("INTERNAL: x", True),
    ("DEADLINE_EXCEEDED: x", True), ("FAILED_PRECONDITION: x", True),
    ("UNKNOWN: " + 191 * "x", True),
    ("INTERNAL error", False), ("RESOURCE_EXHAUSTED: memory", False),
  )  # fmt: skip
  def test_which_errors_are_a_loss(self, text, lost):
    """Of several processes alone; one says what it knows in a line."""
    error = RuntimeError(f"{text}\nand more" if len(text) < 200 else 2 * text)
    self.assertFalse(processes.is_loss(error))
    with (
      mock.patch.object(processes, "several", return_value=True),
      mock.patch.object(processes, "end") as end,
    ):
      self.assertEqual(processes.is_loss(error), lost)
      processes.end_if_lost(error)
    self.assertEqual(end.called, lost)
    if lost:
      (line, status), _ = end.call_args
      self.assertEqual(status, 134)
      self.assertEqual(
        line,
        f"process 0 lost another one ({text}); run the same command on all of "
        "them to go on",
      )

  def test_an_end_is_at_once_and_tells_all_that_was_written(self):
    """Nobody else's handlers run, such as JAX's, which waits for the others."""
    code = (
      "import atexit\n"
      "from robust_features.runtime import processes\n"
      "atexit.register(print, 'too late')\n"
      "print('before')\nprocesses.end('line', 7)"
    )
    found = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=False,
      env=os.environ | {"PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    self.assertEqual(
      (found.returncode, found.stdout, found.stderr), (7, "before\n", "line\n")
    )

  def test_who_writes(self):
    with mock.patch.object(jax, "process_index", return_value=1):
      self.assertTrue(processes.is_first())  # Alone.
      with mock.patch.object(processes, "several", return_value=True):
        self.assertFalse(processes.is_first())
    with mock.patch.object(processes, "several", return_value=True):
      self.assertTrue(processes.is_first())

  def test_several_are_those_that_met(self):
    for met in (False, True):
      for count in (1, 2):
        with (
          mock.patch("jax.distributed.is_initialized", return_value=met),
          mock.patch.object(jax, "process_count", return_value=count),
        ):
          self.assertEqual(processes.several(), met and count > 1)

  def test_who_fails_alone_ends_in_time(self):
    with mock.patch.object(processes.threading, "Timer") as timer:
      processes.fail_alone()
      timer.assert_not_called()
      with mock.patch.object(processes, "several", return_value=True):
        processes.fail_alone()
    timer.assert_called_once_with(5.0, os._exit, (1,))
    self.assertIs(timer.return_value.daemon, True)
    timer.return_value.start.assert_called_once_with()

  def meet(self, initialize, **how):
    """Joins two processes, of which JAX makes what `initialize` does."""
    self.ended = []

    def end(line, status):
      self.ended.append((line, status))
      raise SystemExit(status)

    with (
      mock.patch.object(processes, "end", end),
      mock.patch("jax.distributed.initialize", initialize),
    ):
      processes.join("host:80", 2, 1, **how)

  def test_in_vain(self):
    release = threading.Event()
    self.addCleanup(release.set)
    with self.assertRaises(SystemExit):
      self.meet(lambda *_, **__: release.wait(), wait_seconds=0.2)
    ((line, status),) = self.ended
    self.assertEqual(status, 1)
    self.assertStartsWith(
      line, "error: process 1 of 2 waited 0.2 s in vain for the others at host"
    )

  def test_asked_to_stop_while_processes_meet(self):
    release = threading.Event()
    self.addCleanup(release.set)
    with self.assertRaises(SystemExit):
      self.meet(lambda *_, **__: release.wait(), asked=lambda: True)
    ((line, status),) = self.ended
    self.assertEqual(status, 143)
    self.assertIn("run them again to go on", line)

  def test_what_jax_is_told_and_what_it_refuses(self):
    for error in (RuntimeError, ValueError, OSError):
      initialize = mock.Mock(side_effect=error("no such host"))
      with self.assertRaisesRegex(
        ValueError, r"--coordinator=host:80 cannot be used \(no such host\)"
      ):
        self.meet(initialize, wait_seconds=7.0)
    args, how = initialize.call_args
    self.assertEqual(args, ("host:80", 2, 1))
    self.assertEqual(
      how,
      {"initialization_timeout": 37, "heartbeat_timeout_seconds": 30,
       "shutdown_timeout_seconds": 10},
    )  # fmt: skip

  def test_counts_that_differ(self):
    for counts, message in (([2, 2], None), ([2, 3], "got 2 and 3")):
      with mock.patch.object(
        processes.multihost_utils, "process_allgather",
        return_value=np.asarray(counts),
      ):  # fmt: skip
        if message is None:
          self.meet(lambda *_, **__: None)
          continue
        with self.assertRaisesRegex(ValueError, message):
          self.meet(lambda *_, **__: None)

  def test_the_largest_value_is_agreed_on(self):
    with (
      mock.patch.object(processes, "several", return_value=True),
      mock.patch.object(
        processes.multihost_utils, "process_allgather",
        side_effect=lambda value: np.asarray([3, value, 1]),
      ),
      mock.patch.object(
        processes.multihost_utils, "sync_global_devices"
      ) as sync,
    ):  # fmt: skip
      found = [processes.agree(v) for v in (2, 5)]
      self.assertEqual(found, [3, 5])
      self.assertEqual({type(value) for value in found}, {int})
      processes.wait("here")
    sync.assert_called_once_with("here")

  def test_what_jax_finds_itself_is_not_counted_again(self):
    with (
      mock.patch("jax.distributed.initialize") as initialize,
      mock.patch.object(
        processes.multihost_utils, "process_allgather"
      ) as gather,
    ):
      processes.join()
    self.assertEqual(initialize.call_args.args, (None, None, None))
    gather.assert_not_called()

  def test_nobody_knows_where_they_meet(self):
    self.assertStartsWith(
      processes._in_vain((None, None, None), 2.0),
      "error: a process waited 2 s in vain for the others at their coord",
    )

  def test_no_cluster(self):
    self.assertNotIn("JAX_COORDINATOR_ADDRESS", os.environ)
    with self.assertRaisesRegex(
      ValueError, "JAX knows no cluster here .*; give --coordinator=HOST:PORT"
    ):
      processes.join()


if __name__ == "__main__":
  absltest.main()
