"""Scalars and image grids on disk, progress on the terminal."""

import json
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
import tqdm

from robust_features.runtime import board, files

_LINE_SECONDS = 60.0  # Between two lines of progress in a file.


class Logger:
  """Writes scalars to `metrics.jsonl` and, if installed, to TensorBoard.

  A run that resumes at step `first_step` drops the lines beyond it, so that the
  file reads as if nothing had happened. Only the first process writes.
  """

  def __init__(self, directory: str | pathlib.Path, first_step: int = 0):
    self._path = pathlib.Path(directory) / "metrics.jsonl"
    self._active = jax.process_index() == 0
    self._board = None
    if not self._active:
      return
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._drop_after(first_step)
    if board.is_installed():
      where = self._path.parent / "tensorboard"
      self._board = board.writer(where, purge_step=first_step + 1)

  def _drop_after(self, step: int) -> None:
    if not self._path.exists():
      return
    kept = []
    for line in self._path.read_text().splitlines():
      try:
        record = json.loads(line)
      except json.JSONDecodeError:  # The line that a kill cut short.
        continue
      if record["step"] <= step:
        kept.append(line + "\n")
    files.write_here(self._path, "".join(kept).encode())

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Records metrics under names such as `train/loss`."""
    if not self._active:
      return
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
    if self._board:
      for name, value in values.items():
        self._board.add_scalar(name, value, step)

  def images(self, step: int, name: str, grid: np.ndarray) -> None:
    """Records an image grid `[H, W, C]` uint8."""
    if self._board:
      self._board.add_image(name, grid, step, dataformats="HWC")

  def close(self) -> None:
    """Flushes everything."""
    if self._board:
      self._board.close()


def say(text: str) -> None:
  """Prints a line above any progress bar, on the first process."""
  if jax.process_index() == 0:
    tqdm.tqdm.write(text)


class _Lines(tqdm.tqdm):
  """A bar for who reads a file: a line a minute, none before the first."""

  def __init__(self, **kwargs):
    self._told = time.monotonic()
    super().__init__(
      bar_format="{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, "
      "{remaining} left{postfix}",
      **kwargs,
    )

  def display(self, msg=None, pos=None):
    """Called by tqdm whenever it would draw."""
    del pos
    if msg is None and time.monotonic() - self._told >= _LINE_SECONDS:
      self._told = time.monotonic()
      self.fp.write(f"{self}\n")

  def clear(self, *unused, **unused_too):
    """A line stays."""


def progress(total: int, name: str, initial: int = 0, unit: str = "it"):
  """Returns a tqdm bar with rate and time left, silent on other processes.

  Where standard error is no terminal a line a minute says the same.
  """
  bar = tqdm.tqdm if sys.stderr.isatty() else _Lines
  return bar(
    total=total,
    desc=name,
    initial=initial,
    unit=unit,
    disable=jax.process_index() != 0,
    mininterval=0.5,
    dynamic_ncols=True,
    leave=False,
  )


def grid(rows: list[np.ndarray]) -> np.ndarray:
  """Returns image rows `[N, H, W, C]` as one uint8 picture.

  Rows of the same N lie under each other, one pixel of white apart.
  """
  lines = [
    np.concatenate([_framed(image) for image in row], axis=1) for row in rows
  ]
  return np.concatenate(lines, axis=0)


def _framed(image: np.ndarray) -> np.ndarray:
  if image.dtype != np.uint8:
    image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
  image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
  return np.pad(image, ((0, 1), (0, 1), (0, 0)), constant_values=255)


class Stopwatch:
  """Seconds of work, carried over interruptions."""

  def __init__(self, seconds: float = 0.0):
    self._before = seconds
    self._start = time.monotonic()

  def seconds(self) -> float:
    """Returns the seconds so far, earlier sittings included."""
    return self._before + time.monotonic() - self._start


def describe(values: dict[str, Any]) -> str:
  """Returns metrics as `loss 1.234  accuracy 0.567` for a progress bar."""
  return "  ".join(f"{k.split('/')[-1]} {v:.4g}" for k, v in values.items())
