"""What every stage found, for TensorBoard: scalars, figures, settings.

`tensorboard --logdir=WORKDIR` shows a run a stage, beside the curves that
training wrote, and compares their settings under "hparams".
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from robust_features.runtime import board, files

_SUFFIX = ".results"  # Tells our files from those that training wrote.


def write(
  stages: Mapping[str, Any],
  pictures: Sequence[pathlib.Path],
  workdir: pathlib.Path,
) -> None:
  """Writes an event file a stage, in place of an earlier one.

  Args:
    stages: Results by stage.
    pictures: Figures; one goes to the stage that its name begins with, or to
      the run `figures`, if several stages are in it.
    workdir: Of the study.
  """
  owners = {picture: _owner(picture.stem, stages) for picture in pictures}
  for name in (*stages, "figures"):
    folder = workdir / name / "tensorboard"
    for old in folder.glob(f"*{_SUFFIX}"):
      old.unlink()
    with board.writer(folder, suffix=_SUFFIX) as events:
      for picture in (p for p, owner in owners.items() if owner == name):
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        events.add_image(picture.stem, pixels, 0, dataformats="HWC")
      if name in stages:
        config = files.read_json(workdir / name / "config.json")
        _write_numbers(events, name, config, scalars(stages[name]))


def _owner(stem: str, stages: Mapping[str, Any]) -> str:
  """Returns the stage whose figure it is, "figures" for several stages'."""
  own = [s for s in stages if stem == s or stem.startswith(f"{s}_")]
  return max(own, key=len, default="figures")


def _write_numbers(
  events: Any, name: str, config: dict[str, Any], found: dict[str, float]
) -> None:
  from tensorboardX import summary  # Late: it is an extra.

  for tag, value in found.items():
    events.add_scalar(tag, value, 0)
  prefix = f"stages.{name}."
  own = {
    field.removeprefix(prefix): value
    for field, value in config.items()
    if field == "seed" or field.startswith(prefix)
  }
  settings = {
    field: value if isinstance(value, (bool, int, float, str)) else str(value)
    for field, value in own.items()
  }
  for part in summary.hparams(settings, found):
    events.file_writer.add_summary(part)


def scalars(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
  """Returns the numbers of a result by "section/name"; lists are left out."""
  found: dict[str, float] = {}
  for name, value in result.items():
    if isinstance(value, Mapping):
      found |= scalars(value, f"{prefix}{name}/")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      found[f"{prefix}{name}"] = value
  return found
