"""One round of error-minimising noise, compiled, and its settings.

Arrays, keys and frozen settings in, arrays out; `error_minimising` drives it.

Reference: arXiv:2101.04898, section 3, algorithm 1.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robust_features import attacks, models, objectives
from robust_features.attacks import losses
from robust_features.data import dataset as ds
from robust_features.runtime import sharding


@dataclasses.dataclass(frozen=True)
class ErrorMinimisingConfig:
  """How error-minimising noise is made.

  Attributes:
    attack: The ball of the noise, and the steps of a round down the loss; each
      round goes on from the noise of the one before.
    train_steps: Steps of SGD between two rounds.
    train_batch_size: Images of each.
    learning_rate: Of SGD, constant.
    momentum: Of SGD.
    weight_decay: L2 penalty added to every parameter's gradient.
    stop_error: The network's error on the noisy images at which it is done.
    max_rounds: Rounds after which it is done in any case.
    pixels: What is stored and trained on: "uint8" or "float32".
    batch_size: Images at a time in a round.
    shard_size: Images in one file.
  """

  attack: attacks.AttackConfig
  train_steps: int
  train_batch_size: int
  learning_rate: float
  momentum: float
  weight_decay: float
  stop_error: float
  max_rounds: int
  pixels: str
  batch_size: int
  shard_size: int

  def __post_init__(self):
    for name in ("train_steps", "train_batch_size", "max_rounds", "batch_size",
                 "shard_size"):  # fmt: skip
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)!r}"
        )
    for name in ("learning_rate", "weight_decay"):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    if not 0 <= self.momentum < 1:
      raise ValueError(f"momentum must be in [0, 1), got {self.momentum!r}")
    if not 0 <= self.stop_error < 1:
      raise ValueError(f"stop_error must be in [0, 1), got {self.stop_error!r}")
    if self.pixels not in ("uint8", "float32"):
      raise ValueError(
        f"pixels must be 'uint8' or 'float32', got {self.pixels!r}"
      )
    if not 0 < self.attack.eps < math.inf:
      raise ValueError(
        f"attack.eps must be above 0 and finite, got {self.attack.eps!r}"
      )
    attacks.check_climbs("attack", self.attack)
    if self.attack.start != "x" or self.attack.num_restarts != 1:
      raise ValueError(
        "attack.start must be 'x' and attack.num_restarts 1, since a round "
        "goes on from the noise of the one before, got "
        f"{self.attack.start!r} and {self.attack.num_restarts!r}"
      )


class State(NamedTuple):
  """Everything that a round changes; arrays only."""

  step: jax.Array
  params: Any
  model_state: dict[str, Any]  # Every other collection.
  opt_state: Any
  images: jax.Array  # `[N, H, W, C]` float32, noise and all.

  @property
  def variables(self) -> dict[str, Any]:
    """The network's variables."""
    return {"params": self.params, **self.model_state}


def check_fit(
  cfg: ErrorMinimisingConfig, num_examples: int, image_shape: tuple[int, ...],
) -> None:  # fmt: skip
  """Raises ValueError where the settings do not fit the data."""
  if num_examples < cfg.train_batch_size:
    raise ValueError(
      f"train_batch_size is {cfg.train_batch_size}, more than the "
      f"{num_examples} images"
    )
  attacks.check_radius(
    "attack.eps", cfg.attack.eps, cfg.attack.norm, image_shape
  )


def optimizer(cfg: ErrorMinimisingConfig) -> optax.GradientTransformation:
  """Returns SGD as PyTorch defines it: the decay joins the gradient."""
  return optax.chain(
    optax.add_decayed_weights(cfg.weight_decay),
    optax.sgd(cfg.learning_rate, cfg.momentum),
  )


def begin(cfg, model, dataset: ds.Dataset, key: jax.Array) -> State:
  """Returns the state before the first step: no noise yet."""
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(leaf, leaf.dtype),
    models.init_variables(model, key, dataset.image_shape),
  )
  params = variables.pop("params")
  return State(
    jnp.zeros((), jnp.int32), params, variables, optimizer(cfg).init(params),
    jnp.asarray(ds.to_float(dataset.images)),
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("model", "cfg"))
def train(state: State, labels, order_key, model_key, *, model, cfg):
  """Takes the network's steps of a round; returns also their mean loss.

  Args:
    state: Before them.
    labels: int32 `[N]`.
    order_key: Of the images' order, folded with the epoch; what a batch would
      not fill of an epoch is left out.
    model_key: Of what is random in the network, folded with the step.
    model: The network's architecture.
    cfg: Number and size of the steps.
  """
  tx, size = optimizer(cfg), cfg.train_batch_size
  per_epoch = labels.shape[0] // size

  def body(_, carry):
    state, total = carry
    order = jax.random.permutation(
      jax.random.fold_in(order_key, state.step // per_epoch), labels.shape[0]
    )
    at = (state.step % per_epoch * size,)
    indices = sharding.split_batch(jax.lax.dynamic_slice(order, at, (size,)))
    x, y = state.images[indices], labels[indices]

    def mean_loss(params):
      outputs, new = models.apply_in_training(
        model, {"params": params, **state.model_state}, x,
        jax.random.fold_in(model_key, state.step),
      )  # fmt: skip
      return losses.cross_entropy(outputs.logits, y).mean(), new

    (loss, new), grads = jax.value_and_grad(mean_loss, has_aux=True)(
      state.params
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return (
      State(state.step + 1, params, new, opt_state, state.images),
      total + loss,
    )

  carry = (state, jnp.zeros(()))
  state, total = jax.lax.fori_loop(0, cfg.train_steps, body, carry)
  return state, total / cfg.train_steps


@functools.partial(jax.jit, static_argnames="model")
def descend(model, variables, originals, images, labels, key, attack, indices):
  """Lowers the loss on the images at `indices` `[B]`, from where they are.

  Args:
    model: The network's architecture.
    variables: Its variables.
    originals: `[N, H, W, C]`, about which the balls lie.
    images: float32 `[N, H, W, C]`, with the noise so far.
    labels: int32 `[N]`.
    key: Folded with an image's index.
    attack: The ball and the steps.
    indices: Of the images.

  Returns:
    The images float32 `[B, H, W, C]`, and where the network, with its running
    statistics, is wrong on them, bool `[B]`.
  """
  indices = sharding.split_batch(indices)
  x, y = ds.to_float(originals[indices]), labels[indices]
  found = attacks.maximize(
    objectives.target_objective(model, variables, y), x,
    attacks.example_keys(key, indices), attack, x_init=images[indices],
  )  # fmt: skip
  logits = models.apply(model, variables, found.x_adv).logits
  return found.x_adv, logits.argmax(1) != y
