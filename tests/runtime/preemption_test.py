"""The first signal asks, the second one ends."""

import os
import signal
import subprocess
import sys

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
    preemption.request(signal.SIGINT)
    self.assertTrue(preemption.pending())
    with self.assertRaisesRegex(preemption.Stopped, "SIGINT"):
      preemption.check()

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
