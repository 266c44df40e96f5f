"""Finds what is wrong with a study's config before any work is done."""

from collections.abc import Callable
from typing import Any

from robust_features import attacks, models, trained
from robust_features.data import sources
from robust_features.study import paper, settings, stages


def validate(config: Any) -> None:
  """Builds every section once and looks up every name.

  Raises:
    ValueError: For anything out of range, naming the field.
  """
  for name, section in config.data.items():
    settings.build(sources.DataConfig, section, f"data.{name}")
  for name, section in config.models.items():
    settings.build(models.ModelConfig, section, f"models.{name}")
  for name, stage in config.stages.items():
    for field, cls in stages.SECTIONS[stage.kind]:
      settings.build(cls, stage[field], f"stages.{name}.{field}")
  for name, stage in config.stages.items():
    _check_names(config, name, stage)
  for name in config.table:
    if name not in config.stages or config.stages[name].kind != "evaluate":
      raise ValueError(f"table names {name!r}, which is no evaluate stage")


def _check_names(config: Any, name: str, stage) -> None:
  """Raises where a stage names what is not there, or not of that kind."""
  kinds = {n: s.kind for n, s in config.stages.items()}
  learned = [n for n, kind in kinds.items() if kind == "train"]
  opened = [n for n, kind in kinds.items() if kind in ("train", "imported")]
  made = [n for n, kind in kinds.items() if kind == "construct"]
  choices = {
    "architecture": list(config.models),
    "data": [*config.data, *made],
    "validation": list(config.data),
    "model": opened,
    "source": opened,
    "dtype": ["float32", "bfloat16"],
    "split": ["train", "validation", "test"],
    "which": ["last", "best"],
    "targets": learned,
    "learners": learned,
    "paper": [
      "",
      *(paper.TRANSFER if stage.kind == "transfer" else paper.ROWS),
    ],
  }
  for field, allowed in choices.items():
    value = stage.get(field, ())
    for item in value if isinstance(value, tuple) else (value,):
      if item not in allowed:
        raise ValueError(
          f"stages.{name}.{field} must be one of "
          f"{', '.join(map(repr, allowed))}, got {item!r}"
        )
  if stage.kind == "transfer":
    _check_pairs(config, name, stage)


def _check_pairs(config: Any, name: str, stage) -> None:
  """Raises unless every target has a learner of its own architecture."""
  if not stage.targets or len(stage.targets) != len(stage.learners):
    raise ValueError(
      f"stages.{name}.learners must name one stage for each of targets, got "
      f"{len(stage.learners)} for {len(stage.targets)}"
    )
  for pair in zip(stage.targets, stage.learners, strict=True):
    target, learner = (config.stages[n].architecture for n in pair)
    if target != learner:
      raise ValueError(
        f"stages.{name}.learners must have the architectures of targets, got "
        f"{learner!r} ({pair[1]}) for {target!r} ({pair[0]})"
      )


def check_imports(config: Any) -> None:
  """Opens every model that is to be imported, before any work is done.

  Raises:
    ValueError: If one is not there or damaged, naming the field.
  """
  for name, stage in config.stages.items():
    if stage.kind == "imported":
      field = f"stages.{name}.checkpoint"
      if not stage.checkpoint:
        raise ValueError(
          f"{field} is empty; give a folder that `python -m "
          "robust_features.pytorch.import_checkpoint` wrote, or a train stage's"
        )
      try:
        trained.load(stage.checkpoint)
      except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def check_radii(
  config: Any, image_shape: Callable[[str], tuple[int, ...]]
) -> None:
  """Checks every radius against its images.

  Args:
    config: The study's.
    image_shape: Returns the shape (H, W, C) that a stage works on.

  Raises:
    ValueError: For a radius larger than the box, naming the field.
  """
  for name, stage in config.stages.items():
    if stage.kind == "imported":
      continue
    shape = image_shape(name)
    sections = {
      "train": ("train", "adversary"),
      "construct": ("construct", "attack"),
      "autoattack": ("autoattack",),
      "transfer": ("transfer", "attack"),
    }.get(stage.kind, ("evaluate",))
    section = stage
    for field in sections:
      section = section[field]
    radii = section.eps if isinstance(section.eps, tuple) else (section.eps,)
    for eps in radii:
      if eps != float("inf"):
        where = f"stages.{name}.{'.'.join(sections)}.eps"
        attacks.check_radius(where, eps, section.norm, shape)
