"""What everything here wants of a network: `init` and `apply`, as in Linen.

A model is a static, hashable object; its arrays travel apart from it, as
`variables`: "params", which gradients train, and any further collections, which
a forward pass in training changes (BatchNorm's "batch_stats"). The zoo's
networks are such objects; `adapters` makes them of Linen and nnx modules and of
plain functions. Nothing calls them but through the functions of this file.
"""

import functools
import inspect
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_features.models.layers import Outputs, Pool
from robust_features.runtime import layout

Variables = dict[str, Any]


class Model(Protocol):
  """A network: images [B, H, W, C] in [0, 1] to `Outputs`."""

  def init(self, key: Any, x: Any, /) -> Any:
    """Returns fresh variables for images like `x`."""
    ...

  def apply(
    self, variables: Any, x: Any, /, *, bn_mode: str = "running",
    fake_relu: bool = False, rngs: Any = None, mutable: Any = False,
  ) -> Any:  # fmt: skip
    """Returns `Outputs`, or with `mutable` these and what has changed.

    Args:
      variables: "params" and the other collections.
      x: images [B, H, W, C] in [0, 1].
      bn_mode: as in `layers.BatchNorm`; "train" also switches dropout on.
      fake_relu: lets gradients through a last ReLU that is closed.
      rngs: None or {"params": a key} of dropout and the like.
      mutable: names of the collections to be returned, or False.
    """
    ...


def apply(
  model: Model,
  variables: Any,
  x: jax.Array,
  bn_mode: str = "running",
  *,
  fake_relu: bool = False,
) -> Outputs:
  """Returns the model's `Outputs` and never changes its statistics."""
  how = {"bn_mode": bn_mode, "fake_relu": fake_relu}
  if bn_mode == "running":
    return _call(model, variables, x, **how)
  outputs, _ = _call(model, variables, x, mutable=_state_of(variables), **how)
  return outputs


def apply_in_training(
  model: Model, variables: Any, x: jax.Array, key: jax.Array | None
) -> tuple[Outputs, Variables]:
  """Returns the outputs of a training pass, and the collections it changed.

  Args:
    model: The network.
    variables: "params" and the other collections.
    x: `[B, H, W, C]` in [0, 1].
    key: Of what is random in the network, such as dropout; None if nothing is.
  """
  return _call(
    model, variables, x, bn_mode="train",
    rngs=None if key is None else {"params": key},
    mutable=_state_of(variables),
  )  # fmt: skip


def represent(
  model: Model, variables: Any, x: jax.Array, *, fake_relu: bool = False
) -> jax.Array:
  """Returns the representation `[B, D]` of images.

  Raises:
    ValueError: If the network does not tell it.
  """
  found = apply(model, variables, x, fake_relu=fake_relu).representation
  if found is None:
    raise ValueError(
      f"{_name(model)} returns logits alone, but its representation is asked "
      "for; let it return models.Outputs(logits, representation)"
    )
  return found


@functools.partial(jax.jit, static_argnums=(0, 2))
def init_variables(
  model: Model, key: jax.Array, image_shape: tuple[int, int, int]
) -> Variables:
  """Returns fresh variables: "params" and what else the network keeps.

  They are what `model.init` gives: what a layer declares is what a run gets.
  Our layers take theirs from one draw; see `layers.Pool`.

  Args:
    model: The network.
    key: A PRNG key; the same key gives the same numbers.
    image_shape: (H, W, C).
  """
  _require_model(model)
  x = jnp.zeros((1, *image_shape), jnp.float32)
  draw_key, key = jax.random.split(key)
  with Pool() as count:
    jax.eval_shape(model.init, key, x)
  draws = jax.random.uniform(draw_key, (count.used,), minval=-1.0)
  with Pool(draws):
    return dict(model.init(key, x))


@functools.cache
def check(model: Model, image_shape: tuple[int, ...], num_classes: int) -> None:
  """Raises ValueError where a network cannot take such images and classes.

  Nothing is computed: shapes alone tell.
  """
  variables = variable_shapes(model, image_shape)
  found = num_logits(model, variables, image_shape)
  if found != num_classes:
    raise ValueError(
      f"the network gives {found} logits, but the data have {num_classes} "
      "classes; they must agree"
    )


def num_logits(model: Model, variables, image_shape: tuple[int, ...]) -> int:
  """Returns how many logits a network gives, by shapes alone."""
  x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  outputs = jax.eval_shape(functools.partial(apply, model), variables, x)
  return outputs.logits.shape[1]


def output_shapes(model: Model, image_shape: tuple[int, ...]) -> Outputs:
  """Returns the shapes of what a network makes of two images."""
  x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  return jax.eval_shape(
    functools.partial(apply, model), variable_shapes(model, image_shape), x
  )


def variable_shapes(model: Model, image_shape: tuple[int, ...]) -> Variables:
  """Returns the shapes of a network's variables; nothing is computed."""
  return jax.eval_shape(
    lambda key: init_variables(model, key, tuple(image_shape)),
    jax.random.key(0),
  )


def _state_of(variables: Any) -> list[str]:
  return [name for name in variables if name != "params"]


def _call(model: Model, variables, x, **how) -> Any:
  _require_model(model)
  if x.ndim != 4:
    raise ValueError(f"images must be [B, H, W, C], got shape {x.shape}")
  if layout.is_channels_first(x.shape):
    raise ValueError(
      f"images must be [B, H, W, C], got {x.shape}, which looks like "
      "[B, C, H, W]; transpose them"
    )
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      f"images must be floats in [0, 1], got {x.dtype}; divide by 255"
    )
  return model.apply(variables, x, **how)


def _require_model(model: Any) -> None:
  """Raises ValueError for a bare module, which is called in another manner."""
  if not (hasattr(model, "init") and hasattr(model, "apply")):
    raise ValueError(
      f"{_name(model)} has no init and apply; wrap it with models.from_nnx or "
      "models.from_function"
    )
  if isinstance(model, nn.Module) and not takes(model, "bn_mode"):
    raise ValueError(
      f"{_name(model)} does not take bn_mode; wrap it with models.from_linen"
    )


def takes(module: nn.Module, argument: str) -> bool:
  """Returns whether a Linen module's call has an argument of that name."""
  return argument in inspect.signature(type(module).__call__).parameters


def _name(model: Any) -> str:
  return type(getattr(model, "module", model)).__name__
