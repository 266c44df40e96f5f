"""The names of classes beside files that have no room for them.

`classes.txt` holds a class a line, in the order of the labels.
"""

import pathlib

from robust_features.data.dataset import DataError

NAME = "classes.txt"


def read(directory: pathlib.Path) -> tuple[str, ...] | None:
  """Returns the names that a folder's classes.txt lists; None without it.

  Raises:
    DataError: If the file cannot be read or names a class twice.
  """
  path = directory / NAME
  if not path.is_file():
    return None
  try:
    names = tuple(path.read_text(encoding="utf-8").split("\n"))
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f"{path}: cannot be read ({error})") from error
  names = names[:-1] if names[-1] == "" else names
  if len(set(names)) != len(names):
    raise DataError(f"{path}: names a class twice; mend it")
  return names


def write(directory: pathlib.Path, names: tuple[str, ...]) -> None:
  """Writes classes.txt."""
  text = "".join(f"{name}\n" for name in names)
  (directory / NAME).write_text(text, encoding="utf-8")
