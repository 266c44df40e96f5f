"""The folder that a run writes into: one that can be written, by one run.

The lock is the kernel's (`flock`), held by an open file: it goes with the
process, however that ends, and needs no cleaning up.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import sys

from robust_features.runtime import paths, processes

_NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def hold(workdir: pathlib.Path):
  """Makes the folder, and keeps every other run out of it while it lasts.

  Raises:
    ValueError: If another run holds it, naming its host and process, or if it
      cannot be written.
  """
  handle, failed = None, None
  if processes.is_first():
    try:
      handle = _take(workdir)
    except ValueError as error:
      failed = error
  try:
    if processes.agree(failed is not None):
      raise failed or ValueError(f"process 0 cannot write to {workdir}")
    yield
  finally:
    if handle is not None:
      os.close(handle)


def _take(workdir: pathlib.Path) -> int:
  """Returns the open file that holds the folder."""
  with paths.writing(workdir, "--workdir"):
    workdir.mkdir(parents=True, exist_ok=True)
    handle = os.open(workdir / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      _lock(handle, workdir)
      os.ftruncate(handle, 0)
      who = f"process {os.getpid()} on {socket.gethostname()}"
      os.pwrite(handle, who.encode(), 0)
    except BaseException:
      os.close(handle)
      raise
  return handle


def _lock(handle: int, workdir: pathlib.Path) -> None:
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    who = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
    raise ValueError(
      f"{workdir} is in use by {who}; wait until that run is over, or choose "
      "another --workdir"
    ) from None
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    sys.stderr.write(
      f"the file system of {workdir} has no locks ({error.strerror}): see to "
      "it that no other run uses this folder\n"
    )
