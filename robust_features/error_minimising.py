"""Noise that leaves a network nothing to learn: min-min alternation.

A network and a noise for each image minimise the same loss in turn: a few
steps of SGD on the noisy images, then steps of the image's pixels down the
loss, until the network is right on nearly all of them. A network that is
trained on the result finds its loss small from the start and learns the noise
alone.

The noise is added before any augmentation of a later training, and lies in the
stored pixels. What is random is a function of the key and the step, so that an
interrupted run goes on to the same bits.

Reference: arXiv:2101.04898 (Huang et al., ICLR 2021), section 3, algorithm 1:
linf 8/255, 20 steps of eps/10 each round, 10 steps of SGD between rounds, 1%
of training errors at the end.
"""

import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_features import models, whole_set
from robust_features.data import dataset as ds
from robust_features.error_minimising_step import (
  ErrorMinimisingConfig,
  State,
  begin,
  check_fit,
  descend,
  train,
)
from robust_features.runtime import (
  batching,
  paths,
  preemption,
  processes,
  sharding,
)
from robust_features.runtime.checkpoint import Checkpoints
from robust_features.runtime.logs import Stopwatch, progress

__all__ = ["ErrorMinimisingConfig", "Result", "check_fit", "make"]

_INIT, _ORDER, _MODEL, _START = range(4)  # Streams of the key.


class Result(NamedTuple):
  """What was found.

  Attributes:
    manifest: Of the data set on disk; see `data.constructed`.
    history: One record a round: round, train_loss, error.
    variables: Of the network at the end.
    reached: Whether the error came down to `stop_error`.
    seconds: Wall time over all sittings.
  """

  manifest: dict[str, Any]
  history: list[dict[str, Any]]
  variables: dict[str, Any]
  reached: bool
  seconds: float


def make(
  cfg: ErrorMinimisingConfig,
  model: models.Model,
  dataset: ds.Dataset,
  directory: str | pathlib.Path,
  key: jax.Array,
  origin: dict[str, Any],
  name: str = "error_minimising",
  save_every_seconds: float = 60.0,
) -> Result:
  """Makes a data set, going on from the newest checkpoint.

  Args:
    cfg: The noise and the network's steps.
    model: The network's architecture.
    dataset: The images, whose labels stay as they are; in memory.
    directory: Holds `checkpoints/` and the set in `data/`.
    key: Of everything random.
    origin: Recorded in the manifest.
    name: For the progress bar.
    save_every_seconds: Least time between two checkpoints.

  Raises:
    ValueError: If images or labels are none, do not fit the settings, or the
      loss is not finite.
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  directory = paths.folder(directory, "directory")
  ds.check(dataset)
  models.check(model, dataset.image_shape, dataset.num_classes)
  check_fit(cfg, dataset.num_examples, dataset.image_shape)
  with Checkpoints(directory / "checkpoints") as checkpoints:
    rounds = _Rounds(cfg, model, dataset, key, checkpoints)
    with progress(cfg.max_rounds, name, rounds.number, "round") as bar:
      while not rounds.done():
        rounds.run(save_every_seconds)
        bar.update(1)
        bar.set_postfix_str(f"error {rounds.history[-1]['error']:.3f}")
    rounds.save()
  manifest = whole_set.write(
    "error_minimising", directory / "data", model, rounds.state.variables,
    dataset, sharding.fetch(rounds.state.images), dataset.labels, origin,
    pixels=cfg.pixels, batch_size=cfg.batch_size, shard_size=cfg.shard_size,
  )  # fmt: skip
  return Result(
    manifest, rounds.history, sharding.fetch(rounds.state.variables),
    rounds.reached(), rounds.watch.seconds(),
  )  # fmt: skip


class _Rounds:
  """The effects around the alternation: checkpoints, stops, the clock."""

  def __init__(self, cfg, model, dataset: ds.Dataset, key, checkpoints):
    self.cfg, self.model, self.checkpoints = cfg, model, checkpoints
    self.keys = [jax.random.fold_in(key, stream) for stream in range(4)]
    begun = begin(cfg, model, dataset, self.keys[_INIT])
    state, metadata = checkpoints.restore(begun) or (begun, {})
    self.state: State = sharding.replicate(state)
    self.history: list[dict[str, Any]] = metadata.get("history", [])
    self.watch = Stopwatch(metadata.get("seconds", 0.0))
    self.saved_at = time.monotonic()
    self.originals, self.labels = sharding.replicate(
      (dataset.images, dataset.labels)
    )

  @property
  def number(self) -> int:
    """Rounds that are done."""
    return len(self.history)

  def reached(self) -> bool:
    """Returns whether the network is right on nearly everything."""
    last = self.history[-1]["error"] if self.history else 1.0
    return last <= self.cfg.stop_error

  def done(self) -> bool:
    """Returns whether there is no round left."""
    return self.reached() or self.number >= self.cfg.max_rounds

  def run(self, save_every_seconds: float) -> None:
    """Runs one round; a stop in its midst goes back to its beginning."""
    state, loss = train(
      self.state, self.labels, self.keys[_ORDER], self.keys[_MODEL],
      model=self.model, cfg=self.cfg,
    )  # fmt: skip
    if not math.isfinite(float(loss)):
      raise ValueError(
        f"the loss is not finite in round {self.number + 1}; lower "
        "learning_rate"
      )
    size = batching.even_batch(self.cfg.batch_size, len(self.labels))
    lower = functools.partial(
      descend, self.model, state.variables, self.originals, state.images,
      self.labels, self.keys[_START], self.cfg.attack,
    )  # fmt: skip
    try:
      images, wrong = batching.map_batches(
        lower, np.arange(len(self.labels)), size
      )
    except preemption.Stopped:
      self.save()
      raise
    self.state = state._replace(images=sharding.replicate(images))
    self.history.append(
      {
        "round": self.number + 1,
        "train_loss": float(loss),
        "error": float(wrong.mean()),
      }
    )
    if processes.agree(time.monotonic() - self.saved_at >= save_every_seconds):
      self.save()

  def save(self) -> None:
    """Saves the last whole round, in the background."""
    metadata = {"history": self.history, "seconds": self.watch.seconds()}
    self.checkpoints.save(self.number, self.state, metadata)
    self.saved_at = time.monotonic()
