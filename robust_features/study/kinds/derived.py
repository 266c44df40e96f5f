"""What stages that derive a set from others have in common: where it lies."""

import io
import pathlib
from typing import Any

import numpy as np

from robust_features.data import dataset as ds
from robust_features.runtime import files
from robust_features.study import folder
from robust_features.study.graph import Study
from robust_features.study.report import tables


def save(directory: pathlib.Path, dataset: ds.Dataset) -> dict[str, Any]:
  """Writes a set into a stage's folder; returns its result."""
  buffer = io.BytesIO()
  np.savez(buffer, images=dataset.images, labels=dataset.labels)
  files.write_bytes(directory / "set.npz", buffer.getvalue())
  return {
    "sha256": ds.digest(_bare(dataset)),
    "num_examples": dataset.num_examples,
    "class_names": list(dataset.class_names),
  }


def load(study: Study, name: str, stage: Any) -> ds.Dataset:
  """Returns the set that a stage wrote.

  Raises:
    ValueError: If it is missing, damaged or another one.
  """
  del stage
  directory, result = study.workdir / name, study.require(name)
  path, helps = directory / "set.npz", folder.remedy(directory)
  arrays, found = folder.read_npz(path, helps), None
  if arrays.keys() >= {"images", "labels"}:
    found = ds.make(
      arrays["images"], arrays["labels"], tuple(result["class_names"]),
      where=str(path),
    )  # fmt: skip
  if found is None or ds.digest(found) != result["sha256"]:
    raise ValueError(f"{path} does not match its checksum; {helps}")
  return found


def _bare(dataset: ds.Dataset) -> ds.Dataset:
  return ds.make(dataset.images, dataset.labels, dataset.class_names)


def report(title: str):
  """Returns a kind's `report`: how many examples each stage's set has."""

  def lines(found: dict[str, Any]) -> list[tables.Section]:
    rows = [["data set", "images"]]
    rows += [[name, str(f["num_examples"])] for name, f in found.items()]
    return [(title, [tables.aligned(rows)])] if found else []

  return lines
