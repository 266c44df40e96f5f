"""Runs a function in float64 without touching the global setting."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

T = TypeVar("T")


def is_traced(*trees: Any) -> bool:
  """Returns whether any leaf is inside a jit, vmap or grad."""
  leaves = jax.tree.leaves(trees)
  return any(isinstance(leaf, Tracer) for leaf in leaves)


def call(fn: Callable[..., T], *args: Any) -> T:
  """Returns `fn(*args)`, computed in float64 wherever that can be had.

  - With concrete arguments the computation is in float64 whatever the caller's
    setting. Where the caller has 64-bit types off, the results are NumPy
    arrays: a float64 `jax.Array` could not be used there.
  - Inside a transformation (jit, vmap, grad) the computation takes the
    precision in force, since a trace cannot change it half-way; open
    `jax.enable_x64(True)` around the transformation for float64.

  Args:
    fn: A function of arrays, usually jitted.
    *args: Numbers, lists or arrays; all become arrays of floats.
  """
  ambient = jnp.result_type(float)
  if is_traced(args) or ambient == jnp.float64:
    return fn(*_cast(args, ambient))
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, fn(*_cast(args, jnp.float64)))


def _cast(args: Any, dtype: Any) -> list[jax.Array]:
  return [jnp.asarray(arg, dtype) for arg in args]
