"""Sets in NumPy files: what is read, and what is said of bad ones."""

import pathlib
import tempfile
import zipfile

import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from source_case import SourceTestCase, random_images

from robust_features.data import npz, sources
from robust_features.data.dataset import DataError
from robust_features.data.sources import DataConfig as config


class NpzTest(SourceTestCase):
  def arrays(self):
    return {
      "train_images": random_images(20, 4, 0),
      "train_labels": np.arange(20) % 5,
      "test_images": random_images(10, 4, 1),
      "test_labels": np.arange(10) % 5,
    }

  def write(self, **changes):
    root = self.folder()
    arrays = {k: v for k, v in (self.arrays() | changes).items() if len(v)}
    np.savez(root / "mine.npz", **arrays)
    return config("npz", name="mine", data_dir=str(root))

  def test_reads(self):
    train, _, test = sources.load(self.write())
    np.testing.assert_array_equal(train.images, self.arrays()["train_images"])
    np.testing.assert_array_equal(test.labels, np.arange(10) % 5)
    self.assertEqual(train.class_names, ("0", "1", "2", "3", "4"))

  def test_reads_class_names(self):
    names = np.array(["a", "b", "c", "d", "e", "f"])
    train, *_ = sources.load(self.write(class_names=names))
    self.assertEqual(train.class_names, tuple("abcdef"))

  def test_reads_floats(self):
    images = random_images(20, 4, 0).astype(np.float32) / 255
    train, *_ = sources.load(self.write(train_images=images))
    np.testing.assert_array_equal(train.images, images)

  @parameterized.named_parameters(
    ("range", "train_images", np.full((20, 4, 4, 3), 255, np.float32),
     r"mine.npz train: float images must lie in \[0, 1\], got"),
    ("rank", "train_images", np.zeros((20, 4, 4), np.uint8), "N, H, W, C"),
    ("double", "train_images", np.zeros((20, 4, 4, 3)), "float64"),
    ("lengths", "train_labels", np.zeros(19, int), "20 images but 19 labels"),
    ("labels", "train_labels", np.full(20, -1), r"\[-1, -1\]"),
    ("one_hot", "train_labels", np.eye(20, dtype=int), "labels must be int"),
    ("unseen", "test_labels", np.full(10, 7), r"\[0, 5\)"),
    ("shapes", "test_images", np.zeros((10, 5, 5, 3), np.uint8), "5, 5, 3"),
    ("absent", "test_images", (), "lacks test_images; it must hold train"),
    ("untrained", "train_labels", (), "lacks train_labels; it must hold train"),
    ("pickle", "train_labels", np.array([None] * 20), "mine.npz: damaged"),
  )  # fmt: skip
  def test_refuses(self, key, value, message):
    self.assert_refused(self.write(**{key: value}), message)

  @parameterized.parameters(0.0, 0.3, 0.99)
  def test_truncated(self, kept):
    cfg = self.write()
    path = pathlib.Path(cfg.data_dir) / "mine.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    self.assert_refused(cfg, "mine.npz: damaged")

  def test_one_flipped_bit(self):
    cfg = self.write()
    path = pathlib.Path(cfg.data_dir) / "mine.npz"
    with zipfile.ZipFile(path) as archive:
      offset = archive.getinfo("train_images.npy").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 400] ^= 1
    path.write_bytes(bytes(data))
    self.assert_refused(cfg, "mine.npz: damaged")

  def test_the_archive_itself_may_be_named(self):
    cfg = self.write()
    path = pathlib.Path(cfg.data_dir) / "mine.npz"
    found = self.load("npz", name="cifar10", data_dir=str(path))
    np.testing.assert_array_equal(
      found.train.images, self.arrays()["train_images"]
    )

  def test_names_the_archives_that_are_there(self):
    data_dir = self.write().data_dir
    cfg = config("npz", name="cifar10", data_dir=data_dir)
    self.assert_refused(cfg, r"neither cifar10.npz .* set name.*\(mine.npz\)")

  def test_missing(self):
    cfg = config("npz", name="mine", data_dir=str(self.folder()))
    self.assert_refused(cfg, "mine.npz", "mine_labels.npy")

  def test_npy_pair_is_a_test_set_alone(self):
    # The names and types of CIFAR-10.1's files.
    root = self.folder()
    images = random_images(10, 32, 0)
    np.save(root / "cifar10.1_v6_data.npy", images)
    labels = np.arange(10, dtype=np.int32)
    np.save(root / "cifar10.1_v6_labels.npy", labels)
    cfg = config("npz", name="cifar10.1_v6", data_dir=str(root))
    train, validation, test = sources.load(cfg)
    self.assertEqual((train.num_examples, validation.num_examples), (0, 0))
    self.assertEqual(train.image_shape, (32, 32, 3))
    np.testing.assert_array_equal(test.images, images)
    np.testing.assert_array_equal(test.labels, labels)
    # A class of which there is no image is one.
    np.save(root / "cifar10.1_v6_labels.npy", labels // 5 * 6)
    self.assertEqual(sources.load(cfg).test.num_classes, 7)

  def test_archive_and_array_that_are_each_other(self):
    root = self.folder()
    np.savez(root / "x.npz", a=np.zeros(3))
    (root / "x.npz").rename(root / "x_data.npy")
    np.save(root / "x_labels.npy", np.zeros(3, int))
    cfg = config("npz", name="x", data_dir=str(root))
    self.assert_refused(cfg, "x_data.npy: damaged, .*not a single array")
    (root / "x_labels.npy").rename(root / "x.npz")
    self.assert_refused(cfg, "x.npz: damaged, .*not an archive")

  def test_damaged_npy(self):
    root = self.folder()
    np.save(root / "x_labels.npy", np.arange(10))
    np.save(root / "x_data.npy", random_images(10, 32, 0))
    path = root / "x_data.npy"
    path.write_bytes(path.read_bytes()[:-1])
    cfg = config("npz", name="x", data_dir=str(root))
    self.assert_refused(cfg, "x_data.npy: damaged")


class PropertyTest(absltest.TestCase):
  """Whatever arrays an archive holds: read to the letter, or refused."""

  arrays = st.fixed_dictionaries(
    {},
    optional={
      key: hypothesis_numpy.arrays(
        st.sampled_from(types), shape, elements=st.integers(0, 2)
      )
      for keys, types, shape in (
        (("train_images", "test_images"), (np.uint8, np.float32, np.int64),
         st.sampled_from(((2, 2, 2, 1), (3, 2, 2, 1), (2, 2), (0, 2, 2, 1)))),
        (("train_labels", "test_labels"), (np.int64, np.uint8, np.float32),
         st.sampled_from(((2,), (3,), (2, 1), (0,)))),
      )
      for key in keys
    },
  )  # fmt: skip

  @settings(max_examples=100, deadline=None)
  @given(arrays=arrays)
  def test_reads_or_refuses(self, arrays):
    with tempfile.TemporaryDirectory() as name:
      path = pathlib.Path(name) / "x.npz"
      np.savez(path, **arrays)
      try:
        train, test = npz.load(str(path), "")
      except DataError as error:
        self.assertStartsWith(str(error), str(path))
        self.assertNotIn("\n", str(error))
        return
      for split, part in (("train", train), ("test", test)):
        if f"{split}_images" not in arrays:
          self.assertEqual(part.num_examples, 0)
          continue
        np.testing.assert_array_equal(part.images, arrays[f"{split}_images"])
        np.testing.assert_array_equal(part.labels, arrays[f"{split}_labels"])
        self.assertIn(part.images.dtype, (np.uint8, np.float32))
        if part.images.dtype == np.float32:
          self.assertLessEqual(part.images.max(), 1)


if __name__ == "__main__":
  absltest.main()
