"""Parts shared by all models: outputs, normalisation, layers, initialisers.

Every model is called as `model.apply(variables, x, bn_mode=..., fake_relu=...)`
with images `x` [B, H, W, C] in [0, 1] and returns `Outputs`.
"""

import math
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_features.models import convolution

# The constants of the paper's library. Its std is that of per-image standard
# deviations averaged, not of all pixels; kept because the results depend on
# nothing else.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
DEFAULT_MEAN = (0.5,)
DEFAULT_STD = (0.25,)

BNMode = Literal["running", "batch", "train"]
BN_MODES: tuple[str, ...] = get_args(BNMode)

# Uniform on +-1/sqrt(fan_in): PyTorch's default for convolutions and linear
# layers (Kaiming uniform with a = sqrt(5)), which the paper's models used.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Outputs(NamedTuple):
  """What every model returns, in float32 whatever it computed in.

  Attributes:
    logits: class scores before the softmax [B, K].
    representation: the input of the last linear layer [B, D].
  """

  logits: jax.Array
  representation: jax.Array


def bias_init(fan_in: int) -> Any:
  """Returns PyTorch's default bias initialiser: U(+-1/sqrt(fan_in))."""
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def check_bn_mode(bn_mode: str) -> None:
  """Raises ValueError if `bn_mode` is none of the three."""
  if bn_mode not in BN_MODES:
    raise ValueError(f"bn_mode must be one of {BN_MODES}, got {bn_mode!r}")


def normalize(
  x: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any
) -> jax.Array:
  """Returns (x - mean) / std in the model's compute type.

  Args:
    x: images [B, H, W, C] in [0, 1].
    mean: one number, or one a channel.
    std: one number, or one a channel.
    dtype: what the network computes in; the division itself is in float32.

  Raises:
    ValueError: if the constants fit neither one channel nor C.
  """
  channels = x.shape[-1]
  for name, constant in (("mean", mean), ("std", std)):
    if len(constant) not in (1, channels):
      raise ValueError(
        f"model.{name} needs 1 or {channels} numbers for images with"
        f" {channels} channels, got {constant!r}"
      )
  shift = jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, -1)
  scale = jnp.asarray(std, jnp.float32).reshape(1, 1, 1, -1)
  return ((x.astype(jnp.float32) - shift) / scale).astype(dtype)


@jax.custom_jvp
def fake_relu(x: jax.Array) -> jax.Array:
  """Returns max(x, 0), with the derivative of the identity.

  Lets representation inversion move units that are switched off.
  """
  return jax.nn.relu(x)


@fake_relu.defjvp
def _fake_relu_jvp(primals, tangents):
  return jax.nn.relu(primals[0]), tangents[0]


def last_relu(x: jax.Array, fake: bool) -> jax.Array:
  """Applies the ReLU before the representation, or its fake twin."""
  return fake_relu(x) if fake else jax.nn.relu(x)


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
  """Returns the maxima of square windows, without padding [B, H', W', C].

  Of equal pixels the first one gets the gradient, as in PyTorch.
  """
  if window != stride:
    return nn.max_pool(x, (window, window), (stride, stride))
  # Same values as a window reduction, whose gradient is a slow scatter on CPU.
  # Not `jnp.max`: its gradient asks which pixel equals the maximum, and none
  # does where the compiler rounds a recomputed pixel differently.
  squares = _squares(x, window)
  best = squares[:, :, 0, :, 0]
  for i in range(1, window**2):
    other = squares[:, :, i // window, :, i % window]
    best = jnp.where((other > best) | jnp.isnan(other), other, best)
  return best


def mean_pool(x: jax.Array, window: int) -> jax.Array:
  """Returns the means of disjoint squares; a partial last one is dropped."""
  return jnp.mean(_squares(x, window), axis=(2, 4))


def _squares(x: jax.Array, window: int) -> jax.Array:
  """Cuts [B, H, W, C] into squares [B, H', window, W', window, C]."""
  batch, height, width, channels = x.shape
  rows, columns = height // window, width // window
  x = x[:, : rows * window, : columns * window]
  return x.reshape(batch, rows, window, columns, window, channels)


def average_pool(
  x: jax.Array, window: int, stride: int, padding: int
) -> jax.Array:
  """Returns means of overlapping squares, zero padding counted in.

  Args:
    x: images [B, H, W, C].
    window: pixels along a side.
    stride: pixels between windows.
    padding: zero pixels on each side.
  """
  total = jax.lax.reduce_window(
    x,
    np.zeros((), x.dtype),  # A traced zero would hide that this is a sum.
    jax.lax.add,
    (1, window, window, 1),
    (1, stride, stride, 1),
    ((0, 0), (padding, padding), (padding, padding), (0, 0)),
  )
  return total / window**2


def global_mean(x: jax.Array) -> jax.Array:
  """Returns the mean over all pixels, [B, H, W, C] -> [B, C], in float32."""
  return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


class Conv(nn.Module):
  """Convolution with explicit zero padding, as PyTorch's Conv2d.

  Attributes:
    features: number of output channels.
    kernel_size: pixels, vertical and horizontal.
    stride: pixels between outputs.
    padding: zero pixels added on each side, vertical and horizontal.
    use_bias: whether a bias is added.
    dtype: the compute type; parameters are float32.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  stride: int = 1
  padding: tuple[int, int] = (1, 1)
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves `x` [B, H, W, C] to [B, H', W', features]."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", kernel_init, shape)
    (ph, pw), s = self.padding, self.stride
    y = convolution.convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      (s, s),
      ((ph, ph), (pw, pw)),
    )
    if self.use_bias:
      init = bias_init(math.prod(shape[:3]))
      bias = self.param("bias", init, (self.features,))
      y += bias.astype(self.dtype).reshape(1, 1, 1, -1)
    return y


class Linear(nn.Module):
  """Linear layer with PyTorch's default initialisation.

  Attributes:
    features: number of outputs.
    dtype: the compute type; parameters are float32.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x` [B, D] to [B, features]."""
    fan_in = x.shape[-1]
    kernel = self.param("kernel", kernel_init, (fan_in, self.features))
    bias = self.param("bias", bias_init(fan_in), (self.features,))
    y = x.astype(self.dtype) @ kernel.astype(self.dtype)
    return y + bias.astype(self.dtype).reshape(1, -1)


class BatchNorm(nn.Module):
  """Batch normalisation over all axes but the last, in float32.

  The mode of a call says which statistics normalise it:

  - "running": the running statistics. Examples do not see each other.
  - "batch": the statistics of the batch; nothing is updated.
  - "train": the statistics of the batch, and the running ones move by a tenth
    towards them; call with `mutable=["batch_stats"]`.

  Equals PyTorch's BatchNorm2d: momentum 0.9 here is its 0.1, and the running
  variance is the unbiased one (Linen's own layer keeps the biased one, the one
  difference between the two frameworks). When the batch is sharded over devices
  under `jit`, its statistics are those of the global batch.

  Attributes:
    dtype: type of the result; statistics and parameters are float32.
    momentum: weight of the old running statistics.
    epsilon: added to the variance.
  """

  dtype: Any = jnp.float32
  momentum: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array, bn_mode: str = "running") -> jax.Array:
    """Normalises `x` [B, ..., C].

    Raises:
      ValueError: if `bn_mode` is none of the three.
    """
    check_bn_mode(bn_mode)
    features = (x.shape[-1],)
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    scale = self.param("scale", ones, features)
    bias = self.param("bias", zeros, features)
    stats = "batch_stats"
    ra_mean = self.variable(stats, "mean", jnp.zeros, features)
    ra_var = self.variable(stats, "var", jnp.ones, features)
    x32 = x.astype(jnp.float32)
    if bn_mode == "running":
      mean, var = ra_mean.value, ra_var.value
    else:
      mean, var = _moments(x32)
    if bn_mode == "train" and not self.is_initializing():
      n, m = x.size // x.shape[-1], self.momentum
      unbiased = var * (n / max(n - 1, 1))
      ra_mean.value = m * ra_mean.value + (1 - m) * mean
      ra_var.value = m * ra_var.value + (1 - m) * unbiased
    shape = (1,) * (x.ndim - 1) + features
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    y = (x32 - mean.reshape(shape)) * factor.reshape(shape)
    return (y + bias.reshape(shape)).astype(self.dtype)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns mean and biased variance [C] over all axes but the last."""
  axes = tuple(range(x.ndim - 1))
  mean = jnp.mean(x, axes, keepdims=True)
  # Two passes: the one-pass formula cancels where the mean is large.
  var = jnp.mean(jnp.square(x - mean), axes)
  return mean.reshape(-1), var
