"""One mesh with a `data` axis: batches are split, everything else replicated.

Under `jit` the program is that of the global batch, so BatchNorm's statistics
are the global batch's and no result depends on the number of devices beyond
the order of summation.
"""

import functools
from typing import Any

import jax


@functools.cache
def _mesh() -> jax.sharding.Mesh:
  return jax.make_mesh(
    (jax.device_count(),),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )


def replicate(tree: Any) -> Any:
  """Puts a copy of every array on every device."""
  everywhere = jax.NamedSharding(_mesh(), jax.P())
  return jax.device_put(tree, everywhere)


def over_data() -> jax.NamedSharding:
  """Returns the sharding that splits a leading axis over the devices."""
  return jax.NamedSharding(_mesh(), jax.P("data"))


def split_batch(tree: Any) -> Any:
  """Inside `jit`: splits the leading axis of every array over the devices."""
  return jax.lax.with_sharding_constraint(tree, over_data())


def require_divisible(batch_size: int, name: str) -> None:
  """Raises ValueError where a batch cannot be split evenly."""
  if batch_size % jax.device_count():
    raise ValueError(
      f"{name} must be a multiple of the {jax.device_count()} devices, "
      f"got {batch_size}"
    )
