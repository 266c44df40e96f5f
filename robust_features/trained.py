"""Opens a trained model where it lies, knowing nothing but the folder."""

import pathlib
from typing import Any, NamedTuple

from robust_features import models
from robust_features.runtime import checkpoint, files, paths

_GIVE = (
  "give the folder of a train stage, or one that "
  "robust_features.pytorch.import_checkpoint wrote"
)


class Trained(NamedTuple):
  """A trained model; `models.make_model(config)` is its network.

  Attributes:
    config: Its architecture and normalisation.
    variables: "params" and the network's other collections.
    origin: What is known of how it came to be.
  """

  config: models.ModelConfig
  variables: dict[str, Any]
  origin: dict[str, Any]


def load(directory: str | pathlib.Path, which: str = "last") -> Trained:
  """Opens a finished train stage's folder, or what `import_checkpoint` wrote.

  Args:
    directory: `runs/<study>/<stage>`, or `--out` of an import.
    which: "last" or "best" on the held-out split; an imported model is both.

  Raises:
    ValueError: If `which` is something else.
    CheckpointError: If there is no such folder, it is a whole study's, the
      stage is not finished, the checkpoint is damaged, or does not say its
      architecture.
  """
  if which not in ("last", "best"):
    raise ValueError(f"which must be 'last' or 'best', got {which!r}")
  directory = paths.resolve(directory, "a model's folder")
  if (directory / "config.json").exists():
    return _load_stage(directory, which)
  if not directory.is_dir() or (directory / "study.json").exists():
    what = "is a whole study" if directory.is_dir() else "does not exist"
    raise checkpoint.CheckpointError(f"{directory} {what}; {_GIVE}")
  variables, origin = checkpoint.load_variables(directory)
  return Trained(_config(origin, directory), variables, origin)


def _load_stage(directory: pathlib.Path, which: str) -> Trained:
  """Opens the folder of a train stage."""
  path = directory / "result.json"
  if not path.exists():
    raise checkpoint.CheckpointError(
      f"{directory} is no finished stage; run its study to the end first"
    )
  result = files.read_json(path)
  config = _config(result, directory)
  saved, origin = checkpoint.load_variables(directory / "checkpoints")
  variables, recorded = saved["best"], result["best_digest"]
  if which == "last":
    recorded = result["digest"]
    state = saved["state"]
    variables = {"params": state["params"], **state["model_state"]}
    variables = state.get("average", variables)
  if checkpoint.digest(variables) != recorded:
    raise checkpoint.CheckpointError(
      f"{directory / 'checkpoints'} is not the checkpoint that was trained "
      f"there; delete {directory} to train it again"
    )
  return Trained(config, variables, origin)


def _config(content: dict[str, Any], where: pathlib.Path) -> models.ModelConfig:
  try:
    return models.ModelConfig(**content["model"])
  except (KeyError, TypeError):
    raise checkpoint.CheckpointError(
      f"{where} does not say its architecture; {_GIVE}"
    ) from None
