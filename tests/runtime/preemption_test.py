"""The first signal asks, the second one ends."""

import os
import signal
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from robust_features.runtime import preemption


class PreemptionTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    for number in (signal.SIGTERM, signal.SIGINT):
      before = signal.getsignal(number)
      self.addCleanup(signal.signal, number, before)
    self.addCleanup(preemption.reset)

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
  def test_a_signal_is_a_request(self, number):
    preemption.install()
    preemption.check()
    self.assertFalse(preemption.requested())
    os.kill(os.getpid(), number)
    self.assertTrue(preemption.requested())
    with self.assertRaisesRegex(preemption.Stopped, number.name):
      preemption.check()
    preemption.reset()
    preemption.check()

  def test_a_request_is_as_good_as_a_signal(self):
    self.assertFalse(preemption.pending())
    preemption.request()
    with self.assertRaisesRegex(preemption.Stopped, "SIGTERM"):
      preemption.check()
    preemption.reset()
    preemption.request(signal.SIGINT)
    preemption.request(signal.SIGTERM)  # The first one says why.
    self.assertTrue(preemption.pending())
    with self.assertRaisesRegex(preemption.Stopped, "SIGINT"):
      preemption.check()

  def test_what_another_process_was_asked_stops_this_one(self):
    with mock.patch.object(preemption.processes, "agree") as agree:
      agree.return_value = int(signal.SIGINT)
      self.assertIs(preemption.requested(), True)
      self.assertFalse(preemption.pending())
      with self.assertRaisesRegex(preemption.Stopped, "SIGINT"):
        preemption.check()
    self.assertEqual(agree.call_args_list, [mock.call(False), mock.call(0)])

  def test_the_second_signal_ends_the_process(self):
    code = """
import os, signal
from robust_features.runtime import preemption
preemption.install()
os.kill(os.getpid(), signal.SIGTERM)
print("alive", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still alive", flush=True)
"""
    found = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    self.assertEqual(found.stdout, "alive\n", found.stderr)
    self.assertEqual(found.returncode, -signal.SIGTERM)


if __name__ == "__main__":
  absltest.main()
