"""A convolution whose gradients stay fast inside loops on CPU.

XLA's CPU compiler has one fast convolution: images laid out NHWC, kernels
HWIO. JAX writes the gradients of a convolution with other layouts. Outside
loops the compiler rewrites those to the fast form; inside the body of a
`scan`, `fori_loop` or `while_loop` it does not, and the gradients run on a
generic path that is tens of times slower (jax-ml/jax issue 12868). Attacks
and training steps live in such loops.

The cure is to write both gradients in the fast form ourselves. The input
gradient is the convolution of the cotangent with the kernel turned by half a
turn and its channels exchanged; with a stride, one such convolution for each
phase of the pixels, all at once. The kernel gradient is the convolution of the
images with the cotangent as kernel, where the batch plays the part of the input
channels.

Two shapes have faster forms than the compiler's: few input channels (the
gradient with respect to images) as a matrix product and shifted sums, and 3x3
kernels between many channels by Winograd's algorithm, which rounds like float32
but not bit for bit like the direct sum.

Accelerators have no such trouble and keep JAX's own rule.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_NHWC_HWIO = ("NHWC", "HWIO", "NHWC")

# Up to _FEW and from _MANY channels on, other forms than a convolution
# are faster (measured; docs/performance.md).
_FEW, _MANY = 4, 128

# Matrices of Winograd's algorithm, applied along both axes: four pixels in a
# row and three taps become four factors each, whose products give two outputs.
_TO_TILES = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_TO_TAPS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_FROM_TILES = ((1, 1, 1, 0), (0, 1, -1, -1))

Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Convolves images with a kernel (cross-correlation, as networks use it).

  On CPU the result has only a reverse-mode derivative (any order); elsewhere
  it is an ordinary JAX convolution.

  Args:
    x: images [B, H, W, C].
    kernel: [kh, kw, C, D].
    strides: pixels between outputs, vertical and horizontal.
    padding: zero pixels ((top, bottom), (left, right)).

  Returns:
    [B, H', W', D].
  """
  if jax.default_backend() != "cpu":
    return _convolve(x, kernel, strides, padding)
  if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
    # A matrix product, and so are its gradients.
    return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
  return _convolve_cpu(x, kernel, strides, padding)


def _convolve(x, kernel, strides, padding, **dilation):
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    dimension_numbers=_NHWC_HWIO,
    **dilation,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_cpu(x, kernel, strides, padding):
  if strides == (1, 1):
    return _correlate(x, kernel, padding)
  return _convolve(x, kernel, strides, padding)


def _forward(x, kernel, strides, padding):
  return _convolve_cpu(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, g):
  x, kernel = residuals
  return (
    _input_gradient(x.shape, kernel, g, strides, padding),
    _kernel_gradient(x, kernel.shape, g, strides, padding),
  )


_convolve_cpu.defvjp(_forward, _backward)


def _correlate(x, kernel, pads):
  """Returns the dense convolution of stride 1 in the form fastest here."""
  if _winograd_pays(kernel):
    return _winograd(x, kernel, pads)
  return _dense(x, kernel, pads)


def _dense(x, kernel, pads, **dilation):
  """Convolves with stride 1; negative padding crops.

  jaxlib 0.10's CPU convolution takes padding (-1, 1) for none at all.
  """
  if min(map(min, pads)) < 0:
    x, pads = _pad(x, pads), ((0, 0), (0, 0))
  return _convolve(x, kernel, (1, 1), pads, **dilation)


def _pad(x, pads):
  """Returns images with zero pixels added, or pixels cut off if negative."""
  pads = ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0))
  return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _input_gradient(x_shape, kernel, g, strides, padding):
  """Returns d<g, convolve(x, kernel)>/dx [B, H, W, C].

  With stride s, pixel s*q + r of the input receives g[q + m - j] times tap
  s*j + r of a kernel that begins a few zeros earlier (so that m is whole): each
  phase r of the pixels is a convolution of g with every s-th tap. All phases
  are computed by one convolution, as channels, and then laid side by side.
  """
  (sh, sw), (_, height, width, channels) = strides, x_shape
  if strides == (1, 1) and channels <= _FEW:
    return _few_channel_gradient(x_shape, kernel, g, padding)
  pads, zeros, taps = [], [], []
  for axis, (before, _) in enumerate(padding):
    stride, size = strides[axis], kernel.shape[axis]
    front = -before % stride
    taps.append(-(-(front + size) // stride))
    zeros.append((front, taps[axis] * stride - front - size))
    m = (before + front) // stride
    outputs = -(-x_shape[axis + 1] // stride)
    pads.append((taps[axis] - 1 - m, outputs - g.shape[axis + 1] + m))
  turned = jnp.pad(kernel, (*zeros, (0, 0), (0, 0)))
  turned = turned.reshape(taps[0], sh, taps[1], sw, channels, -1)
  turned = turned[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
  turned = turned.reshape(*taps, -1, sh * sw * channels)
  # XLA moves arithmetic out of loops, but no mere rearrangement: hence -(-t).
  out = -_correlate(g, -turned, pads)
  batch, rows, columns, _ = out.shape
  out = out.reshape(batch, rows, columns, sh, sw, channels)
  out = out.transpose(0, 1, 3, 2, 4, 5)
  out = out.reshape(batch, rows * sh, columns * sw, channels)
  return out[:, :height, :width]


def _few_channel_gradient(x_shape, kernel, g, padding):
  """Returns the input gradient of stride 1 where C is small, as in images.

  One matrix product gives what every output adds through every tap; shifted to
  the pixels that the taps touched, the additions are summed. A convolution to
  three channels would leave most of a vector register empty.
  """
  kh, kw, channels, features = kernel.shape
  taps = -kernel.transpose(3, 0, 1, 2).reshape(features, -1)  # See above.
  added = -(g @ taps)
  edges = [
    (size - 1 - before, in_size + before - out_size)
    for size, (before, _), in_size, out_size in zip(
      (kh, kw), padding, x_shape[1:3], g.shape[1:3], strict=True
    )
  ]
  added = _pad(added, edges)
  total = jnp.zeros(x_shape, g.dtype)
  for tap in range(kh * kw):
    top, left = kh - 1 - tap // kw, kw - 1 - tap % kw
    total += added[
      :,
      top : top + x_shape[1],
      left : left + x_shape[2],
      tap * channels : (tap + 1) * channels,
    ]
  return total


def _winograd_pays(kernel) -> bool:
  """Returns whether the products saved outweigh the sums added.

  Of the kernel alone: the form, hence the rounding, must not depend on the
  batch size.
  """
  return (
    kernel.shape[:2] == (3, 3)
    and min(kernel.shape[2:]) >= _MANY
    and kernel.dtype == jnp.float32
  )


def _winograd(x, kernel, pads):
  """Returns the 3x3 convolution with 16 products for 4 outputs, not 36.

  Reference: Lavin and Gray, arXiv:1509.09308, section 4.1: F(2x2, 3x3).
  """
  batch, features = x.shape[0], kernel.shape[3]
  height, width = (
    size + sum(pad) - 2 for size, pad in zip(x.shape[1:3], pads, strict=True)
  )
  rows, columns = -(-height // 2), -(-width // 2)
  (top, _), (left, _) = pads
  edges = (
    (top, 2 * rows + 2 - top - x.shape[1]),
    (left, 2 * columns + 2 - left - x.shape[2]),
  )
  taps = jnp.asarray(np.kron(_TO_TAPS, _TO_TAPS), kernel.dtype)
  taps = (taps @ kernel.reshape(9, -1)).reshape(16, *kernel.shape[2:])
  x = _pad(x, edges)
  x = [x[:, i : i + 2 * rows - 1 : 2] for i in range(4)]
  x = _combine(_TO_TILES, x)
  x = [[r[:, :, i : i + 2 * columns - 1 : 2] for i in range(4)] for r in x]
  tiles = jnp.stack([t for r in x for t in _combine(_TO_TILES, r)])
  products = jnp.einsum("tbhwc,tcd->tbhwd", tiles, taps)
  products = products.reshape(4, 4, *products.shape[1:])
  out = [
    jnp.stack(_combine(_FROM_TILES, row), 3)
    for row in _combine(_FROM_TILES, products)
  ]
  out = jnp.stack(out, 2).reshape(batch, 2 * rows, 2 * columns, features)
  return out[:, :height, :width]


def _combine(weights, parts):
  """Returns sums of `parts`, one for each row of `weights`."""
  sums = []
  for row in weights:
    terms = [
      part if w == 1 else -part if w == -1 else part * w
      for w, part in zip(row, parts, strict=True)
      if w
    ]
    sums.append(sum(terms[1:], terms[0]))
  return sums


def _kernel_gradient(x, kernel_shape, g, strides, padding):
  """Returns d<g, convolve(x, kernel)>/dkernel [kh, kw, C, D]."""
  pads = []
  for axis in (0, 1):
    before = padding[axis][0]
    read = (g.shape[axis + 1] - 1) * strides[axis] + kernel_shape[axis]
    pads.append((before, read - x.shape[axis + 1] - before))
  out = _dense(
    x.transpose(3, 1, 2, 0),
    g.transpose(1, 2, 0, 3),
    pads,
    rhs_dilation=strides,
  )
  return out.transpose(1, 2, 0, 3)
