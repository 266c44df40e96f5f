"""Ends long work at a safe point when the process is asked to stop.

The first SIGTERM or SIGINT sets a flag; drivers look at it between chunks of
work, save, and raise `Stopped`. A second signal ends the process at once.
"""

import signal

_requested: list[int] = []


class Stopped(Exception):
  """Raised once everything is saved; the same command goes on from here."""


def install() -> None:
  """Turns SIGTERM and SIGINT into a request to stop."""
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, _handle)


def _handle(number, frame) -> None:
  del frame
  if _requested:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
  _requested.append(number)


def requested() -> bool:
  """Returns whether the process was asked to stop."""
  return bool(_requested)


def check() -> None:
  """Raises `Stopped` if the process was asked to stop."""
  if _requested:
    raise Stopped(signal.Signals(_requested[0]).name)


def reset() -> None:
  """Forgets a request, for the next run in the same process."""
  _requested.clear()
