"""Orbax checkpoints: arrays plus a JSON description, verified when read.

Everything that knows Orbax lives in this file.
"""

import contextlib
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from robust_features.runtime import processes, sharding
from robust_features.runtime.files import digest


class CheckpointError(ValueError):
  """A checkpoint that cannot be used; the message says why and what to do."""


class Checkpoints:
  """The newest checkpoint of one run, saved in the background.

  A save that was cut short leaves nothing behind that a reader would find, and
  its remains are removed by the next save.

  Attributes:
    directory: Where they are.
  """

  def __init__(self, directory: str | pathlib.Path, *, read_only: bool = False):
    """Opens a folder of checkpoints.

    Args:
      directory: Where they are; made if missing, unless `read_only`.
      read_only: Whether nothing there may be touched.
    """
    self.directory = pathlib.Path(directory).absolute()
    with _quietly():  # Orbax warns of all that reading alone implies.
      self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=1, read_only=read_only, cleanup_tmp_directories=True
        ),
      )

  def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
    """Starts saving; the arrays are copied before this returns.

    A step that is not after the newest one is not saved again, and nothing is
    where the folder is only read.
    """
    content = {"digest": digest(state), "metadata": metadata}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        metadata=ocp.args.JsonSave(content),
      ),
    )

  def restore(self, like: Any = None) -> tuple[Any, dict[str, Any]] | None:
    """Returns the newest (state, metadata), or None where there is none.

    Args:
      like: A tree of the same structure, arrays or `jax.ShapeDtypeStruct`; by
        default the state comes as nested dicts of whatever is there.

    Raises:
      CheckpointError: If it is damaged or of another structure.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    where = self.directory / str(step)
    try:
      like = _structure(where) if like is None else like
      # The file remembers devices that this run need not have.
      abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding.everywhere()
        ),
        like,
      )
      found = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract),
          metadata=ocp.args.JsonRestore(),
        ),
      )
    except Exception as error:  # Orbax and TensorStore raise many kinds.
      if processes.is_loss(error):
        raise
      raise _damaged(where, error) from None
    state, content = found["state"], found["metadata"]
    if digest(state) != content["digest"]:
      raise _damaged(where, "its checksum does not match")
    return state, content["metadata"]

  def latest_step(self) -> int | None:
    """Returns the step of the newest checkpoint."""
    return self._manager.latest_step()

  def wait(self) -> None:
    """Returns once every save has reached the disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then releases the background threads."""
    self._manager.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()


@contextlib.contextmanager
def _quietly():
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _structure(where: pathlib.Path) -> Any:
  """Returns the shapes of what is saved there, as nested dicts."""
  saved = ocp.StandardCheckpointHandler().metadata(epath.Path(where / "state"))
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
    saved.tree,
  )


def _damaged(where: pathlib.Path, error: Any) -> CheckpointError:
  reason = str(error).strip().split("\n")[0][:200]
  return CheckpointError(
    f"checkpoint {where} is damaged or of another model ({reason}); "
    "delete this folder to go on from what is left"
  )


def save_variables(
  directory: str | pathlib.Path,
  variables: dict[str, Any],
  metadata: dict[str, Any],
) -> None:
  """Saves a model's variables with a JSON description (step 0)."""
  with Checkpoints(directory) as checkpoints:
    checkpoints.save(0, variables, metadata)


def load_variables(
  directory: str | pathlib.Path, like: Any = None
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Loads what `save_variables` saved; `like` as in `Checkpoints.restore`.

  Raises:
    CheckpointError: If there is nothing there, it is damaged, or it has
      another structure than `like`.
  """
  with Checkpoints(directory, read_only=True) as checkpoints:
    found = checkpoints.restore(like)
  if found is None:
    raise CheckpointError(
      f"there is no checkpoint at {directory}; if a finished stage lost it, "
      "delete the stage's folder and run again"
    )
  return found
