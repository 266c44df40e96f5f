"""Prepared tfds data sets: what is read, and what is said of damage."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest
from source_case import SourceTestCase, random_images
from tensorflow_datasets.core import registered

from robust_features.data import lazy, pixels, sources, tfds_source
from robust_features.data.sources import DataConfig as config

tfds.disable_progress_bar()


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
      png = pixels.encode_png(image)
      yield i, {"id": str(i), "image": png, "label": i % 10}

  registered_builder = tfds.builder_cls("cifar10")
  with registered.skip_registration():

    class Cifar10(registered_builder):
      def _split_generators(self, dl_manager):
        del dl_manager
        return {split: examples(split) for split in arrays}

  Cifar10(data_dir=data_dir, file_format="array_record").download_and_prepare()
  return arrays


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

  def test_streamed_with_a_size_or_none(self):
    """The images' own size where none is told, and a crop of it."""
    for fields in (
      {},
      {"image_size": 16},
      {"image_size": 16, "short_side": 20},
    ):
      cfg = config("tfds", name="cifar10", data_dir=str(self.shared), **fields)
      want, found = (
        sources.load(dataclasses.replace(cfg, streamed=streamed)).test
        for streamed in (False, True)
      )
      self.assertIsInstance(found.images, lazy.Images)
      self.assertEqual(found.image_shape, want.image_shape)
      np.testing.assert_array_equal(found.images[:], want.images)
      np.testing.assert_array_equal(found.labels, want.labels)
    index = want.images.shape[0] - 1
    self.assertEqual(found.images.source.original(index).size, (32, 32))

  def test_classes_that_are_grouped(self):
    """In the order of the groups' first members; others are left out."""
    names = tfds.builder("cifar10", data_dir=self.shared).info.features["label"]
    third, first, last = (names.names[i] for i in (3, 0, 9))
    groups = {third: "x", first: "y", last: "x"}
    for streamed in (False, True):
      with mock.patch.object(tfds_source, "_CHUNK", 4):
        train, _ = tfds_source.load(
          "cifar10", str(self.shared), 0, streamed=streamed, groups=groups
        )
      self.assertEqual(train.class_names, ("x", "y"))
      index = train.images[:][:, 0, 0, 0].astype(int)
      self.assertCountEqual(index % 10, 3 * [3, 0, 9])
      np.testing.assert_array_equal(train.labels, index % 10 == 0)

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
    self.assert_refused(
      cfg, str(folder), "delete the folder of 'cifar10' there and prepare it"
    )


if __name__ == "__main__":
  absltest.main()
