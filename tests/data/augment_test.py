"""Tests of augmentation against NumPy, Pillow and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from absl.testing import absltest, parameterized

from robust_features.data import augment

augmented = jax.jit(augment.augment, static_argnums=2)

OFF = {"pad": 0, "flip": False, "jitter": 0.0, "rotate": 0.0}


def config(**changes):
  return augment.AugmentConfig(**(OFF | changes))


def images(num, size=8, channels=3):
  rng = np.random.default_rng(0)
  shape = (num, size, size, channels)
  # No zeros, so that padding can be told from pixels.
  return rng.uniform(0.1, 1.0, size=shape).astype(np.float32)


def keys(num, seed=0):
  return jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(seed), jnp.arange(num)
  )


class AugmentTest(parameterized.TestCase):
  def test_all_off_is_the_identity(self):
    x = images(4)
    np.testing.assert_array_equal(augmented(x, keys(4), config()), x)

  def test_every_crop_is_a_window_of_the_padded_image_and_all_occur(self):
    pad, num = 2, 500
    x = np.repeat(images(1), num, axis=0)
    out = np.asarray(augmented(x, keys(num), config(pad=pad)))
    padded = np.pad(x[0], ((pad, pad), (pad, pad), (0, 0)))
    windows = {
      padded[i : i + 8, j : j + 8].tobytes(): (i, j)
      for i in range(2 * pad + 1)
      for j in range(2 * pad + 1)
    }
    self.assertLen(windows, 25)
    counts = dict.fromkeys(windows.values(), 0)
    for image in out:
      counts[windows[image.tobytes()]] += 1
    # Uniform: 20 each, Poisson deviation about 4.5.
    self.assertGreater(min(counts.values()), 2)
    self.assertLess(max(counts.values()), 45)

  def test_flip_mirrors_half_of_the_images(self):
    num = 400
    x = images(num)
    out = np.asarray(augmented(x, keys(num), config(flip=True)))
    flipped = np.all(out == x[:, :, ::-1], axis=(1, 2, 3))
    kept = np.all(out == x, axis=(1, 2, 3))
    self.assertTrue(np.all(flipped ^ kept))
    self.assertLess(abs(flipped.mean() - 0.5), 4 * 0.5 / num**0.5)

  @parameterized.parameters(
    (config(pad=4, flip=True), 0.0),
    (config(pad=4, flip=True, jitter=0.25, rotate=2.0), 1e-6),
  )
  def test_a_batch_of_three_equals_three_batches_of_one(self, cfg, tolerance):
    # The mean in the contrast may be summed in another order.
    x = images(3)
    together = augmented(x, keys(3), cfg)
    apart = [
      augmented(x[i : i + 1], keys(3)[i : i + 1], cfg)[0] for i in range(3)
    ]
    np.testing.assert_allclose(together, np.stack(apart), atol=tolerance)

  def test_same_key_same_image_and_other_key_other_image(self):
    x, cfg = images(2), config(pad=4, flip=True, jitter=0.25, rotate=10.0)
    first, again, other = (
      np.asarray(augmented(x, keys(2, seed), cfg)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    self.assertFalse(np.array_equal(first, other))

  def test_order_and_keys_are_those_of_its_pieces(self):
    """Crop, flip, jitter, rotate, lighting, each with a key of its own."""
    x, cfg = images(6), config(
      pad=2, flip=True, jitter=0.4, rotate=40.0, lighting=0.3
    )  # fmt: skip

    @jax.jit
    def by_hand(image, key):
      crop, flip, colour, turn, light = jax.random.split(key, 5)
      image = augment.shift(image, jax.random.randint(crop, (2,), -2, 3), 2)
      flipped = jax.random.bernoulli(flip)
      image = jnp.where(flipped, image[:, ::-1], image)
      factors = jax.random.uniform(colour, (3,), minval=0.6, maxval=1.4)
      image = augment.jitter(image, factors)
      degrees = jax.random.uniform(turn, minval=-40.0, maxval=40.0)
      image = augment.rotate(image, jnp.deg2rad(degrees))
      weights = 0.3 * jax.random.normal(light, (3,))
      return augment.lighting(image, weights), flipped

    found, flips = augmented(x, keys(6), cfg), set()
    for i in range(6):
      want, flipped = by_hand(x[i], keys(6)[i])
      np.testing.assert_allclose(found[i], want, atol=1e-5)
      flips.add(bool(flipped))
    self.assertLen(flips, 2)

  def test_stays_in_the_box_and_keeps_shape_and_type(self):
    x = images(64)
    cfg = config(pad=2, flip=True, jitter=1.0, rotate=30.0, lighting=1.0)
    out = augmented(x, keys(64), cfg)
    self.assertEqual(out.shape, x.shape)
    self.assertEqual(out.dtype, jnp.float32)
    self.assertBetween(float(out.min()), 0.0, 1.0)
    self.assertBetween(float(out.max()), 0.0, 1.0)

  def test_grey_images_are_cropped_but_not_jittered(self):
    x = images(2, channels=1)
    cfg = config(pad=1, flip=True, rotate=2.0)
    self.assertEqual(augmented(x, keys(2), cfg).shape, x.shape)
    for field in ("jitter", "lighting"):
      with self.assertRaisesRegex(ValueError, f"{field} needs 3 channels"):
        augmented(x, keys(2), config(**{field: 0.25}))


class PiecesTest(parameterized.TestCase):
  @parameterized.parameters((0, 0), (2, -1), (-2, 2))
  def test_shift(self, down, right):
    (x,) = images(1)
    expected = np.zeros_like(x)
    for i in range(8):
      for j in range(8):
        if 0 <= i + down < 8 and 0 <= j + right < 8:
          expected[i, j] = x[i + down, j + right]
    offset = jnp.array([down, right], jnp.int32)
    np.testing.assert_array_equal(augment.shift(x, offset, 2), expected)

  @parameterized.parameters(
    (1.0, 1.0, 1.0), (1.25, 1.0, 1.0), (1.0, 0.75, 1.0), (1.0, 1.0, 1.25),
    (0.8, 1.2, 0.9), (0.0, 1.0, 1.0),
  )  # fmt: skip
  def test_jitter_against_numpy(self, brightness, contrast, saturation):
    (x,) = images(1)
    luma = np.array([0.299, 0.587, 0.114])
    y = np.clip(brightness * x.astype(np.float64), 0, 1)
    y = np.clip(contrast * y + (1 - contrast) * (y @ luma).mean(), 0, 1)
    y = np.clip(saturation * y + (1 - saturation) * (y @ luma)[..., None], 0, 1)
    factors = jnp.array([brightness, contrast, saturation], jnp.float32)
    np.testing.assert_allclose(augment.jitter(x, factors), y, atol=1e-6)

  def test_lighting_is_alexnets(self):
    """Krizhevsky et al. 2012, section 4.1: P (alpha lambda) on every pixel."""
    (x,) = images(1)
    weights = np.array([0.1, -1.0, 2.0], np.float32)
    components = np.array(
      [[-0.5675, 0.7192, 0.4009],
       [-0.5808, -0.0045, -0.8140],
       [-0.5836, -0.6948, 0.4203]]
    )  # fmt: skip
    colour = components @ (weights * [0.2175, 0.0188, 0.0045])
    np.testing.assert_allclose(
      augment.lighting(x, weights), np.clip(x + colour, 0, 1), atol=1e-6
    )
    bright = augment.lighting(x, jnp.asarray([-9.0, 0.0, 0.0]))
    np.testing.assert_array_equal(bright, np.ones_like(x))

  def test_jitter_factors_span_their_range(self):
    # Mid-grey images show the brightness factor alone.
    x = np.full((1000, 2, 2, 3), 0.5, np.float32)
    out = augmented(x, keys(1000), config(jitter=0.25))
    factor = np.asarray(out)[:, 0, 0, 0] / 0.5
    self.assertBetween(factor.min(), 0.75 - 1e-5, 0.76)
    self.assertBetween(factor.max(), 1.24, 1.25 + 1e-5)
    self.assertAlmostEqual(float(factor.mean()), 1.0, delta=0.02)

  @parameterized.parameters(-90.0, -37.0, -2.0, 0.0, 1.5, 90.0, 180.0)
  def test_rotate_against_pillow(self, degrees):
    (x,) = images(1, size=32)
    levels = np.rint(x * 255).astype(np.uint8)
    expected = np.asarray(
      PIL.Image.fromarray(levels).rotate(
        degrees, resample=PIL.Image.Resampling.NEAREST
      )
    )
    out = augment.rotate(
      levels.astype(np.float32), jnp.deg2rad(jnp.float32(degrees))
    )
    # A source half-way between two pixels may be rounded either way.
    same = np.all(np.asarray(out) == expected, axis=-1)
    self.assertGreater(same.mean(), 0.995)

  def test_rotation_stays_within_its_range(self):
    # A dot 10 pixels right of the centre of 21 x 21 moves 10 sin(a) up.
    x = np.zeros((500, 21, 21, 3), np.float32)
    x[:, 10, 20] = 1.0
    out = np.asarray(augmented(x, keys(500), config(rotate=20.0)))
    seen = out[..., 0].any(axis=0)
    rows = np.flatnonzero(np.any(seen, axis=1)) - 10
    self.assertEqual((rows.min(), rows.max()), (-3, 3))  # 10 sin 20 = 3.4.


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"pad": -1}, "pad .*got -1"),
    ({"pad": 1.5}, "pad .*got 1.5"),
    ({"pad": True}, "pad .*got True"),
    ({"flip": 1}, "flip .*got 1"),
    ({"jitter": 1.1}, "jitter .*got 1.1"),
    ({"jitter": "3"}, "jitter .*got '3'"),
    ({"rotate": -2.0}, "rotate .*got -2.0"),
    ({"rotate": 181.0}, "rotate .*got 181.0"),
    ({"lighting": 1.5}, "lighting .*got 1.5"),
    ({"resized_crop": 8.0}, "resized_crop .*got 8.0"),
  )
  def test_refuses(self, change, message):
    with self.assertRaisesRegex(ValueError, message):
      config(**change)


if __name__ == "__main__":
  absltest.main()
