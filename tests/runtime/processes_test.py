"""What one process can know of several; several are in tests/processes_test."""

import os
import signal
import threading
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from robust_features.runtime import processes


class AloneTest(parameterized.TestCase):
  def test_one_process_agrees_with_itself_and_waits_for_nobody(self):
    self.assertFalse(processes.several())
    self.assertTrue(processes.is_first())
    self.assertEqual([processes.agree(v) for v in (True, False, 7)], [1, 0, 7])
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
    (("localhost:0", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:80", 0, 0), r"--num_processes must be at least 1, got 0"),
  )
  def test_what_does_not_fit_together(self, given, message):
    with self.assertRaisesRegex(ValueError, message):
      processes.join(*given)

  def test_statuses_are_a_contract(self):
    self.assertEqual((processes.STOPPED, processes.LOST), (143, 134))
    self.assertEqual(processes.STOPPED, 128 + signal.SIGTERM)
    self.assertEqual(processes.LOST, 128 + signal.SIGABRT)

  @parameterized.parameters(
    ("UNAVAILABLE: gone", True), ("ABORTED: x", True), ("gone", False),
    ("INTERNAL error", False), ("RESOURCE_EXHAUSTED: memory", False),
  )  # fmt: skip
  def test_which_errors_are_a_loss(self, text, lost):
    """Of several processes alone; one says what it knows in a line."""
    error = RuntimeError(f"{text}\nand more")
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
      self.assertIn(f"process 0 lost another one ({text});", line)

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
    told = []

    def initialize(*args, **how):
      told.append((args, how))
      raise RuntimeError("no such host")

    with self.assertRaisesRegex(
      ValueError, r"--coordinator=host:80 cannot be used \(no such host\)"
    ):
      self.meet(initialize, wait_seconds=7.0)
    ((args, how),) = told
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
      self.assertEqual([processes.agree(v) for v in (2, 5)], [3, 5])
      processes.wait("here")
    sync.assert_called_once_with("here")

  def test_no_cluster(self):
    self.assertNotIn("JAX_COORDINATOR_ADDRESS", os.environ)
    with self.assertRaisesRegex(
      ValueError, "JAX knows no cluster here .*; give --coordinator=HOST:PORT"
    ):
      processes.join()


if __name__ == "__main__":
  absltest.main()
