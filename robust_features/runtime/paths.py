"""Where a user says that something lies, and whether one may write there."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator


def resolve(path: str | os.PathLike, field: str) -> pathlib.Path:
  """Returns what a user means by a path; `~` is the home.

  Args:
    path: As it was written; no shell expands what follows `--flag=`.
    field: What it was given for, for the message.

  Raises:
    ValueError: If it is no path of a file system, or its home is nobody's.
  """
  text = os.fspath(path)
  if re.match(r"\w+:/", text):  # As a `Path`, "gs://" is "gs:/".
    raise ValueError(
      f"{field} must be a path on this machine, got {text!r}; mount the bucket "
      "and give its folder, or copy what lies there"
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError:
    raise ValueError(
      f"{field} begins with the home of a user who is not known, got {text!r}; "
      "write the path out"
    ) from None


def folder(path: str | os.PathLike, field: str) -> pathlib.Path:
  """Returns the folder that a user means, which need not be there.

  Raises:
    ValueError: As `resolve`, and if there is a file in its place or above it.
  """
  found = resolve(path, field)
  for there in (found, *found.parents):
    if there.is_dir():
      break
    if there.exists():
      raise ValueError(f"{field}={path}: {there} is a file; give a folder")
  return found


@contextlib.contextmanager
def writing(where: pathlib.Path, field: str) -> Iterator[None]:
  """Gives a folder that cannot be written one line, and the remedy.

  Raises:
    ValueError: In place of any OSError.
  """
  try:
    yield
  except OSError as error:
    raise ValueError(
      f"nothing can be written to {where} ({error.strerror or error}); choose "
      f"another {field}, or change who may write there"
    ) from None
