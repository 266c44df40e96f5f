"""Auto-PGD against closed forms and the published implementation."""

import autoattack_golden
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import apgd, machine


def _keys(count: int, seed: int = 0):
  return geometry.example_keys(jax.random.key(seed), jnp.arange(count))


# Compiled once for every loss, norm and shape; eps and steps are traced.
_attack = jax.jit(apgd.attack)


def _linear_logits(w, x):
  return x.reshape(x.shape[0], -1) @ w


def _linear(num_classes: int = 5, seed: int = 0):
  rng = np.random.default_rng(seed)
  w = jnp.asarray(rng.normal(size=(48, num_classes)), jnp.float32)
  return w, jax.tree_util.Partial(_linear_logits, w)


def _flat(z):
  """Classifies everything as 0, and gives nothing to climb."""
  return jnp.zeros((z.shape[0], 2)).at[:, 0].set(1.0) + 0.0 * z.sum()


def _example(x):
  batch = x.shape[0]
  labels = jnp.zeros(batch, jnp.int32)
  return machine.Batch(x, labels, labels[:, None], _keys(batch))


class ScheduleTest(absltest.TestCase):
  def test_step_halves_at_the_papers_checkpoints(self):
    """Without any gain, every checkpoint of the paper halves the step."""
    # p_1 = .22, p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06), 100 steps.
    expected = [22, 41, 57, 70, 80, 87, 93, 99]
    cfg = apgd.ApgdConfig("l2", 1.0, "cw_margin")
    example = _example(jnp.full((1, 2, 2, 1), 0.5))
    state = apgd.init(example, cfg)
    step = jax.jit(lambda state: apgd.step(_flat, example, state, cfg))
    halvings, sizes = [], [2.0]
    for t in range(100):
      state = step(state)
      size = float(state.run.step_size[0])
      if size < sizes[-1]:
        halvings.append(t)
        sizes.append(size)
    self.assertEqual(halvings, expected)
    self.assertEqual(sizes[-1], 2.0 / 2**8)

  def test_number_of_evaluations(self):
    _, logits_fn = _linear()
    x = jnp.full((2, 4, 4, 3), 0.5)
    # Both are classified correctly by far: no run ends early.
    y = jnp.argmax(logits_fn(x), axis=1)
    cfg = apgd.ApgdConfig(
      "l2", 1e-4, "dlr_targeted", num_steps=7, num_restarts=2, num_targets=3
    )
    result = _attack(logits_fn, x, y, _keys(2), cfg)
    np.testing.assert_array_equal(result.tally.gradients, [48, 48])  # 6 x (7+1)
    np.testing.assert_array_equal(result.tally.queries, [48, 48])
    self.assertTrue(result.tally.done.all())
    self.assertFalse(result.tally.success.any())
    np.testing.assert_array_equal(result.tally.x_adv, x)


class ClosedFormTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_linear_model_reaches_the_optimum(self, norm):
    """For two classes the best margin is the margin plus eps times a norm."""
    w, logits_fn = _linear(num_classes=2)
    x = jnp.full((3, 4, 4, 3), 0.5)
    # The label is predicted everywhere in the ball, so nothing stops early.
    y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
    eps = 1e-3
    result = _attack(
      logits_fn, x, y, _keys(3), apgd.ApgdConfig(norm, eps, "cw_margin")
    )
    direction = np.asarray(w[:, 1 - y[0]] - w[:, y[0]])
    order = 2 if norm == "l2" else 1
    start = np.asarray(logits_fn(x))
    margin = start[0, 1 - y[0]] - start[0, y[0]]
    best = margin + eps * np.linalg.norm(direction, order)
    self.assertLess(best, 0)
    np.testing.assert_allclose(result.loss_best, best, rtol=1e-5)

  @parameterized.parameters("l2", "linf")
  def test_every_run_starts_elsewhere_on_the_sphere(self, norm):
    example = _example(jnp.full((3, 8, 8, 3), 0.5))
    cfg = apgd.ApgdConfig(norm, 0.1, num_steps=1, num_restarts=2)
    step = jax.jit(lambda state: apgd.step(_flat, example, state, cfg))
    state, starts = apgd.init(example, cfg), []
    for _ in range(2):
      state = step(state)
      starts.append(state.run.z_old)  # The gradient is zero: it stands still.
      state = step(state)
    order = 2 if norm == "l2" else np.inf
    for start in starts:
      delta = np.asarray(start - example.x, np.float64).reshape(3, -1)
      norms = np.linalg.norm(delta, order, axis=1)
      np.testing.assert_allclose(norms, 0.1, rtol=1e-5)
      self.assertGreater(np.abs(delta[0] - delta[1]).max(), 0.01)
    self.assertGreater(float(jnp.abs(starts[0] - starts[1]).max()), 0.01)
    self.assertTrue(state.tally.done.all())


class RobustnessTest(parameterized.TestCase):
  def test_batch_of_three_equals_three_batches_of_one(self):
    _, logits_fn = _linear()
    x = jax.random.uniform(jax.random.key(3), (3, 4, 4, 3))
    y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
    cfg = apgd.ApgdConfig("linf", 0.02, "dlr", num_steps=20)
    keys = _keys(3)
    together = _attack(logits_fn, x, y, keys, cfg)
    for k in range(3):
      one = slice(k, k + 1)
      alone = _attack(logits_fn, x[one], y[one], keys[one], cfg)
      np.testing.assert_allclose(alone.x_best[0], together.x_best[k], atol=1e-6)
      self.assertEqual(bool(alone.tally.success[0]), together.tally.success[k])

  def test_zero_gradients_are_counted_and_finite(self):
    def saturated(z):  # Cross-entropy's gradient is exactly zero.
      flat = z.reshape(z.shape[0], -1).sum(axis=1)
      return jnp.stack([1e3 + 0 * flat, flat], axis=1)

    example = _example(jnp.full((2, 4, 4, 3), 0.5))
    cfg = apgd.ApgdConfig("l2", 0.5, "cross_entropy", num_steps=5)
    state = apgd.init(example, cfg)
    step = jax.jit(lambda state: apgd.step(saturated, example, state, cfg))
    for _ in range(6):
      state = step(state)
    np.testing.assert_array_equal(state.tally.zero_gradients, [6, 6])
    self.assertTrue(jnp.isfinite(state.run.z_best).all())

  def test_nan_is_no_prediction(self):
    logits = jnp.asarray([[jnp.nan, 0.0], [0.0, jnp.inf], [0.0, 1.0]])
    wrong = machine.misclassified(logits, jnp.zeros(3, jnp.int32))
    np.testing.assert_array_equal(wrong, [False, False, True])

  def test_bad_settings(self):
    with self.assertRaisesRegex(ValueError, "norm must be one of .*'l1'"):
      apgd.ApgdConfig("l1", 0.5)
    with self.assertRaisesRegex(ValueError, "loss must be one of .*'mse'"):
      apgd.ApgdConfig("l2", 0.5, "mse")
    _, logits_fn = _linear()
    x, y = jnp.full((1, 4, 4, 3), 0.5), jnp.zeros(1, jnp.int32)
    cfg = apgd.ApgdConfig("l2", 0.5, "dlr_targeted")
    with self.assertRaisesRegex(ValueError, "below the 5 classes, got 9"):
      apgd.attack(logits_fn, x, y, _keys(1), cfg)


class BallTest(parameterized.TestCase):
  @parameterized.product(norm=("l2", "linf"), dtype=(jnp.float32, jnp.bfloat16))
  def test_ball_and_box_hold_in_10000_cases(self, norm, dtype):
    """Whatever precision the point was computed in, measured in float64."""
    count = 10_000
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (count, 4, 4, 3))
    x[: count // 4] = np.round(x[: count // 4])  # Corners of the box.
    eps = np.geomspace(1e-3, 2.0, count).astype(np.float32)
    size = 10 ** rng.uniform(-3, 1, (count, 1, 1, 1))
    delta = jnp.asarray(size * rng.normal(size=x.shape), dtype)
    x = jnp.asarray(x, jnp.float32)

    @jax.jit  # Eager operations would hide what a compiler may fuse.
    @jax.vmap
    def settle(delta, x, eps):
      delta = geometry.into_ball(
        delta[None].astype(jnp.float32), norm, eps, geometry.SLACK
      )
      return geometry.add_towards(x[None], delta)[0]

    settled = settle(delta, x, jnp.asarray(eps))
    delta = np.asarray(settled, np.float64) - np.asarray(x, np.float64)
    order = 2 if norm == "l2" else np.inf
    norms = np.linalg.norm(delta.reshape(count, -1), order, axis=1)
    self.assertLessEqual((norms / eps.astype(np.float64)).max(), 1 + 1e-6)
    self.assertGreaterEqual(float(settled.min()), 0.0)
    self.assertLessEqual(float(settled.max()), 1.0)
    # It moves no further than it must: many lie on the sphere.
    self.assertGreater((norms / eps > 1 - 1e-5).mean(), 0.05)


class ReferenceTest(parameterized.TestCase):
  """From the same start, the published code climbs to the same losses."""

  @parameterized.parameters(
    ("l2", "ce"), ("l2", "dlr-targeted"), ("linf", "dlr"),
    ("linf", "dlr-targeted"),
  )  # fmt: skip
  def test_best_losses(self, norm, loss):
    golden = autoattack_golden.load()
    x, y = map(jnp.asarray, autoattack_golden.images(golden))
    logits_fn = autoattack_golden.net(golden, "robust")
    cfg = apgd.ApgdConfig(
      norm,
      autoattack_golden.EPS[norm] / 4,
      {"ce": "cross_entropy"}.get(loss, loss.replace("-", "_")),
      num_targets=1,
    )
    pattern = (jnp.arange(x.size) % 3 - 1).reshape(x.shape) / 255
    start = jnp.clip(x + pattern, 0, 1)
    result = _attack(logits_fn, x, y, _keys(len(x)), cfg, x_init=start)
    robust = golden[f"robust/{norm}:{loss}:robust"].astype(bool)
    np.testing.assert_array_equal(~result.tally.success, robust)
    self.assertGreater(robust.sum(), 50)
    expected = golden[f"robust/{norm}:{loss}:loss"][robust]
    found = np.asarray(result.loss_best)[robust]
    # Signs of gradients near zero differ between the libraries, so a few
    # runs part ways.
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-4)
    self.assertGreater(close.mean(), 0.95)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)


if __name__ == "__main__":
  absltest.main()
