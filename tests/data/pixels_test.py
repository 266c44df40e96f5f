"""Images as arrays: sizes, crops and levels by hand."""

import io

import numpy as np
import PIL.Image
from absl.testing import absltest, parameterized

from robust_features.data import pixels
from robust_features.data.dataset import DataError


def picture(width, height, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(256, size=(height, width, 3)).astype(np.uint8)


class SizeTest(parameterized.TestCase):
  @parameterized.parameters(
    # (width, height), image_size, short_side -> resized to, cropped from.
    ((10, 6), 4, 0, (7, 4), (1, 0)), ((6, 10), 4, 0, (4, 7), (0, 1)),
    ((10, 6), 4, 6, (10, 6), (3, 1)), ((4, 4), 4, 5, (5, 5), (0, 0)),
    ((8, 8), 4, 7, (7, 7), (1, 1)), ((4, 6), 4, 0, (4, 6), (0, 1)),
    ((4, 4), 4, 4, (4, 4), (0, 0)), ((3, 3), 9, 0, (9, 9), (0, 0)),
  )  # fmt: skip
  def test_the_shorter_side_and_then_the_centre(
    self, size, image_size, short_side, resized, corner
  ):
    made = PIL.Image.fromarray(picture(*size))
    found = pixels.to_array(made, 3, image_size, short_side)
    whole = made.resize(resized, PIL.Image.Resampling.BILINEAR)
    left, top = corner
    want = np.asarray(whole)[top : top + image_size, left : left + image_size]
    self.assertEqual(found.shape, (image_size, image_size, 3))
    np.testing.assert_array_equal(found, want)

  def test_no_size_changes_nothing(self):
    array = picture(7, 5)
    made = PIL.Image.fromarray(array)
    np.testing.assert_array_equal(pixels.to_array(made, 3, 0), array)
    np.testing.assert_array_equal(pixels.to_array(made, 3, 0, 3), array)


class ColourTest(parameterized.TestCase):
  def test_channels(self):
    made = PIL.Image.fromarray(picture(4, 3))
    for channels in (1, 3, 4):
      found = pixels.to_array(made, channels, 0)
      self.assertEqual(found.shape, (3, 4, channels))
      self.assertEqual(found.dtype, np.uint8)

  def test_what_is_transparent_lies_on_white_or_stays(self):
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, :, 3] = 0, 51, 255  # Of black: none of it, a fifth, all.
    made = PIL.Image.fromarray(array)
    found = pixels.to_array(made, 3, 0)
    np.testing.assert_array_equal(found[0], [[255] * 3, [204] * 3, [0] * 3])
    self.assertEqual(pixels.to_array(made, 1, 0)[0, 1, 0], 204)
    np.testing.assert_array_equal(pixels.to_array(made, 4, 0), array)

  def test_sixteen_bits_are_rounded_to_eight(self):
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    found = pixels.to_array(PIL.Image.fromarray(levels), 1, 0)
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 1, 128, 255])

  @parameterized.parameters(
    (np.int32, "32-bit integers"), (np.float32, "floats")
  )
  def test_of_no_known_range(self, dtype, what):
    made = PIL.Image.fromarray(np.ones((2, 2), dtype))
    with self.assertRaisesRegex(ValueError, f"are {what}, of no known range"):
      pixels.to_array(made, 1, 0)


class BytesTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 4)
  def test_png(self, channels):
    rng = np.random.default_rng(0)
    array = rng.integers(256, size=(3, 5, channels)).astype(np.uint8)
    content = pixels.encode_png(array)
    with PIL.Image.open(io.BytesIO(content)) as made:
      self.assertEqual(made.format, "PNG")
      plain = np.asarray(made).reshape(array.shape)
      np.testing.assert_array_equal(plain, array)
      found = pixels.to_array(made, channels, 0)
    np.testing.assert_array_equal(found, array)

  def test_stack(self):
    images = [picture(4, 3, seed) for seed in (0, 1)]
    found = pixels.stack(images, "here")
    np.testing.assert_array_equal(found, np.stack(images))
    with self.assertRaisesRegex(DataError, "^here: holds no image$"):
      pixels.stack([], "here")
    with self.assertRaisesRegex(
      DataError, r"^here: images differ in shape, \(3, 4, 3\) and \(4, 4, 3\); "
    ):
      pixels.stack([*images, picture(4, 4)], "here")


if __name__ == "__main__":
  absltest.main()
