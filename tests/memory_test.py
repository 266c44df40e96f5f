"""How many copies of the images the drivers hold, by peak resident memory.

In a process of its own: the suite's own memory would come and go in between.
"""

import os
import pathlib
import re
import subprocess
import sys
import unittest

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[1]
CLEAR = pathlib.Path("/proc/self/clear_refs")  # Sets a process's peak back.


@unittest.skipUnless(os.access(CLEAR, os.W_OK), "no peak that can be set back")
class MemoryTest(absltest.TestCase):
  def test_at_most_two_copies(self):
    found = subprocess.run(
      [sys.executable, "-m", "benchmarks.memory"], cwd=ROOT,
      capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    copies = dict(
      re.findall(r"^\| (\w+) +\| +([-.\d]+) \|", found.stdout, re.M)
    )
    self.assertEqual(set(copies), {"construct", "evaluate", "autoattack"})
    for driver, number in copies.items():
      with self.subTest(driver):
        self.assertLessEqual(float(number), 2.0)


if __name__ == "__main__":
  absltest.main()
