"""Networks that are none of the zoo's, for configs to name."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from robust_features import models


class ViT(nn.Module):
  """A vision transformer of twenty lines, with dropout."""

  num_classes: int
  dim: int = 16
  depth: int = 1
  patch: int = 8
  dropout: float = 0.1

  @nn.compact
  def __call__(self, x, train=False):
    size = (self.patch, self.patch)
    y = nn.Conv(self.dim, size, size)((x - 0.5) / 0.25)
    y = y.reshape(y.shape[0], -1, self.dim)
    shape = (1, *y.shape[1:])
    y = y + self.param("position", nn.initializers.normal(0.5), shape)
    y = nn.Dropout(self.dropout, deterministic=not train)(y)
    for _ in range(self.depth):
      y = y + nn.SelfAttention(2)(nn.LayerNorm()(y))
      y = y + nn.Dense(self.dim)(nn.gelu(nn.Dense(self.dim)(nn.LayerNorm()(y))))
    representation = nn.LayerNorm()(y).mean(1)
    logits = nn.Dense(self.num_classes)(representation)
    return models.Outputs(logits, representation)


class CNN(nnx.Module):
  """An nnx network with BatchNorm and dropout."""

  def __init__(self, num_classes, width=4, *, rngs):
    self.convs = nnx.List(
      [
        nnx.Conv(3, width, (3, 3), strides=2, rngs=rngs),
        nnx.Conv(width, width, (3, 3), strides=2, rngs=rngs),
      ]
    )
    self.norm = nnx.BatchNorm(width, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, x):
    for conv in self.convs:
      x = nnx.relu(conv(x - 0.5))
    representation = self.norm(x).mean((1, 2))
    return self.head(self.dropout(representation)), representation


class Counted(nn.Module):
  """Keeps a collection beside BatchNorm's: how many batches it was shown."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, x, deterministic=True):
    seen = self.variable("counts", "batches", lambda: jnp.zeros(()))
    if not deterministic and not self.is_initializing():
      seen.value += 1.0
    y = nn.Conv(4, (3, 3), 2)(x)
    y = nn.BatchNorm(use_running_average=deterministic)(y)
    return nn.Dense(self.num_classes)(nn.relu(y).mean((1, 2)))


class WrongShape(nn.Module):
  """Returns a map of logits."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x)


def linear(num_classes):
  """Returns a model of two plain functions."""
  return models.from_function(_logits, _Init(num_classes))


def _logits(params, x):
  return x.reshape(x.shape[0], -1) @ params["w"]


class _Init(int):
  """Makes parameters of so many classes; equal ones are one program."""

  def __call__(self, key, x):
    size = x.shape[1] * x.shape[2] * x.shape[3]
    return {"w": 0.1 * jax.random.normal(key, (size, int(self)))}


def nothing():
  """Returns no model."""
  return 3
