"""Variants of a config, such as the tiny one that runs in seconds."""

from typing import Any

_DEEP = ("resnet18", "resnet34", "resnet50", "cnn4")


def variant(config: Any, name: str) -> Any:
  """Returns the study as a config's variant: "" as it is, "smoke" tiny.

  Raises:
    ValueError: For any other name.
  """
  if name == "smoke":
    _shrink(config)
  elif name:
    raise ValueError(f"unknown variant {name!r}; there is 'smoke'")
  return config


def _shrink(config: Any) -> None:
  """Makes a study a matter of seconds: few images, shallow nets, two steps."""
  for source in config.data.values():
    source.num_train, source.num_test, source.num_validation = 64, 32, 16
  for section in config.models.values():
    if section.name in _DEEP:  # It would compile for minutes.
      section.name = "cnn"
    section.width = 4
  for stage in config.stages.values():
    if "train" in stage:
      stage.train.num_epochs = 2
      stage.train.batch_size = 16
      stage.train.adversary.num_steps = min(2, stage.train.adversary.num_steps)
    if "construct" in stage:
      stage.construct.attack.num_steps = 2
      stage.construct.batch_size = 16
      stage.construct.shard_size = 32
    if stage.kind == "carlini_wagner":
      stage.attack.num_steps = stage.attack.num_searches = 2
    if stage.kind == "autoattack":
      stage.num_examples, stage.autoattack.batch_size = 8, 8
      stage.autoattack.eps = stage.autoattack.eps[:1]
      stage.autoattack.attacks = stage.autoattack.attacks[:1]
      budget = stage.autoattack.budget
      budget.num_steps = budget.num_targets = budget.num_queries = 2
    if stage.kind == "transfer":
      stage.transfer.attack.num_steps = 2
      stage.transfer.batch_size = 32
    if "steps" in stage:
      stage.steps = (*stage.steps[:1], 2)
    if "evaluate" in stage:
      stage.evaluate.num_steps = 2
      stage.evaluate.batch_size = 32
