"""Turns a config into a plan, with every error that can be had without data."""

import re
from typing import Any

from robust_features import models, train
from robust_features.data import sources
from robust_features.study import settings
from robust_features.study.graph import Kind, Node, Plan
from robust_features.study.kinds import KINDS

_NAME = re.compile(r"\w[\w.-]*")
# Folders of a workdir that are no stage's.
_OTHERS = ("data", "figures")


def parse(config: Any) -> Plan:
  """Returns the plan of a study, checked.

  Args:
    config: As made by a file of `configs/`.

  Raises:
    ValueError: For anything missing, out of range, unknown or in a circle,
      naming the field as the config has it.
  """
  _check_top(config)
  kinds = {name: _kind(name, stage) for name, stage in config.stages.items()}
  plan = Plan(
    config=config,
    data={
      name: settings.build(sources.DataConfig, section, f"data.{name}")
      for name, section in config.data.items()
    },
    models={
      name: settings.build(models.ModelConfig, section, f"models.{name}")
      for name, section in config.models.items()
    },
    nodes={name: _node(config, name, kinds) for name in config.stages},
    run=settings.build(train.RunConfig, config.run, "run"),
  )
  for name in plan.nodes:
    _require_acyclic(plan, name, ())
  for name in config.table:
    if name not in plan.nodes or not plan.nodes[name].kind.is_row:
      rows = [n for n, kind in kinds.items() if kind.is_row]
      raise ValueError(
        f"table names {name!r}, which is no row; there are {', '.join(rows)}"
      )
  for name, node in plan.nodes.items():
    node.kind.check(plan, name, node.stage)
  return plan


def _check_top(config: Any) -> None:
  """Checks the fields that belong to no section."""
  fields = ("name", "seed", "data", "models", "stages", "table", "run")
  for name in fields:
    if name not in config:
      raise ValueError(
        f"the config has no field {name}; begin it with recipes.study(name)"
      )
  for name in config:
    if name not in fields:
      raise ValueError(
        f"the config has a field {name}, which nothing reads; there are "
        f"{', '.join(fields)}"
      )
  if not isinstance(config.name, str) or not _NAME.fullmatch(config.name):
    raise ValueError(
      f"name must be letters, digits and . - _ alone, got {config.name!r}"
    )
  seed = config.seed
  # JAX keeps 32 bits of it: others would be the same run under another name.
  if type(seed) is not int or not 0 <= seed < 2**32:
    raise ValueError(f"seed must be an integer in [0, 2**32), got {seed!r}")
  if not config.stages:
    raise ValueError("stages is empty; there is nothing to run")
  for name in config.stages:
    if not _NAME.fullmatch(name) or name in _OTHERS:
      raise ValueError(
        f"stages.{name} cannot be a folder of its own; choose another name of "
        "letters, digits and . - _"
      )


def _kind(name: str, stage: Any) -> Kind:
  if "kind" not in stage:
    raise ValueError(f"stages.{name}.kind is missing")
  settings.require_one_of(f"stages.{name}.kind", stage.kind, tuple(KINDS))
  return KINDS[stage.kind]


def _node(config: Any, name: str, kinds: dict[str, Kind]) -> Node:
  """Returns a stage's typed fields and whom it names."""
  kind, where = kinds[name], f"stages.{name}"
  section = {k: v for k, v in config.stages[name].items() if k != "kind"}
  stage = settings.build(kind.stage, section, where)
  choices = {
    "source": list(config.data),
    "architecture": list(config.models),
    "model": [n for n, other in kinds.items() if other.makes() == "model"],
    "set": [n for n, other in kinds.items() if other.makes() == "set"],
  }
  parents, found = [], []
  for field, mark in settings.marks(kind.stage, settings.Names).items():
    value = getattr(stage, field)
    if mark.optional and not value:
      continue
    allowed = [choice for what in mark.what for choice in choices[what]]
    settings.require_one_of(f"{where}.{field}", value, allowed)
    for item in value if isinstance(value, tuple) else (value,):
      if "source" in mark.what and item in config.data:
        found.append(item)
      elif "architecture" not in mark.what:
        parents.append(item)
  return Node(
    kind, stage, tuple(dict.fromkeys(parents)), tuple(dict.fromkeys(found))
  )


def _require_acyclic(plan: Plan, name: str, path: tuple[str, ...]) -> None:
  if name in path:
    raise ValueError(
      f"stages.{name} needs itself: {' <- '.join((*path, name))}"
    )
  for parent in plan.nodes[name].parents:
    _require_acyclic(plan, parent, (*path, name))
