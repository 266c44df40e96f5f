"""Reads a config file and changes its fields as a command line says.

`FILE.py` or `FILE.py:variant` defines `get_config(variant)`. The configs that
come with the package go by their bare names: `quickstart`, `quickstart:smoke`.
"""

import ast
import difflib
import importlib.util
import pathlib
import re
import traceback
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from robust_features.runtime import paths

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_OVERRIDE = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_FRACTION = re.compile(r"([^/]+)/([^/]+)")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def shipped() -> dict[str, pathlib.Path]:
  """Returns the configs that come with the package, by name."""
  # Beside the package in a clone, inside it where it is installed.
  for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
    if folder.is_dir():
      return {path.stem: path for path in sorted(folder.glob("*.py"))}
  return {}


def listing() -> list[tuple[str, str]]:
  """Returns (name, what it is about) of every shipped config."""
  found = []
  for name, path in shipped().items():
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    found.append((name, text.partition("\n")[0]))
  return found


def split_overrides(argv: list[str]) -> tuple[dict[str, str], list[str]]:
  """Returns ({field: text} of `--config.FIELD=TEXT`, the other arguments).

  Raises:
    ValueError: For such an argument without a value.
  """
  fields, rest = {}, []
  for argument in argv:
    found = _OVERRIDE.fullmatch(argument)
    if found is None:
      rest.append(argument)
    elif found[2] is None:
      raise ValueError(f"{argument} has no value; write {argument}=VALUE")
    else:
      fields[found[1]] = found[2]
  return fields, rest


def load(config: str, overrides: Mapping[str, str] | None = None) -> Any:
  """Returns the config of `FILE`, `FILE:variant` or a shipped name.

  Args:
    config: Which.
    overrides: {field: text}, such as {"stages.robust.train.num_epochs": "3"}.

  Raises:
    ValueError: In one line, if there is no such file, if it cannot be run
      (naming its line), or if it has no such field.
  """
  name, _, variant = config.partition(":")
  path = _find(name)
  module = _run(path, lambda: _import(path))
  if not hasattr(module, "get_config"):
    raise ValueError(
      f"{path} defines no get_config(variant), which returns the config"
    )
  arguments = (variant,) if variant else ()
  found = _run(path, lambda: module.get_config(*arguments))
  if not isinstance(found, ConfigDict):
    raise ValueError(
      f"get_config() of {path} must return an ml_collections.ConfigDict, such "
      f"as recipes.study makes, got {found!r}"
    )
  for field, text in (overrides or {}).items():
    override(found, field, text)
  return found


def find_module(config: str) -> Any:
  """Returns the module of a config file; see `load` for what it raises."""
  path = _find(config.partition(":")[0])
  return _run(path, lambda: _import(path))


def call(config: str, function: Any) -> Any:
  """Returns what a function of a config's module does; one line if it fails."""
  return _run(_find(config.partition(":")[0]), function)


def _find(name: str) -> pathlib.Path:
  path, known = paths.resolve(name, "--config"), shipped()
  if name in known:
    return known[name]
  if path.is_dir() or not path.exists():
    what = "is a folder" if path.is_dir() else "does not exist"
    raise ValueError(
      f"--config: {name!r} {what}; give a file of yours or one of "
      f"{', '.join(known)}"
    )
  if path.suffix != ".py":
    raise ValueError(
      f"--config must be a Python file that defines get_config, got {name!r}"
    )
  return path


def _import(path: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
  spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
  return module


def _run(path: pathlib.Path, function: Any) -> Any:
  """Calls code of a config file; what it raises becomes one line."""
  try:
    return function()
  except SyntaxError as error:
    line, text = error.lineno, error.msg
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    here = str(path.absolute())
    lines = [f.lineno for f in frames if f.filename == here]
    line = lines[-1] if lines else None
    text = " ".join(str(error).split())
    if not isinstance(error, ValueError):
      text = f"{type(error).__name__}: {text}"
  where = f"{path}, line {line}" if line else f"{path}"
  raise ValueError(f"{where}: {text}")


# One field.


def override(config: Any, field: str, text: str) -> None:
  """Sets a field from text, which is read as the value that is there.

  Numbers may be fractions (`8/255`), tuples are items between commas.

  Raises:
    ValueError: If there is no such field, or the text is of another kind.
  """
  *parents, last = field.split(".")
  section: Any = config
  where: list[str] = []
  for part in [*parents, last]:
    if not isinstance(section, ConfigDict) or part not in section:
      raise ValueError(_no_field(section, where, part))
    where.append(part)
    if len(where) <= len(parents):
      section = section[part]
  old: Any = section[last]
  if isinstance(old, ConfigDict):
    raise ValueError(
      f"{field} is a section; give one of its fields, {', '.join(old)}"
    )
  with section.ignore_type():
    section[last] = _value(old, text, field)


def _no_field(section: Any, where: list[str], part: str) -> str:
  name = ".".join([*where, part])
  if not isinstance(section, ConfigDict):
    return f"the config has no field {name}: {'.'.join(where)} is no section"
  near = difflib.get_close_matches(part, list(section), n=1)
  meant = f"did you mean {near[0]}? " if near else ""
  return (
    f"the config has no field {name}; {meant}there are {', '.join(section)}"
  )


def _value(old: Any, text: str, field: str) -> Any:
  """Returns what a text means where `old` was."""
  if isinstance(old, bool):
    if text.lower() not in _BOOLEANS:
      raise ValueError(f"{field} must be true or false, got {text!r}")
    return _BOOLEANS[text.lower()]
  if isinstance(old, str):
    return text
  if isinstance(old, (tuple, list)):
    items = [item.strip() for item in _bare(text, field).split(",")]
    of_words = bool(old) and isinstance(old[0], str)
    return tuple(
      item.strip("'\"") if of_words else _number(item, field)
      for item in items
      if item
    )
  return _number(text, field)


def _bare(text: str, field: str) -> str:
  """Returns what stands between brackets, if there are any."""
  text = text.strip()
  brackets = text[:1] + text[-1:]
  if brackets in ("()", "[]"):
    return text[1:-1]
  if set(brackets) & set("()[]"):
    raise ValueError(f"{field}: a bracket has no other one, got {text!r}")
  return text


def _number(text: str, field: str) -> int | float:
  """Returns an int, a float or a quotient of two numbers."""
  found = _FRACTION.fullmatch(text)
  try:
    if found:
      return float(found[1]) / float(found[2])
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else float(text)
  except (ValueError, ZeroDivisionError):
    raise ValueError(
      f"{field} must be a number, such as 0.5 or 8/255, got {text!r}"
    ) from None
