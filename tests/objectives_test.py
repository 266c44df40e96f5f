"""Objectives, labels, starts and noise, each against its closed form."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import objectives
from robust_features.data import augment
from robust_features.data import dataset as ds
from robust_features.models.layers import Outputs, relu


def linear(seed=0, num_classes=3):
  model = toys.Linear(num_classes)
  return model, model.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))


def images(num, seed=0):
  return jnp.asarray(toys.dataset(num, seed, dtype=np.float32).images)


def log_p(source, x, classes):
  model, variables = source
  found = jax.nn.log_softmax(model.apply(variables, x).logits)
  return np.asarray(found)[np.arange(len(x)), np.asarray(classes)]


class ObjectiveTest(absltest.TestCase):
  def test_representation_distance(self):
    """Of a linear model: -||z - x|| / ||x||, and no NaN at the minimum."""
    x, z = images(4), images(4, 1)
    objective = objectives.representation_objective(*linear(), x, False)
    flat = np.asarray(z - x, np.float64).reshape(4, -1)
    size = np.linalg.norm(np.asarray(x, np.float64).reshape(4, -1), axis=1)
    np.testing.assert_allclose(
      objective(z), -np.linalg.norm(flat, axis=1) / size, rtol=1e-5
    )
    grad = jax.grad(lambda z: objective(z).sum())(x)
    np.testing.assert_array_equal(grad, np.zeros_like(x))
    dead = objectives.distance_objective(*linear(), jnp.zeros((4, 192)), False)
    self.assertTrue(np.isfinite(dead(x)).all())

  def test_target_and_untargeted(self):
    source, x = linear(), images(4)
    classes = jnp.array([0, 1, 2, 0], jnp.int32)
    want = log_p(source, x, classes)
    found = objectives.target_objective(*source, classes)(x)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    found = objectives.untargeted_objective(*source, classes)(x)
    np.testing.assert_allclose(found, -want, rtol=1e-5)

  def test_repelled_adds_a_mean_over_all_models_of_all_architectures(self):
    source, x = linear(), images(4)
    target = jnp.array([0, 1, 2, 0], jnp.int32)
    y = jnp.array([1, 2, 0, 2], jnp.int32)
    same = [linear(seed) for seed in (1, 2)]
    cnn = toys.small_cnn()
    other = cnn, cnn.init(jax.random.key(3), x)
    stack = lambda models: jax.tree.map(  # noqa: E731
      lambda *leaves: jnp.stack(leaves), *(v for _, v in models)
    )
    ensembles = (
      objectives.Ensemble(same[0][0], stack(same)),
      objectives.Ensemble(cnn, stack([other])),
    )
    found = objectives.repelled_objective(
      objectives.target_objective(*source, target), ensembles, y, 1.5
    )(x)
    mean = sum(log_p(model, x, y) for model in (*same, other)) / 3
    want = log_p(source, x, target) + 1.5 * mean
    np.testing.assert_allclose(found, want, rtol=1e-5)

  def test_transformed_draws_anew_at_every_call_and_averages(self):
    x = images(3)
    first = lambda z: z[:, 0, 0, 0]  # noqa: E731
    found = {}
    for copies in (1, 4):
      objective = jax.jit(
        objectives.transformed_objective(first, toys.keys(3), copies)
      )
      values = np.stack([objective(x, jnp.int32(call)) for call in range(40)])
      self.assertEqual(values.shape, (40, 3))
      self.assertGreater(len(np.unique(values[:, 0])), 10 if copies > 1 else 5)
      np.testing.assert_array_equal(objective(x, jnp.int32(7)), values[7])
      found[copies] = values.std(axis=0)
    # The mean of four has about half the deviation of one.
    self.assertTrue((found[4] < 0.8 * found[1]).all())

  def test_crop_and_flip_is_cifars(self):
    for size, pad in ((32, 4), (8, 1), (4, 1)):
      self.assertEqual(
        objectives.crop_and_flip((size, size, 3)),
        augment.AugmentConfig(pad, True, 0.0, 0.0),
      )

  def test_fake_relu_lets_closed_units_move(self):
    class Ramp(nn.Module):
      """The representation is relu(x - 1/2)."""

      @nn.compact
      def __call__(self, x, *, bn_mode="running", fake_relu=False):
        flat = x.reshape(x.shape[0], -1) - 0.5
        representation = relu(flat, fake_relu)
        return Outputs(representation[:, :2], representation)

    x = jnp.full((1, 2, 2, 1), 0.9, jnp.float32)
    z = jnp.full((1, 2, 2, 1), 0.1, jnp.float32)  # Every unit is closed.
    gradients = []
    for fake in (False, True):
      objective = objectives.representation_objective(Ramp(), {}, x, fake)
      gradients.append(jax.grad(lambda z, f=objective: f(z).sum())(z))
      np.testing.assert_allclose(objective(z), [-1.0], rtol=1e-6)
    np.testing.assert_array_equal(gradients[0], np.zeros((1, 2, 2, 1)))
    self.assertTrue((gradients[1] > 0.1).all())


class ClassTest(parameterized.TestCase):
  def test_own_and_next(self):
    y = jnp.array([0, 1, 2, 2], jnp.int32)
    found = objectives.class_of("own", y, toys.keys(4), 3)
    np.testing.assert_array_equal(found, y)
    found = objectives.class_of("next", y, toys.keys(4), 3)
    np.testing.assert_array_equal(found, [1, 2, 0, 0])
    self.assertEqual(found.dtype, jnp.int32)

  @parameterized.parameters(("uniform", 3), ("other", 2))
  def test_drawn_ones_are_uniform_over_what_they_may_be(self, rule, allowed):
    num = 3000
    y = jnp.full(num, 2, jnp.int32)
    found = objectives.class_of(rule, y, toys.keys(num), 3)
    self.assertEqual(found.dtype, jnp.int32)
    counts = np.bincount(found, minlength=3)[:allowed]
    # Four standard deviations of a binomial.
    p = 1 / allowed
    bound = 4 * np.sqrt(num * p * (1 - p))
    np.testing.assert_allclose(counts, num * p, atol=bound)
    self.assertEqual(counts.sum(), num)


class StartTest(parameterized.TestCase):
  def points(self, init, num=64, pool=None):
    x = jnp.zeros((num, 8, 8, 3), jnp.float32)
    pool = toys.dataset(5).images if pool is None else pool
    drawn = pool[objectives.drawn_rows(toys.keys(num), len(pool))]
    return np.asarray(
      objectives.starting_points(init, x, drawn, toys.keys(num, 1))
    )

  def test_noise(self):
    found = self.points("noise")
    # 12,288 draws: four standard errors of a mean and of a deviation.
    self.assertAlmostEqual(found.mean(), 0.5, delta=4 * 0.05 / 110)
    self.assertAlmostEqual(found.std(), 0.05, delta=4 * 0.05 / 156)
    self.assertTrue((found[0] != found[1]).mean() > 0.9)

  def test_image_draws_from_the_whole_pool(self):
    pool = toys.dataset(5).images
    found = self.points("image", pool=pool)
    whole = np.asarray(ds.to_float(pool)).reshape(5, -1)
    nearest = np.abs(found.reshape(64, 1, -1) - whole[None]).max(axis=2)
    self.assertLess(nearest.min(axis=1).max(), 1e-6)
    self.assertLen(set(nearest.argmin(axis=1)), 5)

  def test_self(self):
    self.assertEqual(np.abs(self.points("self")).max(), 0.0)


class NoiseTest(parameterized.TestCase):
  def test_which_numbers_are_drawn(self):
    """Each of its own key, whole: a set once made is made again."""
    x, shape = images(3), (8, 8, 3)

    def each(draw):
      return np.stack([draw(key, shape, jnp.float32) for key in toys.keys(3)])

    normal = each(jax.random.normal)
    size = np.sqrt(np.square(normal).sum(axis=(1, 2, 3), keepdims=True))
    for found, want in (
      (objectives.base_images("gaussian", x, toys.keys(3)),
       np.clip(0.5 + normal / 4, 0.0, 1.0)),
      (objectives.base_images("uniform", x, toys.keys(3)),
       each(jax.random.uniform)),
      (objectives.starting_points("noise", x, None, toys.keys(3)),
       0.5 + normal / 20),
      (objectives.pattern(toys.keys(3), shape, "l2", 0.3), 0.3 * normal / size),
      (objectives.pattern(toys.keys(3), shape, "linf", 0.3),
       0.3 * each(jax.random.rademacher)),
    ):  # fmt: skip
      np.testing.assert_allclose(found, want, atol=1e-6)
    root = jax.random.fold_in(jax.random.key(4), jnp.uint32(2**32 - 1))
    np.testing.assert_array_equal(
      jax.random.key_data(
        objectives.class_keys(jax.random.key(4), jnp.array([7, 2]))
      ),
      [jax.random.key_data(jax.random.fold_in(root, c)) for c in (7, 2)],
    )

  @parameterized.parameters(("l2", 2), ("linf", np.inf))
  def test_pattern_has_the_norm_exactly(self, norm, order):
    found = objectives.pattern(toys.keys(6), (8, 8, 3), norm, 0.3)
    flat = np.asarray(found, np.float64).reshape(6, -1)
    np.testing.assert_allclose(
      np.linalg.norm(flat, ord=order, axis=1), 0.3, rtol=1e-6
    )
    self.assertLess(abs(np.corrcoef(flat)[0, 1]), 0.3)

  def test_a_class_shares_its_keys_with_no_example(self):
    key = jax.random.key(0)
    found = objectives.class_keys(key, jnp.array([0, 1, 0]))
    data = np.asarray(jax.random.key_data(found))
    np.testing.assert_array_equal(data[0], data[2])
    examples = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))
    examples = np.asarray(jax.random.key_data(examples))
    every = np.concatenate([data[:2], examples])
    self.assertLen(np.unique(every, axis=0), 5)

  def test_base(self):
    x = images(6)
    found = objectives.base_images("image", x, toys.keys(6))
    np.testing.assert_array_equal(found, x)
    for base, mean, deviation in (
      ("uniform", 0.5, 1 / np.sqrt(12)),
      ("gaussian", 0.5, 0.239),  # Of 1/4, what is left within two deviations.
    ):
      found = np.asarray(objectives.base_images(base, x, toys.keys(6)))
      self.assertAlmostEqual(found.mean(), mean, delta=0.04)
      self.assertAlmostEqual(found.std(), deviation, delta=0.02)
      self.assertBetween(found.min(), 0.0, 0.02)
      self.assertBetween(found.max(), 0.98, 1.0)


if __name__ == "__main__":
  absltest.main()
