"""A stage's folder read back: what it belongs to, and what helps if damaged."""

import contextlib
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from robust_features.runtime import files


@contextlib.contextmanager
def remade(directory: pathlib.Path):
  """Gives whatever is wrong with a stage's work the remedy that helps."""
  try:
    yield
  except ValueError as error:
    reason = str(error).partition("; ")[0]
    raise type(error)(f"{reason}; {remedy(directory)}") from None


def remedy(directory: pathlib.Path) -> str:
  """Returns what makes a stage whole again, whatever is wrong with it."""
  # Of a stage that was taken from another run, the folder, not the link to it.
  directory = directory.resolve() if directory.is_symlink() else directory
  return (
    f"delete the folder {directory} and run the same command, which makes the "
    "stage again"
  )


def read(directory: pathlib.Path, name: str) -> dict[str, Any]:
  """Reads one of a stage's files, without which nobody knows what it holds."""
  path = directory / name
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError):
    found = None
  if not isinstance(found, dict):
    raise ValueError(_unreadable(path, remedy(directory)))
  return found


def read_npz(path: pathlib.Path, helps: str) -> dict[str, np.ndarray]:
  """Reads arrays of a stage; `helps` is the remedy if they are damaged."""
  try:
    # Opened here, because NumPy leaves a damaged archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      return dict(arrays)
  except (zipfile.BadZipFile, EOFError, ValueError, TypeError, OSError):
    raise ValueError(_unreadable(path, helps)) from None


def _unreadable(path: pathlib.Path, helps: str) -> str:
  return f"{path} is {'damaged' if path.exists() else 'missing'}; {helps}"


def read_mark(path: pathlib.Path, field: str) -> Any:
  """Returns a field of a file that says what a workdir belongs to."""
  try:
    return json.loads(path.read_text())[field]
  except (ValueError, KeyError, TypeError):
    raise ValueError(
      f"{path} is damaged; delete {path} and run the same command"
    ) from None


def sha256(result: dict[str, Any]) -> str:
  """Returns the checksum of a result as it comes back from its file."""
  read = json.loads(json.dumps(result))
  return files.sha256(json.dumps(read, sort_keys=True).encode())


def check_same(
  directory: pathlib.Path, name: str, here: dict[str, Any]
) -> None:
  """Raises ValueError where the folder's work is of other fields than here."""
  there = read(directory, name)
  fields = [
    f"{field}: {there.get(field, 'absent')!r} there, "
    f"{here.get(field, 'absent')!r} now"
    for field in sorted(there.keys() | here.keys())
    if there.get(field, "absent") != here.get(field, "absent")
  ]
  if not fields:
    return
  more = f"; and {len(fields) - 5} more" if len(fields) > 5 else ""
  what = "under another config" if name == "config.json" else "of other inputs"
  raise ValueError(
    f"{directory} was made {what} ({'; '.join(fields[:5])}{more}); choose "
    "another --workdir or delete that folder"
  )


def last_checkpoint(directory: pathlib.Path) -> int | None:
  """Returns the number of a stage's newest checkpoint; None without any."""
  paths = directory.glob("checkpoints/*")
  return max((int(p.name) for p in paths if p.name.isdigit()), default=None)
