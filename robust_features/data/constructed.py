"""A constructed data set on disk: shards, manifest, card, grid.

  00000-images.npy  00000-labels.npy  00000-original_labels.npy  00000.json
  00001-images.npy  ...
  manifest.json     checksums, statistics, origin; written last
  card.md           the same for people
  grid.png          originals above, constructed below

A shard counts once its json is there, which names the checksums of its arrays.
"""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from robust_features.data import dataset as ds
from robust_features.runtime import files

ARRAYS = ("images", "labels", "original_labels")
REMEDY = "delete the data set's folder and construct it again"


def _npy(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, array, allow_pickle=False)
  return buffer.getvalue()


class Writer:
  """Writes a data set shard by shard."""

  def __init__(self, directory: str | pathlib.Path, origin: dict[str, Any]):
    self.directory = pathlib.Path(directory)
    self.origin = origin

  def _record(self, number: int) -> pathlib.Path:
    return self.directory / f"{number:05d}.json"

  def has(self, number: int) -> bool:
    """Returns whether a shard is complete, checking its bytes.

    Raises:
      ds.DataError: If it is there but damaged.
    """
    if not self._record(number).exists():
      return False
    _read_shard(self.directory, number, files.read_json(self._record(number)))
    return True

  def write(
    self, number: int, arrays: dict[str, np.ndarray], stats: dict[str, float]
  ) -> None:
    """Writes one shard; its record comes last."""
    checksums = {}
    for name in ARRAYS:
      content = _npy(arrays[name])
      files.write_bytes(self.directory / f"{number:05d}-{name}.npy", content)
      checksums[name] = files.sha256(content)
    record = {
      "sha256": checksums,
      "num_examples": len(arrays["labels"]),
      "sums": stats,
    }
    files.write_json(self._record(number), record)

  def head(self, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first images `[N, H, W, C]` and labels `[N]` written."""
    images, labels, number = [], [], 0
    while sum(map(len, labels)) < num_examples:
      record = files.read_json(self._record(number))
      shard = _read_shard(self.directory, number, record)
      images.append(shard["images"])
      labels.append(shard["labels"])
      number += 1
    whole = np.concatenate(images), np.concatenate(labels)
    return whole[0][:num_examples], whole[1][:num_examples]

  def finish(
    self, num_shards: int, class_names: tuple[str, ...], pixels: str,
    separability: float,
  ) -> dict[str, Any]:  # fmt: skip
    """Writes and returns the manifest of the complete data set."""
    shards = [files.read_json(self._record(i)) for i in range(num_shards)]
    count = sum(shard["num_examples"] for shard in shards)
    names = [name for name in shards[0]["sums"] if name != "seconds"]
    manifest = {
      "origin": self.origin,
      "num_examples": count,
      "class_names": list(class_names),
      "pixels": pixels,
      "shards": [
        {"sha256": s["sha256"], "num_examples": s["num_examples"]}
        for s in shards
      ],
      # One checksum for the whole: of the shards' checksums in order.
      "sha256": files.sha256(
        "".join(s["sha256"][a] for s in shards for a in ARRAYS).encode()
      ),
      "mean": {
        name: sum(s["sums"][name] for s in shards) / count for name in names
      },
      "num_spared": round(sum(s["sums"]["spared"] for s in shards)),
      "separability": separability,
      "seconds": sum(s["sums"]["seconds"] for s in shards),
    }
    files.write_json(self.directory / "manifest.json", manifest)
    return manifest


def _read_shard(
  directory: pathlib.Path, number: int, record: dict[str, Any]
) -> dict[str, np.ndarray]:
  arrays = {}
  for name in ARRAYS:
    path = directory / f"{number:05d}-{name}.npy"
    if not path.exists():
      raise ds.DataError(f"{path} is missing; {REMEDY}")
    content = path.read_bytes()
    if files.sha256(content) != record["sha256"][name]:
      raise ds.DataError(f"{path} does not match its checksum; {REMEDY}")
    arrays[name] = np.load(io.BytesIO(content), allow_pickle=False)
  return arrays


def load(directory: str | pathlib.Path) -> ds.Dataset:
  """Loads a constructed data set, verifying every checksum.

  Raises:
    ds.DataError: If it is missing, incomplete, damaged or something else.
  """
  directory = pathlib.Path(directory)
  if not (directory / "manifest.json").exists():
    raise ds.DataError(
      f"{directory} holds no finished data set (manifest.json is missing)"
    )
  manifest = files.read_json(directory / "manifest.json")
  if not isinstance(manifest, dict) or "shards" not in manifest:
    raise ds.DataError(
      f"{directory / 'manifest.json'} is not of a constructed data set"
    )
  shards = [
    _read_shard(directory, number, record)
    for number, record in enumerate(manifest["shards"])
  ]
  whole = {name: np.concatenate([s[name] for s in shards]) for name in ARRAYS}
  return ds.make(
    whole["images"],
    whole["labels"],
    tuple(manifest["class_names"]),
    {"original_labels": whole["original_labels"]},
    where=str(directory),
  )


def write_grid(directory: str | pathlib.Path, picture: np.ndarray) -> None:
  """Writes `grid.png` from a uint8 picture `[H, W, 3]`, four times enlarged."""
  image = Image.fromarray(picture)
  image = image.resize(
    (4 * image.width, 4 * image.height), Image.Resampling.NEAREST
  )
  buffer = io.BytesIO()
  image.save(buffer, "PNG")
  files.write_bytes(pathlib.Path(directory) / "grid.png", buffer.getvalue())


def write_card(
  directory: str | pathlib.Path, kind: str, manifest: dict[str, Any]
) -> None:
  """Writes `card.md`: what the data set is and what was measured on it."""
  mean, origin = manifest["mean"], manifest["origin"]
  low = "0 to 255 in steps of 1" if manifest["pixels"] == "uint8" else "0 to 1"
  lines = [
    f"# D_{kind}",
    "",
    "![originals above, constructed below](grid.png)",
    "",
    f"- {manifest['num_examples']} examples, classes: "
    + ", ".join(manifest["class_names"]),
    f"- Pixels stored and trained on: {manifest['pixels']}, {low}",
    f"- Mean l2 distance from the original: {mean['moved_from_original']:.4f}; "
    f"from where the climb started: {mean['moved_from_start']:.4f} "
    "(pixels in [0, 1])",
    f"- Mean objective: {mean['objective_start']:.4f} at the start, "
    f"{mean['objective_end']:.4f} at the end, "
    f"{mean['objective_stored']:.4f} as stored",
    f"- The source model predicts the label for {mean['success']:.2%} of the "
    f"stored images ({mean['success_before_rounding']:.2%} before rounding, "
    f"{mean['success_augmented']:.2%} under a crop and a flip)",
    f"- Images left as they are: {manifest['num_spared']}",
    "- A linear classifier tells the labels of held-out examples by their "
    f"perturbations for {manifest['separability']:.2%}",
    f"- Examples that met a zero gradient: {mean['met_zero_gradient']:.2%}",
    f"- Wall time: {manifest['seconds']:.0f} s",
    f"- sha256: `{manifest['sha256']}`",
    "",
    "## Origin",
    "",
    *(f"- {name}: `{value}`" for name, value in sorted(origin.items())),
    "",
  ]
  files.write_text(pathlib.Path(directory) / "card.md", "\n".join(lines))
