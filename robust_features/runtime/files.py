"""Atomic files, identities, checksums: a reader never sees half of anything."""

import hashlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from typing import Any

import jax
import numpy as np

from robust_features.runtime import sharding

_IDENTITY = "identity"


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file so that it is there whole or not at all."""
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
  """Writes indented JSON with sorted keys, atomically; NaN is refused."""
  write_text(
    path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
  )


def read_json(path: str | os.PathLike) -> Any:
  """Reads JSON.

  Raises:
    ValueError: If the file is not JSON, naming it.
  """
  try:
    return json.loads(pathlib.Path(path).read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f"{path} is damaged ({error}); delete it and run again"
    ) from None


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
    result.update(np.ascontiguousarray(array).tobytes())
  return result.hexdigest()
