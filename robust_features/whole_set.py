"""Writes a set that was made all at once, as `construct` writes its own."""

import math
import pathlib
from typing import Any

import numpy as np

from robust_features import evaluate, models, ridge
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.runtime.logs import grid


def write(
  kind: str,
  directory: pathlib.Path,
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  images: np.ndarray,
  wanted: np.ndarray,
  origin: dict[str, Any],
  *,
  pixels: str,
  batch_size: int,
  shard_size: int,
) -> dict[str, Any]:
  """Writes images under their own labels; returns the manifest.

  Args:
    kind: The set's name.
    directory: Of the set.
    model: The network that it was made with.
    variables: Its variables.
    dataset: The originals.
    images: `[N, H, W, C]` float32 in [0, 1], what was made of them.
    wanted: `[N]`, what the network is to see; "success" is that it does.
    origin: Recorded in the manifest.
    pixels: What is stored: "uint8" or "float32".
    batch_size: Images at a time.
    shard_size: Images in one file.
  """
  writer = constructed.Writer(directory, origin)
  x = np.asarray(ds.to_float(dataset.images))
  stored = images
  if pixels == "uint8":
    stored = np.round(images * np.float32(255)).astype(np.uint8)
  shown = np.asarray(ds.to_float(stored))
  before, after = (
    evaluate.predict(model, variables, z, batch_size).argmax(1) == wanted
    for z in (images, shown)
  )
  stats = {
    "moved_from_original": np.sqrt(
      np.square(shown - x).sum(axis=(1, 2, 3), dtype=np.float64)
    ),
    "success_before_rounding": before,
    "success": after,
    "spared": np.zeros(len(x)),
    "seconds": np.zeros(len(x)),
  }
  bounds = range(0, len(x), shard_size)
  for number, start in enumerate(bounds):
    part = slice(start, start + shard_size)
    if writer.has(number):
      continue
    labels = dataset.labels[part]
    arrays = {"images": stored[part], "labels": labels,
              "original_labels": labels}  # fmt: skip
    sums = {k: float(np.sum(v[part], dtype=np.float64))
            for k, v in stats.items()}  # fmt: skip
    writer.write(number, arrays, sums)
  head = ridge.num_separated(len(x), math.prod(dataset.image_shape))
  delta = (shown - x)[:head].reshape(head, -1)
  manifest = writer.finish(
    kind=kind, num_shards=len(bounds), class_names=dataset.class_names,
    pixels=pixels,
    separability=ridge.separability(
      delta, dataset.labels[:head], dataset.num_classes
    ),
  )  # fmt: skip
  constructed.write_card(directory, manifest)
  constructed.write_grid(directory, grid([dataset.images[:10], stored[:10]]))
  return manifest
