"""Tests of the sources: what they read, and what they say of bad files."""

import pathlib
import tempfile
import zipfile

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from tensorflow_datasets.core import registered

from robust_features.data import dataset as dataset_lib
from robust_features.data import prepare, sources
from robust_features.data.dataset import DataError

tfds.disable_progress_bar()


def config(source, **changes):
  fields = {
    "name": "", "data_dir": "", "num_train": 0, "num_test": 0,
    "num_validation": 0, "seed": 0, "image_size": 0,
  }  # fmt: skip
  return sources.DataConfig(source=source, **(fields | changes))


def random_images(num, size, seed, channels=3):
  rng = np.random.default_rng(seed)
  shape = (num, size, size, channels)
  return rng.integers(256, size=shape).astype(np.uint8)


def write_tfds(data_dir, num_train=30, num_test=10):
  """Writes a small prepared "cifar10" without TensorFlow; returns its arrays.

  Image i of a split has label i % 10 and, to be found again, the value i at
  the first byte.
  """
  arrays = {}
  for split, num in (("train", num_train), ("test", num_test)):
    arrays[split] = random_images(num, 32, seed=num)
    arrays[split][:, 0, 0, 0] = np.arange(num)

  def examples(split):
    for i, image in enumerate(arrays[split]):
      png = prepare.encode_png(image)
      yield i, {"id": str(i), "image": png, "label": i % 10}

  registered_builder = tfds.builder_cls("cifar10")
  with registered.skip_registration():

    class Cifar10(registered_builder):
      def _split_generators(self, dl_manager):
        del dl_manager
        return {split: examples(split) for split in arrays}

  Cifar10(data_dir=data_dir, file_format="array_record").download_and_prepare()
  return arrays


class SourceTestCase(parameterized.TestCase):
  def folder(self):
    return pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

  def assert_refused(self, cfg, *patterns):
    """Loading fails with one line that matches every pattern."""
    with self.assertRaises(DataError) as caught:
      sources.load(cfg)
    message = str(caught.exception)
    self.assertNotIn("\n", message)
    for pattern in patterns:
      self.assertRegex(message, pattern)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ("cifar", {}, "source must be one of tfds, .*got 'cifar'"),
    ("planted", {"num_train": -1}, "num_train .*got -1"),
    ("planted", {"num_test": 1.5}, "num_test .*got 1.5"),
    ("planted", {"num_validation": "5"}, "num_validation .*got '5'"),
    ("planted", {"seed": True}, "seed .*got True"),
    ("planted", {"image_size": -2}, "image_size .*got -2"),
    ("tfds", {}, "name must be set"),
    ("npz", {"name": "a"}, "data_dir must be set"),
    ("image_folder", {}, "data_dir must be set"),
  )
  def test_refuses(self, source, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      config(source, **changes)


class LoadTest(SourceTestCase):
  def test_planted_sizes(self):
    parts = sources.load(config("planted", num_validation=500))
    self.assertEqual([part.num_examples for part in parts], [3500, 500, 1000])
    asked = config("planted", num_train=60, num_validation=20, num_test=30)
    parts = sources.load(asked)
    self.assertEqual([part.num_examples for part in parts], [60, 20, 30])

  def test_parts_are_disjoint(self):
    # As many to test as to train on: one stream would draw the same images.
    cfg = config("planted", num_train=150, num_validation=50, num_test=200)
    parts = sources.load(cfg)
    seen = [image.tobytes() for part in parts for image in part.images]
    self.assertLen(set(seen), 400)

  def test_the_seed_decides(self):
    cfgs = [
      config("planted", num_train=50, num_validation=10, num_test=10, seed=seed)
      for seed in (1, 1, 2)
    ]
    for part in range(3):
      digests = [dataset_lib.digest(sources.load(cfg)[part]) for cfg in cfgs]
      self.assertEqual(digests[0], digests[1])
      self.assertNotEqual(digests[0], digests[2])

  def test_digits_are_scikit_learns(self):
    train, validation, test = sources.load(config("digits", num_validation=99))
    sizes = (train.num_examples, validation.num_examples, test.num_examples)
    self.assertEqual(sizes, (1401, 99, 297))
    self.assertEqual(train.image_shape, (8, 8, 1))
    self.assertEqual(train.images.dtype, np.uint8)
    # Known of the set (sklearn.datasets.load_digits): 17 levels, 178 zeros.
    images = np.concatenate([train.images, validation.images, test.images])
    labels = np.concatenate([train.labels, validation.labels, test.labels])
    self.assertLen(np.unique(images), 17)
    self.assertEqual(images.max(), 255)
    self.assertEqual(np.bincount(labels)[0], 178)

  def test_the_test_set_of_digits_does_not_depend_on_the_seed(self):
    tests = [sources.load(config("digits", seed=seed)).test for seed in (0, 1)]
    self.assertEqual(*(dataset_lib.digest(test) for test in tests))

  def test_refuses_more_than_there_is(self):
    self.assert_refused(config("digits", num_train=1501), "num_train .*1500")
    self.assert_refused(config("digits", num_test=298), "num_test .*297")
    self.assert_refused(
      config("digits", num_validation=1500), "num_validation .*got 1500"
    )

  def test_refuses_a_size_that_cannot_be_had(self):
    self.assert_refused(config("digits", image_size=32), "image_size .*8x8")


class TfdsTest(SourceTestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.shared = pathlib.Path(cls.enter_context(tempfile.TemporaryDirectory()))
    cls.arrays = write_tfds(cls.shared)

  def copy(self):
    """Returns a folder with a prepared set of its own to damage."""
    folder = self.folder()
    write_tfds(folder)
    return folder, next(folder.glob("cifar10/*/*train*"))

  def test_images_come_back_bit_for_bit_with_their_labels(self):
    train, validation, test = sources.load(
      config("tfds", name="cifar10", data_dir=str(self.shared))
    )
    self.assertEqual(validation.num_examples, 0)
    for part, split in ((train, "train"), (test, "test")):
      index = part.images[:, 0, 0, 0].astype(int)
      self.assertCountEqual(index, range(len(self.arrays[split])))
      np.testing.assert_array_equal(part.images, self.arrays[split][index])
      np.testing.assert_array_equal(part.labels, index % 10)

  def test_subsets_and_validation(self):
    cfg = config(
      "tfds", name="cifar10", data_dir=str(self.shared), num_train=12,
      num_validation=6, num_test=5,
    )  # fmt: skip
    train, validation, test = sources.load(cfg)
    self.assertEqual(test.num_examples, 5)
    first, second = (x.images[:, 0, 0, 0] for x in (train, validation))
    self.assertEqual((len(first), len(second)), (12, 6))
    self.assertEmpty(set(first) & set(second))

  def test_resizes(self):
    parts = sources.load(
      config("tfds", name="cifar10", data_dir=str(self.shared), image_size=16)
    )
    self.assertEqual(parts.train.image_shape, (16, 16, 3))

  def test_missing(self):
    cfg = config("tfds", name="cifar10", data_dir="/no/such/folder")
    self.assert_refused(cfg, "data_dir '/no/such/folder'", "data.prepare")
    cfg = config("tfds", name="cifar10", data_dir=str(self.folder()))
    self.assert_refused(cfg, "not prepared", "--dataset=cifar10")
    cfg = config("tfds", name="cifar11", data_dir=str(self.shared))
    self.assert_refused(cfg, "name: .*'cifar11'")

  def test_truncated(self):
    folder, path = self.copy()
    path.write_bytes(path.read_bytes()[:-40_000])
    cfg = config("tfds", name="cifar10", data_dir=str(folder))
    self.assert_refused(cfg, "train: damaged", "prepare it again")

  def test_one_flipped_bit(self):
    folder, path = self.copy()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))
    cfg = config("tfds", name="cifar10", data_dir=str(folder))
    self.assert_refused(cfg, "train: damaged", "prepare it again")

  def test_missing_shard(self):
    folder, path = self.copy()
    path.unlink()
    cfg = config("tfds", name="cifar10", data_dir=str(folder))
    self.assert_refused(cfg, "cifar10", "prepare it")

  def test_damaged_metadata(self):
    folder, path = self.copy()
    path.with_name("dataset_info.json").write_text("{")
    cfg = config("tfds", name="cifar10", data_dir=str(folder))
    self.assert_refused(cfg, str(folder), "delete it and prepare it")


class ImageFolderTest(SourceTestCase):
  def write(self, test="test", sizes=(8, 8)):
    root = self.folder()
    for split in ("train", test):
      for label, name in enumerate(("cat", "ant")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i, size in enumerate(sizes):
          image = np.full((size, size, 3), 100 * label + i, np.uint8)
          PIL.Image.fromarray(image).save(folder / f"{i}.png")
        (folder / "notes.txt").write_text("not an image")
    return root

  @parameterized.parameters("test", "val")
  def test_reads(self, test):
    cfg = config("image_folder", data_dir=str(self.write(test)))
    train, _, test = sources.load(cfg)
    self.assertEqual(train.class_names, ("ant", "cat"))
    for part in (train, test):
      np.testing.assert_array_equal(part.labels, [0, 0, 1, 1])
      values = part.images[:, 0, 0, 0]
      np.testing.assert_array_equal(values, [100, 101, 0, 1])

  def test_resizes_the_shorter_side_and_crops_the_centre(self):
    root = self.write(sizes=(8,))
    # Three bands of 20 columns: the middle one is what the crop keeps.
    bands = np.repeat(np.array([10, 20, 30], np.uint8), 20)
    image = np.broadcast_to(bands[None, :, None], (20, 60, 3))
    PIL.Image.fromarray(np.ascontiguousarray(image)).save(
      root / "train/ant/1.png"
    )
    train, *_ = sources.load(
      config("image_folder", data_dir=str(root), image_size=4)
    )
    self.assertEqual(train.image_shape, (4, 4, 3))
    np.testing.assert_array_equal(train.images[1, :, 1:3], 20)

  def test_sizes_that_differ(self):
    root = self.write(sizes=(8, 9))
    cfg = config("image_folder", data_dir=str(root))
    self.assert_refused(cfg, "differ in shape", "image_size")

  def test_damaged_image(self):
    root = self.write()
    path = root / "train/cat/1.png"
    path.write_bytes(path.read_bytes()[:45])
    cfg = config("image_folder", data_dir=str(root))
    self.assert_refused(cfg, "train/cat/1.png: not an image")

  def test_missing_folders(self):
    cfg = config("image_folder", data_dir=str(self.folder()))
    self.assert_refused(cfg, "train/<class>/")
    root = self.write()
    (root / "test/dog").mkdir()
    cfg = config("image_folder", data_dir=str(root))
    self.assert_refused(cfg, "without training images: dog")

  def test_empty_classes(self):
    root = self.folder()
    for split in ("train", "test"):
      (root / split / "cat").mkdir(parents=True)
    cfg = config("image_folder", data_dir=str(root))
    self.assert_refused(cfg, "train: holds no image")


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
    ("absent", "test_images", (), "lacks test_images"),
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


if __name__ == "__main__":
  absltest.main()
