"""Variants of a config, such as the tiny one that runs in seconds."""

from typing import Any

# Networks that compile in seconds; every other one of the zoo would take
# minutes, or has a fixed width.
_SHALLOW = ("cnn", "mlp", "plain_cnn", "plain_strided_cnn", "small_resnet")


def variant(config: Any, name: str) -> Any:
  """Returns the study as a config's variant: "" as it is, "smoke" tiny.

  A variant's name tells what it is, in its workdir and in all that it writes.

  Raises:
    ValueError: For any other name.
  """
  if name == "smoke":
    config.name = f"{config.name}-{name}"
    _shrink(config)
  elif name:
    raise ValueError(f"unknown variant {name!r}; there is 'smoke'")
  return config


def _shrink(config: Any) -> None:
  """Makes a study a matter of seconds: few images, shallow nets, two steps."""
  # Late: a config that is not shrunk loads without JAX.
  from robust_features.study.kinds import KINDS

  config.run.optimize = False  # Most of the time would go into compiling.
  for source in config.data.values():
    source.num_train, source.num_test, source.num_validation = 64, 32, 16
  for section in config.models.values():
    if ":" in section.name:  # One's own stays as it is.
      continue
    if section.name not in _SHALLOW:
      section.name = "cnn"
    section.width = 4
  for stage in config.stages.values():
    KINDS[stage.kind].shrink(stage)
