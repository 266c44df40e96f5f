"""Atomic files, identities, checksums: a reader never sees half of anything.

Where a run has several processes the first one writes. The others wait until it
has, so that what was written can be read by each.
"""

import hashlib
import io
import json
import os
import pathlib
import random
import tempfile
import time
import zipfile
from typing import Any

import jax
import numpy as np

from robust_features.runtime import processes, sharding

_IDENTITY = "identity"


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file so that it is there whole or not at all.

  All processes call it together.

  Raises:
    OSError: On every process, if the first one cannot write.
  """
  failed: OSError | None = None
  if processes.is_first():
    try:
      write_here(path, content)
    except OSError as error:
      failed = error
  if processes.agree(failed is not None):
    raise failed or OSError(f"process 0 could not write {path}")


def write_here(path: str | os.PathLike, content: bytes) -> None:
  """Writes like `write_bytes`, but on this process alone."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes text in UTF-8, atomically."""
  write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes indented JSON, keys in their order, atomically; no NaN."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
  """Reads JSON, in UTF-8 whatever the locale.

  Raises:
    ValueError: If the file is not JSON, naming it.
  """
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f"{path} is damaged ({error}); delete it and run again"
    ) from None


def require_shared(folder: pathlib.Path, wait_seconds: float = 10.0) -> None:
  """Makes a folder and sees that it is the same one for every process.

  Raises:
    ValueError: If it is not.
    OSError: If it cannot be made.
  """
  if not processes.several():
    return
  # All processes look for the same name, which no earlier run has left.
  name = f".shared-{processes.agree(random.getrandbits(30))}"
  write_text(folder / name, "")
  end = time.monotonic() + wait_seconds
  while not (found := name in _names(folder)) and time.monotonic() < end:
    time.sleep(0.1)
  lost = processes.agree(not found)
  if processes.is_first():
    (folder / name).unlink()
  if lost:
    raise ValueError(
      f"--workdir={folder} is not one folder for all processes; choose one on "
      "a file system that all hosts share, such as NFS, Lustre or Filestore"
    )


def _names(folder: pathlib.Path) -> list[str]:
  return os.listdir(folder) if folder.is_dir() else []


def sha256(content: bytes) -> str:
  """Returns the SHA-256 of bytes in hexadecimal."""
  return hashlib.sha256(content).hexdigest()


def write_npz(
  path: str | os.PathLike, identity: dict[str, Any], arrays: dict[str, Any]
) -> None:
  """Writes arrays and what they belong to, atomically.

  Args:
    path: The file.
    identity: Whatever JSON holds; compared by who reads it.
    arrays: By name.
  """
  buffer = io.BytesIO()
  text = np.asarray(json.dumps(identity, sort_keys=True))
  np.savez(buffer, allow_pickle=False, **{_IDENTITY: text}, **arrays)
  write_bytes(path, buffer.getvalue())


def read_npz(
  path: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns (identity, arrays) that `write_npz` wrote.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it is damaged, naming it.
  """
  try:
    with np.load(path, allow_pickle=False) as content:
      arrays = dict(content)
    return json.loads(str(arrays.pop(_IDENTITY))), arrays
  except FileNotFoundError:
    raise
  except (zipfile.BadZipFile, EOFError, ValueError, OSError, KeyError) as error:
    raise ValueError(
      f"{path} is damaged ({error}); delete it to begin again"
    ) from None


def digest(tree: Any) -> str:
  """Returns the SHA-256 of a tree's paths, types, shapes and bytes.

  A dataclass and a dict of the same names and arrays have the same digest.
  """
  result = hashlib.sha256()
  arrays = {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(sharding.fetch(tree))
  }
  for name, array in sorted(arrays.items()):
    result.update(f"{name} {array.dtype} {array.shape}\n".encode())
    result.update(array.tobytes())
  return result.hexdigest()
