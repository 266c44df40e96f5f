"""Parts shared by the zoo: outputs, normalisation, layers, initialisers.

Every network is called as `protocol.Model` says: with images `x` [B, H, W, C]
in [0, 1], `bn_mode` and `fake_relu`, and returns `Outputs`.
"""

import contextvars
import math
from collections.abc import Sequence
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


class Outputs(NamedTuple):
  """What every model returns, in float32 whatever it computed in.

  Attributes:
    logits: class scores before the softmax [B, K].
    representation: the input of the last linear layer [B, D]; None for a
      network of one's own that does not tell it.
  """

  logits: jax.Array
  representation: Any


class Pool:
  """One draw, uniform on [-1, 1), from which all layers are initialised.

  A generator for each tensor would take seconds to compile. Within
  `with pool:` the initialisers below take their part, in the order of their
  calls; any other initialiser draws with its own key as ever.

  Attributes:
    used: How many numbers were taken.
  """

  def __init__(self, draws: jax.Array | None = None):
    """Opens a pool; without draws it gives zeros, to count what is taken."""
    self.used = 0
    self._draws = draws

  def take(self, shape: tuple[int, ...]) -> jax.Array:
    """Returns the next numbers, in a shape."""
    start, self.used = self.used, self.used + math.prod(shape)
    if self._draws is None:
      return jnp.zeros(shape, jnp.float32)
    return self._draws[start : self.used].reshape(shape)

  def __enter__(self):
    self._token = _POOL.set(self)
    return self

  def __exit__(self, *unused):
    _POOL.reset(self._token)


_POOL: contextvars.ContextVar[Pool | None] = contextvars.ContextVar(
  "pool", default=None
)


def uniform_init(fan_in: int) -> Any:
  """Returns the initialiser U(+-1/sqrt(fan_in)), for kernels and biases.

  PyTorch's default for convolutions and linear layers (Kaiming uniform with
  a = sqrt(5)), which the paper's models used.
  """

  def init(key, shape, dtype=jnp.float32):
    pool = _POOL.get()
    if pool is None:
      draws = jax.random.uniform(key, shape, dtype, -1.0)
    else:
      draws = pool.take(shape)
    return draws / math.sqrt(fan_in)

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
        f"{name} needs 1 or {channels} numbers for images with"
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


def relu(x: jax.Array, fake: bool) -> jax.Array:
  """Applies the ReLU, or its fake twin where asked."""
  return fake_relu(x) if fake else jax.nn.relu(x)


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
  """Returns the maxima of square windows, without padding [B, H', W', C].

  Of equal pixels the first one gets the gradient, as in PyTorch.
  """
  if window != stride:
    _require_pixels([(size - window) // stride + 1 for size in x.shape[1:3]], x)
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
  _require_pixels((rows, columns), x)
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
  _require_pixels(
    [(size + 2 * padding - window) // stride + 1 for size in x.shape[1:3]], x
  )
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


def _require_pixels(sizes: Sequence[int], x: jax.Array) -> None:
  """Raises ValueError where a layer would leave no pixel of its input."""
  if min(sizes) < 1:
    raise ValueError(
      f"the images are too small for this network: a layer leaves nothing of "
      f"its {x.shape[1]}x{x.shape[2]} pixels; give larger images "
      "(image_size) or another network"
    )


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
    init = uniform_init(math.prod(shape[:-1]))
    kernel = self.param("kernel", init, shape)
    (ph, pw), s = self.padding, self.stride
    _require_pixels(
      [
        (size + 2 * pad - taps) // s + 1
        for size, pad, taps in zip(
          x.shape[1:3], self.padding, self.kernel_size, strict=True
        )
      ],
      x,
    )
    y = convolution.convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      (s, s),
      ((ph, ph), (pw, pw)),
    )
    if self.use_bias:
      bias = self.param("bias", init, (self.features,))
      y += bias.astype(self.dtype).reshape(1, 1, 1, -1)
    return y


class Linear(nn.Module):
  """Linear layer with PyTorch's default initialisation.

  Attributes:
    features: number of outputs.
    dtype: the compute type; parameters are float32.
    use_bias: whether a bias is added.
  """

  features: int
  dtype: Any = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x` [B, D] to [B, features]."""
    fan_in = x.shape[-1]
    init = uniform_init(fan_in)
    kernel = self.param("kernel", init, (fan_in, self.features))
    y = x.astype(self.dtype) @ kernel.astype(self.dtype)
    if self.use_bias:
      bias = self.param("bias", init, (self.features,))
      y += bias.astype(self.dtype).reshape(1, -1)
    return y


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


def normalization(norm: str, dtype: Any, name: str) -> Any:
  """Returns a layer `(y, bn_mode)` within a module that may be without.

  Args:
    norm: "batch" for BatchNorm; "none" gives the images back.
    dtype: type of the result.
    name: of the layer.
  """
  if norm == "batch":
    return BatchNorm(dtype, name=name)

  def nothing(y, bn_mode):
    check_bn_mode(bn_mode)
    return y

  return nothing


def conv_norm(
  x: jax.Array,
  features: int,
  names: tuple[str, str],
  bn_mode: str,
  *,
  norm: str,
  dtype: Any,
  size: int = 3,
  stride: int = 1,
  padding: int | None = None,
) -> jax.Array:
  """Convolves and normalises within a module; without a norm, adds a bias.

  Args:
    x: [B, H, W, C].
    features: number of output channels.
    names: of the convolution and of the normalisation.
    bn_mode: as in `BatchNorm`.
    norm: "batch" or "none".
    dtype: the compute type.
    size: pixels along a side of the kernel.
    stride: pixels between outputs.
    padding: zero pixels on each side; by default those that keep the size.
  """
  pad = size // 2 if padding is None else padding
  y = Conv(
    features, (size, size), stride, (pad, pad), use_bias=norm == "none",
    dtype=dtype, name=names[0],
  )(x)  # fmt: skip
  return normalization(norm, dtype, names[1])(y, bn_mode)


class Network(nn.Module):
  """What all networks share: the constants of the images, head and tail.

  Attributes:
    num_classes: number of logits K.
    mean: subtracted from the images, one number or one a channel.
    std: divided by, one number or one a channel.
    dtype: the compute type.
  """

  num_classes: int = 10
  mean: tuple[float, ...] = DEFAULT_MEAN
  std: tuple[float, ...] = DEFAULT_STD
  dtype: Any = jnp.float32

  def normalized(self, x: jax.Array) -> jax.Array:
    """Returns images in [0, 1] as the first layer wants them."""
    return normalize(x, self.mean, self.std, self.dtype)

  def classified(
    self, representation: jax.Array, scale: float = 1.0, use_bias: bool = True
  ) -> Outputs:
    """Puts the last linear layer on a representation [B, D].

    Args:
      representation: its input.
      scale: the logits are multiplied by it.
      use_bias: whether the layer has one.
    """
    representation = representation.astype(jnp.float32)
    linear = Linear(self.num_classes, self.dtype, use_bias, name="linear")
    logits = linear(representation).astype(jnp.float32)
    return Outputs(logits if scale == 1.0 else scale * logits, representation)
