import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import carlini_wagner as cw


def linear(x):
  """Two classes parted by w'x = b, whose distance is known exactly."""
  w = jnp.array([1.0, -2.0, 2.0, 0.0], jnp.float32).reshape(1, 2, 2, 1)
  score = (w * x).sum(axis=(1, 2, 3)) - 0.6
  return jnp.stack([jnp.zeros_like(score), score], axis=1)


def by_hand(w, x, y, cfg):
  """The search of one image in NumPy: a loop for each c, Adam written out.

  Two classes of logits 0 and w'x - 0.6 in eighths, so that some margins are
  exactly zero; the gradient is that of w'x.
  """
  best, found_x, c, low, high = np.inf, x, cfg.initial_c, 0.0, np.inf
  for _ in range(cfg.num_searches):
    v, found = np.arctanh((2 * x - 1) * (1 - 1e-6)), False
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, cfg.num_steps + 1):
      z = (np.tanh(v) + 1) / 2
      sign = 1 if y == 0 else -1
      margin = sign * np.round(8 * ((w * z).sum() - 0.6)) / 8
      square = ((z - x) ** 2).sum()
      if margin > 0:
        found = True
        if square < best:
          best, found_x = square, z
      # Half of the gradient at the kink, as JAX has it.
      pull = c * np.heaviside(-margin, 0.5) * sign * w
      grad = (2 * (z - x) - pull) * (1 - np.tanh(v) ** 2) / 2
      first = 0.9 * first + 0.1 * grad
      second = 0.999 * second + 0.001 * grad**2
      size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
      v = v - cfg.learning_rate * first / (1 - 0.9**step) / size
    if found:
      high = min(high, c)
    else:
      low = max(low, c)
    c = 10 * c if np.isinf(high) else (low + high) / 2
  return found_x, np.sqrt(best)


class CarliniWagnerTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    # optax.adam raises a float to an integer power.
    self.enter_context(jax.numpy_dtype_promotion("standard"))

  def test_linear_distance(self):
    x = jax.random.uniform(
      jax.random.key(0), (32, 2, 2, 1), minval=0.3, maxval=0.7
    )
    logits = linear(x)
    y = logits.argmax(1)
    found = cw.minimize_distance(linear, x, y, cw.CarliniWagnerConfig(300, 12))
    exact = np.abs(np.asarray(logits[:, 1])) / 3.0
    np.testing.assert_array_less(exact - 1e-6, found.distance)
    # The box is inactive here; Adam's steps leave it a little outside.
    np.testing.assert_allclose(found.distance, exact, rtol=0.03, atol=0.01)
    self.assertTrue((linear(found.x_adv).argmax(1) != y).all())
    np.testing.assert_allclose(
      found.distance,
      np.sqrt(np.square(found.x_adv - x).sum(axis=(1, 2, 3))),
      rtol=1e-5,
    )

  def test_the_search_written_out(self):
    # No zero among them: Adam steps on what rounding leaves of none.
    w = np.asarray([1.0, -2.0, 2.0, 0.5]).reshape(2, 2, 1)

    def logits_fn(z):
      score = (jnp.asarray(w[None], jnp.float32) * z).sum(axis=(1, 2, 3)) - 0.6
      eighths = jnp.round(8 * score) / 8
      score += jax.lax.stop_gradient(eighths - score)
      return jnp.stack([jnp.zeros_like(score), score], axis=1)

    x = np.random.default_rng(3).uniform(0.2, 0.8, (16, 2, 2, 1))
    x = x.astype(np.float32)
    margins = np.diff(logits_fn(x), axis=1)[:, 0]
    y = (margins > 0).astype(np.int32)
    cfg = cw.CarliniWagnerConfig(12, 5, 0.1, 0.02)
    found = cw.minimize_distance(logits_fn, x, y, cfg)
    want = [
      by_hand(w, a, b, cfg) for a, b in zip(x.astype(float), y, strict=True)
    ]
    self.assertIn(0.0, margins)
    self.assertTrue(np.isfinite(found.distance).any())
    np.testing.assert_allclose(found.distance, [d for _, d in want], rtol=1e-4)
    np.testing.assert_allclose(found.x_adv, [z for z, _ in want], atol=1e-5)

  def test_a_margin_of_zero_is_no_error(self):
    """Whose labels tie for the largest logit is not misclassified yet."""
    x, y = jnp.full((2, 2, 2, 1), 0.5), jnp.asarray([0, 1], jnp.int32)
    found = cw.minimize_distance(
      lambda z: jnp.zeros((len(z), 2)), x, y, cw.CarliniWagnerConfig(3, 2)
    )
    np.testing.assert_array_equal(found.distance, np.inf)
    np.testing.assert_array_equal(found.x_adv, x)

  def test_settings_that_are_not_told(self):
    """The steps of appendix D.2."""
    self.assertEqual(
      cw.CarliniWagnerConfig(), cw.CarliniWagnerConfig(1000, 9, 0.01, 0.01)
    )

  def test_misclassified_needs_nothing_and_constant_is_never_fooled(self):
    x = jnp.full((3, 2, 2, 1), 0.5)
    y = 1 - linear(x).argmax(1)
    found = cw.minimize_distance(linear, x, y, cw.CarliniWagnerConfig(5, 2))
    np.testing.assert_array_equal(found.distance, 0.0)
    np.testing.assert_array_equal(found.x_adv, x)

    def constant(z):
      return jnp.tile(jnp.array([[0.0, 1.0]]), (z.shape[0], 1))

    y = jnp.ones(3, jnp.int32)
    found = cw.minimize_distance(constant, x, y, cw.CarliniWagnerConfig(5, 3))
    np.testing.assert_array_equal(found.distance, np.inf)
    np.testing.assert_array_equal(found.x_adv, x)

  def test_gradients_that_are_not_finite_are_counted(self):
    """One entry of the second image has none; the other three go on."""
    x = jax.random.uniform(
      jax.random.key(2), (2, 2, 2, 1), minval=0.4, maxval=0.6
    )
    x = x.at[:, 1, 1, 0].set(jnp.asarray([0.2, 0.8]))
    y = linear(x).argmax(1)

    def rough(z):  # d sqrt(0 z)/dz is NaN.
      bright = z[:, 1, 1, 0] > 0.5
      term = jnp.sqrt(jnp.where(bright, 0.0 * z[:, 0, 0, 0], 1.0))
      return linear(z) + term[:, None]

    found = cw.minimize_distance(rough, x, y, cw.CarliniWagnerConfig(100, 6))
    # The margin is climbed until it is above zero: not every step meets it.
    self.assertEqual(int(found.nonfinite_gradients[0]), 0)
    self.assertGreater(int(found.nonfinite_gradients[1]), 10)
    self.assertTrue(np.isfinite(found.distance).all())
    self.assertTrue((rough(found.x_adv).argmax(1) != y).all())

  def test_every_step_of_every_search_is_counted(self):
    """A margin that is never above zero, with no gradient anywhere."""

    def rough(z):
      root = jnp.sqrt(0.0 * z.sum(axis=(1, 2, 3)))
      return jnp.stack([root + 1.0, 0.0 * root], axis=1)

    x, y = jnp.full((2, 2, 2, 1), 0.4), jnp.zeros(2, jnp.int32)
    found = cw.minimize_distance(rough, x, y, cw.CarliniWagnerConfig(3, 4))
    np.testing.assert_array_equal(found.nonfinite_gradients, [12, 12])

  def test_shapes_and_types_are_programmer_errors(self):
    x, y = jnp.full((2, 2, 2, 1), 0.5), jnp.zeros(2, jnp.int32)
    cfg = cw.CarliniWagnerConfig(1, 1)
    for bad_x, bad_y in (
      (x[0], y), (x, y[:1]), (x, y.astype(jnp.float32)),
      (x.astype(jnp.bfloat16), y),
    ):  # fmt: skip
      with self.assertRaises((AssertionError, ValueError)):
        cw.minimize_distance(linear, bad_x, bad_y, cfg)

  def test_double_precision_changes_nothing(self):
    x = jnp.full((2, 2, 2, 1), 0.5, jnp.float32)
    y = linear(x).argmax(1).astype(jnp.int32)
    cfg = cw.CarliniWagnerConfig(20, 3)
    single = cw.minimize_distance(linear, x, y, cfg)
    with jax.enable_x64(True):
      double = cw.minimize_distance(linear, x, y, cfg)
    self.assertEqual(double.x_adv.dtype, np.float32)
    np.testing.assert_allclose(double.distance, single.distance, rtol=1e-4)

  def test_an_example_does_not_depend_on_its_batch(self):
    x = jax.random.uniform(jax.random.key(1), (3, 2, 2, 1))
    y = linear(x).argmax(1)
    cfg = cw.CarliniWagnerConfig(20, 3)
    whole = cw.minimize_distance(linear, x, y, cfg)
    for i in range(3):
      one = cw.minimize_distance(linear, x[i : i + 1], y[i : i + 1], cfg)
      np.testing.assert_array_equal(one.x_adv[0], whole.x_adv[i])

  @parameterized.parameters(
    {"num_steps": 0}, {"num_searches": 1.5}, {"learning_rate": 0.0},
    {"initial_c": "1"}, {"num_steps": True}, {"num_searches": 0},
    {"learning_rate": np.inf}, {"initial_c": float("nan")},
    {"learning_rate": -0.1}, {"initial_c": True}, {"initial_c": 0},
  )  # fmt: skip
  def test_bad_settings_are_named(self, **changes):
    with self.assertRaisesRegex(ValueError, next(iter(changes))):
      cw.CarliniWagnerConfig(**changes)


if __name__ == "__main__":
  absltest.main()
