"""Attacks as per-example state machines, stepped together in fixed slots.

An attack is a pair of pure functions: `init` makes the state of a batch and
`step` spends one model evaluation on every example of it. Examples do not see
each other, each has its own clock and its own key, and one that is done can be
exchanged for another between two steps. So a batch stays full of work, one
compilation serves the whole attack, and no result depends on the batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

LogitsFn = Callable[[jax.Array], jax.Array]


class Batch(NamedTuple):
  """What an attack may know of a batch.

  Attributes:
    x: `[B, H, W, C]` float32 images in [0, 1].
    y: `[B]` int32 labels.
    targets: `[B, T]` int32 classes to aim at, the likeliest first.
    keys: `[B]` PRNG keys, one per batch.
  """

  x: jax.Array
  y: jax.Array
  targets: jax.Array
  keys: jax.Array


def make_batch(
  x: jax.Array, y: jax.Array, targets: jax.Array, keys: jax.Array
) -> Batch:
  """Returns a batch; AssertionError for shapes and types it cannot have."""
  chex.assert_rank([x, y, targets, keys], [4, 1, 2, 1])
  chex.assert_equal_shape_prefix([x, y, targets, keys], 1)
  chex.assert_type([x, y, targets], [jnp.float32, int, int])
  return Batch(x, y, targets, keys)


class Tally(NamedTuple):
  """What every attack keeps count of.

  Attributes:
    x_adv: `[B, H, W, C]` float32: an adversarial example inside the ball and
      the box where `success`, else the image itself.
    success: `[B]` bool.
    done: `[B]` bool, nothing left to try.
    queries: `[B]` int32 forward evaluations.
    gradients: `[B]` int32 gradient evaluations.
    zero_gradients: `[B]` int32 gradients of exactly zero.
    nonfinite_gradients: `[B]` int32 gradients that were not finite somewhere.
  """

  x_adv: jax.Array
  success: jax.Array
  done: jax.Array
  queries: jax.Array
  gradients: jax.Array
  zero_gradients: jax.Array
  nonfinite_gradients: jax.Array


class Attack(NamedTuple):
  """An attack's two functions; states are pytrees with a `tally` field.

  Attributes:
    init: `(batch, cfg) -> state`, without any model evaluation.
    step: `(logits_fn, batch, state, cfg) -> state`.
  """

  init: Callable[[Batch, Any], Any]
  step: Callable[[LogitsFn, Batch, Any, Any], Any]


def select(mask: jax.Array, new: Any, old: Any) -> Any:
  """Returns, example by example `[B]`, the `new` tree where `mask`."""

  def choose(a, b):
    return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(choose, new, old)


def misclassified(logits: jax.Array, y: jax.Array) -> jax.Array:
  """Returns where another class than `y` is predicted, `[B]`.

  Logits that are not finite are no prediction, hence no success either.
  """
  finite = jnp.isfinite(logits).all(axis=1)
  predicted = jnp.argmax(logits, axis=1).astype(y.dtype)
  return (predicted != y) & finite


def likeliest_targets(logits: jax.Array, y: jax.Array, num: int) -> jax.Array:
  """Returns the `num` largest classes that are not `y`, `[B, num]` int32."""
  is_y = jax.nn.one_hot(y, logits.shape[1], dtype=bool)
  order = jnp.argsort(jnp.where(is_y, -jnp.inf, logits), axis=1)
  return order[:, ::-1][:, :num].astype(jnp.int32)


def new_tally(x: jax.Array) -> Tally:
  """Returns the tally of a batch that was not attacked yet."""
  no = jnp.zeros(x.shape[0], bool)
  zero = jnp.zeros(x.shape[0], jnp.int32)
  return Tally(x, no, no, zero, zero, zero, zero)


def advance(
  attack: Attack,
  logits_fn: LogitsFn,
  batch: Batch,
  state: Any,
  cfg: Any,
  num_steps: jax.Array | int | None = None,
) -> Any:
  """Steps an attack until every example is done, or `num_steps` times."""

  def unfinished(carry):
    count, state = carry
    live = ~state.tally.done.all()
    return live if num_steps is None else live & (count < num_steps)

  def body(carry):
    count, state = carry
    after = attack.step(logits_fn, batch, state, cfg)
    # What is done stays as it was: others in the batch take longer.
    return count + 1, select(state.tally.done, state, after)

  return jax.lax.while_loop(unfinished, body, (jnp.int32(0), state))[1]


def run_to_end(
  attack: Attack, logits_fn: LogitsFn, batch: Batch, cfg: Any
) -> Any:
  """Returns the last state of an attack on one batch."""
  state = attack.init(batch, cfg)
  return advance(attack, logits_fn, batch, state, cfg)
