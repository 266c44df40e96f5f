"""Square: random search with shrinking squares, by queries alone.

Every query changes one square window and is kept if the margin z_y - max z_j
falls. For linf the window of every colour goes to plus or minus eps; for l2
it receives the perturbation's spare norm, and that of a second window, in the
shape of two opposite bumps. No gradient is used, so a gain over the gradient
attacks betrays masked gradients.

Reference: arXiv:1912.00049, sections 3.1 to 3.3; sizes follow the published
schedule without rescaling to the number of queries.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.attacks import geometry, losses
from robust_features.attacks.autoattack import machine

# After this many queries the squares' area is halved once more.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["eps", "num_queries"],
  meta_fields=["norm", "p_init"],
)
@dataclasses.dataclass(frozen=True)
class SquareConfig:
  """Settings of Square; eps and num_queries may be traced.

  Attributes:
    norm: "l2" or "linf".
    eps: Radius in pixel units of [0, 1].
    num_queries: Windows tried, after one query for the starting point.
    p_init: Share of the image that the first windows cover, in (0, 1].
  """

  norm: str
  eps: float
  num_queries: int = 5000
  p_init: float = 0.8

  def __post_init__(self):
    if self.norm not in geometry.NORMS:
      raise ValueError(
        f"norm must be one of {geometry.NORMS}, got {self.norm!r}"
      )
    if not 0 < self.p_init <= 1:
      raise ValueError(f"p_init must be in (0, 1], got {self.p_init!r}")


class SquareState(NamedTuple):
  """Square's state.

  Attributes:
    tally: Successes and counts.
    t: `[B]` int32 queries done.
    z: `[B, H, W, C]` the best point so far, at t = 0 the starting point.
    margin: `[B]` its margin, below zero where it is misclassified.
  """

  tally: machine.Tally
  t: jax.Array
  z: jax.Array
  margin: jax.Array


def sizes(cfg: SquareConfig, height: int, width: int) -> tuple[int, ...]:
  """Returns the windows' sides in pixels, in the order of the schedule.

  For l2 they are odd and at least 3, unless the image itself is smaller.
  """
  result = []
  for halvings in range(len(_HALVINGS) + 1):
    side = round(math.sqrt(cfg.p_init / 2**halvings * height * width))
    side = max(side, 1) if cfg.norm == "linf" else max(side, 3) | 1
    result.append(min(side, height, width))
  return tuple(result)


def init(batch: machine.Batch, cfg: SquareConfig) -> SquareState:
  """Returns the state at the starting point, not yet evaluated."""
  keys = jax.vmap(jax.random.fold_in, (0, None))(batch.keys, 0)
  begin = _stripes if cfg.norm == "linf" else _tiles
  delta = begin(keys, batch.x.shape, cfg)
  z = geometry.add_in_ball(batch.x, delta, cfg.norm, cfg.eps)
  size = batch.y.shape[0]
  return SquareState(
    tally=machine.new_tally(batch.x),
    t=jnp.zeros(size, jnp.int32),
    z=z,
    margin=jnp.full(size, jnp.inf, jnp.float32),
  )


def step(
  logits_fn: machine.LogitsFn,
  batch: machine.Batch,
  state: SquareState,
  cfg: SquareConfig,
) -> SquareState:
  """Spends one query on every example."""
  first = state.t == 0
  proposal = _propose(batch, state, cfg)
  z = machine.select(first, state.z, proposal)
  logits = logits_fn(z).astype(jnp.float32)
  margin = -losses.cw_margin(logits, batch.y)
  success = machine.misclassified(logits, batch.y)
  better = (margin < state.margin) | success
  tally = state.tally._replace(
    x_adv=machine.select(success, z, state.tally.x_adv),
    success=success,
    done=success | (state.t >= cfg.num_queries),
    queries=state.tally.queries + 1,
  )
  return SquareState(
    tally=tally,
    t=state.t + 1,
    z=machine.select(better, z, state.z),
    margin=jnp.where(better, margin, state.margin),
  )


def _propose(batch, state: SquareState, cfg: SquareConfig) -> jax.Array:
  """Returns the best points with one window changed, `[B, H, W, C]`."""
  height, width, channels = batch.x.shape[1:]
  keys = jax.vmap(jax.random.fold_in)(batch.keys, jnp.maximum(state.t, 1))
  draw = jax.vmap(
    lambda key: jax.random.uniform(key, (5 + channels,), jnp.float32)
  )(keys)
  # The first window is query 0 of the schedule.
  halvings = jnp.searchsorted(jnp.asarray(_HALVINGS, jnp.int32), state.t - 1)
  side = jnp.asarray(sizes(cfg, height, width), jnp.int32)[halvings]
  signs = jnp.where(draw[:, 5:] < 0.5, -1.0, 1.0)[:, None, None, :]
  corners = [
    _corner(draw[:, 2 * k : 2 * k + 2], side, height, width) for k in (0, 1)
  ]
  delta = state.z - batch.x
  if cfg.norm == "linf":
    inside = _window(corners[0], side, height, width)
    delta = delta + 2.0 * cfg.eps * inside * signs
  else:
    bump = _bump(corners[0], halvings, draw[:, 4] < 0.5, batch.x.shape, cfg)
    windows = [_window(corner, side, height, width) for corner in corners]
    delta = _redistribute(delta, windows, bump * signs, cfg.eps)
    delta = delta * (cfg.eps / jnp.maximum(geometry.l2_norm(delta), 1e-12))
  return geometry.add_in_ball(batch.x, delta, cfg.norm, cfg.eps)


def _corner(draw, side, height: int, width: int) -> tuple:
  """Returns the row and column `[B]` of a window's first pixel.

  As in the published code, and unlike the paper, the last place is left out;
  on small images this costs the attack several points.
  """
  free = jnp.stack([height - side, width - side], axis=1)
  corner = jnp.floor(draw * free.astype(jnp.float32)).astype(jnp.int32)
  corner = jnp.minimum(corner, jnp.maximum(free - 1, 0))
  return corner[:, 0], corner[:, 1]


def _places(length: int) -> jax.Array:
  """Returns 0, 1, ..., length - 1 as `[1, length]` int32."""
  return jnp.arange(length, dtype=jnp.int32)[None]


def _window(corner, side, height: int, width: int) -> jax.Array:
  """Returns 1 inside a window and 0 outside, `[B, H, W, 1]`."""

  def covers(start, length):
    place = _places(length) - start[:, None]
    return (place >= 0) & (place < side[:, None])

  rows, columns = covers(corner[0], height), covers(corner[1], width)
  both = rows[:, :, None] & columns[:, None, :]
  return both[..., None].astype(jnp.float32)


def _redistribute(delta, windows, bump, eps) -> jax.Array:
  """Moves the norm of the second window, and the spare norm, to the first."""
  first, second = windows
  both = jnp.maximum(first, second)

  def norm(values):  # Of every colour, [B, 1, 1, C].
    return jnp.sqrt(jnp.square(values).sum(axis=(1, 2), keepdims=True))

  spare = jnp.maximum(eps**2 - jnp.square(geometry.l2_norm(delta)), 0.0)
  budget = spare / delta.shape[-1] + jnp.square(norm(delta * both))
  old = delta * first
  fresh = bump + old / jnp.maximum(norm(old), 1e-12)
  fresh = fresh / jnp.maximum(norm(fresh), 1e-12) * jnp.sqrt(budget)
  return delta * (1.0 - both) + fresh * first


def _bump(corner, halvings, transposed, shape, cfg) -> jax.Array:
  """Returns the unit bump of every example at its window, `[B, H, W, 1]`."""
  _, height, width, _ = shape
  table = jnp.asarray(_bumps(sizes(cfg, height, width), height, width))
  bump = table[halvings, transposed.astype(jnp.int32)]
  rows = (_places(height) - corner[0][:, None]) % height
  columns = (_places(width) - corner[1][:, None]) % width
  bump = jnp.take_along_axis(bump, rows[:, :, None], axis=1)
  return jnp.take_along_axis(bump, columns[:, None, :], axis=2)[..., None]


@functools.cache
def _bumps(sides: tuple[int, ...], height: int, width: int) -> np.ndarray:
  """Returns every bump and its transpose, in the corner, `[S, 2, H, W]`."""
  table = np.zeros((len(sides), 2, height, width), np.float32)
  for k, side in enumerate(sides):
    table[k, 0, :side, :side] = bump(side)
    table[k, 1, :side, :side] = bump(side).T
  return table


def bump(side: int) -> np.ndarray:
  """Returns two opposite hills side by side, `[side, side]` of l2 norm 1."""
  half = side // 2
  parts = [_hill(half, side), -_hill(side - half, side)]
  both = np.concatenate(parts, axis=0)
  return (both / np.linalg.norm(both)).astype(np.float32)


def _hill(height: int, width: int) -> np.ndarray:
  """Returns a sum of ever larger and lower rectangles, of l2 norm 1."""
  if height == 0:
    return np.zeros((0, width))
  rows = np.abs(np.arange(height) - height // 2)[:, None]
  columns = np.abs(np.arange(width) - width // 2)[None]
  ring = np.maximum(rows, columns)
  steps = 1.0 / np.arange(1, max(height // 2, width // 2) + 2) ** 2
  # Ring r lies in the rectangles r, r + 1, ... to the last.
  heights = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
  hill = heights[np.minimum(ring, len(steps))]
  return hill / np.linalg.norm(hill)


def _coins(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns fair coins, of the same bits whether JAX has 64 or not."""
  return jax.random.bernoulli(key, jnp.float32(0.5), shape)


def _stripes(keys, shape, cfg) -> jax.Array:
  """Returns vertical stripes of plus or minus eps, `[B, H, W, C]`."""
  batch, height, width, channels = shape
  draw = jax.vmap(lambda key: _coins(key, (width, channels)))
  signs = jnp.where(draw(keys), cfg.eps, -cfg.eps)[:, None]
  return jnp.broadcast_to(signs, (batch, height, width, channels))


def _tiles(keys, shape, cfg) -> jax.Array:
  """Returns five by five bumps of random signs, of l2 norm eps together."""
  batch, height, width, channels = shape
  side = max(height // 5, 1)
  margin = (height - 5 * side) // 2 if height >= 5 else 0
  rows, columns = (height - margin) // side, (width - margin) // side

  def draw(key):
    sign_key, turn_key = jax.random.split(key)
    signs = _coins(sign_key, (rows, columns, channels))
    return signs, _coins(turn_key, (rows, columns))

  signs, turned = jax.vmap(draw)(keys)
  tile = jnp.asarray(bump(side))
  tiles = jnp.where(turned[..., None, None], tile.T, tile)
  signs = jnp.where(signs, 1.0, -1.0)
  grid = tiles[..., None] * signs[:, :, :, None, None, :]
  grid = grid.transpose(0, 1, 3, 2, 4, 5)
  grid = grid.reshape(batch, rows * side, columns * side, channels)
  pad = (margin, height - margin - rows * side)
  delta = jnp.pad(
    grid,
    ((0, 0), pad, (margin, width - margin - columns * side), (0, 0)),
  )
  return delta * (cfg.eps / jnp.maximum(geometry.l2_norm(delta), 1e-12))


ATTACK = machine.Attack(init, step)


def attack(
  logits_fn: machine.LogitsFn,
  x: jax.Array,
  y: jax.Array,
  keys: jax.Array,
  cfg: SquareConfig,
) -> SquareState:
  """Runs Square on one batch; a pure function, to be jitted by the caller.

  Args:
    logits_fn: Maps `[B, H, W, C]` to logits `[B, K]`.
    x: `[B, H, W, C]` float32 images in [0, 1].
    y: `[B]` int32 labels.
    keys: `[B]` PRNG keys, one per example.
    cfg: Norm, radius, queries.

  Returns:
    The last state: its tally, and the best point with its margin.
  """
  batch = machine.make_batch(x, y, y[:, None], keys)
  return machine.run_to_end(ATTACK, logits_fn, batch, cfg)
