"""Changes of a whole set, each against what it must keep and lose."""

import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features.data import dataset as ds
from robust_features.data import transform


def waves(periods, size=16):
  """Returns a grey image of a horizontal wave about 1/2, `[1, H, W, 3]`."""
  phase = 2 * np.pi * periods * np.arange(size) / size
  wave = 0.5 + 0.2 * np.cos(phase)
  image = np.broadcast_to(wave[None, :, None], (size, size, 3))
  return image[None].astype(np.float32)


class TransformTest(parameterized.TestCase):
  def test_filters_part_the_waves(self):
    low, high = waves(2), waves(6)
    both = low + high - 0.5
    np.testing.assert_allclose(transform.low_pass(both, 4), low, atol=1e-6)
    np.testing.assert_allclose(transform.high_pass(both, 4), high, atol=1e-6)
    np.testing.assert_allclose(transform.low_pass(low, 2), low, atol=1e-6)

  def test_the_radius_is_in_both_directions(self):
    image = waves(3).transpose(0, 2, 1, 3)
    flat = np.full_like(image, 0.5)
    np.testing.assert_allclose(transform.low_pass(image, 2), flat, atol=1e-6)

  def test_grey(self):
    image = np.zeros((1, 2, 2, 3), np.float32)
    image[..., 1] = 1.0  # ITU-R BT.601: green is 0.587 bright.
    np.testing.assert_allclose(transform.grey(image), 0.587, atol=1e-6)

  def test_jpeg_is_coarser_the_lower_its_quality(self):
    x = np.concatenate([waves(2), waves(3)])  # As grey as JPEG likes it.
    lost = [
      np.abs(transform.jpeg(x, quality) - x).mean() for quality in (10, 95)
    ]
    self.assertBetween(lost[1], 1e-4, lost[0] / 2)
    grey = x[..., :1]
    self.assertEqual(transform.jpeg(grey, 50).shape, grey.shape)

  @parameterized.parameters("jpeg", "grey", "low_pass", "high_pass")
  def test_of_a_set(self, name):
    for dtype in (np.uint8, np.float32):
      data = toys.dataset(4, dtype=dtype)
      found = transform.apply(name, data, 3.0)
      ds.check(found)
      self.assertEqual(found.images.dtype, dtype)
      self.assertTrue((found.images != data.images).any())
      np.testing.assert_array_equal(found.labels, data.labels)
      self.assertEqual(found.class_names, data.class_names)


if __name__ == "__main__":
  absltest.main()
