"""Atomic files and checksums: a reader never sees half of anything."""

import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any


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
