"""Balls, box and radii: against a library, and what is asked about."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from robust_features import attacks
from robust_features.attacks import geometry


class AddTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_a_sum_stays_inside_whoever_measures_it(self, norm):
    """A small radius, beside which a pixel's precision is coarse."""
    rng, eps = np.random.default_rng(0), 1e-4
    x = rng.uniform(0.1, 0.9, (50, 4, 4, 3)).astype(np.float32)
    delta = rng.normal(size=x.shape).astype(np.float32)
    z = np.asarray(geometry.add_in_ball(x, delta, norm, eps))
    move = (z.astype(np.float64) - x).reshape(50, -1)
    size = np.linalg.norm(move, 2 if norm == "l2" else np.inf, axis=1)
    self.assertLessEqual(size.max(), eps)
    self.assertGreater(size.min(), 0.99 * eps)
    # At usual radii l2 is kept to whoever measures it, linf to float32.
    for eps in (0.3, 0.5, 0.7):
      z = np.asarray(geometry.add_in_ball(x, delta / 4, norm, eps))
      move = (z.astype(np.float64) - x).reshape(50, -1)
      size = np.linalg.norm(move, axis=1) if norm == "l2" else np.abs(z - x)
      self.assertLessEqual(size.max(), np.float32(eps))
    edge = np.asarray(geometry.add_in_ball(np.round(x), delta, norm, 2.0))
    self.assertBetween(edge.min(), 0.0, 1.0)
    self.assertBetween(edge.max(), 0.0, 1.0)


class RadiusTest(parameterized.TestCase):
  @parameterized.parameters(
    ("l2", 8, (32, 32, 3)), ("l2", 16.0, (32, 32, 3)), ("l2", 2, (8, 8, 1)),
  )  # fmt: skip
  def test_a_number_of_levels_is_asked_about(self, norm, eps, shape):
    with self.assertWarnsRegex(
      UserWarning, rf"train.eps is {eps:g} in l2, .* was {eps:g}/255 meant\?"
    ):
      attacks.check_radius("train.eps", eps, norm, shape)

  @parameterized.parameters(
    ("l2", 0.5, (32, 32, 3)), ("l2", 3, (224, 224, 3)),
    ("l2", 1.0, (8, 8, 1)), ("l2", 5.8, (32, 32, 3)),
    ("linf", 8 / 255, (32, 32, 3)), ("linf", 1, (32, 32, 3)),
    ("linf", 0, (8, 8, 1)), ("l2", 2.0, (32, 32, 3)),
  )  # fmt: skip
  def test_radii_in_use_are_not(self, norm, eps, shape):
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      attacks.check_radius("eps", eps, norm, shape)

  @parameterized.parameters(("l2", 56, "55.4"), ("linf", 8, "1"))
  def test_beyond_the_box(self, norm, eps, largest):
    with self.assertRaisesRegex(
      ValueError, rf"eps is {eps}, larger than the {norm} diameter {largest}"
    ):
      attacks.check_radius("eps", eps, norm, (32, 32, 3))


class ImagesTest(parameterized.TestCase):
  def test_nothing_beyond_the_box_is_taken(self):
    x = np.zeros((1, 2, 2, 1), np.float32)
    x[0, 0] = 1.0
    geometry.check_images(x)
    for bad in (-1e-6, 1 + 1e-6, np.nan):
      x[0, 1, 1] = bad
      with self.assertRaisesRegex(ValueError, r"x must be in \[0, 1\], got v"):
        geometry.check_images(x)


class DrawTest(parameterized.TestCase):
  """Which numbers: a result is made again from its key and its index."""

  def test_an_examples_key_is_folded_with_its_index(self):
    key = jax.random.key(1)
    found = attacks.example_keys(key, jnp.asarray([8, 2]))
    want = [jax.random.key_data(jax.random.fold_in(key, i)) for i in (8, 2)]
    np.testing.assert_array_equal(jax.random.key_data(found), want)

  def test_points_of_a_ball(self):
    keys, shape = jax.random.split(jax.random.key(2), 2), (1, 2, 3)
    cube, ball = (
      geometry.random_in_ball(jax.random.clone(keys), shape, norm, 0.5)
      for norm in ("linf", "l2")
    )
    for i, key in enumerate(keys):
      sides = jax.random.uniform(jax.random.clone(key), shape, minval=-1.0)
      np.testing.assert_allclose(cube[i], 0.5 * sides, rtol=1e-6)
      towards, length = jax.random.split(key)
      direction = jax.random.normal(towards, shape)
      direction /= np.linalg.norm(np.ravel(direction))
      radius = 0.5 * jax.random.uniform(length) ** (1 / 6)
      np.testing.assert_allclose(ball[i], radius * direction, rtol=1e-5)


class BallTest(parameterized.TestCase):
  def test_l2_is_the_librarys_projection(self):
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(-3, 1, (500, 1, 1, 1))
    delta = jnp.asarray(size * rng.normal(size=(500, 4, 4, 3)), jnp.float32)
    project = jax.vmap(optax.projections.projection_l2_ball, (0, None))
    np.testing.assert_allclose(
      geometry.into_ball(delta, "l2", 0.5), project(delta, 0.5), atol=1e-7
    )

  def test_the_ball_comes_before_the_box(self):
    """Of (1, 0.3) half is left, (0.48, 0.14), and of that what fits."""
    x = jnp.asarray([0.9, 0.5]).reshape(1, 1, 1, 2)
    beyond = x + jnp.asarray([1.0, 0.3]).reshape(1, 1, 1, 2)
    found = geometry.project(beyond, x, "l2", 0.5)
    want = [1.0, 0.5 + 0.3 * 0.5 / np.hypot(1.0, 0.3)]
    np.testing.assert_allclose(np.ravel(found), want, rtol=1e-6)

  def test_slack_keeps_inside_a_part_of_the_radius(self):
    delta = jnp.full((1, 2, 2, 1), 3.0)
    found = geometry.into_ball(delta, "l2", 1.0, 0.25)
    np.testing.assert_allclose(geometry.l2_norm(found), [[[[0.75]]]], rtol=1e-6)
    inside = jnp.full((1, 2, 2, 1), 0.1)
    np.testing.assert_array_equal(
      geometry.into_ball(inside, "l2", 1.0, 0.25), inside
    )

  @parameterized.parameters("l2", "linf")
  def test_zero_stays_zero(self, norm):
    zero = jnp.zeros((2, 3, 3, 1))
    for eps in (0.0, 1.0):
      np.testing.assert_array_equal(geometry.into_ball(zero, norm, eps), zero)
    np.testing.assert_array_equal(geometry.unit_direction(zero, norm), zero)

  def test_a_sum_is_rounded_towards_the_image(self):
    """0.7 and a delta finer than its last place: never further than delta."""
    x = jnp.full((1, 1, 1, 3), 0.7)
    delta = jnp.asarray([3.4e-8, -3.4e-8, 1.0]).reshape(x.shape)
    z = geometry.add_towards(x, delta)
    moved = np.asarray(z, np.float64) - np.asarray(x, np.float64)
    self.assertTrue((np.abs(moved) <= np.abs(delta)).all())
    np.testing.assert_array_equal(z[..., :2], x[..., :2])
    self.assertEqual(float(z[0, 0, 0, 2]), 1.0)

  def test_row_norm_has_a_gradient_at_zero(self):
    x = jnp.stack([jnp.zeros(3), jnp.asarray([3.0, 0.0, 4.0])])
    norms, grads = jax.vmap(
      jax.value_and_grad(lambda row: geometry.row_norm(row[None])[0])
    )(x)
    np.testing.assert_allclose(norms, [0, 5])
    np.testing.assert_allclose(grads, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
