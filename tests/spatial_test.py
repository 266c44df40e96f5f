"""Rotations and shifts against scipy, the worst case by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from scipy import ndimage

from robust_features import spatial

GRID = spatial.SpatialConfig(2.0, 3, 20.0, 3, batch_size=4)


def images(shape=(2, 9, 12, 3)):
  return np.random.default_rng(0).random(shape).astype(np.float32)


def moved(x, *point):
  return np.asarray(spatial.move(jnp.asarray(x), jnp.array(point, jnp.float32)))


def by_scipy(x, down, right, degrees):
  """Moves images `[B, H, W, C]` by an interpolation that is not ours."""
  angle = np.deg2rad(degrees)
  # Of (down, right), counter-clockwise as one looks at the image.
  cos, sin = np.cos(angle), np.sin(angle)
  inverse = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
  centre = np.array([(x.shape[1] - 1) / 2, (x.shape[2] - 1) / 2, 0])
  offset = centre - inverse @ (centre + np.array([down, right, 0]))
  return np.stack(
    [
      ndimage.affine_transform(
        one.astype(np.float64), inverse, offset, order=1, mode="grid-constant"
      )
      for one in x
    ]
  )


class MoveTest(parameterized.TestCase):
  @parameterized.parameters((9, 12), (8, 8), (7, 5))
  def test_nothing_is_exact(self, *size):
    x = images((2, *size, 3))
    np.testing.assert_array_equal(moved(x, 0, 0, 0), x)

  def test_whole_pixels_are_exact(self):
    x = images()
    want = np.zeros_like(x)
    want[:, 2:, :-3] = x[:, :-2, 3:]
    np.testing.assert_array_equal(moved(x, 2, -3, 0), want)

  @parameterized.parameters(
    (0, 0, 30), (0, 0, -7.5), (1.5, -0.25, 0), (-2, 3, 12), (2.5, 1, -170),
  )  # fmt: skip
  def test_scipy_does_the_same(self, *point):
    x = images()
    np.testing.assert_allclose(moved(x, *point), by_scipy(x, *point), atol=2e-6)

  def test_it_turns_to_the_left(self):
    """A quarter turn counter-clockwise takes the right edge to the top."""
    x = images((1, 6, 6, 1))
    np.testing.assert_allclose(
      moved(x, 0, 0, 90), np.rot90(x, axes=(1, 2)), atol=2e-6
    )

  def test_the_rotation_comes_first(self):
    x = images((1, 9, 9, 1))
    want = moved(moved(x, 0, 0, 25), 2, 1, 0)
    inner = (slice(None), slice(3, -1), slice(3, -1))
    np.testing.assert_allclose(
      moved(x, 2, 1, 25)[inner], want[inner], atol=2e-6
    )


class GridTest(parameterized.TestCase):
  def test_the_papers_has_775_points(self):
    cfg = spatial.SpatialConfig(3.0, 5, 30.0, 31, 100)
    points = cfg.points()
    self.assertEqual(cfg.num_points, 775)
    self.assertEqual(points.shape, (775, 3))
    self.assertLen(np.unique(points, axis=0), 775)
    self.assertEqual(points[775 // 2].tolist(), [0, 0, 0])
    np.testing.assert_array_equal(points.max(axis=0), [3, 3, 30])
    np.testing.assert_array_equal(points.min(axis=0), [-3, -3, -30])
    np.testing.assert_allclose(cfg.axes()[0], [-3, -1.5, 0, 1.5, 3])

  @parameterized.parameters(
    ({"num_shifts": 4}, "num_shifts must be odd .* got 4"),
    ({"num_angles": 0}, "num_angles must be odd"),
    ({"num_angles": 1}, "num_angles must be 1 where max_angle is 0"),
    ({"max_shift": 0.0}, "num_shifts must be 1 where max_shift is 0"),
    ({"max_shift": float("inf")}, "max_shift must be a finite number"),
    ({"max_shift": float("nan")}, "max_shift must be a finite number"),
    ({"max_angle": 181.0}, r"max_angle must be .* in \[0, 180\], got 181"),
    ({"max_angle": -1.0}, "max_angle must be"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
  )
  def test_refused(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(GRID, **fields)

  @parameterized.parameters(
    {"max_angle": 180.0}, {"max_angle": 0.0, "num_angles": 1},
    {"max_shift": 0.0, "num_shifts": 1}, {"batch_size": 1},
  )  # fmt: skip
  def test_the_edges_of_what_is_taken(self, **fields):
    cfg = dataclasses.replace(GRID, **fields)
    self.assertEqual(cfg.points()[cfg.num_points // 2].tolist(), [0, 0, 0])
    spatial.check_fit(dataclasses.replace(GRID, max_shift=1.9), (2, 9, 1))

  def test_a_shift_of_the_whole_image(self):
    spatial.check_fit(GRID, (3, 9, 1))
    with self.assertRaisesRegex(ValueError, "max_shift must be less .* 2 pix"):
      spatial.check_fit(GRID, (9, 2, 1))

  def test_worst_by_hand(self):
    hits = np.ones((7, 27), bool)
    number = {tuple(p): i for i, p in enumerate(GRID.points().tolist())}
    for image, point in enumerate(
      [(0, 0, 0), (2, 0, 0), (0, -2, 0), (2, -2, 0), (0, 0, 20), (2, 0, 20)]
    ):
      hits[image, number[point]] = False
    found = spatial.worst(hits, GRID)
    self.assertEqual(
      {part: np.flatnonzero(~ok).tolist() for part, ok in found.items()},
      {"natural": [0], "down": [0, 1], "right": [0, 2], "shift": [0, 1, 2, 3],
       "rotation": [0, 4], "grid": [0, 1, 2, 3, 4, 5]},
    )  # fmt: skip
    curves = spatial.by_angle(hits, GRID)
    np.testing.assert_allclose(7 * curves["unshifted"], [7, 6, 6])
    np.testing.assert_allclose(7 * curves["worst shift"], [7, 3, 5])


if __name__ == "__main__":
  absltest.main()
