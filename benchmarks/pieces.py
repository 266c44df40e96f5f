"""A study's three pieces of work and their operations, for the benchmarks.

A step of standard training, one of adversarial training and one of inversion;
what they cost an image, by the network's shapes and by XLA's cost analysis.
Needs neither ml_collections nor tensorflow-datasets.
"""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import common
from robust_features import attacks, construct_step, models, train
from robust_features.attacks import losses
from robust_features.data import augment

PIECES = ("standard", "adversarial", "inversion")


def recipe(
  batch_size: int, attack: attacks.AttackConfig | None = None
) -> train.TrainConfig:
  """Returns plain training at a constant rate, against an attack if given."""
  return train.TrainConfig(
    num_epochs=150, batch_size=batch_size, learning_rate=0.01,
    schedule="constant", drop_every_epochs=50, drop_factor=0.1,
    warmup_epochs=0.0, momentum=0.9, weight_decay=5e-4,
    augment=augment.AugmentConfig(0, False, 0.0, 0.0),
    adversary=attack or attacks.AttackConfig("l2", 0.0, 0.0, 0),
    eps_ramp_epochs=0.0, attack_bn_mode="running", eval_every_epochs=5,
  )  # fmt: skip


def abstract_model(
  name: str, dtype: str, shape: tuple[int, int, int], **fields
):
  """Returns (model, its variables as shapes)."""
  model = models.make_model(models.ModelConfig(name, dtype=dtype, **fields))
  variables = jax.eval_shape(
    lambda key: models.init_variables(model, key, shape), jax.random.key(0)
  )
  return model, variables


def inversion_batch(batch: int, shape: tuple[int, int, int]):
  """Returns what an inversion's program takes for a batch, as shapes."""
  classes = jax.ShapeDtypeStruct((batch,), jnp.int32)
  images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
  keys = jax.eval_shape(
    lambda rows: construct_step.streams(jax.random.key(0), rows), classes
  )
  return construct_step.Batch(keys, classes, classes, classes, images, images)


def count_flops(model: Any, variables: Any, shape, batch: int) -> dict:
  """Returns the operations of one image's pieces, by shapes and by XLA."""
  x = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
  y = jax.ShapeDtypeStruct((batch,), jnp.int32)

  def forward(variables, x, y):
    del y
    return model.apply(variables, x).logits

  def image_gradient(variables, x, y):
    def loss(x):
      return losses.cross_entropy(forward(variables, x, y), y).sum()

    return jax.grad(loss)(x)

  def parameter_gradient(variables, x, y):
    def loss(params):
      outputs, _ = model.apply(
        variables | {"params": params}, x,
        bn_mode="train", mutable=["batch_stats"],
      )  # fmt: skip
      return losses.cross_entropy(outputs.logits, y).mean()

    return jax.grad(loss)(variables["params"])

  found = {
    "forward, by shapes": float(common.forward_flops(forward, variables, x, y))
  }
  for name, fn in (("forward", forward), ("image gradient", image_gradient),
                   ("parameter gradient", parameter_gradient)):  # fmt: skip
    compiled = jax.jit(fn).lower(variables, x, y).compile()
    found[f"{name}, by XLA"] = common.xla_flops(compiled)
  return {name: value / batch for name, value in found.items()}


def forward_passes(piece: str, attack_steps: int = 7) -> float:
  """Returns the forward passes' worth of one image's step of a piece.

  Two a gradient in the image, three a gradient in the parameters, and one more
  to compare the attack's last iterate with its best.
  """
  return {
    "standard": 3.0,
    "adversarial": 2.0 * attack_steps + 1.0 + 3.0,
    "inversion": 2.0,
  }[piece]


def xla_flops(piece: str, flops: dict, attack_steps: int = 7) -> float:
  """Returns XLA's count of the same step, put together from its pieces."""
  forward, image, parameters = (
    flops[f"{name}, by XLA"]
    for name in ("forward", "image gradient", "parameter gradient")
  )
  return {
    "standard": parameters,
    "adversarial": attack_steps * image + forward + parameters,
    "inversion": image,
  }[piece]
