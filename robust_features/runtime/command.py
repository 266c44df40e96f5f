"""What the package's small commands share: one line of error, nothing half."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import NoReturn


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


def end_on_sigterm() -> None:
  """Lets clean-up also run when a scheduler ends the job."""
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder to fill that becomes `out` if all goes well.

  Otherwise nothing is left behind.

  Raises:
    ValueError: If `out` is there already and not an empty folder.
  """
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f"out {out} exists; choose another folder")
  out.parent.mkdir(parents=True, exist_ok=True)
  half = tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)
  try:
    yield pathlib.Path(half)
    pathlib.Path(half).chmod(0o755)
    pathlib.Path(half).rename(out)
  except BaseException:
    shutil.rmtree(half, ignore_errors=True)
    raise
