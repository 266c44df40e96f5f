"""Runs a function in float64 without touching the global setting."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

P = ParamSpec("P")
T = TypeVar("T")

# What the theory's functions return: NumPy arrays of float64 unless they are
# called inside a trace or where 64-bit types are on; see `float64`.
Array = jax.Array | np.ndarray


def is_traced(*trees: Any) -> bool:
  """Returns whether any leaf is inside a jit, vmap or grad."""
  leaves = jax.tree.leaves(trees)
  return any(isinstance(leaf, Tracer) for leaf in leaves)


def float64(
  check: Callable[..., None] | None = None, *, static: tuple[str, ...] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
  """Makes a function of arrays checked, compiled and computed in float64.

  - With concrete arguments the computation is in float64 whatever the caller's
    setting. Where the caller has 64-bit types off, the results are NumPy
    arrays: a float64 `jax.Array` could not be used there.
  - Inside a transformation (jit, vmap, grad) the computation takes the
    precision in force, since a trace cannot change it half-way; open
    `jax.enable_x64(True)` around the transformation for float64.

  Args:
    check: Takes the arguments as the caller gave them, in the function's
      order, and raises ValueError for bad ones.
    static: Names of arguments that are no arrays. All others may be numbers,
      lists or arrays, and become arrays of floats.

  Returns:
    A decorator that keeps the function's signature.
  """

  def decorate(fn: Callable[P, T]) -> Callable[P, T]:
    compiled = jax.jit(fn, static_argnames=static)
    signature = inspect.signature(fn)

    @functools.wraps(fn)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
      bound = signature.bind(*args, **kwargs)
      bound.apply_defaults()
      if check is not None:
        check(*bound.arguments.values())
      arrays = [name for name in bound.arguments if name not in static]

      def call(dtype):
        for name in arrays:
          bound.arguments[name] = jnp.asarray(bound.arguments[name], dtype)
        return compiled(*bound.args, **bound.kwargs)

      ambient = jnp.result_type(float)
      if is_traced(bound.arguments) or ambient == jnp.float64:
        return call(ambient)
      with jax.enable_x64(True):
        return jax.tree.map(np.asarray, call(jnp.float64))

    return checked

  return decorate
