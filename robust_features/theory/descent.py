"""Gradient descent to a smooth loss's minimum, inside one compiled program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# One object, so that jit knows the optimiser again.
LBFGS = optax.lbfgs()


class Descent(NamedTuple):
  """Where a descent ended.

  Attributes:
    params: The parameters there.
    loss: Scalar.
    gradient_norm: Of the loss; near 0 at a minimum.
    num_steps: Steps taken.
  """

  params: Any
  loss: jax.Array
  gradient_norm: jax.Array
  num_steps: jax.Array


def descend(
  loss: Callable[[Any], jax.Array],
  params: Any,
  num_steps: jax.Array | int,
  tolerance: jax.Array | float,
  tx: optax.GradientTransformation = LBFGS,
) -> Descent:
  """Minimises a smooth loss with an optax optimiser.

  Args:
    loss: Maps parameters to a scalar; inf outside its domain.
    params: Where to start.
    num_steps: At most so many steps.
    tolerance: The gradient norm at which to stop.
    tx: Optax optimiser; a line search is told value, gradient and function.
  """
  tx = optax.with_extra_args_support(tx)
  value_and_grad = jax.value_and_grad(loss)

  def proceed(carry):
    _, _, _, grad, count = carry
    return (optax.tree.norm(grad) > tolerance) & (count < num_steps)

  def advance(carry):
    params, state, value, grad, count = carry
    updates, state = tx.update(
      grad, state, params, value=value, grad=grad, value_fn=loss
    )
    params = optax.apply_updates(params, updates)
    value, grad = value_and_grad(params)
    return params, state, value, grad, count + 1

  # optax's L-BFGS mixes integer widths, which strict promotion refuses.
  with jax.numpy_dtype_promotion("standard"):
    value, grad = value_and_grad(params)
    carry = (params, tx.init(params), value, grad, jnp.zeros((), jnp.int32))
    params, _, value, grad, count = jax.lax.while_loop(proceed, advance, carry)
    return Descent(params, value, optax.tree.norm(grad), count)
