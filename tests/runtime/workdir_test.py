"""One run at a time writes into a folder, and a dead one holds nothing."""

import errno
import fcntl
import os
import pathlib
import socket
import subprocess
import sys
from unittest import mock

import toys
from absl.testing import absltest

from robust_features.runtime import workdir

ROOT = pathlib.Path(__file__).parents[2]


class HoldTest(absltest.TestCase):
  def test_another_run_is_named_and_nothing_is_changed(self):
    folder = toys.folder(self) / "a" / "b"
    code = (
      "import pathlib, sys, time\n"
      "from robust_features.runtime import workdir\n"
      "with workdir.hold(pathlib.Path(sys.argv[1])):\n"
      "  print('held', flush=True)\n"
      "  time.sleep(60)\n"
    )
    other = subprocess.Popen(
      [sys.executable, "-c", code, folder], cwd=ROOT,
      stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    self.enterContext(other)
    self.addCleanup(other.kill)
    self.assertEqual(other.stdout.readline(), "held\n")
    where = f"process {other.pid} on {socket.gethostname()}"
    for _ in range(2):  # A refusal does not overwrite who holds it.
      with (
        self.assertRaisesRegex(ValueError, f"in use by {where}; wait until"),
        workdir.hold(folder),
      ):
        self.fail("held twice")
    other.kill()
    other.wait()
    with workdir.hold(folder):
      self.assertIn(f"process {os.getpid()} on", (folder / ".lock").read_text())

  def test_it_is_free_after_an_error(self):
    folder = toys.folder(self)
    (folder / ".lock").write_text("process 12345678901234567890 on a" * 9)
    with self.assertRaises(KeyError), workdir.hold(folder):
      raise KeyError
    with workdir.hold(folder):
      who = f"process {os.getpid()} on {socket.gethostname()}"
      self.assertEqual((folder / ".lock").read_text(), who)

  def test_only_the_first_process_of_a_run_holds_it(self):
    folder = toys.folder(self) / "run"
    with (
      mock.patch("robust_features.runtime.processes.is_first",
                 return_value=False),
      workdir.hold(folder),
    ):  # fmt: skip
      self.assertFalse(folder.exists())

  def test_a_folder_that_cannot_be_written(self):
    """Every process learns of it, and none waits for the first one."""
    folder = pathlib.Path("/proc/x")
    with mock.patch.object(
      workdir.processes, "agree", side_effect=int
    ) as agree:
      self.assert_refused(folder, f"written to {folder} .*another --workdir")
    agree.assert_called_once_with(True)
    with (
      mock.patch.object(workdir.processes, "is_first", return_value=False),
      mock.patch.object(workdir.processes, "agree", return_value=1),
    ):
      self.assert_refused(folder, f"^process 0 cannot write to {folder}$")

  def assert_refused(self, folder, pattern):
    before = os.listdir("/proc/self/fd")
    with self.assertRaisesRegex(ValueError, pattern), workdir.hold(folder):
      self.fail("held")
    self.assertEqual(os.listdir("/proc/self/fd"), before)  # None left open.

  def test_a_disk_that_fails_or_is_full(self):
    folder = toys.folder(self)
    for module, name, number in (
      (fcntl, "flock", errno.EIO), (os, "pwrite", errno.ENOSPC),
      (os, "ftruncate", errno.EDQUOT),
    ):  # fmt: skip
      reason = os.strerror(number)
      with mock.patch.object(module, name, side_effect=OSError(number, reason)):
        self.assert_refused(folder, f"written to {folder} .{reason}.; choose")

  def test_who_holds_it_is_told_as_far_as_it_is_known(self):
    folder, name = toys.folder(self), "process 7 on a-host.with.a.long.name"
    with (folder / ".lock").open("wb", buffering=0) as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      self.assert_refused(folder, "in use by another process; wait")
      file.write(name.encode() + b"\xff")
      self.assert_refused(folder, f"in use by {name}\ufffd; wait")

  def test_a_file_system_without_locks_is_said_to_be_one(self):
    folder = toys.folder(self)
    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
      error = OSError(number, os.strerror(number))
      with (
        mock.patch.object(fcntl, "flock", side_effect=error),
        mock.patch.object(sys.stderr, "write") as write,
        workdir.hold(folder),
      ):
        write.assert_called_once()
        self.assertStartsWith(
          write.call_args[0][0],
          f"the file system of {folder} has no locks ({error.strerror}): see",
        )


if __name__ == "__main__":
  absltest.main()
