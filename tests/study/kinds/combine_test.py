"""Mixtures of two sets: which examples of which go where, and why not."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features.data import dataset as ds
from robust_features.study.kinds import combine


def fresh():
  """Returns the key of every draw here."""
  return jax.random.key(5)


def rows(num, fraction, of=None):
  """Returns what is drawn: the first of a permutation, as they are dealt."""
  order = np.asarray(jax.random.permutation(fresh(), of or num))
  return order[: round(fraction * num)]


class MixTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.data, self.also = toys.dataset(9), toys.dataset(9, seed=1)

  @parameterized.parameters(0.3, 0.5, 1.0)
  def test_replace(self, fraction):
    before = self.data.images.copy()
    found = combine.mix(self.data, self.also, "replace", fraction, fresh())
    chosen = rows(9, fraction)
    images, labels = self.data.images.copy(), self.data.labels.copy()
    images[chosen] = self.also.images[chosen]
    labels[chosen] = self.also.labels[chosen]
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(self.data.images, before)
    self.assertEqual(found.images.dtype, np.uint8)

  def test_append_behind_in_the_order_of_the_other(self):
    also = toys.dataset(20, seed=1)
    found = combine.mix(self.data, also, "append", 4 / 3, fresh())
    chosen = np.sort(rows(9, 4 / 3, 20))
    self.assertLen(chosen, 12)
    np.testing.assert_array_equal(found.images[:9], self.data.images)
    np.testing.assert_array_equal(found.images[9:], also.images[chosen])
    np.testing.assert_array_equal(found.labels[9:], also.labels[chosen])

  def test_changes_are_dealt_to_others(self):
    """Each gets another's, labels as they are; bytes stay bytes."""
    found = combine.mix(self.data, self.also, "changes", 1.0, fresh())
    dealt = rows(9, 1.0)
    x, z = (np.float64(each.images) / 255 for each in (self.data, self.also))
    want = x.copy()
    for at, of in zip(sorted(dealt), dealt, strict=True):
      want[at] = np.clip(x[at] + z[of] - x[of], 0, 1)
    self.assertEqual(found.images.dtype, np.uint8)
    np.testing.assert_allclose(found.images, 255 * want, atol=0.51)
    np.testing.assert_array_equal(found.labels, self.data.labels)
    self.assertFalse((np.sort(dealt) == dealt).all())

  def test_bytes_and_floats_become_floats(self):
    also = toys.dataset(9, seed=1, dtype=np.float32)
    found = combine.mix(self.data, also, "replace", 0.5, fresh())
    self.assertEqual(found.images.dtype, np.float32)
    chosen = rows(9, 0.5)
    np.testing.assert_array_equal(found.images[chosen], also.images[chosen])
    floats = combine.mix(also, self.data, "changes", 0.5, fresh())
    self.assertEqual(floats.images.dtype, np.float32)


class StageTest(parameterized.TestCase):
  @parameterized.parameters(
    ("replace", 1.0, True), ("changes", 1.0, True), ("append", 7 / 3, True),
    ("replace", 1.1, False), ("changes", 0.0, False), ("append", 0.0, False),
    ("append", np.inf, False), ("replace", -0.1, False),
  )  # fmt: skip
  def test_fractions(self, how, fraction, taken):
    if taken:
      combine.Stage("a", "b", "train", how, fraction)
      return
    with self.assertRaisesRegex(ValueError, f"got {fraction!r} for '{how}'"):
      combine.Stage("a", "b", "train", how, fraction)

  @parameterized.parameters(
    ("replace", 0.5, 9, 10), ("append", 2.0, 9, 17), ("changes", 1.0, 9, 8),
  )  # fmt: skip
  def test_what_does_not_fit(self, how, fraction, num, other):
    sets = {"a": toys.dataset(num), "b": toys.dataset(other)}
    study = mock.Mock()
    study.dataset = lambda name, split: sets[name]
    study.key = lambda name: fresh()
    stage = combine.Stage("a", "b", "train", how, fraction)
    folder = toys.folder(self)
    with self.assertRaisesRegex(
      ValueError, f"stages.m.also has {other} images"
    ):
      combine.KIND.run(study, "m", stage, folder)
    sets["b"] = toys.dataset(18 if how == "append" else num)
    found = combine.KIND.run(study, "m", stage, folder)
    self.assertEqual(found["num_examples"], 27 if how == "append" else num)
    sets["b"] = dataclasses.replace(sets["b"], class_names=("x", "y", "z"))
    with self.assertRaisesRegex(ValueError, "m.also has other classes than a"):
      combine.KIND.run(study, "m", stage, folder)
    sets["b"] = ds.make(sets["b"].images[:, :4], sets["b"].labels, 3)
    with self.assertRaisesRegex(ValueError, "do not fit the 9"):
      combine.KIND.run(study, "m", stage, folder)

  def test_work(self):
    for how, want in (("replace", 100), ("changes", 100), ("append", 150)):
      stage = combine.Stage("a", "b", "train", how, 0.5)
      found = combine.KIND.work(stage, lambda data, split: 100)
      self.assertEqual((found.images, found.gradients, found.passes),
                       (want, 0, 0))  # fmt: skip


if __name__ == "__main__":
  absltest.main()
