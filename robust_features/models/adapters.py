"""Adapters that make a `protocol.Model` of a network of one's own.

Each takes images in [0, 1]: a network that wants them normalised does it
itself. It returns logits `[B, K]`, or `Outputs`, or (logits, representation).

    model = from_linen(TinyViT())            # variables: TinyViT().init's
    model = from_nnx(CNN, channels=16)       # variables: model.variables(net)
    model = from_function(fn, init)          # variables: {"params": params}

A network without a `bn_mode` of its own knows two modes, in training and not;
where it keeps no state "batch" is the second, and else it is refused. One
without a `fake_relu` has no such ReLU, and its gradient is left as it is.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from robust_features.models import protocol
from robust_features.models.layers import Outputs, check_bn_mode


@dataclasses.dataclass(frozen=True)
class LinenModel:
  """A Linen module called as `module(x)`, with what else it takes.

  Of `bn_mode`, `fake_relu`, `train` (or `training`) and `deterministic` it
  gets those that its `__call__` names.

  Attributes:
    module: The network.
  """

  module: nn.Module

  def init(self, key, x, /) -> protocol.Variables:
    """Returns fresh variables."""
    variables: Any = self.module.init(key, x, **self._how("running", False))
    return dict(variables)

  def apply(self, variables, x, /, *, bn_mode="running", fake_relu=False,
            rngs=None, mutable: Any = False) -> Any:  # fmt: skip
    """Returns `Outputs`; see `protocol.Model`."""
    how = self._how(bn_mode, fake_relu)
    if "bn_mode" not in how:
      _require_known(bn_mode, variables)
    found: Any = self.module.apply(
      variables, x, rngs=rngs, mutable=mutable, **how
    )
    if mutable is False:
      return _outputs(found, x)
    return _outputs(found[0], x), dict(found[1])

  def _how(self, bn_mode: str, fake_relu: bool) -> dict[str, Any]:
    training = bn_mode == "train"
    all_of_it = {
      "bn_mode": bn_mode, "fake_relu": fake_relu, "train": training,
      "training": training, "deterministic": not training,
    }  # fmt: skip
    return {
      name: value
      for name, value in all_of_it.items()
      if protocol.takes(self.module, name)
    }


@dataclasses.dataclass(frozen=True)
class NnxModel:
  """An nnx module, by how it is made.

  Attributes:
    make: The class, or any function that takes `rngs` and returns a module.
    kwargs: What else it is called with, as sorted pairs.
  """

  make: Callable[..., nnx.Module]
  kwargs: tuple[tuple[str, Any], ...] = ()

  def init(self, key, x, /) -> protocol.Variables:
    """Returns fresh variables; the images' shape is in `kwargs`, if it is."""
    del x
    return self.variables(self.make(rngs=nnx.Rngs(key), **dict(self.kwargs)))

  def variables(self, net: nnx.Module) -> protocol.Variables:
    """Returns the variables of such a module, as they are."""
    _, params, _, state = _split(net)
    found = {"params": _flat(params), "state": _flat(state)}
    return {name: part for name, part in found.items() if part}

  def apply(self, variables, x, /, *, bn_mode="running", fake_relu=False,
            rngs=None, mutable: Any = False) -> Any:  # fmt: skip
    """Returns `Outputs`; see `protocol.Model`."""
    del fake_relu
    _require_known(bn_mode, variables)
    graph, params, random, state = _abstract(self)
    key = rngs["params"] if rngs else jax.random.key(0)
    net = nnx.merge(
      graph,
      _filled(params, variables["params"]),
      _seeded(random, key),
      _filled(state, variables.get("state", {})),
    )
    net.train() if bn_mode == "train" else net.eval()
    outputs = _outputs(net(x), x)  # pyright: ignore[reportCallIssue]
    if mutable is False:
      return outputs
    new = self.variables(net)
    return outputs, {name: new[name] for name in mutable}


@functools.lru_cache
def _abstract(model: NnxModel):
  """Returns a module's graph and the shapes of what it holds."""
  make = functools.partial(model.make, **dict(model.kwargs))
  return _split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))


def _split(net: nnx.Module):
  return nnx.split(net, nnx.Param, nnx.RngState, ...)


def _flat(state) -> dict[str, Any]:
  """Returns leaves by path: "layers/0/kernel", as checkpoints want it."""
  return {_path(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def _path(path: tuple[Any, ...]) -> str:
  return "/".join(map(str, path))


def _filled(state, values: Mapping[str, Any]):
  return nnx.from_flat_state(
    (path, leaf.replace(values[_path(path)]))
    for path, leaf in nnx.to_flat_state(state)
  )


def _seeded(state, key: jax.Array):
  """Returns streams of random numbers that begin with a key."""
  leaves = []
  for i, (path, leaf) in enumerate(nnx.to_flat_state(state)):
    fresh = jnp.zeros((), jnp.uint32)
    if isinstance(leaf, nnx.RngKey):
      fresh = jax.random.fold_in(key, i)
    leaves.append((path, leaf.replace(fresh)))
  return nnx.from_flat_state(leaves)


@dataclasses.dataclass(frozen=True)
class FunctionModel:
  """A plain function of parameters and images.

  Attributes:
    fn: `(params, x)` -> what a network returns.
    init_fn: `(key, x)` -> params, for training; None where they are at hand.
  """

  fn: Callable[[Any, jax.Array], Any]
  init_fn: Callable[[jax.Array, jax.Array], Any] | None = None

  def init(self, key, x, /) -> protocol.Variables:
    """Returns fresh variables.

    Raises:
      ValueError: If the model was made without `init_fn`.
    """
    if self.init_fn is None:
      raise ValueError(
        "this function has no initial parameters; give "
        "models.from_function(fn, init_fn)"
      )
    return {"params": self.init_fn(key, x)}

  def apply(self, variables, x, /, *, bn_mode="running", fake_relu=False,
            rngs=None, mutable: Any = False) -> Any:  # fmt: skip
    """Returns `Outputs`; see `protocol.Model`."""
    del fake_relu, rngs
    _require_known(bn_mode, variables)
    outputs = _outputs(self.fn(variables["params"], x), x)
    return outputs if mutable is False else (outputs, {})


def from_linen(module: nn.Module) -> LinenModel:
  """Returns the model of a Linen module."""
  return LinenModel(module)


def from_nnx(make: Callable[..., nnx.Module], **kwargs: Any) -> NnxModel:
  """Returns the model of an nnx class, or of a function that makes one.

  Args:
    make: Called with `rngs` and `kwargs`.
    **kwargs: Hashable; they tell one network from another.
  """
  return NnxModel(make, tuple(sorted(kwargs.items())))


def from_function(
  fn: Callable[[Any, jax.Array], Any],
  init_fn: Callable[[jax.Array, jax.Array], Any] | None = None,
) -> FunctionModel:
  """Returns the model of `fn(params, x)`; `init_fn(key, x)` makes params."""
  return FunctionModel(fn, init_fn)


def _require_known(bn_mode: str, variables: Mapping[str, Any]) -> None:
  check_bn_mode(bn_mode)
  state = sorted(name for name in variables if name != "params")
  if bn_mode == "batch" and state:
    raise ValueError(
      f"bn_mode 'batch' is not for a network that keeps {', '.join(state)} and "
      "does not take bn_mode; use 'running', or let it take bn_mode"
    )


def _outputs(found: Any, x: jax.Array) -> Outputs:
  """Returns what a network of one's own returned, checked."""
  if not isinstance(found, Outputs):
    pair: Any = found if isinstance(found, tuple) else (found, None)
    if len(pair) != 2:
      raise ValueError(
        "a network returns logits, or (logits, representation), got "
        f"{len(pair)} results"
      )
    found = Outputs(*pair)
  for name, value in found._asdict().items():
    if name == "representation" and value is None:
      continue
    shape = getattr(value, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != x.shape[0]:
      raise ValueError(
        f"a network returns logits [B, K], or (logits, representation [B, D]); "
        f"its {name} for {x.shape[0]} images are "
        f"{type(value).__name__ if shape is None else shape}"
      )
  return jax.tree.map(lambda part: part.astype(jnp.float32), found)


def imported(
  name: str, offered: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> protocol.Model:
  """Returns the model that a name such as "package.module:factory" makes.

  Args:
    name: Imported, never unpickled. The factory returns a Linen module or a
      `protocol.Model`; one that takes `rngs` (such as an nnx class) makes an
      nnx module.
    offered: Keywords that it gets if it names them.
    kwargs: Keywords that it gets.

  Raises:
    ValueError: If it cannot be imported, called, or returns something else.
  """
  where, _, attribute = name.partition(":")
  try:
    factory: Any = getattr(importlib.import_module(where), attribute)
  except (ImportError, AttributeError) as error:
    raise ValueError(
      f"name {name!r} cannot be imported ({error}); install its package, or "
      "run where it lies"
    ) from None
  try:
    call: Any = factory.__init__ if inspect.isclass(factory) else factory
    named = inspect.signature(call).parameters
    given = {k: v for k, v in offered.items() if k in named} | dict(kwargs)
    if "rngs" in named:
      make: Any = factory
      model: Any = from_nnx(make, **given)
      _abstract(model)
    else:
      model = factory(**given)
  except TypeError as error:
    raise ValueError(f"kwargs do not fit {name}: {error}") from None
  if isinstance(model, nn.Module):
    return from_linen(model)
  if not (hasattr(model, "init") and hasattr(model, "apply")):
    raise ValueError(
      f"name {name!r} makes a {type(model).__name__}, which is no model; let "
      "it return a Linen module, take rngs, or use models.from_function"
    )
  return model
