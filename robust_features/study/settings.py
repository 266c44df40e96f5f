"""Turns sections of a config into frozen, validated dataclasses."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def build(cls: type[T], section: Mapping[str, Any], where: str) -> T:
  """Returns `cls(**section)`, nested sections included.

  Args:
    cls: A dataclass; every one of its fields must be in the section.
    section: A `ConfigDict` or a dict.
    where: The section's name in the config, for messages.

  Raises:
    ValueError: Naming the field, if one is missing, unknown, of another type
      or refused by the dataclass.
  """
  fields = {f.name for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
  types = typing.get_type_hints(cls)
  for name in section:
    if name not in fields:
      names = ", ".join(sorted(fields))
      raise ValueError(f"{where}.{name} is not a field; choose from {names}")
  missing = sorted(fields - set(section))
  if missing:
    raise ValueError(f"{where}.{missing[0]} is missing")
  values = {
    name: _convert(types[name], section[name], f"{where}.{name}")
    for name in fields
  }
  try:
    return cls(**values)
  except ValueError as error:
    raise ValueError(f"{where}.{error}") from None


def _convert(kind: Any, value: Any, where: str) -> Any:
  """Checks a value against its annotation; ints pass as floats."""
  if dataclasses.is_dataclass(kind):
    return build(kind, value, where)  # pyright: ignore[reportArgumentType]
  if typing.get_origin(kind) is tuple or kind is tuple:
    if not isinstance(value, (tuple, list)):
      raise ValueError(f"{where} must be a tuple, got {value!r}")
    return tuple(value)
  if kind is float and type(value) is int:
    return float(value)
  if isinstance(kind, type) and type(value) is not kind:
    raise ValueError(f"{where} must be {kind.__name__}, got {value!r}")
  return value


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns {"a.b.c": value} of a nested section; tuples become lists."""
  flat = {}
  for name, value in section.items():
    path = f"{prefix}.{name}" if prefix else name
    if isinstance(value, Mapping) or hasattr(value, "to_dict"):
      flat.update(flatten(value, path))
    else:
      flat[path] = list(value) if isinstance(value, tuple) else value
  return flat
