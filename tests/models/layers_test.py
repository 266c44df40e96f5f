"""Layers against closed forms: normalisation, BatchNorm, fake ReLU, inits."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.models import layers


def images(shape=(6, 4, 5, 3), seed=0):
  return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def batch_norm_variables():
  rng = np.random.default_rng(7)
  return {
    "params": {
      "scale": jnp.asarray(rng.uniform(0.5, 1.5, 3), jnp.float32),
      "bias": jnp.asarray(rng.normal(size=3), jnp.float32),
    },
    "batch_stats": {
      "mean": jnp.asarray(rng.normal(size=3), jnp.float32),
      "var": jnp.asarray(rng.uniform(0.5, 2.0, 3), jnp.float32),
    },
  }


def expected(x, mean, var, variables):
  scale, bias = (variables["params"][k] for k in ("scale", "bias"))
  return (x - mean) / np.sqrt(var + 1e-5) * np.asarray(scale) + np.asarray(bias)


class NormalizeTest(absltest.TestCase):
  def test_per_channel_and_scalar(self):
    x = images()
    mean, std = np.float32((0.1, 0.2, 0.3)), np.float32((0.5, 0.6, 0.7))
    out = layers.normalize(x, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), jnp.float32)
    np.testing.assert_allclose(out, (x - mean) / std, rtol=1e-6, atol=1e-6)
    out = layers.normalize(x, (0.5,), (0.25,), jnp.float32)
    np.testing.assert_allclose(out, 4 * x - 2, atol=1e-6)

  def test_the_division_is_in_float32(self):
    """And rounded once: in bfloat16, 0.4914 taken from 0.5 is nothing."""
    x = images()
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    found = layers.normalize(jnp.asarray(x), mean, std, jnp.bfloat16)
    want = layers.normalize(jnp.asarray(x), mean, std, jnp.float32)
    self.assertEqual(found.dtype, jnp.bfloat16)
    np.testing.assert_array_equal(found, want.astype(jnp.bfloat16))

  def test_wrong_number_of_channels_is_named(self):
    with self.assertRaisesRegex(ValueError, "std.*3 channels"):
      layers.normalize(images(), (0.5,), (0.5, 0.5), jnp.float32)


class NetworkTest(absltest.TestCase):
  def test_constants_head_and_tail(self):
    class Flat(layers.Network):
      @nn.compact
      def __call__(self, x, scale=1.0, use_bias=True):
        y = self.normalized(x).mean(axis=(1, 2))
        return self.classified(y, scale, use_bias)

    x = images()
    net = Flat(num_classes=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    variables = net.init(jax.random.key(0), x)
    linear = jax.tree.map(np.asarray, variables["params"]["linear"])
    self.assertEqual(linear["kernel"].shape, (3, 4))
    normal = (x - np.float32(net.mean)) / np.float32(net.std)
    want = normal.mean(axis=(1, 2))
    found = net.apply(variables, x, 0.2)
    np.testing.assert_allclose(found.representation, want, atol=1e-6)
    logits = want @ linear["kernel"] + linear["bias"]
    np.testing.assert_allclose(found.logits, 0.2 * logits, atol=1e-6)
    bare = net.init(jax.random.key(0), x, 1.0, False)["params"]["linear"]
    self.assertEqual(set(bare), {"kernel"})

  def test_what_is_not_told(self):
    net = layers.Network()
    self.assertEqual(
      (net.num_classes, net.mean, net.std, net.dtype),
      (10, layers.DEFAULT_MEAN, layers.DEFAULT_STD, jnp.float32),
    )
    self.assertEqual((layers.BatchNorm().momentum, layers.BatchNorm().epsilon),
                     (0.9, 1e-5))  # fmt: skip
    conv = layers.Conv(3)
    self.assertEqual(
      (conv.kernel_size, conv.stride, conv.padding, conv.use_bias),
      ((3, 3), 1, (1, 1), False),
    )
    self.assertTrue(layers.Linear(3).use_bias)


class BatchNormTest(parameterized.TestCase):
  def test_running_uses_the_running_statistics(self):
    x, variables = images(), batch_norm_variables()
    out = layers.BatchNorm().apply(variables, x, "running")
    stats = jax.tree.map(np.asarray, variables["batch_stats"])
    want = expected(x, stats["mean"], stats["var"], variables)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)

  def test_batch_uses_the_batch_and_needs_no_mutable(self):
    x, variables = images(), batch_norm_variables()
    out = layers.BatchNorm().apply(variables, x, "batch")
    want = expected(x, x.mean((0, 1, 2)), x.var((0, 1, 2)), variables)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)

  def test_train_moves_the_statistics_a_tenth(self):
    x, variables = images(), batch_norm_variables()
    out, updated = layers.BatchNorm().apply(
      variables, x, "train", mutable=["batch_stats"]
    )
    same = layers.BatchNorm().apply(variables, x, "batch")
    np.testing.assert_array_equal(out, same)
    old = jax.tree.map(np.asarray, variables["batch_stats"])
    # PyTorch: the running variance takes the unbiased estimate.
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
    new = updated["batch_stats"]
    np.testing.assert_allclose(
      new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5
    )
    np.testing.assert_allclose(
      new["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-5
    )

  def test_fresh_statistics_have_seen_nothing(self):
    found = layers.BatchNorm().init(jax.random.key(0), images(), "train")
    np.testing.assert_array_equal(found["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(found["batch_stats"]["var"], np.ones(3))

  @parameterized.parameters("running", "batch")
  def test_other_modes_change_nothing(self, mode):
    variables = batch_norm_variables()
    _, updated = layers.BatchNorm().apply(
      variables, images(), mode, mutable=["batch_stats"]
    )
    for name in ("mean", "var"):
      np.testing.assert_array_equal(
        updated["batch_stats"][name], variables["batch_stats"][name]
      )

  def test_variance_survives_a_large_mean(self):
    x = images() + np.float32(1000)
    variables = layers.BatchNorm().init(jax.random.key(0), x)
    out = layers.BatchNorm().apply(variables, x, "batch")
    np.testing.assert_allclose(np.var(out, (0, 1, 2)), np.ones(3), rtol=1e-2)

  def test_bfloat16_input_keeps_float32_statistics(self):
    x, variables = images(), batch_norm_variables()
    out, updated = layers.BatchNorm(jnp.bfloat16).apply(
      variables, x.astype(jnp.bfloat16), "train", mutable=["batch_stats"]
    )
    self.assertEqual(out.dtype, jnp.bfloat16)
    self.assertEqual(updated["batch_stats"]["var"].dtype, jnp.float32)

  def test_single_example_has_finite_statistics(self):
    _, updated = layers.BatchNorm().apply(
      batch_norm_variables(),
      images((1, 1, 1, 3)),
      "train",
      mutable=["batch_stats"],
    )
    self.assertTrue(np.isfinite(updated["batch_stats"]["var"]).all())

  def test_unknown_mode_is_named(self):
    with self.assertRaisesRegex(ValueError, "bn_mode.*'eval'"):
      layers.BatchNorm().apply(batch_norm_variables(), images(), "eval")


class ReluTest(absltest.TestCase):
  def test_fake_relu_is_relu_forward_and_identity_backward(self):
    x = jnp.asarray([-2.0, -0.0, 0.0, 3.0, jnp.inf])
    np.testing.assert_array_equal(layers.fake_relu(x), [0, 0, 0, 3, jnp.inf])
    grad = jax.grad(lambda x: jnp.sum(layers.fake_relu(x)))(x)
    np.testing.assert_array_equal(grad, np.ones(5))
    grad = jax.grad(lambda x: jnp.sum(layers.relu(x, False)))(x)
    np.testing.assert_array_equal(grad, [0, 0, 0, 1, 1])


class DrawTest(absltest.TestCase):
  def test_every_layer_takes_the_next_numbers(self):
    draws = jnp.arange(20.0)
    with layers.Pool(draws) as pool:
      first, second, third = pool.take((2, 3)), pool.take(()), pool.take((4,))
    np.testing.assert_array_equal(first, np.arange(6.0).reshape(2, 3))
    self.assertEqual(float(second), 6.0)
    np.testing.assert_array_equal(third, np.arange(7.0, 11.0))
    self.assertEqual(pool.used, 11)

  def test_a_pool_without_draws_counts(self):
    with layers.Pool() as pool:
      layers.Linear(4).init(jax.random.key(0), jnp.zeros((1, 3)))
    self.assertEqual(pool.used, 3 * 4 + 4)

  def test_a_layers_part_is_scaled_by_its_inputs(self):
    draws = jnp.linspace(-1, 1, 20)
    with layers.Pool(draws):
      found = layers.Linear(4).init(jax.random.key(0), jnp.zeros((1, 4)))
    both = np.concatenate(
      [np.ravel(found["params"][name]) for name in ("kernel", "bias")]
    )
    np.testing.assert_allclose(both, draws / 2, atol=1e-6)


CONV = layers.Conv(2, (5, 5), 2, (1, 1))


class PoolTest(parameterized.TestCase):
  def test_average_counts_the_padding(self):
    out = layers.average_pool(jnp.ones((1, 3, 3, 1)), 3, 1, 1)
    want = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9
    np.testing.assert_allclose(out[0, :, :, 0], want, rtol=1e-6)

  @parameterized.named_parameters(
    ("max_pool", lambda x: layers.max_pool(x, 3, 2), 3),
    ("mean_pool", lambda x: layers.mean_pool(x, 2), 2),
    ("average_pool", lambda x: layers.average_pool(x, 5, 2, 1), 3),
    ("conv", lambda x: CONV.init_with_output(jax.random.key(0), x)[0], 3),
  )
  def test_a_layer_that_leaves_no_pixel(self, layer, least):
    """One more row or column than is refused leaves one."""
    shape = jax.ShapeDtypeStruct((1, least, least, 1), jnp.float32)
    self.assertEqual(jax.eval_shape(layer, shape).shape[:3], (1, 1, 1))
    for size in ((least - 1, least), (least, least - 1)):
      small = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
      with self.assertRaisesRegex(
        ValueError, f"images are too small .* its {size[0]}x{size[1]} pixels"
      ):
        jax.eval_shape(layer, small)

  def test_the_mean_of_all_pixels_is_in_float32(self):
    """Whose sum in bfloat16 would stop at 256."""
    found = layers.global_mean(jnp.ones((1, 32, 32, 2), jnp.bfloat16) * 3)
    self.assertEqual(found.dtype, jnp.float32)
    np.testing.assert_array_equal(found, [[3.0, 3.0]])

  @parameterized.parameters((2, 2), (3, 2))
  def test_maxima_and_their_gradient(self, window, stride):
    x = images((2, 7, 6, 3))
    out, pull = jax.vjp(lambda x: layers.max_pool(x, window, stride), x)
    (grad,) = pull(jnp.ones_like(out))
    want = np.zeros_like(x)
    rows, columns = ((n - window) // stride + 1 for n in x.shape[1:3])
    for b, i, j, c in np.ndindex(2, rows, columns, 3):
      top, left = i * stride, j * stride
      square = x[b, top : top + window, left : left + window, c]
      self.assertEqual(out[b, i, j, c], square.max())
      di, dj = np.unravel_index(square.argmax(), square.shape)
      want[b, top + di, left + dj, c] += 1
    np.testing.assert_array_equal(grad, want)

  @parameterized.parameters((2, 2), (3, 2))
  def test_maxima_of_equal_pixels_and_nan(self, window, stride):
    def pool(x):
      return jnp.sum(layers.max_pool(x, window, stride))

    x = jnp.ones((1, window, window, 1))
    want = np.zeros(x.shape)
    want[0, 0, 0] = 1
    np.testing.assert_array_equal(jax.grad(pool)(x), want)
    for i, j in np.ndindex(window, window):
      self.assertTrue(np.isnan(pool(x.at[0, i, j].set(jnp.nan))))

  def test_mean_of_squares(self):
    x = images((2, 5, 4, 3))
    out = layers.mean_pool(x, 2)
    self.assertEqual(out.shape, (2, 2, 2, 3))
    want = x[1, 2:4, 2:4, 0].mean()
    np.testing.assert_allclose(out[1, 1, 1, 0], want, rtol=1e-6)


class InitialisationTest(parameterized.TestCase):
  def test_conv_is_uniform_within_the_fan_in_bound(self):
    conv = layers.Conv(64, use_bias=True)
    params = conv.init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))["params"]
    self.assert_uniform(params["kernel"], 1 / math.sqrt(9 * 16))
    self.assert_uniform(params["bias"], 1 / math.sqrt(9 * 16), 0.3)

  def test_linear_is_uniform_within_the_fan_in_bound(self):
    linear = layers.Linear(200)
    params = linear.init(jax.random.key(1), jnp.ones((1, 50)))["params"]
    self.assert_uniform(params["kernel"], 1 / math.sqrt(50))
    self.assert_uniform(params["bias"], 1 / math.sqrt(50), 0.3)

  def assert_uniform(self, values, bound, tolerance=0.05):
    values = np.asarray(values).ravel()
    self.assertLessEqual(np.abs(values).max(), bound)
    self.assertGreater(np.abs(values).max(), 0.9 * bound)
    deviation = bound / math.sqrt(3)
    self.assertLess(abs(values.std() / deviation - 1), tolerance)


if __name__ == "__main__":
  absltest.main()
