"""Runs an attack over any number of examples, in slots that are kept full.

A slot whose example is done is given the next one; when none is left and a
third of the slots are idle, the rest moves to a batch that fits. Broken
examples thus cost little, and there is one compilation for each size used.
Host code: its arrays can be saved between two calls of `Pool.step`, and a pool
restored from them goes on with the same bits.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.attacks.autoattack import machine
from robust_features.runtime import sharding

_SMALLEST = 8  # Slots below which a batch is not worth shrinking.
_STEP = 4  # Slots are a multiple of this, so that sizes are met again.


class Finished(NamedTuple):
  """Examples that are done, as numpy arrays over them; see `machine.Tally`.

  Attributes:
    index: `[F]` global indices.
    success: `[F]` bool.
    x_adv: `[F, H, W, C]`.
    queries: `[F]`.
    gradients: `[F]`.
    zero_gradients: `[F]`.
    nonfinite_gradients: `[F]`.
  """

  index: np.ndarray
  success: np.ndarray
  x_adv: np.ndarray
  queries: np.ndarray
  gradients: np.ndarray
  zero_gradients: np.ndarray
  nonfinite_gradients: np.ndarray


def round_up(count: int, multiple: int) -> int:
  """Returns the least multiple of `multiple` that is not below `count`."""
  return -(-count // multiple) * multiple


def num_slots(count: int, batch_size: int, multiple: int = 1) -> int:
  """Returns how many slots `count` examples get, few of them idle.

  Args:
    count: Examples that are left.
    batch_size: At most so many slots, rounded up to a multiple.
    multiple: Of this the slots are a multiple.
  """
  rounds = max(-(-count // batch_size), 1)  # All of them equally large.
  each = max(-(-count // rounds), _SMALLEST)
  fitting = round_up(each, round_up(_STEP, multiple))
  return min(fitting, round_up(batch_size, multiple))


@functools.partial(jax.jit, static_argnames="attack")
def _advance(attack, logits_fn, example, state, is_live, cfg, num_steps):
  idle = state.tally._replace(done=state.tally.done | ~is_live)
  state = state._replace(tally=idle)
  return machine.advance(attack, logits_fn, example, state, cfg, num_steps)


@functools.partial(jax.jit, static_argnames="attack")
def _fill(attack, example, state, is_new, cfg):
  fresh = attack.init(example, cfg)
  return fresh if state is None else machine.select(is_new, fresh, state)


@jax.jit
def _take(state, slot):
  return jax.tree.map(lambda leaf: leaf[slot], state)


class Pool:
  """An attack on many examples; see the module."""

  def __init__(
    self,
    attack: machine.Attack,
    cfg: Any,
    logits_fn: machine.LogitsFn,
    example_fn: Callable[[np.ndarray], machine.Batch],
    todo: np.ndarray,
    *,
    batch_size: int,
    multiple: int = 1,
    num_steps: int,
  ):
    """Makes a pool that has not begun.

    Args:
      attack: The attack's functions.
      cfg: Its settings.
      logits_fn: A `jax.tree_util.Partial` from images to logits.
      example_fn: Maps global indices `[S]` to what the attack needs of them.
      todo: `[M]` global indices to attack.
      batch_size: At most so many slots.
      multiple: Of this the slots are a multiple, the number of devices.
      num_steps: Steps between two looks at what is done.
    """
    self._attack, self._cfg, self._logits_fn = attack, cfg, logits_fn
    self._example_fn, self._num_steps = example_fn, num_steps
    self._largest, self._multiple = batch_size, multiple
    self._todo = np.asarray(todo, np.int64)
    self._index = np.full(self._fitting(len(self._todo)), -1, np.int64)
    self._example: machine.Batch | None = None
    self._state: Any = None

  def _fitting(self, count: int) -> int:
    return num_slots(count, self._largest, self._multiple)

  @property
  def num_left(self) -> int:
    """Examples that are not done."""
    return len(self._todo) + int((self._index >= 0).sum())

  def step(self) -> Finished | None:
    """Refills the slots and steps them; None when everything is done."""
    if not self.num_left:
      return None
    self._shrink()
    self._refill()
    live = self._index >= 0
    self._state = _advance(
      self._attack,
      self._logits_fn,
      self._example,
      self._state,
      live,
      self._cfg,
      self._num_steps,
    )
    return self._harvest(self._example, live)

  def _shrink(self) -> None:
    """Moves the live slots to a smaller batch if a third are idle."""
    live = np.flatnonzero(self._index >= 0)
    size = self._fitting(len(live))
    saves_little = 3 * size > 2 * len(self._index)
    if len(self._todo) or saves_little:
      return
    self._state = _take(self._state, np.resize(live, size))
    index = np.full(size, -1, np.int64)
    index[: len(live)] = self._index[live]
    self._index, self._example = index, None

  def _refill(self) -> None:
    """Gives the idle slots the next examples."""
    idle = np.flatnonzero(self._index < 0)[: len(self._todo)]
    if not len(idle) and self._example is not None:
      return
    self._index[idle] = self._todo[: len(idle)]
    self._todo = self._todo[len(idle) :]
    # An idle slot computes on some other's image, and nobody looks.
    some = self._index[self._index >= 0][0]
    filled = np.where(self._index < 0, some, self._index)
    self._example = self._example_fn(filled)
    is_new = np.isin(np.arange(len(self._index)), idle)
    self._state = _fill(
      self._attack, self._example, self._state, is_new, self._cfg
    )

  def _harvest(self, example, live: np.ndarray) -> Finished:
    tally = self._state.tally
    done = sharding.fetch(tally.done) & live
    success = sharding.fetch(tally.success)[done]
    # Images are fetched only if there is something to see on them.
    source = tally.x_adv if success.any() else example.x
    x_adv = sharding.fetch(source)[done]
    counts = [
      sharding.fetch(count)[done]
      for count in (
        tally.queries,
        tally.gradients,
        tally.zero_gradients,
        tally.nonfinite_gradients,
      )
    ]
    finished = Finished(self._index[done], success, x_adv, *counts)
    self._index = np.where(done, -1, self._index)
    return finished

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns everything that `restore` needs."""
    leaves = sharding.fetch(jax.tree.leaves(self._state))
    saved = {f"leaf_{k}": leaf for k, leaf in enumerate(leaves)}
    return {"todo": self._todo, "slot_index": self._index, **saved}

  def restore(self, arrays: dict[str, np.ndarray]) -> None:
    """Goes on from arrays, if the devices can share their slots.

    Otherwise the examples that were under way begin again, which changes
    nothing but the time.
    """
    index = np.asarray(arrays["slot_index"])
    todo = np.asarray(arrays["todo"])
    largest = round_up(self._largest, self._multiple)
    if len(index) > largest or len(index) % self._multiple:
      under_way = index[index >= 0]
      self._todo = np.sort(np.concatenate([under_way, todo]))
      self._index = np.full(self._fitting(len(self._todo)), -1, np.int64)
      return
    self._todo, self._index = todo, index.copy()
    live = index[index >= 0]
    if not len(live):
      return
    filled = np.where(index < 0, live[0], index)
    self._example = self._example_fn(filled)
    blank = jax.eval_shape(self._attack.init, self._example, self._cfg)
    leaves = [
      jnp.asarray(arrays[f"leaf_{k}"])
      for k in range(len(jax.tree.leaves(blank)))
    ]
    self._state = jax.tree.unflatten(jax.tree.structure(blank), leaves)
