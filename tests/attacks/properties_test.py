"""What holds of every attack of `maximize`, tried on ten thousand of them."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from robust_features.attacks import pgd
from robust_features.attacks.pgd import AttackConfig

GROUPS, SIZE = 160, 4  # Batches with settings of their own, their examples.
DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
SCALES = (0.0, 1e-30, 1.0, 1e30, np.inf, np.nan)
# Shapes and where the first of two climbs begins; the second is at random.
STATIC = (
  ((3, 4, 3), "x"), ((1, 1, 1), "random"), ((8, 5, 1), "random"),
  ((2, 2, 4), "given"),
)  # fmt: skip


@functools.partial(jax.jit, static_argnames=("norm", "start"))
def _attack(x, w, x_init, keys, settings, *, norm, start):
  """Attacks `[G, B, H, W, C]`; `settings` are `[G]`."""

  def attack(x, w, x_init, keys, scale, dtype, eps, step_size, num_steps):
    def objective(z):
      def value(dtype):
        terms = jnp.sin(9 * z.astype(dtype)) * w.astype(dtype)
        return terms.sum(axis=(1, 2, 3)).astype(jnp.float32)

      return scale * jax.lax.switch(
        dtype, [functools.partial(value, dtype) for dtype in DTYPES]
      )

    first = "random" if start == "random" else "x"
    cfg = AttackConfig(norm, eps, step_size, num_steps, 2, first)
    given = x_init if start == "given" else None
    found = pgd.maximize(objective, x, keys, cfg, x_init=given)
    return found.x_adv, found.zero_gradients, found.nonfinite_gradients

  return jax.vmap(attack)(x, w, x_init, keys, *settings)


def _draw(rng, shape):
  """Returns arguments of `_attack`: odd groups share their settings and two
  examples, at other places, with the even group before."""
  full = (GROUPS, SIZE, *shape)
  x = rng.uniform(-0.5, 1.5, full).clip(0, 1).astype(np.float32)
  w = rng.normal(size=full).astype(np.float32)
  x_init = rng.uniform(0, 1, full).astype(np.float32)
  seeds = rng.integers(0, 2**31 - 1, (GROUPS, SIZE))
  for array in (x, w, x_init, seeds):
    array[1::2, 0], array[1::2, 3] = array[::2, 3], array[::2, 1]
  eps = 10 ** rng.uniform(-4, 1, GROUPS)
  eps[rng.random(GROUPS) < 0.1] = 0
  settings = [
    rng.choice(SCALES, GROUPS).astype(np.float32),
    rng.integers(0, len(DTYPES), GROUPS).astype(np.int32),
    eps.astype(np.float32),
    (10 ** rng.uniform(-4, 1, GROUPS)).astype(np.float32),
    rng.integers(0, 6, GROUPS).astype(np.int32),
  ]
  for array in settings:
    array[1::2] = array[::2]
  keys = jax.vmap(jax.vmap(jax.random.key))(jnp.asarray(seeds, jnp.uint32))
  return x, w, x_init, keys, tuple(settings)


class PropertiesTest(parameterized.TestCase):
  @pytest.fixture(autouse=True)
  def _give_record_property(self, record_property):
    self.record_property = record_property

  @parameterized.product(norm=("l2", "linf"), static=STATIC)
  @hypothesis.settings(
    max_examples=2, derandomize=True, database=None, deadline=None
  )
  @hypothesis.given(seed=st.integers(0, 2**31 - 1))
  def test_hold(self, norm, static, seed):
    shape, start = static
    x, w, x_init, keys, settings = _draw(np.random.default_rng(seed), shape)
    attack = functools.partial(_attack, norm=norm, start=start)
    x_adv, zero, bad = map(
      np.asarray, attack(x, w, x_init, jax.random.clone(keys), settings)
    )
    self.assertEqual(x_adv.dtype, np.float32)
    self.assertTrue(((x_adv >= 0) & (x_adv <= 1)).all())  # NaN fails too.
    delta = (x_adv.astype(np.float64) - x).reshape(GROUPS, SIZE, -1)
    order = 2 if norm == "l2" else np.inf
    size = np.linalg.norm(delta, order, axis=-1)
    # Half a unit in the last place of x, on every pixel.
    slack = 6e-8 if norm == "linf" else 1e-7
    scale, _, eps, _, num_steps = settings
    excess = size - eps.astype(np.float64)[:, None] * (1 + 1e-6)
    self.assertLessEqual(excess.max(), slack)
    # Every step of both climbs is counted as what it was.
    steps = 2 * num_steps[:, None] * np.ones((1, SIZE), int)
    np.testing.assert_array_equal(zero[scale == 0], steps[scale == 0])
    broken = ~np.isfinite(scale)
    np.testing.assert_array_equal(bad[broken], steps[broken])
    np.testing.assert_array_equal(bad[scale == 1], 0)
    # The neighbours and the place in the batch change no bit.
    np.testing.assert_array_equal(x_adv[1::2, 0], x_adv[::2, 3])
    np.testing.assert_array_equal(x_adv[1::2, 3], x_adv[::2, 1])
    again, *_ = attack(x, w, x_init, jax.random.clone(keys), settings)
    np.testing.assert_array_equal(again, x_adv)
    self.record_property("cases", GROUPS * SIZE)


if __name__ == "__main__":
  absltest.main()
