"""TensorBoard's event files, where tensorboardX is installed."""

import importlib.util
import pathlib
from typing import Any


def is_installed() -> bool:
  """Returns whether `writer` can write."""
  return importlib.util.find_spec("tensorboardX") is not None


def writer(
  directory: pathlib.Path, purge_step: int | None = None, suffix: str = ""
) -> Any:
  """Returns a `tensorboardX.SummaryWriter`; needs the extra `tensorboard`.

  Args:
    directory: Of the event files; each writer adds one.
    purge_step: What earlier files say of this step and later ones is void.
    suffix: Of the file's name.
  """
  import tensorboardX  # Late: it is an extra.

  return tensorboardX.SummaryWriter(
    str(directory), purge_step=purge_step, filename_suffix=suffix
  )
