"""Turns sections of a config into frozen, validated dataclasses."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Names:
  """Marks a field that names something else of the config.

  Attributes:
    what: Of "source" (`config.data`), "architecture" (`config.models`), "model"
      and "set" (stages whose kind makes one).
    optional: Whether "" is allowed, which names nothing.
  """

  what: tuple[str, ...]
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class OneOf:
  """Marks a field that takes one of these values."""

  allowed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PartOf(OneOf):
  """Marks a field that names a part of what other fields name.

  Attributes:
    of: These fields, each a source or a stage.
  """

  of: tuple[str, ...] = ("data",)


@dataclasses.dataclass(frozen=True)
class AtLeast:
  """Marks a field whose number, or each of whose numbers, is no less."""

  least: int


@dataclasses.dataclass(frozen=True)
class Shown:
  """Marks a field that changes no number: a title, or where a thing lies."""


Architecture = Annotated[str, Names(("architecture",))]
SourceName = Annotated[str, Names(("source",))]
DataName = Annotated[str, Names(("source", "set"))]
ModelName = Annotated[str, Names(("model",))]
OptionalModelName = Annotated[str, Names(("model",), optional=True)]
OptionalDataName = Annotated[str, Names(("source", "set"), optional=True)]
SPLITS = ("train", "validation", "test")
Split = Annotated[str, PartOf(SPLITS)]
Which = Annotated[str, OneOf(("last", "best"))]
Label = Annotated[str, Shown()]
Count = Annotated[int, AtLeast(0)]
Size = Annotated[int, AtLeast(1)]


def marks(cls: type, mark: type[T]) -> dict[str, T]:
  """Returns the fields of a dataclass that bear a kind of mark, with it."""
  found = {}
  for name, hint in typing.get_type_hints(cls, include_extras=True).items():
    for each in (hint, *typing.get_args(hint)):
      for candidate in getattr(each, "__metadata__", ()):
        if isinstance(candidate, mark):
          found[name] = candidate
  return found


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
      known = ", ".join(sorted(fields))
      raise ValueError(f"{where}.{name} is not a field; choose from {known}")
  missing = sorted(fields - set(section))
  if missing:
    raise ValueError(f"{where}.{missing[0]} is missing")
  values = {
    name: _convert(types[name], section[name], f"{where}.{name}")
    for name in fields
  }
  for name, mark in marks(cls, OneOf).items():
    require_one_of(f"{where}.{name}", values[name], mark.allowed)
  for name, mark in marks(cls, AtLeast).items():
    value = values[name]
    for item in value if isinstance(value, tuple) else (value,):
      if item < mark.least:
        raise ValueError(
          f"{where}.{name} must be at least {mark.least}, got {item!r}"
        )
  try:
    return cls(**values)
  except ValueError as error:
    raise ValueError(f"{where}.{error}") from None


def require_one_of(where: str, value: Any, allowed) -> None:
  """Raises ValueError unless a value, or each of a tuple, is allowed."""
  for item in value if isinstance(value, tuple) else (value,):
    if item not in allowed:
      raise ValueError(
        f"{where} must be one of {', '.join(map(repr, allowed))}, got {item!r}"
      )


def _convert(kind: Any, value: Any, where: str) -> Any:
  """Checks a value against its annotation; ints pass as floats.

  Those that count are of 32 bits on a device; a seed never gets there.
  """
  if dataclasses.is_dataclass(kind):
    if not isinstance(value, Mapping) and not hasattr(value, "to_dict"):
      raise ValueError(f"{where} must be a section, got {value!r}")
    return build(kind, value, where)  # pyright: ignore[reportArgumentType]
  if typing.get_origin(kind) is tuple:
    if not isinstance(value, (tuple, list)):
      raise ValueError(f"{where} must be a tuple, got {value!r}")
    inner = typing.get_args(kind)[0]
    return tuple(_convert(inner, item, where) for item in value)
  if kind is float and type(value) is int:
    return float(value)
  if isinstance(kind, type) and type(value) is not kind:
    raise ValueError(f"{where} must be {kind.__name__}, got {value!r}")
  if type(value) is int and abs(value) >= 2**31 and not where.endswith(".seed"):
    raise ValueError(f"{where} must be below 2**31, got {value!r}")
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
