"""Ends long work at a safe point when the process is asked to stop.

The first SIGTERM or SIGINT sets a flag; drivers look at it between chunks of
work, save, and raise `Stopped`. A second signal ends the process at once. Where
a run has several processes, one that is asked stops all of them, at the same
chunk.
"""

import signal

from robust_features.runtime import processes

_requested: list[int] = []  # Numbers of signals, of this process alone.


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
  request(number)


def request(number: int = signal.SIGTERM) -> None:
  """Asks this process to stop, as a signal of this number does."""
  _requested.append(number)


def pending() -> bool:
  """Returns whether this process itself was asked to stop."""
  return bool(_requested)


def requested() -> bool:
  """Returns whether any process was asked to; all of them call it together."""
  return bool(processes.agree(pending()))


def check() -> None:
  """Raises `Stopped` if any process was asked to; all call it together."""
  number = processes.agree(_requested[0] if _requested else 0)
  if number:
    raise Stopped(signal.Signals(number).name)


def reset() -> None:
  """Forgets a request, for the next run in the same process."""
  _requested.clear()
