"""Climbs with frames, and what the three kinds of picture climb."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, models, objectives, pictures


def config(**changes):
  fields = {"step_size": 0.1, "num_steps": 12, "frame_every_steps": 5,
            "fake_relu": True}  # fmt: skip
  return pictures.ClimbConfig(**(fields | changes))


class ClimbTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = toys.small_cnn()
    key = jax.random.key(0)
    cls.variables = models.init_variables(cls.model, key, (8, 8, 3))
    cls.x, cls.start = (
      jnp.asarray(toys.dataset(4, seed, dtype=np.float32).images)
      for seed in (0, 1)
    )
    cls.invert = staticmethod(
      functools.partial(
        pictures.invert, cls.model, cls.variables, cls.x, cls.start
      )
    )

  def test_frames_are_those_of_one_long_climb(self):
    """Bit for bit, whatever the pieces; and so is the way of `maximize`."""
    found = self.invert(config())
    self.assertEqual(config().frame_steps, (0, 5, 10, 12))
    self.assertEqual(found.frames.shape, (4, 4, 8, 8, 3))
    np.testing.assert_array_equal(found.frames[0], self.start)
    whole = self.invert(config(frame_every_steps=100))
    self.assertLen(whole.frames, 2)
    np.testing.assert_array_equal(found.frames[-1], whole.frames[-1])
    single = self.invert(config(frame_every_steps=1))
    np.testing.assert_array_equal(found.frames, single.frames[[0, 5, 10, 12],])
    attack = attacks.AttackConfig("l2", math.inf, 0.1, 12, keep_best=False)

    @jax.jit
    def maximize(variables, x, start):
      wanted = models.apply(self.model, variables, x).representation
      return attacks.maximize(
        objectives.distance_objective(self.model, variables, wanted, True),
        jnp.zeros_like(start), toys.keys(4), attack, x_init=start,
      )  # fmt: skip

    ended = maximize(self.variables, self.x, self.start)
    np.testing.assert_array_equal(found.frames[-1], ended.x_adv)
    np.testing.assert_allclose(found.values[-1], ended.value, rtol=1e-5)

  def test_a_small_pixel_beside_a_large_step(self):
    """Where x + (z - x) is not z: pieces about the start would part here."""
    start = jnp.asarray(
      np.random.default_rng(0).uniform(0, 0.02, (8, 8, 8, 3)), jnp.float32
    )
    weights = jnp.asarray(
      np.random.default_rng(1).normal(size=(8, 8, 8, 3)), jnp.float32
    )

    @functools.partial(jax.jit, static_argnames="cfg")
    def run(cfg):
      return pictures.climb(
        lambda z: (jnp.sin(7 * z) * weights).sum((1, 2, 3)), start, cfg
      )

    whole = run(config(step_size=1.7, num_steps=40, frame_every_steps=40))
    found = run(config(step_size=1.7, num_steps=40, frame_every_steps=1))
    np.testing.assert_array_equal(found.frames[-1], whole.frames[-1])

  def test_no_length_of_a_piece_is_known_to_the_compiler(self):
    """It would unroll a piece of one step: other sums, of large nets only."""
    program = jax.make_jaxpr(
      lambda x: pictures.climb(lambda z: z.sum((1, 2, 3)), x, config())
    )(self.x)
    self.assertIn("optimization_barrier", str(program))

  def test_values_are_minus_relative_distances_of_the_frames(self):
    found = self.invert(config())
    wanted = models.apply(self.model, self.variables, self.x).representation
    for frame, values in zip(found.frames, found.values, strict=True):
      there = models.apply(self.model, self.variables, frame).representation
      distance = np.linalg.norm(there - wanted, axis=1)
      want = -distance / np.linalg.norm(wanted, axis=1)
      np.testing.assert_allclose(values, want, rtol=1e-4)
    self.assertTrue((found.values[-1] > found.values[0]).all())
    self.assertGreaterEqual(found.frames.min(), 0)
    self.assertLessEqual(found.frames.max(), 1)

  def test_interpolation(self):
    """Points lie on both lines; at the ends there is nothing to climb."""
    found = pictures.interpolate(
      self.model, self.variables, self.x, self.start, 3, config()
    )
    frames = found.frames.reshape(4, 3, 4, 8, 8, 3)
    np.testing.assert_array_equal(frames[0, 0], self.x)
    np.testing.assert_allclose(
      frames[0, 1], (self.x + self.start) / 2, atol=1e-6
    )
    np.testing.assert_array_equal(frames[0, 2], self.start)
    values = found.values.reshape(4, 3, 4)
    np.testing.assert_allclose(
      values[
        0,
        [0, 2],
      ],
      0,
      atol=1e-5,
    )
    represent = functools.partial(models.apply, self.model, self.variables)
    ends = [represent(z).representation for z in (self.x, self.start)]
    wanted = (ends[0] + ends[1]) / 2
    there = represent(frames[0, 1]).representation
    want = np.linalg.norm(there - wanted, axis=1)
    want /= np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(-values[0, 1], want, rtol=1e-4)
    self.assertTrue((values[-1, 1] > values[0, 1]).all())

  def test_features(self):
    """Each picture climbs its own entry, from where it is off as well."""
    represent = functools.partial(models.apply, self.model, self.variables)
    values = np.asarray(represent(self.start).representation)
    off = np.flatnonzero(values[3] == 0)[0]
    entries = jnp.asarray([0, 5, 9, off], jnp.int32)
    found = pictures.maximize_features(
      self.model, self.variables, entries, self.start, config(num_steps=30)
    )
    for frame, got in zip(found.frames, found.values, strict=True):
      there = np.asarray(represent(frame).representation)
      np.testing.assert_allclose(
        got, there[np.arange(4), entries], rtol=1e-4, atol=1e-6
      )
    self.assertEqual(found.values[0, 3], 0)
    self.assertTrue((found.values[-1] > found.values[0]).all())
    closed = pictures.maximize_features(
      self.model, self.variables, entries, self.start,
      config(num_steps=30, fake_relu=False),
    )  # fmt: skip
    self.assertTrue((closed.values[:, 3] == 0).all())

  def test_the_last_relu_of_an_inversion(self):
    """Without its gradient another way is gone, by the same distances."""
    through = self.invert(config())
    stopped = self.invert(config(fake_relu=False))
    np.testing.assert_allclose(through.values[0], stopped.values[0], rtol=1e-5)
    self.assertGreater(
      np.abs(through.frames[1] - stopped.frames[1]).max(), 0.01
    )

  @parameterized.parameters(
    ("step_size", 0.0), ("step_size", math.inf), ("num_steps", 0),
    ("frame_every_steps", 0),
  )  # fmt: skip
  def test_bad_settings(self, field, value):
    with self.assertRaisesRegex(ValueError, f"^{field} must be .*{value}"):
      config(**{field: value})

  def test_frames_are_at_the_start_every_so_often_and_at_the_end(self):
    for steps, every, want in (
      (1, 1, (0, 1)), (4, 2, (0, 2, 4)), (5, 2, (0, 2, 4, 5)), (2, 9, (0, 2)),
    ):  # fmt: skip
      cfg = config(num_steps=steps, frame_every_steps=every, step_size=1e-6)
      self.assertEqual(cfg.frame_steps, want)


class TellingEntriesTest(absltest.TestCase):
  def test_the_most_correlated_entry_of_each_class(self):
    labels = np.array([0, 1, 2, 0, 1, 2])
    noise = np.random.default_rng(0).normal(size=(6, 6)) * 0.01
    values = noise.astype(np.float32)
    values[:, 4] = 7  # It never varies.
    values[:, 3] += 0.1 * (labels == 0)
    values[:, 5] = 1, -1, 0.2, 2, 1, -1  # Larger, and tells less of class 0.
    values[:, 1] += 100 * (labels == 2)
    values[:, 0] -= labels == 1  # Against the class: tells, but not for it.
    values[:, 2] += labels == 1
    for scale in (1.0, 1e-3, 1e3):  # A correlation has none.
      found = pictures.telling_entries(
        np.float32(scale) * values, labels, (0, 1, 2)
      )
      np.testing.assert_array_equal(found, [3, 2, 1])
    found = pictures.telling_entries(values, labels, (2, 0))
    np.testing.assert_array_equal(found, [1, 3])

  def test_an_entry_that_never_varies_is_below_every_other(self):
    labels = np.array([0, 1, 0, 1])
    values = np.stack([np.ones(4), -1.0 * labels], axis=1)
    found = pictures.telling_entries(values, labels, (1, 0))
    np.testing.assert_array_equal(found, [1, 1])


if __name__ == "__main__":
  absltest.main()
