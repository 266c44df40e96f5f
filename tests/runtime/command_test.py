"""One line of error, nothing half, and a reader who wants only some."""

import os
import stat
import subprocess
import sys

import toys
from absl.testing import absltest, parameterized

from robust_features.runtime import command


def fail(error):
  raise error


class RunTest(parameterized.TestCase):
  @parameterized.parameters(
    (ValueError("a\n  b"), "error: a b\n"),
    (FileNotFoundError("a"), "error: a\n"),
    (KeyboardInterrupt(), "error: interrupted, nothing half is left\n"),
  )
  def test_a_failure_is_one_line(self, error, line):
    found = toys.command(lambda _: command.run(lambda: fail(error)), "")
    self.assertEqual(found, (1, "", line))

  def test_a_reader_that_has_gone(self):
    """As `head` has after its lines; it is no error of ours."""
    code = (
      "from robust_features.runtime import command\n"
      "raise SystemExit(command.run(lambda: 'text'))"
    )
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as gone:
      found = subprocess.run(
        [sys.executable, "-c", code], stdout=gone, stderr=subprocess.PIPE,
        text=True, check=False, env=os.environ | {"PYTHONUNBUFFERED": ""},
      )  # fmt: skip
    self.assertEqual((found.returncode, found.stderr), (0, ""))


class NewFolderTest(absltest.TestCase):
  def test_it_is_filled_beside_its_place_and_read_by_others(self):
    out = toys.folder(self) / "a" / "b" / "out"
    with command.new_folder(out) as half:
      self.assertEqual(half.parent, out.parent)
      self.assertStartsWith(half.name, ".out.")
      self.assertFalse(out.exists())
      (half / "file").touch()
    self.assertEqual([path.name for path in out.parent.iterdir()], ["out"])
    self.assertEqual(os.listdir(out), ["file"])
    self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o755)


if __name__ == "__main__":
  absltest.main()
