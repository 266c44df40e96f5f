"""Ridge classifiers: closed form against gradient zero, and what they tell."""

import numpy as np
from absl.testing import absltest, parameterized

from robust_features import ridge


def problem(num, size, seed=0, num_classes=3):
  rng = np.random.default_rng(seed)
  labels = rng.integers(num_classes, size=num)
  features = rng.normal(size=(num, size)) + 5.0
  features[np.arange(num), labels] += 2.0
  return features.astype(np.float32), labels


class RidgeTest(parameterized.TestCase):
  @parameterized.parameters((200, 7), (20, 50))
  def test_it_is_the_minimum(self, num, size):
    """The gradient is zero, by whichever of the two matrices."""
    x, y = problem(num, size)
    found = ridge.fit(x, y, 3, strength=0.1)
    centred = x.astype(np.float64) - x.mean(axis=0)
    gram = centred.T @ centred
    strength = 0.1 * np.trace(gram) / min(num, size)
    onehot = np.eye(3)[y]
    np.testing.assert_allclose(found.bias, onehot.mean(axis=0))
    gradient = gram @ found.weights + strength * found.weights
    gradient -= centred.T @ (onehot - found.bias)
    self.assertLess(np.abs(gradient).max(), 1e-3)

  def test_a_thousandth_where_nothing_is_told(self):
    x, y = problem(40, 7)
    for one, other in zip(
      ridge.fit(x, y, 3), ridge.fit(x, y, 3, 1e-3), strict=True
    ):
      np.testing.assert_array_equal(one, other)

  def test_accuracy(self):
    x, y = problem(300, 5)
    found = ridge.fit(x, y, 3)
    self.assertGreater(ridge.accuracy(found, x, y), 0.7)
    self.assertLess(ridge.accuracy(found, x, (y + 1) % 3), 0.3)

  def test_the_bias_decides_where_nothing_else_does(self):
    zero, bias = np.zeros((2, 3)), np.array([0.2, 0.5, 0.3])
    found = ridge.Ridge(zero, np.zeros(2), bias)
    self.assertEqual(
      ridge.accuracy(found, np.ones((4, 2)), np.array([1, 1, 0, 1])), 0.75
    )

  def test_separability_is_of_what_was_held_out(self):
    """Random labels are fitted by enough features, and not told after all."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 500)), rng.integers(4, size=400)
    self.assertLess(ridge.separability(x, y, 4), 0.45)
    self.assertEqual(ridge.accuracy(ridge.fit(x, y, 4), x, y), 1.0)
    x[np.arange(400), y] += 100.0
    self.assertEqual(ridge.separability(x, y, 4), 1.0)
    y[3::4] = (y[3::4] + 1) % 4  # Those held out, and they alone.
    self.assertEqual(ridge.separability(x, y, 4), 0.0)

  def test_every_fourth_is_held_out(self):
    x, y = problem(41, 7)
    out = np.isin(np.arange(41), range(3, 41, 4))
    found = ridge.fit(x[~out], y[~out], 3)
    self.assertEqual(
      ridge.separability(x, y, 3), ridge.accuracy(found, x[out], y[out])
    )
    rest = ridge.accuracy(ridge.fit(x[out], y[out], 3), x[~out], y[~out])
    self.assertNotEqual(ridge.separability(x, y, 3), rest)

  def test_constant_features(self):
    x, y = np.ones((8, 3), np.float32), np.array([0, 0, 0, 1] * 2)
    self.assertEqual(ridge.separability(x, y, 2), 0.0)

  @parameterized.parameters((100, 48, 100), (50000, 3072, 4000),
                            (50000, 150528, 222))  # fmt: skip
  def test_how_many_examples_fit(self, num, size, want):
    self.assertEqual(ridge.num_separated(num, size), want)


if __name__ == "__main__":
  absltest.main()
