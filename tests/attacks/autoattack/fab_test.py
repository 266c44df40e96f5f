"""FAB against closed forms, bisection and the published implementation."""

import dataclasses

import autoattack_golden
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import fab, machine

_attack = jax.jit(fab.attack)
_project = jax.jit(fab.project_to_plane, static_argnums=3)


def _keys(count: int):
  return geometry.example_keys(jax.random.key(0), jnp.arange(count))


def _linear_logits(w, x):
  return x.reshape(x.shape[0], -1) @ w


def _bisected(p, w, needed, norm):
  """Returns the projection in float64, its multiplier found by bisection."""
  room = np.where(w > 0, 1 - p, p)
  rate = np.abs(w) if norm == "l2" else np.ones_like(w)

  def gain(multiplier):
    return (np.abs(w) * np.minimum(rate * multiplier, room)).sum()

  low, high = 0.0, 1.0
  while gain(high) < needed and high < 1e12:
    high *= 2
  for _ in range(200):
    middle = (low + high) / 2
    low, high = (middle, high) if gain(middle) < needed else (low, middle)
  return np.sign(w) * np.minimum(rate * high, room)


class ProjectionTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_is_the_published_one(self, norm):
    golden = autoattack_golden.load()
    p, w, b = (golden[f"plane/{name}"] for name in ("points", "normals", "b"))
    gap = (w * p).sum(1) - b  # Theirs is {p: <w, p> = b}.
    shape = (len(p), 4, 4, 3)
    d = _project(p.reshape(shape), w.reshape(shape), jnp.asarray(gap), norm)
    np.testing.assert_allclose(
      np.reshape(d, p.shape), golden[f"plane/{norm}"], atol=2e-5
    )

  @parameterized.parameters("l2", "linf")
  def test_agrees_with_bisection_and_reaches_the_plane(self, norm):
    rng = np.random.default_rng(1)
    count, shape = 300, (300, 4, 4, 3)
    p = rng.uniform(0, 1, (count, 48))
    p[:50] = np.round(p[:50])  # Corners: half of the entries cannot move.
    w = rng.normal(size=p.shape) * 10 ** rng.uniform(-6, 3, (count, 1))
    w[:20, ::3] = 0
    reach = (np.abs(w) * np.where(w > 0, 1 - p, p)).sum(1)
    needed = reach * rng.uniform(0, 1.2, count)
    arrays = (p.reshape(shape), w.reshape(shape), -needed)
    d = _project(*(jnp.asarray(a, jnp.float32) for a in arrays), norm)
    d = np.reshape(np.asarray(d, np.float64), p.shape)
    for k in range(count):
      # With the last of its reach, rounding decides what saturates.
      if not 0.99 < needed[k] / reach[k] < 1.01:
        expected = _bisected(p[k], w[k], needed[k], norm)
        np.testing.assert_allclose(d[k], expected, atol=1e-4)
    feasible = needed < 0.99 * reach
    gained = (w * d).sum(1)
    np.testing.assert_allclose(gained[feasible], needed[feasible], rtol=1e-4)
    self.assertGreaterEqual((p + d).min(), -1e-6)
    self.assertLessEqual((p + d).max(), 1 + 1e-6)

  @parameterized.parameters("l2", "linf")
  def test_zero_gradient_moves_nothing(self, norm):
    p = jnp.full((2, 4, 4, 3), 0.5)
    d = _project(p, jnp.zeros_like(p), jnp.asarray([-1.0, 0.0]), norm)
    np.testing.assert_array_equal(d, jnp.zeros_like(p))


def _published_steps(w, x, z, y, target, cfg, num_steps):
  """The published steps from z towards a class of a linear model, in float64.

  Returns:
    (points after each step `[T, D]`, distance of the closest adversarial one).
  """
  order = 2 if cfg.norm == "l2" else np.inf
  normal = w[:, target] - w[:, y]

  def project(p):
    gap = p @ normal
    sign = 1 if gap > 0 else -1
    return _bisected(p, -sign * normal, abs(gap), cfg.norm)

  points, nearest = [], np.inf
  for _ in range(num_steps):
    from_z, from_x = project(z), project(x)
    size_z, size_x = (
      max(np.linalg.norm(d, order), 1e-8) for d in (from_z, from_x)
    )
    alpha = min(size_z / (size_z + size_x), cfg.alpha_max)
    z = (z + cfg.eta * from_z) * (1 - alpha) + (x + cfg.eta * from_x) * alpha
    z = z.clip(0, 1)
    if (z @ w).argmax() != y:
      nearest = min(nearest, np.linalg.norm(z - x, order))
      z = x + cfg.beta * (z - x)
    points.append(z)
  return np.stack(points), nearest


class FabTest(parameterized.TestCase):
  @parameterized.product(norm=("l2", "linf"), alpha_max=(0.1, 0.6))
  def test_every_step_is_the_published_one(self, norm, alpha_max):
    rng = np.random.default_rng(5)
    w, x = rng.normal(size=(48, 3)), rng.uniform(size=(4, 48))
    begin = rng.uniform(size=(4, 48))
    logits = x @ w
    y = logits.argmax(1)
    # Towards the least likely, the class between comes first: it counts too.
    target = np.argsort(logits, axis=1)[np.arange(4), [1, 1, 0, 0]]
    cfg = fab.FabConfig(norm, 0.0, num_targets=1, alpha_max=alpha_max)
    logits_fn = jax.tree_util.Partial(_linear_logits, jnp.asarray(w, "float32"))
    batch = machine.Batch(
      jnp.asarray(x.reshape(4, 4, 4, 3), jnp.float32),
      jnp.asarray(y, jnp.int32), jnp.asarray(target[:, None], jnp.int32),
      _keys(4),
    )  # fmt: skip
    wanted = [
      _published_steps(w, x[k], begin[k], y[k], target[k], cfg, 6)
      for k in range(4)
    ]
    state = fab.init(batch, cfg)._replace(
      z=jnp.asarray(begin.reshape(4, 4, 4, 3), jnp.float32)
    )
    step = jax.jit(lambda state: fab.step(logits_fn, batch, state, cfg))
    for t in range(6):
      state = step(state)
      want = np.stack([points[t] for points, _ in wanted])
      np.testing.assert_allclose(
        state.z.reshape(4, 48), want, atol=2e-5, err_msg=f"step {t}"
      )
    nearest = [distance for _, distance in wanted]
    self.assertTrue(np.isfinite(nearest).all())
    np.testing.assert_allclose(state.distance, nearest, rtol=1e-4)
    found = np.reshape(state.x_best - batch.x, (4, 48))
    order = 2 if norm == "l2" else np.inf
    np.testing.assert_allclose(
      np.linalg.norm(found, order, axis=1), nearest, rtol=1e-4
    )

  @parameterized.parameters("l2", "linf")
  def test_linear_model_gives_the_distance_to_its_boundary(self, norm):
    """min_t gap_t / ||w_t - w_y||_dual, where the box is far away."""
    rng = np.random.default_rng(0)
    # One small batch of a 4-class linear model near its boundary.
    w = rng.normal(size=(48, 4))
    logits_fn = jax.tree_util.Partial(
      _linear_logits, jnp.asarray(w, jnp.float32)
    )
    x = (0.5 + 0.05 * rng.normal(size=(6, 4, 4, 3))).astype(np.float32)
    logits = x.reshape(6, 48) @ w
    y = logits.argmax(1).astype(np.int32)
    dual = 2 if norm == "l2" else 1
    expected = []
    for k in range(6):
      gaps = [
        (logits[k, y[k]] - logits[k, t])
        / np.linalg.norm(w[:, t] - w[:, y[k]], dual)
        for t in range(4)
        if t != y[k]
      ]
      expected.append(min(gaps))
    cfg = fab.FabConfig(norm, 0.0, num_steps=60, num_targets=3)
    result = _attack(logits_fn, x, jnp.asarray(y), _keys(6), cfg)
    found = np.asarray(result.distance)
    self.assertTrue((found >= np.asarray(expected) * (1 - 1e-4)).all())
    np.testing.assert_allclose(found, expected, rtol=0.02)
    np.testing.assert_array_equal(result.tally.gradients, [180] * 6)
    np.testing.assert_array_equal(result.tally.queries, [360] * 6)
    self.assertFalse(result.tally.success.any())  # Nothing lies within 0.

  @parameterized.parameters("l2", "linf")
  def test_every_target_begins_at_the_image(self, norm):
    """What comes after a turn is bit for bit a run towards that target."""
    w = jnp.asarray(np.random.default_rng(2).normal(size=(48, 4)), jnp.float32)
    logits_fn = jax.tree_util.Partial(_linear_logits, w)
    x = jnp.asarray(np.random.default_rng(3).uniform(size=(3, 4, 4, 3)))
    x = x.astype(jnp.float32)
    y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
    targets = machine.likeliest_targets(logits_fn(x), y, 2)
    cfg = fab.FabConfig(norm, 0.0, num_steps=3, num_targets=2)
    step = jax.jit(lambda b, s: fab.step(logits_fn, b, s, cfg))
    both = machine.Batch(x, y, targets, _keys(3))
    second = machine.Batch(x, y, targets[:, 1:], _keys(3))
    state = fab.init(both, cfg)
    for _ in range(3):
      state = step(both, state)
    np.testing.assert_array_equal(state.rank, [1, 1, 1])
    np.testing.assert_array_equal(state.t, [0, 0, 0])
    np.testing.assert_array_equal(state.z, x)
    alone = fab.init(second, cfg)
    for _ in range(2):
      state, alone = step(both, state), step(second, alone)
      np.testing.assert_array_equal(state.z, alone.z)
      np.testing.assert_array_equal(state.t, alone.t)
    self.assertFalse(state.tally.done.any())
    self.assertTrue(step(both, state).tally.done.all())

  @parameterized.parameters("l2", "linf")
  def test_smallest_distances_are_the_published_ones(self, norm):
    golden = autoattack_golden.load()
    x, y = map(jnp.asarray, autoattack_golden.images(golden))
    logits_fn = autoattack_golden.net(golden, "robust")
    correct = np.asarray(jnp.argmax(logits_fn(x), axis=1) == y)
    cfg = fab.FabConfig(norm, 0.0, num_targets=1)
    found = np.asarray(_attack(logits_fn, x, y, _keys(len(x)), cfg).distance)
    expected = golden[f"robust/{norm}:fab:distance"][correct]
    ratio = found[correct] / expected
    self.assertLess(np.median(np.abs(ratio - 1)), 1e-3)
    self.assertGreater((np.abs(ratio - 1) < 0.02).mean(), 0.95)

  def test_is_done_once_within_eps(self):
    w = jnp.asarray(np.random.default_rng(0).normal(size=(48, 3)), jnp.float32)
    logits_fn = jax.tree_util.Partial(_linear_logits, w)
    x = jnp.full((2, 4, 4, 3), 0.5)
    y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
    cfg = fab.FabConfig("l2", 2.0, num_steps=50, num_targets=2)
    tally = _attack(logits_fn, x, y, _keys(2), cfg).tally
    self.assertTrue(tally.success.all())
    self.assertLess(int(tally.gradients.max()), 5)
    self.assertTrue((jnp.argmax(logits_fn(tally.x_adv), axis=1) != y).all())
    norms = np.linalg.norm(np.reshape(tally.x_adv - x, (2, -1)), axis=1)
    self.assertLessEqual(norms.max(), 2.0 * (1 + 1e-6))

  def test_at_eps_is_within_eps_and_beyond_is_not(self):
    x, eps = jnp.full((3, 4, 4, 3), 0.25), np.float32(0.3)
    logits_fn = jax.tree_util.Partial(_linear_logits, jnp.zeros((48, 2)))
    batch = machine.Batch(
      x, jnp.zeros(3, jnp.int32), jnp.ones((3, 1), jnp.int32), _keys(3)
    )
    cfg = fab.FabConfig("l2", float(eps), num_targets=1)
    begun = fab.init(batch, cfg)._replace(
      distance=jnp.asarray([0.295, eps, np.nextafter(eps, np.float32(1))]),
      x_best=x + 0.01,
    )
    tally = jax.jit(fab.step)(logits_fn, batch, begun, cfg).tally
    np.testing.assert_array_equal(tally.success, [True, True, False])
    np.testing.assert_array_equal(tally.done, [True, True, False])
    # What is too far away is no adversarial example of the attack.
    np.testing.assert_array_equal(tally.x_adv[:2], begun.x_best[:2])
    np.testing.assert_array_equal(tally.x_adv[2], x[2])

  def test_gradients_that_are_zero_or_not_finite_are_counted(self):
    """Of the second image there is none, of the third one entry is NaN."""
    w = np.random.default_rng(4).normal(size=(48, 2))
    x = jnp.asarray(np.random.default_rng(5).uniform(0.2, 0.8, (3, 4, 4, 3)))
    x = x.astype(jnp.float32)
    slope = jnp.asarray([1.0, 0.0, 1.0])
    rough = jnp.asarray([0.0, 0.0, 1.0])

    def logits_fn(z):
      flat = z.reshape(3, 48)
      # d sqrt(0 z)/dz is NaN.
      term = jnp.sqrt(jnp.where(rough > 0, 0.0 * flat[:, 7], 1.0))
      return slope[:, None] * (flat @ jnp.asarray(w, jnp.float32)) + jnp.stack(
        [term, 0.0 * term], axis=1
      )

    y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
    cfg = fab.FabConfig("l2", 0.0, num_steps=9, num_targets=1)
    batch = machine.Batch(x, y, 1 - y[:, None], _keys(3))
    state = fab.init(batch, cfg)
    step = jax.jit(lambda state: fab.step(logits_fn, batch, state, cfg))
    for _ in range(2):
      state = step(state)
    np.testing.assert_array_equal(state.tally.zero_gradients, [0, 2, 0])
    np.testing.assert_array_equal(state.tally.nonfinite_gradients, [0, 0, 2])
    self.assertTrue(np.isfinite(state.z).all())
    moved = np.abs(state.z - x).max(axis=(1, 2, 3)) > 0
    np.testing.assert_array_equal(moved, [True, False, True])
    self.assertEqual(float(state.z[2].ravel()[7]), float(x[2].ravel()[7]))

  def test_what_is_not_told_is_the_published(self):
    found = dataclasses.astuple(fab.FabConfig("l2", 0.5))
    self.assertEqual(found, ("l2", 0.5, 100, 9, 0.1, 1.05, 0.9))

  def test_bad_settings(self):
    with self.assertRaisesRegex(ValueError, "norm must be one of .*'l1'"):
      fab.FabConfig("l1", 0.5)
    logits_fn = jax.tree_util.Partial(_linear_logits, jnp.ones((48, 3)))
    x, y = jnp.full((1, 4, 4, 3), 0.5), jnp.zeros(1, jnp.int32)
    with self.assertRaisesRegex(ValueError, "below the 3 classes, got 9"):
      fab.attack(logits_fn, x, y, _keys(1), fab.FabConfig("l2", 0.5))
    as_many = fab.FabConfig("l2", 0.5, num_targets=3)
    with self.assertRaisesRegex(ValueError, "below the 3 classes, got 3"):
      fab.attack(logits_fn, x, y, _keys(1), as_many)


if __name__ == "__main__":
  absltest.main()
