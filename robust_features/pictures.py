"""Pictures of what a representation holds: inversion, interpolation, features.

Three climbs of `attacks.maximize` in the whole box, from images `[B, H, W, C]`:

  invert             towards an image's representation, from noise or another
                     image: what the two then have in common, it sees;
  interpolate        towards points on the line between two representations,
                     from the same points on the line between the images;
  maximize_features  one entry of the representation, as high as it goes.

Pictures of a robust model look like what they stand for, those of a standard
one hardly differ from where they began. However many frames of a climb are
kept, it ends at the same bits.

Reference: arXiv:1906.00945 (Engstrom et al.), sections 4 and 5;
arXiv:1905.02175, section 3.1 and appendix C.4.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, models, objectives


@dataclasses.dataclass(frozen=True)
class ClimbConfig:
  """A climb in the whole box, with frames of the way.

  Attributes:
    step_size: The l2 length of a step, in pixel units of [0, 1].
    num_steps: Gradient steps.
    frame_every_steps: Steps from a frame to the next; the start and the end
      are frames as well.
    fake_relu: Lets the gradient through the last ReLU where it is closed: a
      unit that is off at the start can be turned on. Where the representation
      is a pool of few pixels, it also keeps pushing those that are off.
  """

  step_size: float
  num_steps: int
  frame_every_steps: int
  fake_relu: bool

  def __post_init__(self):
    if not (math.isfinite(self.step_size) and self.step_size > 0):
      raise ValueError(
        f"step_size must be a positive number, got {self.step_size!r}"
      )
    for name in ("num_steps", "frame_every_steps"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)!r}"
        )

  @property
  def frame_steps(self) -> tuple[int, ...]:
    """Steps taken when each frame is: 0, every so often, the last."""
    return (*range(0, self.num_steps, self.frame_every_steps), self.num_steps)


class Climb(NamedTuple):
  """Where climbs went.

  Attributes:
    frames: `[F, B, H, W, C]` float32 in [0, 1], at `ClimbConfig.frame_steps`.
    values: `[F, B]` float32, the objective at the frames.
  """

  frames: jax.Array
  values: jax.Array


def climb(
  objective_fn: objectives.Objective, x_init, cfg: ClimbConfig
) -> Climb:
  """Climbs an objective in the whole box, from `x_init` `[B, H, W, C]`.

  The last frame is what `attacks.maximize` ends with after `num_steps`, to the
  bit, however many frames there are.
  """
  # In the whole box a ball's centre matters to rounding alone. About zero a
  # projected point is projected onto itself exactly, so that pieces join.
  centre = jnp.zeros_like(x_init)
  attack = attacks.AttackConfig(
    "l2", math.inf, cfg.step_size, cfg.num_steps, keep_best=False
  )
  # No start is random, so nothing is drawn from these.
  keys = attacks.example_keys(jax.random.key(0), jnp.arange(x_init.shape[0]))

  def piece(z, num_steps):
    part = dataclasses.replace(attack, num_steps=num_steps)
    z = attacks.maximize(objective_fn, centre, keys, part, x_init=z).x_adv
    return z, z

  # Behind the barrier no length is known, so that the compiler makes one
  # program of a step whatever the pieces, and unrolls none.
  pieces = jax.lax.optimization_barrier(jnp.diff(jnp.array(cfg.frame_steps)))
  _, frames = jax.lax.scan(piece, x_init, pieces)
  frames = jnp.concatenate([x_init[None], frames])
  return Climb(frames, jax.lax.map(objective_fn, frames))


@functools.partial(jax.jit, static_argnames=("model", "cfg"))
def invert(model, variables, x, x_init, cfg: ClimbConfig) -> Climb:
  """Climbs from `x_init` towards the representations of `x` `[B, H, W, C]`."""
  objective = objectives.representation_objective(
    model, variables, x, cfg.fake_relu
  )
  return climb(objective, x_init, cfg)


@functools.partial(jax.jit, static_argnames=("model", "num_points", "cfg"))
def interpolate(
  model, variables, x, other, num_points: int, cfg: ClimbConfig
) -> Climb:
  """Inverts what lies between representations, from what lies between images.

  Args:
    model: The network.
    variables: Its variables.
    x: `[B, H, W, C]`, where the lines begin.
    other: `[B, H, W, C]`, where they end.
    num_points: T, the ends included.
    cfg: Of the climb from every point.

  Returns:
    Frames `[F, T * B, H, W, C]`, the first of which is the line between the
    images; `reshape(F, T, B, ...)` parts points and lines.
  """

  def between(start, end):
    weights = jnp.linspace(0.0, 1.0, num_points)
    weights = weights.reshape(-1, *[1] * start.ndim)
    points = (1.0 - weights) * start[None] + weights * end[None]
    return points.reshape(-1, *start.shape[1:])

  begin, end = (models.represent(model, variables, z) for z in (x, other))
  objective = objectives.distance_objective(
    model, variables, between(begin, end), cfg.fake_relu
  )
  return climb(objective, between(x, other), cfg)


@functools.partial(jax.jit, static_argnames=("model", "cfg"))
def maximize_features(
  model, variables, entries, x_init, cfg: ClimbConfig
) -> Climb:
  """Climbs the entry `entries[b]` of the representation, from `x_init[b]`."""
  objective = objectives.entry_objective(
    model, variables, entries, cfg.fake_relu
  )
  return climb(objective, x_init, cfg)


def telling_entries(
  representation: np.ndarray, labels: np.ndarray, classes: Any
) -> np.ndarray:
  """Returns, for each of `classes`, the entry that tells most about it.

  That is the one with the largest correlation, over the examples, with being of
  that class; an entry that never varies tells nothing.

  Args:
    representation: `[N, D]`.
    labels: `[N]`.
    classes: K labels.

  Returns:
    `[K]` int32.
  """
  values = representation - representation.mean(axis=0)
  scale = np.linalg.norm(values, axis=0)
  member = (labels[:, None] == np.asarray(classes)[None]).astype(np.float32)
  shared = (member - member.mean(axis=0)).T @ values
  correlation = np.where(scale > 0, shared / np.where(scale > 0, scale, 1), -2)
  return correlation.argmax(axis=1).astype(np.int32)
