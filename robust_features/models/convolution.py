"""A convolution whose gradients stay fast inside loops on CPU.

XLA's CPU compiler has one fast convolution: images laid out NHWC, kernels
HWIO. JAX writes the gradients of a convolution with other layouts. Outside
loops the compiler rewrites those to the fast form; inside the body of a
`scan`, `fori_loop` or `while_loop` it does not, and the gradients run on a
generic path that is tens of times slower (jax-ml/jax issue 12868). Attacks
and training steps live in such loops.

The cure is to write both gradients in the fast form ourselves. With stride
`s`, the input gradient is the convolution of the cotangent, spread out by
`s`, with the kernel turned by half a turn and its channels exchanged. The
kernel gradient is the convolution of the images with the cotangent as kernel,
where the batch plays the part of the input channels.

Accelerators have no such trouble and keep JAX's own rule.
"""

import functools

import jax
from jax import lax

_NHWC_HWIO = ("NHWC", "HWIO", "NHWC")

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
  return _convolve(x, kernel, strides, padding)


def _forward(x, kernel, strides, padding):
  return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, g):
  x, kernel = residuals
  return (
    _input_gradient(x.shape, kernel, g, strides, padding),
    _kernel_gradient(x, kernel.shape, g, strides, padding),
  )


_convolve_cpu.defvjp(_forward, _backward)


def _span(num_outputs: int, stride: int, kernel_size: int) -> int:
  """Returns how many padded input pixels a row of outputs reads."""
  return (num_outputs - 1) * stride + kernel_size


def _input_gradient(x_shape, kernel, g, strides, padding):
  """Returns d<g, convolve(x, kernel)>/dx [B, H, W, C]."""
  pads = []
  for axis in (0, 1):
    size, stride = kernel.shape[axis], strides[axis]
    before = size - 1 - padding[axis][0]
    # Rows that no window reached (the stride skips them) get zeros; negative
    # numbers crop, which happens where the padding exceeds the kernel.
    reached = _span(g.shape[axis + 1], stride, size) - padding[axis][0]
    pads.append((before, size - 1 + x_shape[axis + 1] - reached))
  turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  return _convolve(g, turned, (1, 1), pads, lhs_dilation=strides)


def _kernel_gradient(x, kernel_shape, g, strides, padding):
  """Returns d<g, convolve(x, kernel)>/dkernel [kh, kw, C, D]."""
  pads = []
  for axis in (0, 1):
    before = padding[axis][0]
    read = _span(g.shape[axis + 1], strides[axis], kernel_shape[axis])
    pads.append((before, read - x.shape[axis + 1] - before))
  out = _convolve(
    x.transpose(3, 1, 2, 0),
    g.transpose(1, 2, 0, 3),
    (1, 1),
    pads,
    rhs_dilation=strides,
  )
  return out.transpose(1, 2, 0, 3)
