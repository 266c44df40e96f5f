"""Waves against numpy's Fourier transform; norms, signs and the map."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features import attacks, fourier

CFG = fourier.FourierConfig(0.5, 99, 3, 4)


def keys(num):
  return attacks.example_keys(jax.random.key(0), jnp.arange(num))


class WaveTest(parameterized.TestCase):
  @parameterized.parameters((8, 8), (7, 10))
  def test_one_frequency_and_its_mirror(self, *size):
    for frequency in fourier.frequencies(CFG, size):
      found = np.asarray(fourier.wave(jnp.asarray(frequency), size))
      self.assertAlmostEqual(np.square(found).sum(), 1, places=5)
      power = np.abs(np.fft.fft2(found)) > 1e-4
      want = np.zeros(size, bool)
      for sign in (1, -1):
        want[tuple(sign * frequency % size)] = True
      np.testing.assert_array_equal(power, want)

  def test_the_phase_is_kept_in_large_images(self):
    found = np.asarray(fourier.wave(jnp.array([111, 97]), (224, 224)))
    rows, columns = np.mgrid[:224, :224]
    want = np.cos(2 * np.pi * (111 * rows + 97 * columns) / 224)
    want /= np.linalg.norm(want)
    np.testing.assert_allclose(found, want, atol=1e-7)


class FrequenciesTest(parameterized.TestCase):
  @parameterized.parameters((8, 8), (7, 10), (5, 5))
  def test_every_wave_once(self, *size):
    """N pixels have N dimensions, of which a wave takes two or one."""
    found = fourier.frequencies(CFG, size)
    own = sum(1 for f in found if (2 * f % size == 0).all())
    self.assertEqual(own + 2 * (len(found) - own), size[0] * size[1])

  def test_the_map_is_its_own_mirror(self):
    for size, most, shape in (
      ((8, 8), 9, (9, 9)), ((7, 10), 9, (7, 11)), ((32, 32), 3, (7, 7)),
    ):  # fmt: skip
      cfg = dataclasses.replace(CFG, max_frequency=most)
      found = fourier.frequencies(cfg, size)
      shown = fourier.heat_map(np.arange(len(found)), cfg, size)
      self.assertEqual(shown.shape, shape)
      np.testing.assert_array_equal(shown, shown[::-1, ::-1])
      self.assertEqual(set(shown.flat), set(range(len(found))))
      down, right = cfg.extent(size)
      for number, frequency in enumerate(found):
        signed = [
          int(f - n if f > n // 2 else f)
          for f, n in zip(frequency, size, strict=True)
        ]
        at = shown[down + signed[0], right + signed[1]]
        self.assertEqual(at, number)

  def test_bands_part_the_map(self):
    bands = fourier.bands((9, 9))
    total = np.sum(bands, axis=0)
    self.assertEqual(total[4, 4], 0)
    self.assertEqual(total.sum(), 80)
    self.assertTrue(bands[0][4, 5])
    self.assertTrue(bands[2][0, 0] and bands[2][4, 0])
    self.assertTrue(bands[1][4, 6])
    # At 0.35, 0.56 and 0.71 of the highest frequency.
    self.assertTrue(bands[1][5, 5] and bands[1][6, 5] and bands[2][6, 6])

  def test_changes_are_numbered_in_the_order_of_frequencies(self):
    cfg = dataclasses.replace(CFG, eps=0.25)
    found, numbers, norms = fourier.points(cfg, (4, 5))
    self.assertEqual(found.tolist(), sorted(found.tolist()))
    np.testing.assert_array_equal(numbers, np.arange(len(found)))
    np.testing.assert_array_equal(norms, np.full(len(found), 0.25))
    numbers, norms = fourier.white_points(cfg)
    np.testing.assert_array_equal(numbers, [0, 1, 2])
    np.testing.assert_array_equal(norms, [0.25] * 3)


class AddTest(absltest.TestCase):
  def test_the_norm_of_every_channel(self):
    x = jnp.full((3, 8, 8, 2), 0.5)
    wave = (jnp.array([1, 2]), jnp.int32(7), jnp.float32(0.4))
    white = (jnp.int32(1), jnp.float32(0.4))
    for change, point in ((fourier.add_wave, wave), (fourier.add_white, white)):
      added = np.asarray(change(x, point, keys(3)) - x)
      norms = np.sqrt(np.square(added).sum(axis=(1, 2)))
      np.testing.assert_allclose(norms, 0.4, rtol=1e-5)

  def test_clipped(self):
    x = jnp.ones((2, 4, 4, 1))
    for change, point in (
      (fourier.add_wave, (jnp.array([1, 0]), jnp.int32(0), jnp.float32(2.0))),
      (fourier.add_white, (jnp.int32(0), jnp.float32(2.0))),
    ):
      found = np.asarray(change(x, point, keys(2)))
      self.assertLessEqual(found.max(), 1)
      self.assertLess(found.min(), 1)

  def test_signs_are_drawn_for_image_channel_and_frequency(self):
    x = jnp.full((40, 4, 4, 3), 0.5)
    frequency = jnp.array([0, 1])
    signs = []
    for number in (0, 1):
      point = frequency, jnp.int32(number), jnp.float32(0.1)
      added = fourier.add_wave(x, point, keys(40)) - x
      signs.append(np.sign(np.asarray(added[:, 0, 0])))
    signs = np.stack(signs)
    self.assertEqual(set(signs.flat), {-1.0, 1.0})
    # Of 120 fair coins, within four standard deviations.
    self.assertLess(abs(signs.reshape(2, -1).sum(axis=1)).max(), 44)
    for axis in (0, 1, 2):
      same = signs.take(0, axis) == signs.take(1, axis)
      self.assertBetween(same.mean(), 0.2, 0.8)

  def test_which_numbers_are_drawn(self):
    """A sign a channel of the key of the wave; noise of keys beyond those."""
    x, frequency = jnp.full((2, 4, 4, 3), 0.5), jnp.array([0, 1])
    found = fourier.add_wave(x, (frequency, jnp.int32(5), 0.1), keys(2)) - x
    wave = 0.1 * fourier.wave(frequency, (4, 4))
    white = fourier.add_white(x, (jnp.int32(5), 0.1), keys(2)) - x
    for row, key in enumerate(keys(2)):
      own = jax.random.fold_in(key, 5)
      signs = jax.random.rademacher(own, (3,), jnp.float32)
      np.testing.assert_allclose(
        found[row], wave[..., None] * signs[None, None], atol=1e-6
      )
      noise = jax.random.normal(jax.random.fold_in(key, 2**30 + 5), (4, 4, 3))
      size = np.linalg.norm(noise, axis=(0, 1), keepdims=True)
      np.testing.assert_allclose(white[row], 0.1 * noise / size, atol=1e-6)

  def test_draws_of_white_noise_differ(self):
    x = jnp.full((2, 4, 4, 3), 0.5)
    first, second = (
      np.asarray(fourier.add_white(x, (jnp.int32(i), jnp.float32(1)), keys(2)))
      for i in (0, 1)
    )
    self.assertGreater(np.abs(first - second).min(), 0)
    self.assertGreater(np.abs(first[0] - first[1]).min(), 0)


class SettingsTest(parameterized.TestCase):
  def test_the_edges_of_what_is_taken(self):
    cfg = fourier.FourierConfig(1e-6, 1, 1, 1)
    self.assertEqual(cfg.extent((8, 3, 1)), (1, 1))
    cfg = dataclasses.replace(cfg, max_frequency=3)
    self.assertEqual(cfg.extent((8, 5, 1)), (3, 2))

  @parameterized.parameters(
    ({"eps": 0.0}, "eps must be above 0 and finite, got 0"),
    ({"eps": float("inf")}, "eps must be above 0 and finite"),
    ({"max_frequency": 0}, "max_frequency must be at least 1, got 0"),
    ({"num_white": 0}, "num_white must be at least 1, got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
  )
  def test_refused(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(CFG, **fields)


if __name__ == "__main__":
  absltest.main()
