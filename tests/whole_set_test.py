"""What is stored of a set made all at once, and what its manifest says."""

from unittest import mock

import numpy as np
import toys
from absl.testing import absltest

from robust_features import ridge, whole_set
from robust_features.data import constructed
from robust_features.data import dataset as ds


class WriteTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data = toys.dataset(10)
    self.originals = self.data.images / np.float32(255)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, self.originals.shape)
    self.images = np.clip(self.originals + noise, 0, 1).astype(np.float32)
    self.wanted = np.zeros(10, int)
    self.variables = toys.linear_variables(rng.normal(size=(192, 3)))
    self.folder = toys.folder(self)

  def write(self, pixels="uint8"):
    return whole_set.write(
      "toy", self.folder, toys.Linear(3), self.variables, self.data,
      self.images, self.wanted, {"seed": 3}, pixels=pixels, batch_size=4,
      shard_size=4,
    )  # fmt: skip

  def check(self, pixels, stored, shown):
    """What was stored, and the numbers of what a reader will see of it."""
    with mock.patch.object(
      ridge, "separability", return_value=0.25
    ) as separability:
      manifest = self.write(pixels)
    found = constructed.load(self.folder)
    self.assertEqual(found.images.dtype, stored.dtype)
    np.testing.assert_array_equal(found.images, stored)
    np.testing.assert_array_equal(found.labels, self.data.labels)
    for number, part in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
      kept = np.load(self.folder / f"{number:05d}-original_labels.npy")
      np.testing.assert_array_equal(kept, self.data.labels[part])
    moved = (shown - self.originals).reshape(10, -1).astype(np.float64)
    self.assertAlmostEqual(
      manifest["mean"]["moved_from_original"],
      np.linalg.norm(moved, axis=1).mean(), places=6,
    )  # fmt: skip
    self.assertEqual(manifest["separability"], 0.25)
    read, labels, num_classes = separability.call_args.args
    np.testing.assert_allclose(
      read, (shown - self.originals).reshape(10, -1), atol=1e-6
    )
    np.testing.assert_array_equal(labels, self.data.labels)
    self.assertEqual(num_classes, 3)
    self.assertEqual(manifest["num_spared"], 0)
    self.assertEqual(manifest["seconds"], 0)
    self.assertEqual(manifest["kind"], "toy")
    self.assertEqual(manifest["origin"], {"seed": 3})

  def test_uint8(self):
    stored = np.rint(self.images * 255).astype(np.uint8)
    self.check("uint8", stored, stored / np.float32(255))

  def test_float32(self):
    self.check("float32", self.images, self.images)

  def test_success_before_and_after_rounding(self):
    """Half of the images are class 0 by less than rounding takes back."""
    level = np.float32(128 / 255)
    self.data = ds.make(np.full((10, 8, 8, 3), 128, np.uint8),
                        np.arange(10) % 3, 3)  # fmt: skip
    self.originals = self.data.images / np.float32(255)
    sign = np.where(np.arange(10) < 5, 0.3, -0.3).astype(np.float32)
    self.images = self.originals + sign[:, None, None, None] / 255
    # Class 0 by what is above the level in sum; class 1 where nothing is.
    kernel = np.zeros((192, 3))
    kernel[:, 0] = 1
    bias = np.array([-192 * level - 0.01, 0, -9])
    self.variables = toys.linear_variables(kernel, bias)
    found = self.write()["mean"]
    self.assertEqual(found["success_before_rounding"], 0.5)
    self.assertEqual(found["success"], 0.0)
    self.wanted = np.ones(10, int)
    self.folder = toys.folder(self)
    found = self.write()["mean"]
    self.assertEqual(found["success_before_rounding"], 0.5)
    self.assertEqual(found["success"], 1.0)

  def test_finished_shards_are_kept(self):
    self.write("float32")
    old, self.images = self.images, 1 - self.images
    (self.folder / "00001.json").unlink()
    self.write("float32")
    found = constructed.load(self.folder).images
    np.testing.assert_array_equal(found[4:8], self.images[4:8])
    np.testing.assert_array_equal(found[:4], old[:4])
    np.testing.assert_array_equal(found[8:], old[8:])


if __name__ == "__main__":
  absltest.main()
