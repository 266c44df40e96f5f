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
