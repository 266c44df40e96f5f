"""Projected gradient ascent: geometry, optimality, keys, one trace."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks
from robust_features.attacks import geometry, losses, pgd
from robust_features.attacks.pgd import AttackConfig

SHAPE = (3, 4, 3)
L2 = AttackConfig("l2", 0.5, 0.1, 2)


def images(num, seed=0, low=0.0, high=1.0, shape=SHAPE):
  rng = np.random.default_rng(seed)
  return rng.uniform(low, high, (num, *shape)).astype(np.float32)


def norms(delta, norm):
  """Returns the norm of every example in float64, `[B]`."""
  flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
  return np.linalg.norm(flat, ord=2 if norm == "l2" else np.inf, axis=1)


def moved(x_adv, x):
  return np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)


def linear(w):
  """Returns x -> <w, x> per example."""
  return lambda x: (x * jnp.asarray(w)).sum(axis=(1, 2, 3))


def constant(x):
  return 0.0 * x.sum(axis=(1, 2, 3))


class BallAndBoxTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_a_start_outside_the_ball_does_not_survive(self, norm):
    # The start is the best point there is, and still must not be returned.
    x, start = images(4, high=0.3), images(4, low=0.7)
    cfg = AttackConfig(norm, 0.1, 0.05, 3)
    found = pgd.maximize(
      lambda z: -jnp.square(z - start).sum(axis=(1, 2, 3)),
      x, toys.keys(4), cfg, x_init=start,
    )  # fmt: skip
    self.assertLessEqual(norms(moved(found.x_adv, x), norm).max(), 0.1 + 1e-6)

  @parameterized.parameters("l2", "linf")
  def test_later_starts_lie_about_the_image_wherever_the_first_one_is(
    self, norm
  ):
    x, start = images(8, low=0.3, high=0.5), images(8, low=0.7)
    cfg = AttackConfig(norm, 0.1, 0.05, 0, num_restarts=3)
    found = pgd.maximize(
      lambda z: jnp.square(z - x).sum(axis=(1, 2, 3)),
      x, toys.keys(8), cfg, x_init=start,
    )  # fmt: skip
    self.assertLessEqual(norms(moved(found.x_adv, x), norm).max(), 0.1 + 1e-6)

  def test_an_infinite_radius_leaves_the_box(self):
    x, start = images(4, high=0.3), images(4, low=0.7)
    target = images(4, seed=5)
    cfg = AttackConfig("l2", np.inf, 0.02, 300, keep_best=False)
    found = pgd.maximize(
      lambda z: -jnp.square(z - target).sum(axis=(1, 2, 3)),
      x, toys.keys(4), cfg, x_init=start,
    )  # fmt: skip
    self.assertLess(norms(moved(found.x_adv, target), "l2").max(), 0.021)


class OptimumTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_linear_in_the_interior(self, norm):
    x, w = images(5, low=0.4, high=0.6), images(5, seed=1, low=-1)
    eps = 0.2
    found = attacks.maximize(
      linear(w), x, toys.keys(5), AttackConfig(norm, eps, 0.05, 10)
    )
    dual = norms(w, "l2") if norm == "l2" else np.abs(w).sum(axis=(1, 2, 3))
    want = (w * x).sum(axis=(1, 2, 3)) + eps * dual
    np.testing.assert_allclose(found.value, want, rtol=1e-5)
    if norm == "l2":
      unit = w / norms(w, "l2")[:, None, None, None]
    else:
      unit = np.sign(w)
    np.testing.assert_allclose(found.x_adv, x + eps * unit, atol=1e-5)

  def test_linear_linf_against_the_box(self):
    x, w = images(5), images(5, seed=1, low=-1)
    found = attacks.maximize(
      linear(w), x, toys.keys(5), AttackConfig("linf", 0.4, 0.1, 8)
    )
    want = np.clip(x + 0.4 * np.sign(w), 0, 1)
    np.testing.assert_allclose(found.x_adv, want, atol=1e-6)

  def test_linear_l2_against_the_box(self):
    """The optimum is x + clip(c w) with the c that uses the whole radius."""
    x, w, eps = images(5), images(5, seed=1, low=-1), 1.5
    found = attacks.maximize(
      linear(w), x, toys.keys(5), AttackConfig("l2", eps, 0.01, 800)
    )
    for i in range(5):
      x64, w64 = x[i].astype(np.float64), w[i].astype(np.float64)
      low, high = 0.0, 1e3
      for _ in range(100):
        c = (low + high) / 2
        delta = np.clip(x64 + c * w64, 0, 1) - x64
        low, high = (c, high) if np.linalg.norm(delta) < eps else (low, c)
      self.assertTrue(((x64 + delta == 0) | (x64 + delta == 1)).any())
      best, start = (w64 * (x64 + delta)).sum(), (w64 * x64).sum()
      self.assertLessEqual(float(found.value[i]), best + 1e-5)
      # Clipping after the projection stops within a step of the optimum.
      self.assertGreater(float(found.value[i]), best - 2e-3 * (best - start))

  def test_targeted_climbs_towards_the_target(self):
    x = images(6, low=0.4, high=0.6)
    w = jnp.asarray(np.random.default_rng(3).normal(size=(36, 4)), jnp.float32)
    y = (x.reshape(6, -1) @ w).argmax(1).astype(jnp.int32)
    target = (y + 1) % 4

    def objective(z):
      return -losses.cross_entropy(z.reshape(6, -1) @ w, target)

    cfg = AttackConfig("l2", 2.0, 0.2, 20)
    found = attacks.maximize(objective, x, toys.keys(6), cfg)
    after = (found.x_adv.reshape(6, -1) @ w).argmax(1)
    np.testing.assert_array_equal(after, target)
    np.testing.assert_allclose(found.value, objective(found.x_adv), rtol=1e-5)


class GradientAtZeroTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_an_exact_zero_is_counted_and_moves_nothing(self, norm):
    x = images(3)
    cfg = AttackConfig(norm, 0.5, 0.1, 7)
    found = attacks.maximize(constant, x, toys.keys(3), cfg)
    np.testing.assert_array_equal(found.x_adv, x)
    np.testing.assert_array_equal(found.zero_gradients, [7, 7, 7])
    np.testing.assert_array_equal(found.value, [0, 0, 0])

  def test_zeros_are_counted_over_restarts_and_per_example(self):
    x = images(2)
    live = np.array([0.0, 1.0], np.float32)

    def objective(z):
      return live * z.sum(axis=(1, 2, 3))

    cfg = AttackConfig("l2", 0.1, 0.05, 4, num_restarts=3)
    found = attacks.maximize(objective, x, toys.keys(2), cfg)
    np.testing.assert_array_equal(found.zero_gradients, [12, 0])

  @parameterized.product(norm=("l2", "linf"), scale=(1e-30, 1e-36, 1e30))
  def test_tiny_and_huge_gradients_take_whole_steps(self, norm, scale):
    x, w = images(3, low=0.4, high=0.6), images(3, seed=1, low=-1)
    found = attacks.maximize(
      linear(np.float32(scale) * w), x, toys.keys(3),
      AttackConfig(norm, 1.0, 0.05, 2, keep_best=False),
    )  # fmt: skip
    np.testing.assert_array_equal(found.zero_gradients, [0, 0, 0])
    length = norms(moved(found.x_adv, x), norm)
    np.testing.assert_allclose(length, 0.1, rtol=1e-5)

  def test_a_sure_model_stops_cross_entropy_but_not_the_margin(self):
    w = np.zeros((36, 2), np.float32)
    w[:, 0] = 100.0
    y = jnp.zeros(2, jnp.int32)
    x = images(2, low=0.4, high=0.6)
    cfg = AttackConfig("l2", 0.5, 0.1, 3)

    def climb(loss):
      objective = lambda z: loss(z.reshape(2, -1) @ w, y)  # noqa: E731
      return attacks.maximize(objective, x, toys.keys(2), cfg)

    stuck = climb(losses.cross_entropy)
    np.testing.assert_array_equal(stuck.zero_gradients, [3, 3])
    np.testing.assert_array_equal(stuck.x_adv, x)
    going = climb(losses.cw_margin)
    np.testing.assert_array_equal(going.zero_gradients, [0, 0])
    self.assertGreater(norms(moved(going.x_adv, x), "l2").min(), 0.29)

  def test_unit_direction_has_unit_norm_or_is_zero(self):
    grad = images(4, low=-1)
    grad[2] = 0
    found = geometry.unit_direction(jnp.asarray(grad), "l2")
    np.testing.assert_allclose(norms(found, "l2"), [1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(
      geometry.unit_direction(grad, "linf"), np.sign(grad)
    )


class IndependenceTest(parameterized.TestCase):
  @parameterized.product(norm=("l2", "linf"), start=("x", "random"))
  def test_three_at_once_equal_one_by_one(self, norm, start):
    x, w = images(3), images(3, seed=1, low=-1)
    keys = attacks.example_keys(jax.random.key(7), jnp.arange(3))
    cfg = AttackConfig(norm, 0.3, 0.1, 5, num_restarts=2, start=start)

    @jax.jit
    def climb(x, w, keys):
      objective = lambda z: (jnp.sin(9 * z) * w).sum(axis=(1, 2, 3))  # noqa: E731
      return attacks.maximize(objective, x, keys, cfg)

    whole = climb(x, w, keys)
    for i in range(3):
      one = slice(i, i + 1)
      part = climb(x[one], w[one], keys[one])
      for found, wanted in zip(part, whole, strict=True):
        np.testing.assert_array_equal(found, wanted[one])

  def test_keys_depend_on_the_index_alone(self):
    key = jax.random.key(1)
    whole = jax.random.key_data(attacks.example_keys(key, jnp.arange(9)))
    part = attacks.example_keys(key, jnp.array([8, 2]))
    np.testing.assert_array_equal(
      jax.random.key_data(part), np.asarray(whole)[[8, 2]]
    )


class RestartsTest(parameterized.TestCase):
  def objective(self, x):
    """Many maxima, so that another start gives another value."""
    return jnp.sin(40 * x).sum(axis=(1, 2, 3))

  @parameterized.product(norm=("l2", "linf"), start=("x", "random"))
  def test_the_best_start_of_every_example_is_kept(self, norm, start):
    """Without steps the result is the best of the starting points."""
    x, keys, restarts = images(16), toys.keys(16), 4
    cfg = AttackConfig(norm, 0.5, 0.1, 0, num_restarts=restarts, start=start)
    found = attacks.maximize(self.objective, x, keys, cfg)
    starts = [] if start == "random" else [x]
    for i in range(len(starts), restarts):
      folded = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
      ball = geometry.random_in_ball(folded, SHAPE, norm, 0.5)
      starts.append(np.clip(x + np.asarray(ball), 0, 1))
    values = np.stack([self.objective(jnp.asarray(s)) for s in starts])
    which = values.argmax(0)
    self.assertGreater(len(set(which)), 2)
    np.testing.assert_allclose(found.value, values.max(0), rtol=1e-4, atol=1e-4)
    want = np.stack(starts)[which, np.arange(16)]
    np.testing.assert_allclose(found.x_adv, want, atol=1e-6)

  def test_more_restarts_never_lose(self):
    x, keys, last = images(32), toys.keys(32), None
    for restarts in (1, 2, 6):
      cfg = AttackConfig("l2", 0.3, 0.01, 5, num_restarts=restarts)
      found = attacks.maximize(self.objective, x, keys, cfg)
      np.testing.assert_allclose(
        found.value, self.objective(found.x_adv), rtol=1e-4, atol=1e-4
      )
      if last is not None:
        self.assertTrue((found.value >= last - 1e-5).all())
        self.assertGreater(int((found.value > last).sum()), 8)
      last = found.value

  def test_an_objective_that_draws_is_told_the_call(self):
    """Every step climbs its own direction; the end is scored by one more."""
    x = jnp.full((2, *SHAPE), 0.5, jnp.float32)

    def objective(z, call):
      return z[:, call, 0, 0]

    cfg = AttackConfig("l2", 1.0, 0.1, 2, keep_best=False)
    found = attacks.maximize(objective, x, toys.keys(2), cfg, draws=True)
    want = np.full((2, *SHAPE), 0.5)
    want[:, :2, 0, 0] += 0.1
    np.testing.assert_allclose(found.x_adv, want, atol=1e-6)
    np.testing.assert_allclose(found.value, want[:, 2, 0, 0])

  @parameterized.parameters("l2", "linf")
  def test_a_random_start_is_added_to_the_image(self, norm):
    x = np.broadcast_to(images(1), (8, *SHAPE))
    cfg = AttackConfig(norm, 0.2, 0.1, 0, start="random")
    found = attacks.maximize(constant, x, toys.keys(8), cfg).x_adv
    length = norms(moved(found, x), norm)
    self.assertGreater(length.min(), 0.05)
    self.assertLessEqual(length.max(), 0.2 + 1e-6)
    self.assertLen(np.unique(np.asarray(found).reshape(8, -1), axis=0), 8)
    other = attacks.maximize(constant, x, toys.keys(8, 1), cfg).x_adv
    self.assertTrue((found != other).any(axis=(1, 2, 3)).all())

  def test_keys_of_other_kinds(self):
    """Those of rbg draw as well; raw ones are not `[B]`."""
    x, cfg = images(4), AttackConfig("l2", 0.2, 0.1, 0, start="random")
    raw = jax.random.key_data(toys.keys(4))
    with self.assertRaisesRegex(AssertionError, r"\(4, 2\) but expected \(4"):
      attacks.maximize(constant, x, raw, cfg)
    rbg = jax.random.split(jax.random.key(0, impl="rbg"), 4)
    found = attacks.maximize(constant, x, rbg, cfg).x_adv
    length = norms(moved(found, x), "l2")
    self.assertBetween(length.min(), 0.01, 0.2)
    self.assertLessEqual(length.max(), 0.2 + 1e-6)

  def test_the_image_itself_is_the_first_restart(self):
    # The image is the only maximum, so no random start may beat it.
    x = images(8, low=0.3, high=0.7)

    def objective(z):
      return -jnp.square(z - x).sum(axis=(1, 2, 3))

    cfg = AttackConfig("l2", 0.5, 0.1, 0, num_restarts=5)
    found = attacks.maximize(objective, x, toys.keys(8), cfg)
    np.testing.assert_array_equal(found.x_adv, x)


class KeepBestTest(parameterized.TestCase):
  def climb(self, keep_best, objective, steps=5):
    x = np.full((2, 1, 1, 1), 0.5, np.float32)
    cfg = AttackConfig("linf", 0.4, 0.25, steps, keep_best=keep_best)
    found = attacks.maximize(objective, x, toys.keys(2), cfg)
    return np.asarray(found.x_adv)[:, 0, 0, 0], np.asarray(found.value)

  def test_overshooting(self):
    # From 0.5 in steps of 0.25 towards 0.6: 0.75, 0.5, 0.75, 0.5, 0.75.
    objective = lambda z: -jnp.abs(z - 0.6)[:, 0, 0, 0]  # noqa: E731
    last, value = self.climb(False, objective)
    np.testing.assert_allclose(last, 0.75)
    np.testing.assert_allclose(value, -0.15, rtol=1e-5)
    best, value = self.climb(True, objective)
    np.testing.assert_allclose(best, 0.5)
    np.testing.assert_allclose(value, -0.1, rtol=1e-5)

  def test_the_last_iterate_counts_too(self):
    best, _ = self.climb(True, lambda z: z[:, 0, 0, 0], steps=1)
    np.testing.assert_allclose(best, 0.75)

  def test_scores_choose_and_values_climb(self):
    def objective(z):
      z = z[:, 0, 0, 0]
      return z, -jnp.abs(z - 0.76)  # Climbs to 0.9, passes 0.75.

    best, value = self.climb(True, objective)
    np.testing.assert_allclose(best, 0.75)
    np.testing.assert_allclose(value, -0.01, atol=1e-6)

  def test_a_nan_score_is_never_kept(self):
    def objective(z):
      z = z[:, 0, 0, 0]
      return z, jnp.where(z > 0.6, jnp.nan, z)

    best, value = self.climb(True, objective)
    np.testing.assert_allclose(best, 0.5)
    np.testing.assert_allclose(value, 0.5)


class TraceTest(parameterized.TestCase):
  def test_steps_and_radius_share_one_trace(self):
    traces = []

    @jax.jit
    def climb(x, keys, cfg):
      traces.append(1)
      return attacks.maximize(linear(w), x, keys, cfg)

    x, keys = np.full((1, *SHAPE), 0.5, np.float32), toys.keys(1)
    w = images(1, seed=1, low=-1)
    for num_steps in (7, 20, 100):
      for eps in (0.1, 1.0):
        cfg = AttackConfig("l2", eps, 0.002, num_steps)
        found = climb(x, keys, cfg)
        length = norms(moved(found.x_adv, x), "l2")
        # And the numbers are obeyed.
        want = min(eps, 0.002 * num_steps)
        np.testing.assert_allclose(length, want, rtol=1e-4)
    self.assertLen(traces, 1)


class RandomInBallTest(parameterized.TestCase):
  def test_l2_is_uniform(self):
    num, shape, eps = 4000, (1, 1, 3), 0.7
    found = np.asarray(
      geometry.random_in_ball(toys.keys(num), shape, "l2", eps)
    )
    found = found.reshape(num, 3).astype(np.float64)
    radius = np.linalg.norm(found, axis=1) / eps
    # The volume inside a radius grows with its cube.
    self.assertGreater(scipy.stats.kstest(radius**3, "uniform").pvalue, 1e-3)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    for axis in range(3):  # Archimedes: each coordinate is uniform in [-1, 1].
      test = scipy.stats.kstest((unit[:, axis] + 1) / 2, "uniform")
      self.assertGreater(test.pvalue, 1e-3)

  def test_linf_is_uniform(self):
    found = geometry.random_in_ball(toys.keys(2000), (1, 1, 2), "linf", 0.3)
    found = np.asarray(found, np.float64).reshape(-1)
    test = scipy.stats.kstest((found / 0.3 + 1) / 2, "uniform")
    self.assertGreater(test.pvalue, 1e-3)


class ContractTest(parameterized.TestCase):
  """What `maximize` is not defined on is refused, not attacked."""

  @parameterized.parameters(
    (np.full((2, 4, 4, 3), 128.0, np.float32), r"in \[0, 1\], got values from"),
    (np.full((2, 4, 4, 3), -0.1, np.float32), r"in \[0, 1\], got values from"),
    (np.full((2, 4, 4, 3), np.nan, np.float32), r"in \[0, 1\], got values"),
    (np.zeros((2, 3, 32, 32), np.float32), r"looks like \[B, C, H, W\]"),
    (np.zeros((2, 4, 4, 3), np.uint8), "must be float32 .* got uint8"),
    (jnp.zeros((2, 4, 4, 3), jnp.bfloat16), "must be float32 .* got bfloat16"),
    (jnp.zeros((2, 4, 4, 3), jnp.float16), "must be float32 .* got float16"),
  )
  def test_images(self, x, message):
    def objective(z):
      return z.astype(jnp.float32).sum(axis=(1, 2, 3))

    with self.assertRaisesRegex(ValueError, message):
      attacks.maximize(objective, jnp.asarray(x), toys.keys(2), L2)

  @parameterized.parameters(
    (lambda z: z.sum(),), (lambda z: z.sum(axis=(1, 2)),),
    (lambda z: (z.sum(axis=(1, 2, 3)), z.sum()),),
  )  # fmt: skip
  def test_objectives(self, objective):
    x = jnp.full((2, 4, 4, 3), 0.5)
    with self.assertRaisesRegex(ValueError, "one value an image"):
      attacks.maximize(objective, x, toys.keys(2), L2)

  def test_images_that_a_jitted_function_holds(self):
    x = jnp.full((2, 4, 4, 3), 0.5)

    def attack(x):
      return jax.jit(
        lambda keys: attacks.maximize(lambda z: z[:, 0, 0, 0], x, keys, L2)
      )(toys.keys(2))

    np.testing.assert_allclose(attack(x).value, 0.7, rtol=1e-6)
    with self.assertRaisesRegex(ValueError, r"in \[0, 1\], got values from"):
      attack(3 * x)

  def test_shapes(self):
    x = jnp.full((2, 4, 4, 3), 0.5)
    with self.assertRaisesRegex(ValueError, r"x must be \[B, H, W, C\], got"):
      attacks.maximize(lambda z: z[:, 0, 0, 0], x[0], toys.keys(2), L2)
    with self.assertRaises(AssertionError):
      attacks.maximize(lambda z: z[:, 0, 0, 0], x, toys.keys(3), L2)


class NonFiniteTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_they_are_counted_and_do_not_freeze_an_example(self, norm):
    """d sqrt(z)/dz is infinite at black pixels, which start at 0."""
    x = jnp.full((2, 2, 2, 1), 0.25).at[0, 0, 0, 0].set(0.0)

    def objective(z):
      return jnp.sqrt(z).sum(axis=(1, 2, 3))

    cfg = AttackConfig(norm, 0.1, 0.05, 4)
    found = attacks.maximize(objective, x, toys.keys(2), cfg)
    self.assertEqual(found.nonfinite_gradients.tolist(), [4, 0])
    self.assertTrue(np.isfinite(found.x_adv).all())
    self.assertTrue((np.asarray(found.value) > objective(x)).all())
    size = norms(moved(found.x_adv, x), norm)
    np.testing.assert_allclose(size, 0.1, rtol=1e-5)


class DoublePrecisionTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_float32_stays_float32(self, norm):
    """With 64 bits on, starts and loops keep their type and numbers."""
    x = np.full((2, 2, 2, 1), 0.5, np.float32)
    cfg = AttackConfig(norm, 0.1, 0.05, 3, num_restarts=2, start="random")

    def attack():
      return attacks.maximize(
        lambda z: -jnp.square(z - jnp.float32(0.9)).sum(axis=(1, 2, 3)),
        jnp.asarray(x), toys.keys(2), cfg,
      )  # fmt: skip

    single = attack()
    with jax.enable_x64(True):
      double = attack()
    self.assertEqual(double.x_adv.dtype, np.float32)
    np.testing.assert_allclose(double.x_adv, single.x_adv, atol=1e-6)


class StopTest(parameterized.TestCase):
  @parameterized.product(norm=("l2", "linf"), num_restarts=(1, 3))
  def test_the_same_examples_get_above(self, norm, num_restarts):
    """Some at once, some late, some never; the loop ends when all are."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(0.2, 0.8, (12, 2, 2, 1)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(1, 2, 2, 1)), jnp.float32)
    reach = 0.2 * (np.linalg.norm(w) if norm == "l2" else np.abs(w).sum())
    threshold = jnp.linspace(-0.5, 1.5, 12) * jnp.float32(reach)
    cfg = AttackConfig(norm, 0.2, 0.05, 6, num_restarts=num_restarts)

    def objective(z):
      return ((z - x) * w).sum(axis=(1, 2, 3)) - threshold

    whole = attacks.maximize(objective, x, toys.keys(12), cfg)
    early = attacks.maximize(objective, x, toys.keys(12), cfg, stop_above=0.0)
    above = np.asarray(whole.value) > 0
    self.assertGreater(above.sum(), 2)
    self.assertLess(above.sum(), 11)
    np.testing.assert_array_equal(np.asarray(early.value) > 0, above)
    np.testing.assert_array_equal(early.x_adv[~above], whole.x_adv[~above])

  def test_of_a_decided_example_nothing_more_is_counted(self):
    """The first is decided at once, where its gradient is zero."""
    x = jnp.full((2, 2, 2, 1), 0.5)
    climbs = jnp.asarray([0.0, 1.0])

    def objective(z):
      return climbs * (z - x).sum(axis=(1, 2, 3)) + jnp.asarray([1.0, -9.0])

    cfg = AttackConfig("linf", 0.2, 0.1, 4)
    whole = attacks.maximize(objective, x, toys.keys(2), cfg)
    early = attacks.maximize(objective, x, toys.keys(2), cfg, stop_above=0.0)
    self.assertEqual(whole.zero_gradients.tolist(), [4, 0])
    self.assertEqual(early.zero_gradients.tolist(), [0, 0])

    def rough(z):  # d sqrt(0 z)/dz is NaN.
      return objective(z) + jnp.sqrt(0.0 * z).sum(axis=(1, 2, 3))

    found = attacks.maximize(rough, x, toys.keys(2), cfg, stop_above=0.0)
    self.assertEqual(found.nonfinite_gradients.tolist(), [0, 4])

  def test_at_the_score_nothing_is_decided(self):
    x, cfg = images(2), AttackConfig("l2", 0.2, 0.1, 4)
    found = attacks.maximize(constant, x, toys.keys(2), cfg, stop_above=0.0)
    self.assertEqual(found.zero_gradients.tolist(), [4, 4])

  def test_it_ends_when_all_are(self):
    calls = []

    def objective(z):
      jax.debug.callback(lambda: calls.append(1))
      return z.sum(axis=(1, 2, 3)) - 2.0

    x = jnp.full((2, 2, 2, 1), 0.49)
    cfg = AttackConfig("linf", 0.2, 0.1, 50, num_restarts=4)
    found = attacks.maximize(objective, x, toys.keys(2), cfg, stop_above=0.0)
    jax.effects_barrier()
    self.assertTrue((np.asarray(found.value) > 0).all())
    self.assertLess(len(calls), 8)


class ProjectTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_inside_on_and_outside(self, norm):
    x = np.full((3, 2, 2, 1), 0.5, np.float32)
    direction = np.array([[[1.0], [-1.0]], [[0.5], [0.0]]], np.float32)
    length = norms(direction[None], norm)[0]
    reach = np.array([0.1, 0.2, 0.4]).reshape(3, 1, 1, 1)
    z = (x + direction * reach / length).astype(np.float32)
    found = geometry.project(jnp.asarray(z), jnp.asarray(x), norm, 0.2)
    size = norms(moved(found, x), norm)
    np.testing.assert_allclose(size, [0.1, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(found[0], z[0], atol=1e-7)
    if norm == "l2":  # The nearest point lies on the ray.
      np.testing.assert_allclose(found[2], x[2] + (z[2] - x[2]) / 2, atol=1e-6)
    else:
      np.testing.assert_allclose(found[2], np.clip(z[2], 0.3, 0.7), atol=1e-6)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"norm": "l3"}, "norm must be one of .*got 'l3'"),
    ({"norm": 2}, "norm must be one of .*got 2"),
    ({"eps": -0.1}, "eps must be a number >= 0, got -0.1"),
    ({"eps": float("nan")}, "eps must be a number >= 0, got nan"),
    ({"eps": "8/255"}, "eps must be a number >= 0, got '8/255'"),
    ({"step_size": -1}, "step_size must be .*got -1"),
    ({"step_size": np.inf}, "step_size must be finite, got inf"),
    ({"step_size": np.float32(np.inf)}, "step_size must be finite, got "),
    ({"num_steps": np.float32(1.5)}, "num_steps must be an integer >= 0, got "),
    ({"num_steps": -1}, "num_steps must be an integer >= 0, got -1"),
    ({"num_steps": 1.5}, "num_steps must be an integer >= 0, got 1.5"),
    ({"num_steps": "7"}, "num_steps must be an integer >= 0, got '7'"),
    ({"num_steps": True}, "num_steps must be an integer >= 0, got True"),
    ({"eps": np.float32(-0.5)}, "eps must be a number >= 0, got "),
    ({"norm": "linf", "eps": 8}, r"at most 1 for linf, got 8; .*8/255\?"),
    ({"num_restarts": 0}, "num_restarts must be an integer >= 1, got 0"),
    ({"start": "noise"}, "start must be one of .*got 'noise'"),
    ({"eps": float("inf"), "start": "random"}, "needs a finite eps, got inf"),
    ({"eps": np.inf, "num_restarts": 2}, "needs a finite eps, got inf"),
    # A number parsed from the command line is not the object `math.inf`.
    ({"eps": float("1e999"), "start": "random"}, "needs a finite eps"),
  )
  def test_refuses(self, changes, message):
    fields = {"norm": "l2", "eps": 0.5, "step_size": 0.1, "num_steps": 7}
    with self.assertRaisesRegex(ValueError, message):
      AttackConfig(**(fields | changes))

  def test_an_attack_that_goes_nowhere(self):
    cfg = AttackConfig("l2", 0.5, 0.1, 1)
    attacks.check_climbs("attack", cfg)
    for changes in ({"num_steps": 0}, {"step_size": 0.0}):
      still, name = dataclasses.replace(cfg, **changes), next(iter(changes))
      with self.assertRaisesRegex(ValueError, f"^a.{name} must be .* a.eps is"):
        attacks.check_climbs("a", still)
      attacks.check_climbs("a", dataclasses.replace(still, eps=0.0))

  def test_costs(self):
    """Two passes a gradient, and the last iterate of each restart."""
    cfg = AttackConfig("l2", 0.5, 0.1, 7, num_restarts=3)
    self.assertEqual((cfg.gradients(), cfg.forward_passes()), (21, 45.0))

  def test_max_radius_is_the_diameter_of_the_box(self):
    self.assertEqual(attacks.max_radius("linf", (32, 32, 3)), 1.0)
    self.assertAlmostEqual(attacks.max_radius("l2", (4, 4, 1)), 4.0)


if __name__ == "__main__":
  absltest.main()
