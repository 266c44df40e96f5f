"""What the package's small commands share: one line of error, nothing half."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NoReturn

from robust_features.runtime import paths


class Parser(argparse.ArgumentParser):
  """A parser whose errors are one line and exit status 1."""

  def error(self, message: str) -> NoReturn:
    """Prints the message and exits."""
    self.exit(1, f"error: {message}\n")


def show(text: str) -> None:
  """Prints text, of which a reader such as `head` may want only some."""
  try:
    print(text, flush=True)  # noqa: T201
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(work: Callable[[], str]) -> int:
  """Does a command's work; prints what that returns, or one line of error.

  Returns:
    The exit status.
  """
  # So that clean-up also runs when a scheduler ends the job.
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  try:
    show(work())
  except (ValueError, OSError) as error:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return 1
  except KeyboardInterrupt:
    sys.stderr.write("error: interrupted, nothing half is left\n")
    return 1
  finally:
    signal.signal(signal.SIGTERM, before)
  return 0


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder to fill that becomes `out` if all goes well.

  Otherwise nothing is left behind.

  Raises:
    ValueError: If `out` is there already and not an empty folder, or if it
      cannot be written.
  """
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f"out {out} exists and is not empty; choose another")
  with paths.writing(out.parent, "out"):
    out.parent.mkdir(parents=True, exist_ok=True)
    half = tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)
  try:
    yield pathlib.Path(half)
    pathlib.Path(half).chmod(0o755)
    pathlib.Path(half).rename(out)
  except BaseException:
    shutil.rmtree(half, ignore_errors=True)
    raise
