"""One mesh with a `data` axis: batches are split, everything else replicated.

Under `jit` the program is that of the global batch, so BatchNorm's statistics
are the global batch's and no result depends on the number of devices beyond
the order of summation. A batch need not be a multiple of the devices: XLA pads
uneven shards and masks them. The mesh spans the devices of every process;
arrays come to them and back through this file alone.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


@functools.cache
def _mesh() -> jax.sharding.Mesh:
  return jax.make_mesh(
    (jax.device_count(),),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )


def over_data(axis: int = 0) -> jax.NamedSharding:
  """Returns the sharding that splits an axis over the devices."""
  return jax.NamedSharding(_mesh(), jax.P(*[None] * axis, "data"))


def everywhere() -> jax.NamedSharding:
  """Returns the sharding that has a copy on every device."""
  return jax.NamedSharding(_mesh(), jax.P())


def replicate(tree: Any) -> Any:
  """Puts a copy of every array on every device of every process.

  Every process gives the same arrays, which is not checked: `jax.device_put`
  compares them over the network, at 40 times the cost of placing them. What is
  there already is not moved again.
  """
  return place(tree, everywhere())


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
  """Puts every array, the same on every process, where a sharding says.

  Args:
    tree: Arrays on the host or on this process's devices, keys among them.
    sharding: Of all of them; an axis that it splits must be a multiple of the
      devices.
  """

  def put(leaf):
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
      return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(
        put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
      )
    host = np.asarray(leaf)
    return jax.make_array_from_callback(
      host.shape, sharding, lambda index: host[index]
    )

  return jax.tree.map(put, tree)


def local_rows(size: int) -> np.ndarray:
  """Returns which rows of a batch lie on this process's devices, ascending.

  Args:
    size: Of the batch, a multiple of the devices of all processes.
  """
  parts = over_data().addressable_devices_indices_map((size,)).values()
  rows = [np.arange(size)[part] for part in parts]
  return np.sort(np.concatenate(rows))


def from_local(rows: np.ndarray, size: int, axis: int = 0) -> jax.Array:
  """Returns a split array of which every process gives its own rows.

  Args:
    rows: Those of `local_rows`, along `axis`.
    size: Of the whole array along `axis`.
    axis: The one that is split.
  """
  mine = local_rows(size)

  def part(index):
    start, stop, _ = index[axis].indices(size)
    at = int(np.searchsorted(mine, start))
    return rows[(*index[:axis], slice(at, at + stop - start))]

  shape = (*rows.shape[:axis], size, *rows.shape[axis + 1 :])
  return jax.make_array_from_callback(shape, over_data(axis), part)


def fetch(tree: Any) -> Any:
  """Returns every array as numpy, whole, on every process.

  All processes call it together, since each has only its part of a split array.
  """

  def bring(leaf):
    if isinstance(leaf, jax.Array) and not (
      leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
      return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)

  return jax.tree.map(bring, tree)


def split_batch(tree: Any) -> Any:
  """Inside `jit`: splits the leading axis of every array over the devices."""
  return jax.lax.with_sharding_constraint(tree, over_data())
