"""Square's geometry, schedule and counts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import machine, square

_attack = jax.jit(square.attack)


def _keys(count: int):
  return geometry.example_keys(jax.random.key(0), jnp.arange(count))


def _linear_logits(w, x):
  return x.reshape(x.shape[0], -1) @ w


def _example(shape, num_classes=3):
  rng = np.random.default_rng(0)
  w = jnp.asarray(
    rng.normal(size=(np.prod(shape[1:]), num_classes)), jnp.float32
  )
  logits_fn = jax.tree_util.Partial(_linear_logits, w)
  x = jnp.asarray(rng.uniform(0, 1, shape), jnp.float32)
  y = jnp.argmax(logits_fn(x), axis=1).astype(jnp.int32)
  return logits_fn, machine.Batch(x, y, y[:, None], _keys(shape[0]))


class GeometryTest(parameterized.TestCase):
  def test_sides_for_cifar(self):
    """round(sqrt(p 32 32)) for p = .8, .4, ...; odd and at least 3 for l2."""
    linf = square.sizes(square.SquareConfig("linf", 0.1), 32, 32)
    self.assertEqual(linf, (29, 20, 14, 10, 7, 5, 4, 3, 2, 1))
    l2 = square.sizes(square.SquareConfig("l2", 0.1), 32, 32)
    self.assertEqual(l2, (29, 21, 15, 11, 7, 5, 5, 3, 3, 3))

  def test_bump_of_side_three(self):
    """Rows 0 | 1, 2: sums of centred rectangles of height 1, 1/4."""
    first = np.array([1.0, 5.0, 1.0]) / np.sqrt(27)  # 1/4, 5/4, 1/4.
    # Two rows about row 1: the rectangle of ring 1 adds 1/4 everywhere.
    second = np.array([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0]])
    second = -second / np.linalg.norm(second)
    expected = np.concatenate([first[None], second])
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(square.bump(3), expected, atol=1e-6)

  @parameterized.parameters(*range(2, 12))
  def test_bumps_have_unit_norm_and_two_signs(self, side):
    bump = square.bump(side)
    self.assertAlmostEqual(float(np.linalg.norm(bump)), 1.0, places=5)
    self.assertTrue((bump[: side // 2] > 0).all())
    self.assertTrue((bump[side // 2 :] < 0).all())

  @parameterized.parameters(
    ("l2", (4, 16, 16, 3)),
    ("linf", (4, 16, 16, 3)),
    ("l2", (2, 4, 7, 1)),
    ("l2", (2, 7, 9, 1)),
  )
  def test_start_is_in_the_box_and_the_ball(self, norm, shape):
    _, example = _example(shape)
    example = example._replace(x=jnp.full(shape, 0.5))
    state = square.init(example, square.SquareConfig(norm, 0.1))
    delta = np.asarray(state.z - example.x, np.float64)
    order = 2 if norm == "l2" else np.inf
    norms = np.linalg.norm(delta.reshape(shape[0], -1), order, axis=1)
    np.testing.assert_allclose(norms, 0.1, rtol=1e-5)
    if shape[1] == 7:  # A tile of one pixel; one is left over, and comes first.
      np.testing.assert_array_equal(delta[:, 0], 0)
      self.assertTrue((delta[:, 1:, 2:] != 0).all())
    if norm == "linf":  # Vertical stripes.
      np.testing.assert_array_equal(delta[:, :1], delta[:, 1:2])

  def test_l2_step_moves_norm_between_two_windows_only(self):
    logits_fn, example = _example((8, 16, 16, 3))
    del logits_fn
    example = example._replace(x=jnp.full((8, 16, 16, 3), 0.5))
    cfg = square.SquareConfig("l2", 0.5)
    state = square.init(example, cfg)
    # Query 1001 of the schedule: windows of round(sqrt(.8 256 / 32)) = 3.
    state = state._replace(t=jnp.full(8, 1002, jnp.int32))
    z = jax.jit(lambda state: square._propose(example, state, cfg))(state)
    delta, before = np.asarray(z - 0.5), np.asarray(state.z - 0.5)
    norms = np.linalg.norm(delta.reshape(8, -1), axis=1)
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)
    changed = (np.abs(delta - before) > 1e-6).any(axis=-1).sum(axis=(1, 2))
    self.assertTrue((changed <= 2 * 9).all(), changed)
    self.assertTrue((changed >= 9).all(), changed)


def _published_l2_step(delta, draw, t, cfg):
  """The published code's proposal for one image, in float64.

  Args:
    delta: `[H, W, C]` the perturbation so far.
    draw: `[5 + C]` uniform numbers: two corners, transposition, signs.
    t: Queries done.
    cfg: Radius and windows.
  """
  height, width, channels = delta.shape
  halvings = sum(t - 1 > bound for bound in (10, 50, 200, 500, 1000))
  side = square.sizes(cfg, height, width)[halvings]
  corners = [int(draw[k] * (n - side)) for k, n in enumerate((height, width))]
  others = [
    int(draw[k + 2] * (n - side)) for k, n in enumerate((height, width))
  ]
  first = tuple(slice(start, start + side) for start in corners)
  second = tuple(slice(start, start + side) for start in others)
  bump = square.bump(side).astype(np.float64)
  bump = bump.T if draw[4] < 0.5 else bump
  signs = np.where(draw[5:] < 0.5, -1.0, 1.0)
  both = np.zeros((height, width, 1))
  both[first] = both[second] = 1
  spare = max(cfg.eps**2 - (delta**2).sum(), 0)
  result = delta.copy()
  result[second] = 0
  for c in range(channels):
    old = delta[(*first, c)]
    fresh = bump * signs[c] + old / (1e-12 + np.sqrt((old**2).sum()))
    moved = ((delta * both)[..., c] ** 2).sum()
    size = np.sqrt(spare / channels + moved)
    result[(*first, c)] = fresh / np.sqrt((fresh**2).sum()) * size
  return result * cfg.eps / np.sqrt((result**2).sum())


class ProposalTest(parameterized.TestCase):
  @parameterized.parameters(1, 11, 12, 51, 52, 1001, 1002)
  def test_l2_is_the_published_one(self, t):
    """Norm moves from the second window, and the spare, to the first."""
    shape = (6, 16, 16, 3)
    batch = machine.Batch(
      jnp.full(shape, 0.5), jnp.zeros(6, jnp.int32),
      jnp.zeros((6, 1), jnp.int32), _keys(6),
    )  # fmt: skip
    cfg = square.SquareConfig("l2", 0.5)
    state = square.init(batch, cfg)
    state = state._replace(
      t=jnp.full(6, t, jnp.int32), z=0.5 + 0.9 * (state.z - 0.5)
    )
    found = square._propose(batch, state, cfg) - 0.5
    keys = jax.vmap(jax.random.fold_in, (0, None))(batch.keys, t)
    draws = jax.vmap(lambda k: jax.random.uniform(k, (8,), jnp.float32))(keys)
    for k in range(6):
      delta = np.asarray(state.z[k], np.float64) - 0.5
      want = _published_l2_step(delta, np.asarray(draws[k]), t, cfg)
      np.testing.assert_allclose(found[k], want, atol=2e-6)

  @parameterized.parameters((11, 14), (12, 10), (52, 7), (8002, 1))
  def test_linf_sets_one_window_of_every_colour(self, t, side):
    """Twice eps, cut to the ball: plus or minus eps, never back to less."""
    shape = (6, 16, 16, 3)
    batch = machine.Batch(
      jnp.full(shape, 0.5), jnp.zeros(6, jnp.int32),
      jnp.zeros((6, 1), jnp.int32), _keys(6),
    )  # fmt: skip
    cfg = square.SquareConfig("linf", 0.125)
    state = square.init(batch, cfg)._replace(
      t=jnp.full(6, t, jnp.int32), z=batch.x
    )
    delta = np.asarray(square._propose(batch, state, cfg) - 0.5)
    np.testing.assert_array_equal(np.abs(delta[delta != 0]), 0.125)
    inside = delta != 0
    np.testing.assert_array_equal(inside.sum(axis=(1, 2)), side**2)
    # The same window for every colour, one sign a colour.
    np.testing.assert_array_equal(inside, inside[..., :1] & inside)
    signs = np.sign(delta).sum(axis=(1, 2))
    np.testing.assert_array_equal(np.abs(signs), side**2)
    # From anywhere on the corners of the ball it goes to such a corner.
    corner = square.init(batch, cfg)._replace(t=state.t)
    moved = np.asarray(square._propose(batch, corner, cfg) - 0.5)
    want = np.where(inside, delta, np.asarray(corner.z - 0.5))
    np.testing.assert_array_equal(moved, want)

  def test_every_size_of_the_schedule_begins_where_the_published_one_does(self):
    """p / 2 after 10 queries, / 4 after 50, ..., / 512 after 8000."""
    bounds = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    cfg = square.SquareConfig("linf", 0.125)
    t = np.repeat(bounds, 2) + np.tile([1, 2], 9)  # Query 0 is t = 1.
    batch = machine.Batch(
      jnp.full((18, 32, 32, 1), 0.5), jnp.zeros(18, jnp.int32),
      jnp.zeros((18, 1), jnp.int32), _keys(18),
    )  # fmt: skip
    state = square.init(batch, cfg)
    state = state._replace(t=jnp.asarray(t, jnp.int32), z=batch.x)
    propose = jax.jit(lambda state: square._propose(batch, state, cfg))
    moved = np.asarray(propose(state)) != 0.5
    side = np.sqrt(moved.sum(axis=(1, 2, 3)))
    sides = [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    np.testing.assert_array_equal(side[::2], sides[:-1])
    np.testing.assert_array_equal(side[1::2], sides[1:])

  def test_the_linf_start_is_stripes_of_every_colours_own_signs(self):
    example = _example((64, 4, 4, 3))[1]._replace(
      x=jnp.full((64, 4, 4, 3), 0.5)
    )
    cfg = square.SquareConfig("linf", 0.125)
    delta = np.asarray(square.init(example, cfg).z - 0.5)
    np.testing.assert_array_equal(np.abs(delta), 0.125)
    np.testing.assert_array_equal(delta, np.tile(delta[:, :1], (1, 4, 1, 1)))
    signs = np.sign(delta[:, 0]).reshape(64, 12)
    # 64 draws of 12 independent coins: 6 standard errors of 1 / 8.
    np.testing.assert_allclose(signs.T @ signs / 64, np.eye(12), atol=0.75)
    self.assertLess(np.abs(signs.mean(axis=0)).max(), 0.75)

  @parameterized.parameters((10, 10, 0), (12, 12, 1), (13, 11, 1))
  def test_the_l2_start_is_the_published_ones_tiles(self, height, width, edge):
    """Bumps of side H // 5 from (H - 5 side) // 2 on, each of own signs."""
    num, side = 32, 2
    shape = (num, height, width, 3)
    example = _example(shape)[1]._replace(x=jnp.full(shape, 0.5))
    delta = square._tiles(example.keys, shape, square.SquareConfig("l2", 2.0))
    delta = np.asarray(delta, np.float64)
    rows, columns = (height - edge) // side, (width - edge) // side
    tiles = np.zeros(shape)
    inside = (slice(None), slice(edge, edge + rows * side),
              slice(edge, edge + columns * side))  # fmt: skip
    tiles[inside] = delta[inside]
    np.testing.assert_array_equal(tiles, delta)
    tiles = delta[inside].reshape(num, rows, side, columns, side, 3)
    tiles = tiles.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, side, side)
    scale = 2.0 / np.sqrt(rows * columns * 3)  # Of each bump's unit norm.
    bump = square.bump(side)
    signs = np.sign(tiles[..., 0, 0])
    turned = np.abs(tiles - signs[..., None, None] * bump.T * scale) < 1e-6
    plain = np.abs(tiles - signs[..., None, None] * bump * scale) < 1e-6
    turned, plain = (a.all(axis=(1, 2, 3)) for a in (turned, plain))
    # All colours of a tile are turned or none is; signs are each one's own.
    self.assertTrue((turned ^ plain).all())
    self.assertBetween(turned.mean(), 0.4, 0.6)
    self.assertBetween((signs[:, 0] == signs[:, 1]).mean(), 0.4, 0.6)
    signs = signs.reshape(num, -1)
    for k in (3, 3 * columns):  # The next tile's, and the next row's.
      same = (signs[:, k:] == signs[:, :-k]).mean()
      self.assertBetween(same, 0.4, 0.6)

  def test_the_last_place_is_left_out(self):
    """As in the published code: floor(u (n - s)), u below 1."""
    draw = jnp.asarray([[0.999, 0.0], [0.5, 0.999]], jnp.float32)
    side = jnp.asarray([4, 8], jnp.int32)
    row, column = square._corner(draw, side, 8, 8)
    np.testing.assert_array_equal(row, [3, 0])
    np.testing.assert_array_equal(column, [0, 0])


class SearchTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_margin_falls_and_every_query_is_counted(self, norm):
    logits_fn, example = _example((3, 16, 16, 3))
    cfg = square.SquareConfig(norm, 1e-3, num_queries=40)
    state = square.init(example, cfg)
    step = jax.jit(lambda state: square.step(logits_fn, example, state, cfg))
    margins = [state.margin]
    for _ in range(41):
      self.assertFalse(state.tally.done.any())
      state = step(state)
      margins.append(state.margin)
      logits = logits_fn(state.z)
      top = jnp.sort(logits, axis=1)
      np.testing.assert_allclose(
        state.margin, top[:, -1] - top[:, -2], rtol=1e-3, atol=1e-4
      )
    self.assertTrue(state.tally.done.all())
    self.assertTrue((jnp.diff(jnp.stack(margins), axis=0) <= 0).all())
    self.assertTrue((margins[-1] < margins[1]).all())
    np.testing.assert_array_equal(state.tally.queries, [41] * 3)
    np.testing.assert_array_equal(state.tally.gradients, [0] * 3)
    delta = np.asarray(state.z - example.x, np.float64).reshape(3, -1)
    order = 2 if norm == "l2" else np.inf
    norms = np.linalg.norm(delta, order, axis=1)
    # 1e-8: x + delta is rounded to float32.
    self.assertLessEqual(norms.max(), 1e-3 * (1 + 1e-6) + 1e-8)

  @parameterized.parameters("l2", "linf")
  def test_breaks_a_linear_model_near_its_boundary(self, norm):
    logits_fn, example = _example((8, 16, 16, 3))
    w = np.asarray(logits_fn.args[0])
    top = np.argsort(np.asarray(logits_fn(example.x)), axis=1)
    logits = np.sort(np.asarray(logits_fn(example.x)), axis=1)
    direction = w[:, top[:, -1]] - w[:, top[:, -2]]
    dual = 2 if norm == "l2" else 1
    nearest = (logits[:, -1] - logits[:, -2]) / np.linalg.norm(
      direction, dual, axis=0
    )
    # Eight times the distance needed: random search gets there.
    cfg = square.SquareConfig(norm, float(8 * nearest.max()), num_queries=400)
    state = _attack(logits_fn, *example[:2], example.keys, cfg)
    self.assertTrue(state.tally.success.all())
    predicted = jnp.argmax(logits_fn(state.tally.x_adv), axis=1)
    self.assertTrue((predicted != example.y).all())
    self.assertLess(int(state.tally.queries.max()), 401)

  def test_what_is_not_told_is_the_published(self):
    found = dataclasses.astuple(square.SquareConfig("l2", 0.5))
    self.assertEqual(found, ("l2", 0.5, 5000, 0.8))
    square.SquareConfig("l2", 0.5, p_init=1.0)

  def test_bad_settings(self):
    with self.assertRaisesRegex(ValueError, "norm must be one of .*'l1'"):
      square.SquareConfig("l1", 0.5)
    with self.assertRaisesRegex(ValueError, r"p_init must be in \(0, 1\]"):
      square.SquareConfig("l2", 0.5, p_init=0.0)


if __name__ == "__main__":
  absltest.main()
