"""Restricted ImageNet's classes are the paper's, told by wnids."""

import pathlib

import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features.data import dataset as ds
from robust_features.data import restricted_imagenet, sources

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# Table 2: inclusive, of the sorted wnids.
RANGES = {
  "dog": (151, 268), "cat": (281, 285), "frog": (30, 32), "turtle": (33, 37),
  "bird": (80, 100), "primate": (365, 382), "fish": (389, 397),
  "crab": (118, 121), "insect": (300, 319),
}  # fmt: skip


def load(folder, **changes):
  """Returns what the source finds in a folder."""
  fields = {"data_dir": str(folder), "image_size": 4} | changes
  cfg = sources.DataConfig("restricted_imagenet", **fields)
  return sources.load(cfg)


class MappingTest(absltest.TestCase):
  def test_all_thousand_wnids(self):
    wnids = (GOLDEN / "imagenet_wnids.txt").read_text().split()
    self.assertLen(wnids, 1000)
    self.assertEqual(wnids, sorted(wnids))
    want = {
      wnid: name
      for name, (first, last) in RANGES.items()
      for wnid in wnids[first : last + 1]
    }
    found = restricted_imagenet.groups(balanced=False)
    self.assertEqual(list(found.items()), list(want.items()))
    self.assertLen(found, 203)

  def test_balanced_has_the_first_three_of_each(self):
    whole = restricted_imagenet.groups(balanced=False)
    found = restricted_imagenet.groups(balanced=True)
    self.assertLen(found, 27)
    for name in RANGES:
      first = sorted(wnid for wnid in whole if whole[wnid] == name)[:3]
      self.assertEqual([w for w in found if found[w] == name], first)


class FolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    self.wnids = list(restricted_imagenet.groups(balanced=True))

  def test_labels_follow_wnids_not_places(self):
    # Another class of ImageNet comes first, and is passed over.
    toys.write_wnids(self.folder / "train", ["n01440764", *self.wnids])
    toys.write_wnids(self.folder / "val", self.wnids[::-1])
    for streamed in (False, True):
      found = load(
        self.folder, balanced=True, streamed=streamed, num_validation=0
      )
      for part in (found.train, found.test):
        np.testing.assert_array_equal(part.labels, np.repeat(np.arange(9), 3))
      self.assertEqual(found.train.class_names, tuple(RANGES))
      np.testing.assert_array_equal(
        found.train.images[:][:, 0, 0, 0], np.arange(1, 28)
      )
      np.testing.assert_array_equal(
        found.test.images[:][:, 0, 0, 0], np.arange(27)[::-1]
      )

  def test_refusals(self):
    toys.write_wnids(self.folder / "train", self.wnids)
    with self.assertRaisesRegex(
      ds.DataError, "train: lacks 176 of the 203 wnids .* such as n0"
    ):
      load(self.folder)
    flat = self.folder / "val"
    flat.mkdir()
    (flat / "ILSVRC2012_val_00000001.JPEG").touch()
    with self.assertRaisesRegex(ds.DataError, "val: holds images beside"):
      load(self.folder, balanced=True)
    (flat / "dog").mkdir()
    with self.assertRaisesRegex(ds.DataError, "val: 'dog' is no wnid"):
      load(self.folder, balanced=True)
    with self.assertRaisesRegex(ds.DataError, "data_dir must be set .*tfds"):
      load("")
    with self.assertRaisesRegex(ValueError, "short_side must be 0 or at least"):
      load(self.folder, short_side=3)


if __name__ == "__main__":
  absltest.main()
