"""A constructed data set on disk: shards, manifest, card, grid.

  00000-images.npy  00000-labels.npy  00000-original_labels.npy  00000.json
  00001-images.npy  ...
  manifest.json     checksums, statistics, origin; written last
  origin.json       every setting that made it
  card.md           what people ask for, as the Hugging Face hub reads it
  grid.png          originals above, constructed below

A shard counts once its json is there, which names the checksums of its arrays.
"""

import hashlib
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from robust_features.data import card, lazy
from robust_features.data import dataset as ds
from robust_features.runtime import files, paths

ARRAYS = ("images", "labels", "original_labels")
_MANIFEST_FIELDS = {
  "class_counts", "class_names", "image_shape", "kind", "mean", "num_examples",
  "num_spared", "origin", "pixels", "separability", "sha256", "shards",
}  # fmt: skip


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
    self, kind: str, num_shards: int, class_names: tuple[str, ...], pixels: str,
    separability: float,
  ) -> dict[str, Any]:  # fmt: skip
    """Writes and returns the manifest of the complete data set."""
    first = self._array(0, "images")
    labels = [self._array(i, "labels") for i in range(num_shards)]
    counts = np.bincount(np.concatenate(labels), minlength=len(class_names))
    shards = [files.read_json(self._record(i)) for i in range(num_shards)]
    count = sum(shard["num_examples"] for shard in shards)
    names = [name for name in shards[0]["sums"] if name != "seconds"]
    manifest = {
      "kind": kind,
      "origin": self.origin,
      "image_shape": list(first.shape[1:]),
      "class_counts": counts.tolist(),
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

  def _array(self, number: int, name: str) -> np.ndarray:
    path = self.directory / f"{number:05d}-{name}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _remedy(directory: pathlib.Path) -> str:
  """Returns what makes the set anew, from where it lies."""
  stage = directory.parent
  if (stage / "result.json").exists():  # The study takes the stage for done.
    return f"delete {stage} and run the same command, which makes it anew"
  return f"delete {directory} and make it, or copy it, again"


def _read_shard(
  directory: pathlib.Path, number: int, record: dict[str, Any]
) -> dict[str, np.ndarray]:
  arrays = {}
  for name in ARRAYS:
    path = directory / f"{number:05d}-{name}.npy"
    _check(path, record["sha256"][name])
    arrays[name] = np.load(path, allow_pickle=False)
  return arrays


def _check(path: pathlib.Path, sha256: str) -> None:
  """Raises DataError unless a file is there and holds what was written."""
  directory = path.parent
  if not path.exists():
    raise ds.DataError(f"{path} is missing; {_remedy(directory)}")
  with path.open("rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
  if found != sha256:
    raise ds.DataError(
      f"{path} does not match its checksum; {_remedy(directory)}"
    )


def find(directory: str | pathlib.Path) -> pathlib.Path:
  """Returns the folder of the manifest: this one, or `data` of a stage's.

  Raises:
    ds.DataError: If neither holds a finished data set.
  """
  directory = paths.resolve(directory, "a data set's folder")
  for folder in (directory, directory / "data"):
    if (folder / "manifest.json").exists():
      return folder
    if any(folder.glob("*-images.npy")):
      raise ds.DataError(
        f"{folder} holds no finished data set (manifest.json is missing);"
        f" {_remedy(folder)}"
      )
  raise ds.DataError(
    f"{directory} holds no constructed data set; give the folder of a stage"
    " that makes one, such as runs/quickstart/d_det"
  )


def read_manifest(directory: pathlib.Path) -> dict[str, Any]:
  """Returns the manifest of the folder that `find` found.

  Raises:
    ds.DataError: If it is damaged, or of something else.
  """
  path = directory / "manifest.json"
  try:
    manifest = files.read_json(path)
  except ValueError as error:
    reason = str(error).partition("; ")[0]
    raise ds.DataError(f"{reason}; {_remedy(directory)}") from None
  if not isinstance(manifest, dict) or not set(manifest) >= _MANIFEST_FIELDS:
    raise ds.DataError(
      f"{path} is not of a constructed data set; {_remedy(directory)}"
    )
  return manifest


class _Shards(NamedTuple):
  """A `lazy.Source` of shards, mapped into memory.

  Attributes:
    images: Of each shard.
    ends: Examples up to the end of each.
  """

  images: list[np.ndarray]
  ends: np.ndarray

  def read(self, number: int) -> np.ndarray:
    shard = int(np.searchsorted(self.ends, number, side="right"))
    return self.images[shard][number - self.ends[shard]]

  original = read


def _lazy(directory: pathlib.Path, manifest: dict[str, Any]) -> ds.Dataset:
  """Returns a set whose images stay on disk; checks every file as `load`."""
  mapped = {name: [] for name in ARRAYS}
  for number, record in enumerate(manifest["shards"]):
    for name in ARRAYS:
      path = directory / f"{number:05d}-{name}.npy"
      _check(path, record["sha256"][name])
      mapped[name].append(np.load(path, mmap_mode="r", allow_pickle=False))
  images = mapped.pop("images")
  ends = np.cumsum([len(shard) for shard in images])
  arrays = {name: np.concatenate(mapped[name]) for name in mapped}
  return ds.make(
    lazy.Images(
      _Shards(images, ends), np.arange(ends[-1]), images[0].shape[1:],
      images[0].dtype,
    ),
    arrays["labels"],
    tuple(manifest["class_names"]),
    {"original_labels": arrays["original_labels"]},
    where=str(directory),
  )  # fmt: skip


def load(
  directory: str | pathlib.Path, *, streamed: bool = False
) -> ds.Dataset:
  """Loads a constructed data set, verifying every checksum.

  Args:
    directory: Its folder, or that of the stage that made it.
    streamed: Whether images stay on disk until they are wanted.

  Raises:
    ds.DataError: If it is missing, incomplete, damaged or something else.
  """
  directory = find(directory)
  manifest = read_manifest(directory)
  if streamed:
    return _lazy(directory, manifest)
  whole: dict[str, np.ndarray] = {}
  end, size = 0, sum(record["num_examples"] for record in manifest["shards"])
  for number, record in enumerate(manifest["shards"]):
    shard = _read_shard(directory, number, record)
    if len(shard["labels"]) != record["num_examples"]:
      raise ds.DataError(
        f"{directory}/manifest.json counts shard {number} wrongly;"
        f" {_remedy(directory)}"
      )
    begin, end = end, end + len(shard["labels"])
    for name, part in shard.items():
      if name not in whole:  # One copy of the set, and one shard.
        whole[name] = np.empty((size, *part.shape[1:]), part.dtype)
      whole[name][begin:end] = part
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


def write_card(directory: str | pathlib.Path, manifest: dict[str, Any]) -> None:
  """Writes `card.md`, and `origin.json` with the settings it leaves out."""
  directory = pathlib.Path(directory)
  loading = (
    "from robust_features.data import constructed",
    "",
    'dataset = constructed.load("DIR")  # This folder, once you have it.',
    "dataset.images, dataset.labels, dataset.class_names",
  )
  text = card.render(manifest, loading, picture="grid.png")
  files.write_text(directory / "card.md", text)
  files.write_json(directory / "origin.json", manifest["origin"])
