"""The state of an evaluation, on disk while it runs.

One file, `progress.npz`, replaced whole: what identifies the evaluation, the
results so far and the slots of the attack under way. It is read without
executing anything.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from robust_features.attacks.autoattack import pool
from robust_features.runtime import files

FILE = "progress.npz"
_POOL = "pool_"


def identity(
  model: Any, x: np.ndarray, y: np.ndarray, key: jax.Array, **settings: Any
) -> dict[str, Any]:
  """Returns what must be the same for an evaluation to be resumed.

  Args:
    model: The tree of the model's arrays; empty where a closure hides them.
    x: `[N, H, W, C]` images.
    y: `[N]` labels.
    key: The evaluation's PRNG key.
    **settings: Anything that JSON can hold.
  """
  return {
    "model": files.digest(model),
    "images": files.sha256(x.tobytes()),
    "labels": files.sha256(y.tobytes()),
    "key": np.asarray(jax.random.key_data(key)).tolist(),
    **settings,
  }


@dataclasses.dataclass
class Progress:
  """Results so far; N images, A attacks.

  Attributes:
    identity: See `identity`.
    logits: `[N, K]` on the clean images.
    correct: `[N]` bool, classified correctly before any attack.
    robust: `[N]` bool, so far.
    x_adv: `[N, H, W, C]`.
    broken_by: `[N]` int32, number of the attack, or -1.
    num_done: `[]` int64 attacks that are over.
    accuracy: `[A]` after each attack.
    queries: `[A]` int64.
    gradients: `[A]` int64.
    zero_gradients: `[A]` int64 images.
    nonfinite_gradients: `[A]` int64 images.
    seconds: `[A]`.
    path: File to save to, or None.
    every_s: Seconds between two saves.
  """

  identity: dict[str, Any]
  logits: np.ndarray
  correct: np.ndarray
  robust: np.ndarray
  x_adv: np.ndarray
  broken_by: np.ndarray
  num_done: int
  accuracy: np.ndarray
  queries: np.ndarray
  gradients: np.ndarray
  zero_gradients: np.ndarray
  nonfinite_gradients: np.ndarray
  seconds: np.ndarray
  path: pathlib.Path | None = None
  every_s: float = 30.0

  def __post_init__(self):
    self._saved_at = time.monotonic()
    self._pool_arrays: dict[str, np.ndarray] = {}

  @classmethod
  def begin(cls, identity, logits, x, y, num_attacks: int, **kwargs):
    """Returns the progress of an evaluation that has not begun."""
    correct = logits.argmax(axis=1) == y

    def zeros(dtype):
      return np.zeros(num_attacks, dtype)

    return cls(
      identity=identity,
      logits=logits,
      correct=correct,
      robust=correct.copy(),
      x_adv=x.copy(),
      broken_by=np.full(len(x), -1, np.int32),
      num_done=0,
      accuracy=zeros(np.float64),
      queries=zeros(np.int64),
      gradients=zeros(np.int64),
      zero_gradients=zeros(np.int64),
      nonfinite_gradients=zeros(np.int64),
      seconds=zeros(np.float64),
      **kwargs,
    )

  def load(self) -> bool:
    """Takes over what the file holds; returns whether there was one.

    Raises:
      ValueError: If the file is damaged or belongs to another evaluation or
        to another model.
    """
    if self.path is None or not self.path.exists():
      return False
    saved, arrays = files.read_npz(self.path)
    for name in sorted(self.identity.keys() | saved.keys()):
      if self.identity.get(name) != saved.get(name):
        raise ValueError(
          f"{self.path} is the progress of an evaluation with other {name}: "
          f"{saved.get(name)!r}, got {self.identity.get(name)!r}"
        )
    if not _same_predictions(self.logits, arrays["logits"]):
      raise ValueError(f"{self.path} is the progress of another model")
    for name in self._array_names():
      setattr(self, name, arrays[name])
    self.num_done = int(arrays["num_done"])
    self._pool_arrays = {
      name.removeprefix(_POOL): value
      for name, value in arrays.items()
      if name.startswith(_POOL)
    }
    return True

  def _array_names(self) -> list[str]:
    return [
      field.name
      for field in dataclasses.fields(self)
      if isinstance(getattr(self, field.name), np.ndarray)
    ]

  def restore_pool(self, work: pool.Pool) -> None:
    """Puts an attack's slots back as they were saved, if they were."""
    if self._pool_arrays:
      work.restore(self._pool_arrays)
    self._pool_arrays = {}

  def record(self, number: int, finished: pool.Finished, begun: float) -> None:
    """Adds examples that attack `number` is done with, and the time spent."""
    broken = finished.index[finished.success]
    self.robust[broken] = False
    self.broken_by[broken] = number
    self.x_adv[broken] = finished.x_adv[finished.success]
    self.queries[number] += finished.queries.sum()
    self.gradients[number] += finished.gradients.sum()
    self.zero_gradients[number] += (finished.zero_gradients > 0).sum()
    bad = finished.nonfinite_gradients > 0
    self.nonfinite_gradients[number] += bad.sum()
    self.seconds[number] += time.monotonic() - begun

  def finish_attack(self, number: int) -> None:
    """Notes that attack `number` is over, and saves."""
    self.accuracy[number] = self.robust.mean()
    self.num_done = number + 1
    self.save({})

  def is_due(self) -> bool:
    """Returns whether the last save was long enough ago."""
    return time.monotonic() - self._saved_at >= self.every_s

  def save(self, pool_arrays: dict[str, np.ndarray]) -> None:
    """Writes everything, if there is a file to write to."""
    if self.path is not None:
      arrays = {name: getattr(self, name) for name in self._array_names()}
      arrays |= {_POOL + name: value for name, value in pool_arrays.items()}
      arrays["num_done"] = np.asarray(self.num_done)
      files.write_npz(self.path, self.identity, arrays)
    self._saved_at = time.monotonic()


def _same_predictions(here: np.ndarray, there: np.ndarray) -> bool:
  """Returns whether logits `[N, K]` are one model's, on whatever devices.

  Rounding may move them by a thousandth of their spread; a prediction may
  change only between classes that are as close as that.
  """
  if here.shape != there.shape:
    return False
  rounding = 1e-3 * np.ptp(here, axis=1)
  close = np.abs(here - there).max(axis=1) <= rounding
  return bool(close.all())
