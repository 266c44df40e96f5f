"""The CPU convolution has JAX's own values and gradients, in fast forms."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax import lax

from robust_features.models import convolution

# (kernel, strides, padding), image sizes that the stride does and does not
# divide, more padding than the kernel reaches, kernels of one row or column.
KERNELS = ((1, 1), (2, 2), (3, 3), (5, 5), (1, 7), (7, 1), (2, 3))
STRIDES = ((1, 1), (2, 2), (1, 3), (3, 2))
PADDINGS = (
  ((0, 0), (0, 0)),
  ((1, 1), (1, 1)),
  ((0, 2), (3, 1)),
  ((4, 4), (4, 4)),
  ((3, 1), (3, 1)),
)
CASES = list(itertools.product(KERNELS, STRIDES, PADDINGS))


def reference(x, kernel, strides, padding):
  # Padded beforehand: jaxlib 0.10 reads beyond the image where JAX's gradient
  # has padding (-1, 1), as it has for a kernel of 3 with padding (3, 1).
  return lax.conv_general_dilated(
    jnp.pad(x, ((0, 0), *padding, (0, 0))),
    kernel,
    strides,
    "VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def arrays(kernel_size, size=(8, 7), channels=(3, 4), dtype=jnp.float32):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, channels[0]))
  kernel = rng.normal(size=(*kernel_size, *channels))
  return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def both_gradients(conv, x, kernel, strides, padding):
  out, pull = jax.vjp(lambda x, k: conv(x, k, strides, padding), x, kernel)
  g = np.random.default_rng(1).normal(size=out.shape)
  return (out, *pull(jnp.asarray(g, x.dtype)))


def loop_text(conv, strides):
  """Returns the compiled text of gradient steps inside a loop."""
  x, kernel = arrays((3, 3))

  def loss(x, kernel):
    return (conv(x, kernel, strides, ((1, 1), (1, 1))) ** 2).sum()

  def body(_, carry):
    grads = jax.grad(loss, argnums=(0, 1))(*carry)
    return jax.tree.map(lambda a, g: a - 0.01 * g, carry, grads)

  run = jax.jit(lambda x, k, n: lax.fori_loop(0, n, body, (x, k)))
  return run.lower(x, kernel, 3).compile().as_text()


def layouts(text):
  return set(re.findall(r"dim_labels=(\w+->\w+)", text))


def assert_gradients_equal_jax(x, kernel, cases):
  """Compares values and gradients at all (strides, padding) of `cases`."""

  @jax.jit
  def compare(x, kernel):
    return [
      (
        both_gradients(convolution.convolve, x, kernel, *case),
        both_gradients(reference, x, kernel, *case),
      )
      for case in cases
    ]

  for case, (ours, theirs) in zip(cases, compare(x, kernel), strict=True):
    for name, a, b in zip("yxk", ours, theirs, strict=True):
      np.testing.assert_allclose(
        a, b, rtol=1e-5, atol=1e-5, err_msg=f"{name} {case}"
      )


class ConvolutionTest(parameterized.TestCase):
  def test_backend_is_cpu(self):
    # Else the tests below would compare JAX with itself.
    self.assertEqual(jax.default_backend(), "cpu")

  @parameterized.parameters(*KERNELS)
  def test_values_and_gradients_equal_jax(self, *kernel_size):
    x, kernel = arrays(kernel_size)
    cases = [(s, p) for k, s, p in CASES if k == kernel_size]
    assert_gradients_equal_jax(x, kernel, cases)

  @parameterized.parameters((3, 3), (5, 5), (2, 3))
  def test_more_channels_than_images_have(self, *kernel_size):
    x, kernel = arrays(kernel_size, channels=(5, 4))
    cases = [((1, 1), padding) for padding in PADDINGS]
    assert_gradients_equal_jax(x, kernel, cases)

  @parameterized.parameters(
    ((8, 8), ((1, 1), (1, 1))),
    ((9, 8), ((0, 2), (3, 1))),
    ((12, 11), ((0, 0), (4, 0))),
  )
  def test_many_channels(self, size, padding):
    x, kernel = arrays((3, 3), size, channels=(130, 128))
    kernel /= 1000  # Outputs of order 0.1, as the tolerance is absolute.
    one = (1, 1)
    program = jax.jit(convolution.convolve, static_argnums=(2, 3)).lower(
      x, kernel, one, padding
    )
    self.assertNotIn("stablehlo.convolution", program.as_text())
    assert_gradients_equal_jax(x, kernel, [(one, padding)])

  def test_many_channels_second_derivative(self):
    x, kernel = arrays((3, 3), channels=(128, 128), size=(8, 8))
    one = ((1, 1), ((1, 1), (1, 1)))

    def curvature(conv):
      def inner(x):
        return jnp.sum(conv(x, kernel / 30, *one) ** 3)

      return jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(inner)(x) ** 2)))(x)

    ours = curvature(convolution.convolve)
    theirs = curvature(reference)
    scale = float(jnp.abs(theirs).max())
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)

  def test_second_derivative_equals_jax(self):
    x, kernel = arrays((3, 3))

    def curvature(conv):
      def inner(x):
        y = conv(x, kernel, (2, 2), ((1, 1), (1, 1)))
        return jnp.sum(y**3)

      return jax.grad(lambda x: jnp.sum(jax.grad(inner)(x) ** 2))(x)

    ours = curvature(convolution.convolve)
    theirs = curvature(reference)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)

  def test_gradients_keep_bfloat16(self):
    x, kernel = arrays((3, 3), dtype=jnp.bfloat16)
    grads = both_gradients(
      convolution.convolve, x, kernel, (2, 2), ((1, 1), (1, 1))
    )
    self.assertEqual({g.dtype for g in grads}, {jnp.dtype(jnp.bfloat16)})

  def test_maps_over_a_batch_of_kernels(self):
    x, kernel = arrays((3, 3))
    kernels = jnp.stack([kernel, -2 * kernel])
    one = ((1, 1), ((1, 1), (1, 1)))

    def gradient(kernel):
      return jax.grad(lambda x: convolution.convolve(x, kernel, *one).sum())(x)

    mapped = jax.vmap(gradient)(kernels)
    np.testing.assert_allclose(mapped[0], gradient(kernel), atol=1e-5)
    np.testing.assert_allclose(mapped[1], gradient(-2 * kernel), atol=1e-5)

  @parameterized.parameters(1, 2)
  def test_loops_contain_only_the_fast_layout(self, stride):
    strides = (stride, stride)
    fast = {"b01f_01io->b01f"}
    self.assertEqual(layouts(loop_text(convolution.convolve, strides)), fast)
    # If this fails, the compiler has learnt it: this file can go.
    self.assertNotEqual(layouts(loop_text(reference, strides)), fast)


if __name__ == "__main__":
  absltest.main()
