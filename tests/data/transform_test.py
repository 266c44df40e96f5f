"""Changes of a whole set, each against what it must keep and lose."""

import dataclasses
import io

import numpy as np
import toys
from absl.testing import absltest, parameterized
from PIL import Image

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

  def test_grey_weighs_the_three_colours(self):
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
      image = np.zeros((1, 2, 3, 3), np.float32)
      image[..., channel] = 1.0
      found = transform.grey(image)
      self.assertEqual(found.shape, image.shape)
      np.testing.assert_allclose(found, weight, atol=1e-6)

  def test_jpeg_is_pillows(self):
    x = np.concatenate([waves(2), waves(3)])
    for channels in (1, 3):
      found = transform.jpeg(x[..., :channels], 37)
      for image, one in zip(x, found, strict=True):
        levels = np.round(255 * image[..., :channels]).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(levels.squeeze()).save(buffer, "JPEG", quality=37)
        want = np.asarray(Image.open(buffer)).reshape(one.shape)
        np.testing.assert_array_equal(np.round(255 * one), want)
    data = toys.dataset(2)
    found = transform.apply("jpeg", data, 36.6)
    x = np.asarray(ds.to_float(data.images))
    want = np.round(255 * transform.jpeg(x, 37))
    np.testing.assert_array_equal(found.images, want)

  def test_filters_clip_and_keep_what_is_constant(self):
    flat = np.full((1, 4, 6, 1), 0.75, np.float32)
    np.testing.assert_allclose(transform.low_pass(flat, 0), flat, atol=1e-6)
    np.testing.assert_allclose(transform.high_pass(flat, 0), 0.5, atol=1e-6)
    steps = np.zeros((1, 1, 16, 1), np.float32)
    steps[:, :, :8] = 1.0
    found = transform.low_pass(steps, 3)  # It rings beyond both.
    self.assertEqual((found.min(), found.max()), (0.0, 1.0))
    high = transform.high_pass(np.concatenate([steps, 1 - steps]), 0)
    self.assertEqual((high.min(), high.max()), (0.0, 1.0))

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

  def test_of_bytes_it_is_rounded_and_extras_stay_behind(self):
    data = toys.dataset(4)
    data = dataclasses.replace(data, extras={"old": data.labels})
    found = transform.apply("grey", data, 0)
    want = 255 * transform.grey(np.asarray(ds.to_float(data.images)))
    np.testing.assert_array_equal(found.images, np.round(want))
    self.assertEqual(found.extras, {})


if __name__ == "__main__":
  absltest.main()
