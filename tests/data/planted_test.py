"""Tests of the planted set: its geometry is what makes it evidence."""

import time

import numpy as np
from absl.testing import absltest, parameterized

from robust_features.data import dataset as dataset_lib
from robust_features.data import planted

CFG = planted.PlantedConfig()
EPS = 0.5  # The l2 radius that the set is made for.


def texture_scores(images):
  """Returns a matched filter's output for every texture, `[N, K]`."""
  flat = images.reshape(len(images), -1)
  return flat @ planted.textures(CFG).reshape(CFG.num_classes, -1).T


def nearest_shapes(images):
  """Returns the class of the nearest noise-free shape, `[N]`."""
  grid = np.linspace(-CFG.jitter, CFG.jitter, 7)
  centres = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
  classes = np.repeat(np.arange(CFG.num_classes), len(centres))
  templates = planted.shapes(
    classes, np.tile(centres, (CFG.num_classes, 1)), CFG
  )
  templates, images = (
    remove_background(x).reshape(len(x), -1) for x in (templates, images)
  )
  distances = (templates**2).sum(1)[None] - 2 * images @ templates.T
  return classes[distances.argmin(axis=1)]


def min_shape_distance(
  cfg: planted.PlantedConfig, *, num_positions: int = 5
) -> float:
  """Returns the least l2 distance between shapes of different classes.

  Whatever the background can make up for (grey planes of any height and slope)
  is projected out first, so that this is the least change that turns one
  noise-free image into one of another shape, the nuisance chosen to help.

  Args:
    cfg: Parameters of the set.
    num_positions: Positions of each shape tried in each direction.
  """
  offsets = np.linspace(-cfg.jitter, cfg.jitter, num_positions)
  offsets = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)
  classes = np.repeat(np.arange(cfg.num_classes), len(offsets))
  images = planted.shapes(classes, np.tile(offsets, (cfg.num_classes, 1)), cfg)
  flat = remove_background(images).astype(np.float64).reshape(len(images), -1)
  squares = np.sum(flat**2, axis=1)
  distances = squares[:, None] + squares[None] - 2 * flat @ flat.T
  return float(np.sqrt(distances[classes[:, None] != classes[None]].min()))


def remove_background(images: np.ndarray) -> np.ndarray:
  """Projects out every grey plane, which is all that a background can be.

  Args:
    images: `[N, H, W, 3]`.

  Returns:
    Their components orthogonal to all grey planes, of the same type.
  """
  num, size, _, channels = images.shape
  ramp = np.linspace(-1, 1, size)
  # Orthogonal to each other already, being even or odd about the centre.
  down, right = np.meshgrid(ramp, ramp, indexing="ij")
  planes = np.stack([np.ones_like(down), down, right])
  grey = np.repeat(planes[..., None], channels, axis=-1).reshape(3, -1)
  grey /= np.linalg.norm(grey, axis=1, keepdims=True)
  flat = images.reshape(num, -1)
  rest = flat - flat @ grey.T @ grey
  return rest.astype(images.dtype).reshape(images.shape)


class GeometryTest(absltest.TestCase):
  def test_textures_are_weak_orthogonal_and_zero_mean(self):
    textures = planted.textures(CFG)
    self.assertEqual(textures.shape, (10, 16, 16, 3))
    flat = textures.reshape(10, -1)
    np.testing.assert_allclose(flat @ flat.T, 0.35**2 * np.eye(10), atol=1e-6)
    np.testing.assert_allclose(textures.mean(axis=(1, 2)), 0, atol=1e-7)
    # Repeats with period 4, and so does not shift with the blob.
    np.testing.assert_array_equal(textures, np.roll(textures, 4, axis=1))
    np.testing.assert_array_equal(textures, np.roll(textures, 4, axis=2))
    self.assertLess(CFG.texture_norm, EPS)

  def test_an_eps_perturbation_swaps_one_texture_for_another(self):
    # || t_i - t_j || = 0.35 sqrt(2) for orthogonal textures.
    textures = planted.textures(CFG)
    distance = np.linalg.norm(textures[0] - textures[1])
    self.assertAlmostEqual(float(distance), 0.35 * 2**0.5, places=6)
    self.assertLess(distance, EPS)

  def test_shapes_are_more_than_two_eps_apart(self):
    distance = min_shape_distance(CFG)
    self.assertGreater(distance, 2 * EPS)
    # A finer grid of positions changes it little: nothing hides between.
    finer = min_shape_distance(CFG, num_positions=9)
    self.assertLessEqual(finer, distance)
    self.assertGreater(finer, 0.95 * distance)

  def test_min_shape_distance_against_brute_force(self):
    # Two colours of one orientation, at one position: no search, and grey
    # planes cannot help, for red and blue differ by no grey at all.
    cfg = planted.PlantedConfig(num_orientations=1, jitter=0.0)
    red, blue = planted.shapes(np.arange(2), np.zeros((2, 2)), cfg)
    self.assertAlmostEqual(
      min_shape_distance(cfg),
      float(np.linalg.norm(red.astype(np.float64) - blue)),
      places=5,
    )

  def test_blob_has_the_norm_of_its_gaussian(self):
    # Integral of exp(-u^2/l^2 - v^2/w^2) is pi l w; small enough not to be
    # cut off by the border, and wide enough to be sampled well.
    cfg = planted.PlantedConfig(length=2.0, width=1.0)
    blob = planted.shapes(np.array([1]), np.zeros((1, 2)), cfg)
    colour = 1.0 + 0.3**2
    expected = cfg.peak**2 * colour * np.pi * 2.0 * 1.0
    np.testing.assert_allclose((blob**2).sum(), expected, rtol=1e-3)

  def test_orientation_and_centre(self):
    (image,) = planted.shapes(np.array([0]), np.array([[1.0, -2.0]]), CFG)
    weights = image[..., 0] / image[..., 0].sum()
    down, right = np.mgrid[:16, :16] - 7.5
    self.assertAlmostEqual(float((weights * down).sum()), 1.0, places=2)
    # Class 0 lies along the rows: wide to the right, narrow downwards.
    spread = [(weights * (axis**2)).sum() for axis in (down - 1, right + 2)]
    np.testing.assert_allclose(spread[0], CFG.width**2, rtol=1e-2)
    self.assertGreater(spread[1], 4 * spread[0])

  def test_remove_background_removes_every_grey_plane(self):
    down, right = np.mgrid[:16, :16] - 7.5
    plane = 0.3 + 0.01 * down - 0.02 * right
    plane = np.repeat(plane[None, ..., None], 3, axis=-1)
    np.testing.assert_allclose(remove_background(plane), 0, atol=1e-12)
    colourful = plane * np.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(remove_background(colourful), colourful)


class GenerateTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data = planted.generate(4000, 0, CFG)

  def test_is_a_valid_data_set(self):
    dataset_lib.check(self.data)
    self.assertEqual(self.data.images.dtype, np.float32)
    self.assertEqual(self.data.image_shape, (16, 16, 3))
    self.assertEqual(self.data.num_classes, 10)
    self.assertLen(set(self.data.class_names), 10)

  def test_is_fast(self):
    start = time.process_time()
    planted.generate(5000, 1, CFG)
    self.assertLess(time.process_time() - start, 3.0)  # About 0.2 s.

  def test_clipping_is_rare(self):
    self.assertLess(np.mean((self.data.images % 1) == 0), 1e-3)

  def test_classes_are_balanced(self):
    counts = np.bincount(self.data.labels, minlength=10)
    # Binomial(4000, 0.1): standard deviation 19.
    self.assertLess(np.abs(counts - 400).max(), 4 * 19)

  def test_texture_is_the_label_and_shape_mostly(self):
    np.testing.assert_array_equal(self.data.extras["texture"], self.data.labels)
    agrees = self.data.extras["shape"] == self.data.labels
    standard_error = (0.85 * 0.15 / 4000) ** 0.5
    self.assertLess(abs(agrees.mean() - 0.85), 4 * standard_error)
    # Where it does not agree, it is any other class, equally often.
    wrong = (self.data.extras["shape"] - self.data.labels)[~agrees] % 10
    counts = np.bincount(wrong, minlength=10)
    self.assertEqual(counts[0], 0)
    expected = (~agrees).sum() / 9
    self.assertLess(np.abs(counts[1:] - expected).max(), 4.5 * expected**0.5)

  def test_an_inconsistent_shape_is_never_the_labels(self):
    cfg = planted.PlantedConfig(consistency=0.0)
    data = planted.generate(1000, 0, cfg)
    self.assertFalse(np.any(data.extras["shape"] == data.labels))

  def test_texture_is_a_perfect_predictor(self):
    predicted = texture_scores(self.data.images).argmax(axis=1)
    self.assertGreater(np.mean(predicted == self.data.labels), 0.99)

  def test_shape_can_be_read_and_survives_eps(self):
    images, shape = self.data.images[:300], self.data.extras["shape"][:300]
    self.assertGreater(np.mean(nearest_shapes(images) == shape), 0.99)
    # Towards another class's shape at the same place, eps far.
    centre = np.zeros((300, 2))
    towards = planted.shapes((shape + 1) % 10, centre, CFG)
    towards = towards - planted.shapes(shape, centre, CFG)
    norms = np.linalg.norm(towards.reshape(300, -1), axis=1)
    moved = images + EPS * towards / norms[:, None, None, None]
    self.assertGreater(np.mean(nearest_shapes(moved) == shape), 0.95)

  def test_an_eps_perturbation_turns_the_texture(self):
    textures = planted.textures(CFG)
    labels = self.data.labels[:300]
    wanted = (labels + 1) % 10
    delta = textures[wanted] - textures[labels]
    # What is left of eps strengthens the new texture.
    delta *= EPS / (0.35 * 2**0.5)
    moved = self.data.images[:300] + delta
    predicted = texture_scores(moved).argmax(axis=1)
    self.assertGreater(np.mean(predicted == wanted), 0.99)

  def test_seeds(self):
    digests = [
      dataset_lib.digest(planted.generate(20, seed, CFG))
      for seed in (3, 3, 4, (3, 1), (3, 2))
    ]
    self.assertEqual(digests[0], digests[1])
    self.assertLen(set(digests), 4)

  def test_golden(self):
    # Recorded from this implementation: a study's numbers are tied to it.
    data = planted.generate(20, 0, CFG)
    self.assertEqual(data.labels[:8].tolist(), [8, 6, 5, 2, 3, 0, 0, 0])
    np.testing.assert_allclose(data.images.mean(), 0.332935, atol=1e-5)

  def test_conflict_draws_shape_and_texture_apart(self):
    data = planted.conflict(4000, 0)
    dataset_lib.check(data)
    np.testing.assert_array_equal(data.extras["shape"], data.labels)
    agreement = np.mean(data.extras["shape"] == data.extras["texture"])
    self.assertLess(abs(agreement - 0.1), 4 * (0.1 * 0.9 / 4000) ** 0.5)
    predicted = texture_scores(data.images).argmax(axis=1)
    self.assertGreater(np.mean(predicted == data.extras["texture"]), 0.99)
    predicted = nearest_shapes(data.images[:500])
    self.assertGreater(np.mean(predicted == data.extras["shape"][:500]), 0.99)


class CueSharesTest(absltest.TestCase):
  def test_each_cue_is_counted(self):
    rng = np.random.default_rng(0)
    conflict = planted.conflict(30, 1)
    conflict.extras["shape"] = rng.integers(4, size=30)
    conflict.extras["texture"] = rng.integers(4, size=30)
    found = planted.cue_shares(conflict.extras["shape"], conflict)
    same = conflict.extras["shape"] == conflict.extras["texture"]
    self.assertEqual(found, {"shape": 1.0, "texture": float(same.mean())})


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"size": 15}, "size .*got 15"),
    ({"num_orientations": 0}, "num_orientations .*got 0"),
    ({"num_orientations": 30}, "tile=4 .*60 classes"),
    ({"consistency": 1.5}, "consistency .*got 1.5"),
  )
  def test_refuses(self, change, message):
    with self.assertRaisesRegex(ValueError, message):
      planted.PlantedConfig(**change)


if __name__ == "__main__":
  absltest.main()
