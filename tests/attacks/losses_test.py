"""Losses against numpy, their invariances, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import losses


def logits(num=7, classes=5, seed=0):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(num, classes)).astype(np.float32) * 3
  y = rng.integers(classes, size=num).astype(np.int32)
  return z, y, ((y + 1) % classes).astype(np.int32)


class LossesTest(parameterized.TestCase):
  def test_cross_entropy(self):
    z, y, _ = logits()
    p = np.exp(z.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    want = -np.log(p[np.arange(7), y])
    np.testing.assert_allclose(losses.cross_entropy(z, y), want, rtol=1e-5)

  def test_cross_entropy_of_huge_logits_is_finite(self):
    z = jnp.array([[1e4, 0.0, -1e4]], jnp.float32)
    found = losses.cross_entropy(z, jnp.array([2], jnp.int32))
    np.testing.assert_allclose(found, [2e4])

  def test_cw_margin(self):
    z, y, _ = logits()
    want = [
      max(np.delete(row, label)) - row[label]
      for row, label in zip(z, y, strict=True)
    ]
    np.testing.assert_allclose(losses.cw_margin(z, y), want, rtol=1e-6)

  def test_cw_margin_is_positive_exactly_where_the_class_is_not_predicted(self):
    z, y, _ = logits(num=200)
    found = np.asarray(losses.cw_margin(z, y))
    np.testing.assert_array_equal(found > 0, z.argmax(1) != y)

  def test_cw_margin_targeted(self):
    z, y, t = logits()
    rows = np.arange(7)
    np.testing.assert_array_equal(
      losses.cw_margin_targeted(z, y, t), z[rows, t] - z[rows, y]
    )

  def test_dlr(self):
    z, y, _ = logits()
    want = []
    for row, label in zip(z.astype(np.float64), y, strict=True):
      ordered = np.sort(row)[::-1]
      margin = row[label] - max(np.delete(row, label))
      want.append(-margin / (ordered[0] - ordered[2]))
    np.testing.assert_allclose(losses.dlr(z, y), want, rtol=1e-5)

  def test_dlr_targeted(self):
    z, y, t = logits()
    want = []
    for row, label, target in zip(z.astype(np.float64), y, t, strict=True):
      ordered = np.sort(row)[::-1]
      spread = ordered[0] - (ordered[2] + ordered[3]) / 2
      want.append(-(row[label] - row[target]) / spread)
    np.testing.assert_allclose(losses.dlr_targeted(z, y, t), want, rtol=1e-5)

  @parameterized.parameters((10.0, 0.0), (1.0, 7.0), (0.01, -3.0), (1e-8, 0.0))
  def test_dlr_is_invariant_to_scale_and_shift(self, scale, shift):
    z, y, t = logits()
    moved = np.float32(scale) * z + np.float32(shift)
    np.testing.assert_allclose(
      losses.dlr(moved, y), losses.dlr(z, y), rtol=1e-3
    )
    np.testing.assert_allclose(
      losses.dlr_targeted(moved, y, t), losses.dlr_targeted(z, y, t), rtol=1e-3
    )

  def test_dlr_of_equal_logits_is_finite(self):
    z = jnp.ones((2, 5), jnp.float32)
    y = jnp.array([0, 3], jnp.int32)
    grad = jax.grad(lambda z: losses.dlr(z, y).sum())(z)
    self.assertTrue(np.isfinite(losses.dlr(z, y)).all())
    self.assertTrue(np.isfinite(grad).all())

  @parameterized.parameters(2, 3)
  def test_too_few_classes_are_refused(self, classes):
    z, y, t = logits(classes=classes)
    with self.assertRaisesRegex(ValueError, f"4 classes, got {classes}.*cw_m"):
      losses.dlr_targeted(z, y, t)
    if classes == 2:
      with self.assertRaisesRegex(ValueError, "3 classes, got 2.*cw_margin"):
        losses.dlr(z, y)
    else:
      self.assertTrue(np.isfinite(losses.dlr(z, y)).all())

  def test_bfloat16_logits_give_float32_values(self):
    z, y, t = logits()
    z = jnp.asarray(z, jnp.bfloat16)
    for found in (
      losses.cross_entropy(z, y),
      losses.cw_margin(z, y),
      losses.dlr(z, y),
      losses.dlr_targeted(z, y, t),
      losses.cw_margin_targeted(z, y, t),
    ):
      self.assertEqual(found.dtype, jnp.float32)
      self.assertEqual(found.shape, (7,))


ALL = {**losses.LOSSES, **losses.TARGETED_LOSSES}


class LabelsTest(parameterized.TestCase):
  @parameterized.parameters(*ALL)
  def test_what_is_no_class(self, name):
    """Named where it has a value; NaN, and no other's loss, where it has none.

    An index of -1 would be the last class.
    """
    z, y, target = logits()
    loss, given = ALL[name], [y, target][: 1 + (name in losses.TARGETED_LOSSES)]
    for place, label in enumerate(given):
      for bad, low, high in ((-1, -1, 4), (5, 0, 5)):
        wrong = np.where(np.arange(7) == 3, bad, np.arange(7) % 5)
        labels = [*given]
        labels[place] = wrong.astype(np.int32)
        with self.assertRaisesRegex(
          ValueError, rf"in \[0, 5\), got values from {low} to {high}"
        ):
          loss(z, *labels)
        found = np.asarray(jax.jit(loss)(z, *labels))
        np.testing.assert_array_equal(np.isnan(found), np.arange(7) == 3)
      for bad in (label[:1], label[:, None], label.astype(np.float32)):
        labels = [*given]
        labels[place] = bad
        with self.assertRaisesRegex(ValueError, "y must be 7 integers, got "):
          loss(z, *labels)


if __name__ == "__main__":
  absltest.main()
