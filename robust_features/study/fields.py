"""What every field of a config means, from the docstrings that define them."""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from robust_features import models, train
from robust_features.data import sources
from robust_features.study.graph import Plan

_TOP = {
  "name": "Of the study; its workdir is runs/<name> by default.",
  "seed": "Of everything random but the data, which have seeds of their own.",
  "table": "Stages that are the rows of results.md, in this order.",
}
_ATTRIBUTE = re.compile(r"^  (\w+): (.*(?:\n    .*)*)", re.MULTILINE)


def meanings(cls: type) -> dict[str, str]:
  """Returns {field: meaning} of a dataclass, by its docstring's Attributes."""
  found = {}
  for base in reversed(cls.__mro__):
    text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
    for name, meaning in _ATTRIBUTE.findall(text):
      found[name] = " ".join(meaning.split())
  return found


def _fields(cls: type, section: Any, prefix: str = "") -> Iterator[list[str]]:
  """Yields (field, value, meaning), a nested section's under its own name."""
  known, types = meanings(cls), typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
    kind, value = types[field.name], section[field.name]
    if dataclasses.is_dataclass(kind):
      yield from _fields(kind, value, f"{prefix}{field.name}.")  # pyright: ignore[reportArgumentType]
    else:
      shown = dict(value.items()) if hasattr(value, "items") else value
      yield [f"{prefix}{field.name}", f"{shown!r}", known[field.name]]


def describe(plan: Plan) -> str:
  """Returns every field of a study with its value and meaning, as text.

  Sections of a kind have the same fields; the values are those of the first,
  and the title says so.
  """
  config = plan.config
  groups = [
    ("", [[name, f"{config[name]!r}", text] for name, text in _TOP.items()])
  ]

  def add(title: str, cls: type, sections: dict[str, Any]) -> None:
    first, *others = sections
    names = ", ".join(sections) + (f"; values of {first}" if others else "")
    groups.append((f"{title} {names}", list(_fields(cls, sections[first]))))

  kinds: dict[str, dict[str, Any]] = {}
  for name, stage in config.stages.items():
    kinds.setdefault(stage.kind, {})[name] = stage
  if config.data:
    add("data:", sources.DataConfig, dict(config.data.items()))
  if config.models:
    add("models:", models.ModelConfig, dict(config.models.items()))
  for kind, stages in kinds.items():
    cls = plan.nodes[next(iter(stages))].kind.stage
    add(f"stages of the kind {kind}:", cls, stages)
  groups.append(("run:", list(_fields(train.RunConfig, config.run))))
  return "\n\n".join(_group(title, rows) for title, rows in groups)


def _group(title: str, rows: list[list[str]]) -> str:
  lines = textwrap.wrap(title, 80, subsequent_indent="  ") if title else []
  for field, value, meaning in rows:
    lines.append(f"  {field} = {value}")
    lines += textwrap.wrap(
      meaning, 80, initial_indent=" " * 6, subsequent_indent=" " * 6
    )
  return "\n".join(lines)
