"""Which examples are kept."""

import numpy as np
from absl.testing import absltest

from robust_features.data import select


class SelectTest(absltest.TestCase):
  def test_margins(self):
    logits = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]], np.float32)
    found = select.margins(logits, np.array([0, 1]))
    np.testing.assert_allclose(found, [1.0, -2.0])
    self.assertEqual(logits[0, 0], 3.0)

  def test_a_fraction_and_the_rest_part_the_set(self):
    values = np.array([0.3, 0.9, 0.1, 0.9, 0.5])
    top = select.extreme(values, 0.4, "top")
    bottom = select.extreme(values, 0.6, "bottom")
    np.testing.assert_array_equal(top, [1, 3])
    np.testing.assert_array_equal(bottom, [0, 2, 4])
    np.testing.assert_array_equal(select.extreme(values, 0.2, "top"), [1])
    np.testing.assert_array_equal(select.extreme(values, 0.2, "bottom"), [2])

  def test_they_part_it_where_a_half_is_rounded(self):
    for num in range(1, 25):
      values = np.random.default_rng(num).permutation(num)
      for twentieth in range(1, 20):
        fraction = twentieth / 20
        top = select.extreme(values, fraction, "top")
        bottom = select.extreme(values, 1 - fraction, "bottom")
        np.testing.assert_array_equal(
          np.sort(np.concatenate([top, bottom])), np.arange(num)
        )
        self.assertAlmostEqual(len(top), fraction * num, delta=0.5 + 1e-9)
    whole = np.arange(3)
    for end in ("top", "bottom"):
      np.testing.assert_array_equal(select.extreme(whole, 1.0, end), whole)

  def test_among_equals_the_earlier_one_is_larger(self):
    values = np.zeros(4)
    np.testing.assert_array_equal(select.extreme(values, 0.5, "top"), [0, 1])
    np.testing.assert_array_equal(select.extreme(values, 0.5, "bottom"), [2, 3])
    # A sort that is not stable shows it on more than a few.
    many = np.random.default_rng(0).integers(3, size=1000).astype(float)
    want = np.flatnonzero(many == 2)[:100]
    np.testing.assert_array_equal(select.extreme(many, 0.1, "top"), want)


if __name__ == "__main__":
  absltest.main()
