"""Whether a model is right under every one of a family of changes of images.

What rotations, shifts and waves of one frequency have in common: many changes,
each done to all images, none of them climbed. The worst of them, their mean
and the map of all are read off one table of hits.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robust_features import attacks, evaluate, models
from robust_features.data import dataset as ds
from robust_features.data import streaming
from robust_features.runtime import batching, sharding
from robust_features.runtime.logs import progress
from robust_features.runtime.measured import Measured

# (images [B, H, W, C], one change, keys [B]) -> images.
Change = Callable[[jax.Array, Any, jax.Array], jax.Array]


@functools.partial(jax.jit, static_argnames=("model", "change"))
def _hits(model, variables, points, labels, key, indices, images, *, change):
  x = ds.to_float(images)
  y, keys = labels[indices], attacks.example_keys(key, indices)

  def right(point):
    return models.apply(model, variables, change(x, point, keys)).logits.argmax(
      1
    )

  # One change after another: their number must not meet the memory.
  return (jax.lax.map(right, points) == y[None]).T


def hits(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  change: Change,
  points: Any,
  key: jax.Array,
  batch_size: int,
  name: str = "changes",
  measured: Measured | None = None,
) -> np.ndarray:
  """Returns where a model is right, bool `[N, P]`, image by image and change.

  Args:
    model: The architecture.
    variables: Its variables.
    dataset: Images and the labels that count as correct.
    change: Takes images, one of `points` and a key an example; a function of
      a module, so that it compiles once.
    points: A tree of arrays with one row a change, `[P, ...]`.
    key: Folded with each example's index.
    batch_size: Images at a time.
    name: For the progress bar, and of the files.
    measured: Where batches are kept that an earlier sitting measured.

  Raises:
    ValueError: If images or labels are none, or there are too few logits.
    preemption.Stopped: If the process was asked to stop.
  """
  evaluate.check_fit(model, variables, dataset)
  points, labels = sharding.replicate((points, dataset.labels))
  look = functools.partial(
    _hits, model, variables, points, labels, key, change=change
  )
  run = (measured or Measured()).run

  def measure(indices, images):
    found = run(name, indices, lambda part: (look(part, images),))
    return found[0]

  with progress(dataset.num_examples, name, unit="image") as bar:
    return batching.map_batches(
      measure,
      np.arange(dataset.num_examples),
      batching.even_batch(batch_size, dataset.num_examples),
      feed=streaming.Feed(dataset.images),
      bar=bar,
    )
