"""One table of hits for many changes, beside a plain loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest

from robust_features import changes, evaluate, fourier, models, spatial
from robust_features.runtime import preemption
from robust_features.runtime.measured import Measured

GRID = spatial.SpatialConfig(2.0, 3, 20.0, 3, batch_size=4)


class HitsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data = toys.dataset(7)
    self.model = toys.Linear(3)
    kernel = np.random.default_rng(1).normal(size=(192, 3))
    self.variables = toys.linear_variables(kernel)

  def hits(self, batch_size=4, **more):
    return changes.hits(
      self.model, self.variables, self.data, spatial.move, GRID.points(),
      jax.random.key(0), batch_size, **more,
    )  # fmt: skip

  def test_one_by_one(self):
    found = self.hits()
    x = np.asarray(self.data.images, np.float32) / 255
    for i, point in enumerate(GRID.points()):
      moved = spatial.move(jnp.asarray(x), jnp.asarray(point))
      logits = models.apply(self.model, self.variables, moved).logits
      right = np.asarray(logits.argmax(1)) == self.data.labels
      np.testing.assert_array_equal(found[:, i], right)
    self.assertBetween(found.mean(), 0.1, 0.9)
    np.testing.assert_array_equal(self.hits(2), found)

  def test_no_images(self):
    self.data = dataclasses.replace(
      self.data, images=self.data.images[:0], labels=self.data.labels[:0]
    )
    with self.assertRaisesRegex(ValueError, "holds no image"):
      self.hits()

  def test_keys_are_the_examples_own(self):
    """A change that draws does the same in any batch, and not to all alike."""
    points = np.arange(40, dtype=np.int32), np.full(40, 8, np.float32)
    found = [
      changes.hits(
        self.model, self.variables, self.data, fourier.add_white, points,
        jax.random.key(seed), batch_size,
      )
      for seed, batch_size in ((0, 2), (0, 4), (1, 4))
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0], found[1])
    self.assertTrue((found[2] != found[1]).any())
    same = dataclasses.replace(
      self.data, images=np.repeat(self.data.images[:1], 7, axis=0)
    )
    seen = evaluate.predict(self.model, self.variables, same.images, 7)
    same = dataclasses.replace(same, labels=seen.argmax(1).astype(np.int32))
    hits = changes.hits(
      self.model, self.variables, same, fourier.add_white, points,
      jax.random.key(0), 7,
    )  # fmt: skip
    self.assertTrue((hits != hits[:1]).any())

  def test_nothing_is_measured_twice(self):
    measured = Measured(toys.folder(self))
    found = self.hits(measured=measured)
    (first, *_) = sorted(measured.directory.glob("*.npz"))
    first.unlink()
    self.variables = toys.linear_variables(np.zeros((192, 3)))
    again = self.hits(measured=measured)
    np.testing.assert_array_equal(again[4:], found[4:])
    np.testing.assert_array_equal(again[:4, 0], self.data.labels[:4] == 0)

  def test_a_request_to_stop_is_honoured(self):
    self.addCleanup(preemption.reset)
    preemption.request()
    with self.assertRaises(preemption.Stopped):
      self.hits()


if __name__ == "__main__":
  absltest.main()
