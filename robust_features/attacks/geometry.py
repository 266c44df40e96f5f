"""Balls, the box and directions: what every attack moves in.

Images are `[B, H, W, C]`; a ball of radius eps in "l2" or "linf" lies about
each of them, the box is [0, 1] in every entry. Nothing here sees two examples
at once.

`optax.projections.projection_l2_ball` under `vmap` gives what `into_ball` gives
to 6e-8; it divides by a norm of zero where `into_ball` does not, and knows no
slack, so it stays a test's reference.
"""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from robust_features.runtime import layout

NORMS = ("l2", "linf")
SLACK = 1e-6  # Part of an l2 radius that keeps clear of rounding.


def check_images(x: jax.Array | np.ndarray) -> None:
  """Checks what every attack wants of images.

  What is traced has no values to look at; its type and shape are looked at.

  Raises:
    ValueError: Unless they are float32 `[B, H, W, C]` in [0, 1].
  """
  if x.ndim != 4:
    raise ValueError(f"x must be [B, H, W, C], got shape {x.shape}")
  if x.dtype != jnp.float32:
    raise ValueError(f"x must be float32 in [0, 1], got {x.dtype}")
  if layout.is_channels_first(x.shape):
    raise ValueError(
      f"x must be [B, H, W, C], got {x.shape}, which looks like [B, C, H, W]"
    )
  if isinstance(x, core.Tracer) or not x.size:
    return
  with jax.ensure_compile_time_eval():  # A constant of somebody's jit, too.
    low, high = float(x.min()), float(x.max())
  if not (low >= 0.0 and high <= 1.0):  # Written so that NaN fails.
    raise ValueError(
      f"x must be in [0, 1], got values from {low:g} to {high:g}"
    )


def max_radius(norm: str, shape: tuple[int, ...]) -> float:
  """Returns the diameter of the box [0, 1]^shape: a larger eps is a mistake."""
  return 1.0 if norm == "linf" else math.sqrt(math.prod(shape))


def check_radius(name: str, eps: float, norm: str, shape) -> None:
  """Checks that a radius is one in units of [0, 1].

  A whole number from 2 on that moves every entry by a tenth of its range is
  possible in l2, and hardly meant: "8" is written for 8/255.

  Args:
    name: Of the radius, for the message.
    eps: Radius.
    norm: "l2" or "linf".
    shape: (H, W, C) of the images.

  Raises:
    ValueError: Where it exceeds the box's diameter.

  Warns:
    UserWarning: Where it looks like a number of 255 levels.
  """
  largest = max_radius(norm, tuple(shape))
  if eps > largest:
    raise ValueError(
      f"{name} is {eps:g}, larger than the {norm} diameter {largest:g} of the "
      f"images' box [0, 1]; radii are in units of [0, 1]: write {eps:g}/255?"
    )
  if eps >= max(2.0, largest / 10) and float(eps).is_integer():
    warnings.warn(
      f"{name} is {eps:g} in {norm}, which moves every entry of an image by "
      f"{eps / largest:.0%} of its range; was {eps:g}/255 meant?",
      stacklevel=2,
    )


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
  """Returns one key per example `[B]` from its global index `[B]`.

  An example's randomness then depends on neither its batch nor its device.
  """
  return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def per_example(values: jax.Array) -> jax.Array:
  """Returns `[B]` values as `[B, 1, 1, 1]`, to multiply images with."""
  return values[:, None, None, None]


def l2_norm(x: jax.Array) -> jax.Array:
  """Returns the l2 norm of every example, `[B, 1, 1, 1]`."""
  return jnp.sqrt(jnp.square(x).sum(axis=(1, 2, 3), keepdims=True))


def row_norm(x: jax.Array) -> jax.Array:
  """Returns l2 norms `[B]` of rows `[B, ...]`; the gradient at zero is zero."""
  squares = jnp.square(x).reshape(x.shape[0], -1).sum(axis=1)
  positive = squares > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def finite(grad: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns gradients without what is not finite, and whose were not `[B]`.

  One infinite entry would make every direction, and so every later iterate of
  the example, NaN: an attack that stands still. It counts as zero instead.
  """
  good = jnp.isfinite(grad)
  bad = ~good.all(axis=(1, 2, 3))
  return jnp.where(good, grad, jnp.zeros_like(grad)), bad


def unit_direction(grad: jax.Array, norm: str) -> jax.Array:
  """Returns the step of unit `norm` that climbs fastest; zero stays zero.

  Dividing by the largest entry first keeps gradients as small as float32 can
  hold from vanishing when squared.
  """
  if norm == "linf":
    return jnp.sign(grad)
  largest = jnp.abs(grad).max(axis=(1, 2, 3), keepdims=True)
  scaled = grad / jnp.where(largest > 0, largest, 1.0)
  return scaled / jnp.maximum(l2_norm(scaled), 1.0)


def into_ball(delta: jax.Array, norm: str, eps, slack: float = 0.0):
  """Returns perturbations brought inside the ball of radius eps.

  Args:
    delta: `[B, H, W, C]`.
    norm: "l2" or "linf".
    eps: Radius.
    slack: Part of the l2 radius to stay inside, so that no order of summation
      finds the result outside.
  """
  if norm == "linf":
    return jnp.clip(delta, -eps, eps)
  limit = eps * (1.0 - slack)
  size = l2_norm(delta)
  return jnp.where(
    size > limit, delta * (limit / jnp.maximum(size, 1e-30)), delta
  )


def into_box(delta: jax.Array, x: jax.Array) -> jax.Array:
  """Returns perturbations cut so that x + delta is in [0, 1]."""
  return jnp.clip(delta, -x, 1.0 - x)


def project(x_adv: jax.Array, x: jax.Array, norm: str, eps) -> jax.Array:
  """Returns `x_adv` moved into the ball of radius `eps` about `x`, then [0, 1].

  The order matters: `x` lies in the box, so clipping cannot leave the ball.
  """
  return jnp.clip(x + into_ball(x_adv - x, norm, eps), 0.0, 1.0)


def add_towards(x: jax.Array, delta: jax.Array) -> jax.Array:
  """Returns x + delta, in the box and rounded towards `x`.

  A sum is rounded to a pixel's precision, which is coarse beside a small eps.
  No entry of the result is further from `x` than `delta` says, as float32
  subtracts them: exactly, half of a pixel's last place further, 3e-8, where a
  perturbation is larger than its pixel. Norms should be measured on `delta`: a
  compiler may compute the sum twice and round it in two ways, but not the
  perturbation.
  """
  z = x + delta
  z = jnp.where(jnp.abs(z - x) > jnp.abs(delta), jnp.nextafter(z, x), z)
  return jnp.clip(z, 0.0, 1.0)


def add_in_ball(x: jax.Array, delta: jax.Array, norm: str, eps) -> jax.Array:
  """Returns x + delta inside ball and box, as float32 measures them.

  In l2 also whoever else measures it and how; in linf see `add_towards`.
  """
  return add_towards(x, into_ball(delta, norm, eps, SLACK))


def random_in_ball(
  keys: jax.Array, shape: tuple[int, ...], norm: str, eps
) -> jax.Array:
  """Returns points uniform in the ball, `[B, *shape]` float32, one key each."""
  if norm == "linf":
    sample = functools.partial(
      jax.random.uniform, shape=shape, dtype=jnp.float32, minval=-1.0
    )
    return eps * jax.vmap(lambda key: sample(key))(keys)

  def ball(key):
    direction_key, radius_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, shape, jnp.float32)
    uniform = jax.random.uniform(radius_key, dtype=jnp.float32)
    radius = uniform ** (1.0 / math.prod(shape))
    return radius * direction / jnp.sqrt(jnp.square(direction).sum())

  return eps * jax.vmap(ball)(keys)
