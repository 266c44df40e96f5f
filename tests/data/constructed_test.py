"""The format of constructed data sets: complete and undamaged, or refused."""

import json
import pickle
import re

import numpy as np
import source_case
import toys
import yaml
from absl.testing import absltest, parameterized
from PIL import Image

from robust_features.data import card, constructed, sources
from robust_features.data import dataset as ds

ORIGIN = {
  "source": "standard", "source_digest": "abc", "originals": "cifar10:3.*.*",
  "git_commit": "def", "config": {"seed": 3},
}  # fmt: skip


def arrays(num, seed, dtype=np.uint8):
  rng = np.random.default_rng(seed)
  images = rng.integers(256, size=(num, 2, 2, 3)).astype(np.uint8)
  if dtype == np.float32:
    images = (images / 255).astype(np.float32)
  return {
    "images": images,
    "labels": rng.integers(3, size=num).astype(np.int32),
    "original_labels": rng.integers(3, size=num).astype(np.int32),
  }


def write(folder, dtype=np.uint8):
  """Writes shards of 4 and 3 examples; returns (manifest, shards)."""
  writer = constructed.Writer(folder, ORIGIN)
  shards = [arrays(4, 0, dtype), arrays(3, 1, dtype)]
  for i, shard in enumerate(shards):
    writer.write(i, shard, {"success": 2.0 + i, "spared": 1.0, "seconds": 1.5})
  manifest = writer.finish("det", 2, ("a", "b", "c"), np.dtype(dtype).name, 0.1)
  return manifest, shards


class FormatTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self) / "data"

  def assert_refused(self, pattern):
    with self.assertRaisesRegex(ValueError, pattern) as caught:
      constructed.load(self.folder)
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.parameters(np.uint8, np.float32)
  def test_round_trip(self, dtype):
    _, shards = write(self.folder, dtype)
    found = constructed.load(self.folder)
    images = np.concatenate([s["images"] for s in shards])
    np.testing.assert_array_equal(found.images, images)
    self.assertEqual(found.images.dtype, dtype)
    labels = np.concatenate([s["labels"] for s in shards])
    np.testing.assert_array_equal(found.labels, labels)
    originals = np.concatenate([s["original_labels"] for s in shards])
    np.testing.assert_array_equal(found.extras["original_labels"], originals)
    self.assertEqual(found.class_names, ("a", "b", "c"))
    stream = constructed.load(self.folder, streamed=True)
    self.assertEqual(stream.images.dtype, dtype)
    np.testing.assert_array_equal(stream.images[:], images)

  def test_a_class_that_nothing_is_labelled_as_is_counted(self):
    write(self.folder)
    writer = constructed.Writer(self.folder, {})
    names = ("a", "b", "c", "d")
    counts = writer.finish("det", 2, names, "uint8", 0.1)["class_counts"]
    self.assertLen(counts, 4)
    self.assertEqual((counts[3], sum(counts)), (0, 7))

  def test_manifest(self):
    manifest, shards = write(self.folder)
    self.assertEqual(manifest["num_examples"], 7)
    self.assertAlmostEqual(manifest["mean"]["success"], 5 / 7)
    self.assertNotIn("seconds", manifest["mean"])
    self.assertEqual(manifest["seconds"], 3.0)
    self.assertEqual(manifest["kind"], "det")
    self.assertEqual(manifest["image_shape"], [2, 2, 3])
    labels = np.concatenate([shard["labels"] for shard in shards])
    self.assertEqual(manifest["class_counts"], np.bincount(labels).tolist())
    again, _ = write(toys.folder(self))
    self.assertEqual(again["sha256"], manifest["sha256"])

  def test_one_checksum_for_all(self):
    before = write(self.folder)[0]["sha256"]
    writer = constructed.Writer(self.folder, {})
    changed = arrays(3, 1)
    changed["original_labels"] = (changed["original_labels"] + 1) % 3
    writer.write(1, changed, {"success": 0.0, "spared": 0.0, "seconds": 0.0})
    after = writer.finish("det", 2, ("a", "b", "c"), "uint8", 0.1)["sha256"]
    self.assertNotEqual(before, after)

  def test_statistics_by_hand(self):
    """Means of all examples, not of shards; the rest are sums."""
    manifest, shards = write(self.folder)
    self.assertEqual(manifest["mean"], {"success": 5 / 7, "spared": 2 / 7})
    self.assertEqual(manifest["num_spared"], 2)
    self.assertEqual(manifest["separability"], 0.1)
    self.assertEqual([s["num_examples"] for s in manifest["shards"]], [4, 3])
    sums = [
      constructed.files.sha256(
        (self.folder / f"0000{i}-{name}.npy").read_bytes()
      )
      for i in (0, 1)
      for name in ("images", "labels", "original_labels")
    ]
    self.assertEqual(
      manifest["sha256"], constructed.files.sha256("".join(sums).encode())
    )
    writer = constructed.Writer(self.folder, {})
    for count in (1, 4, 5, 7):
      images, labels = writer.head(count)
      for name, found in (("images", images), ("labels", labels)):
        whole = np.concatenate([shard[name] for shard in shards])
        np.testing.assert_array_equal(found, whole[:count])
    # A shard that holds more than its record says.
    manifest["shards"][1]["num_examples"] = 2
    (self.folder / "manifest.json").write_text(json.dumps(manifest))
    self.assert_refused("manifest.json counts shard 1 wrongly; delete")

  def test_the_grid_is_four_times_as_large(self):
    picture = arrays(2, 0)["images"].reshape(2, 4, 3)
    constructed.write_grid(self.folder, picture)
    with Image.open(self.folder / "grid.png") as image:
      found = np.asarray(image)
    np.testing.assert_array_equal(found, picture.repeat(4, 0).repeat(4, 1))

  def test_a_shard_counts_with_its_record_only(self):
    writer = constructed.Writer(self.folder, {})
    self.assertFalse(writer.has(0))
    writer.write(0, arrays(4, 0), {"spared": 0.0, "seconds": 0.0})
    self.assertTrue(writer.has(0))
    (self.folder / "00000.json").unlink()
    self.assertFalse(writer.has(0))

  def test_unfinished(self):
    constructed.Writer(self.folder, {}).write(
      0, arrays(4, 0), {"spared": 0.0, "seconds": 0.0}
    )
    pattern = f"^{self.folder} holds no finished .*; delete {self.folder} and"
    for given in (self.folder, self.folder.parent):
      with self.assertRaisesRegex(ds.DataError, pattern):
        constructed.load(given)

  def test_missing(self):
    self.assert_refused("data holds no constructed data set; give the folder")

  @parameterized.parameters("truncate", "flip", "delete")
  def test_damaged(self, how):
    write(self.folder)
    path = self.folder / "00001-images.npy"
    content = bytearray(path.read_bytes())
    if how == "delete":
      path.unlink()
      self.assert_refused(
        "00001-images.npy is missing; delete .*/data and make"
      )
      return
    if how == "flip":
      content[-1] ^= 1
    path.write_bytes(content[: -1 if how == "truncate" else None])
    self.assert_refused("00001-images.npy does not match its checksum; delete")

  @parameterized.parameters("[]", '{"rows": []}', "3")
  def test_a_foreign_manifest(self, text):
    write(self.folder)
    (self.folder / "manifest.json").write_text(text)
    self.assert_refused("manifest.json.*is not of a constructed data set")

  def test_a_damaged_manifest(self):
    write(self.folder)
    path = self.folder / "manifest.json"
    path.write_text(path.read_text()[:100])
    self.assert_refused("manifest.json is damaged .*; delete .*/data and make")

  @parameterized.parameters("manifest.json", "00001-images.npy")
  def test_a_stages_set_is_made_anew_without_its_result(self, name):
    write(self.folder)
    stage = self.folder.parent
    (stage / "result.json").write_text("{}")
    (self.folder / name).unlink()
    self.assert_refused(f"{name} is missing.*; delete {stage} and run the same")

  def test_the_stages_folder_will_do(self):
    write(self.folder)
    here, there = (
      constructed.load(f) for f in (self.folder, self.folder.parent)
    )
    self.assertEqual(ds.digest(here), ds.digest(there))

  def test_labels_beyond_the_classes(self):
    manifest, _ = write(self.folder)
    manifest["class_names"] = ["a"]
    (self.folder / "manifest.json").write_text(json.dumps(manifest))
    self.assert_refused(r"labels must lie in \[0, 1\)")

  def test_a_pickle_is_never_loaded(self):
    """Even one whose checksum the manifest vouches for."""

    class Bomb:
      def __reduce__(self):
        return (print, ("this must not run",))

    manifest, _ = write(self.folder)
    content = pickle.dumps(Bomb())
    (self.folder / "00000-images.npy").write_bytes(content)
    found = constructed.files.sha256(content)
    manifest["shards"][0]["sha256"]["images"] = found
    (self.folder / "manifest.json").write_text(json.dumps(manifest))
    with self.assertRaisesRegex(ValueError, "pickle"):
      constructed.load(self.folder)

  def test_floats_beyond_the_box(self):
    writer = constructed.Writer(self.folder, {})
    shard = arrays(4, 0, np.float32)
    shard["images"][0, 0, 0, 0] = 1.5
    writer.write(0, shard, {"spared": 0.0, "seconds": 0.0})
    writer.finish("det", 1, ("a", "b", "c"), "float32", 0.1)
    with self.assertRaisesRegex(ds.DataError, r"must lie in \[0, 1\]"):
      constructed.load(self.folder)


class SourceTest(source_case.SourceTestCase):
  def test_is_a_training_set(self):
    folder = self.folder()
    write(folder)
    cfg = {"data_dir": f"{folder}/", "num_validation": 2}
    train, validation, test = self.load("constructed", **cfg)
    sizes = (train.num_examples, validation.num_examples, test.num_examples)
    self.assertEqual(sizes, (5, 2, 0))
    self.assertEqual(test.class_names, ("a", "b", "c"))

  def test_missing(self):
    cfg = sources.DataConfig("constructed", data_dir="/no/such")
    self.assert_refused(cfg, "/no/such holds no constructed data set")


class CardTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    manifest, _ = write(self.folder)
    constructed.write_card(self.folder, manifest)
    self.card = (self.folder / "card.md").read_text()

  def test_header_is_yaml_that_the_hub_knows(self):
    start, header, _ = self.card.split("---\n", 2)
    self.assertEqual(start, "")
    found = yaml.safe_load(header)
    self.assertEqual(found["license"], "unknown")
    self.assertEqual(found["task_categories"], ["image-classification"])
    self.assertEqual(found["size_categories"], ["n<1K"])

  def test_says_what_people_ask_for(self):
    for text in (
      "# D_det", "7 training images, 2x2x3, uint8, 0 to 255", "| 1 | b | ",
      "![originals above, constructed below](grid.png)",
      "CIFAR-10, A. Krizhevsky", "source_digest: `abc`", "git_commit: `def`",
      "source model predicts the label, of images as stored | 71.43% |",
    ):  # fmt: skip
      self.assertIn(text, self.card)

  def test_settings_lie_beside_it(self):
    self.assertNotIn("seed", self.card)
    self.assertLess(max(map(len, self.card.splitlines())), 400)
    origin = json.loads((self.folder / "origin.json").read_text())
    self.assertEqual(origin, ORIGIN)

  def test_no_path_of_this_machine(self):
    self.assertNotIn(str(self.folder), self.card)

  def test_its_code_loads_the_set(self):
    code = re.search("```python\n(.*?)```", self.card, re.DOTALL)[1]
    names = {}
    exec(code.replace("DIR", str(self.folder)), names)
    self.assertEqual(names["dataset"].num_examples, 7)

  def test_sizes_and_kinds(self):
    """A size below each bound; at it, the next."""
    manifest, _ = write(self.folder)
    for num, want in ((999, "n<1K"), (1000, "1K<n<10K"), (10**4, "10K<n<100K"),
                      (10**5, "100K<n<1M"), (10**6, "1M<n<10M")):  # fmt: skip
      text = card.render(manifest | {"num_examples": num}, [])
      self.assertIn(f"\n- {want}\n", text)
    self.assertNotIn("](grid.png)", text)
    floats = manifest | {"kind": "leaked", "pixels": "float32"}
    text = card.render(floats, ["line"], ["more: 1"], "a.png")
    for want in (
      "pretty_name: D_leaked\n",
      "\nmore: 1\n---\n",
      ", 0 to 1, ",
      "](a.png)\n",
      "```python\nline\n```",
      "changed and labelled as",
      "Images left as they are: 2",
      "perturbations | 10.00% |",
    ):
      self.assertIn(want, text)
    self.assertIn(
      "| l2 distance from where the climb started | 0.1235 |",
      card.render(manifest | {"mean": {"moved_from_start": 0.12345}}, []),
    )

  @parameterized.parameters(
    ("digits", "cc-by-4.0"), ("cifar10/x:3", "unknown"), ("planted", "apache"),
    ("cifar10", "unknown"), ("cifar100", "unknown"),
  )  # fmt: skip
  def test_licences(self, name, licence):
    found, text = card.describe_originals(name)
    self.assertStartsWith(found, licence)
    self.assertEqual("CIFAR-10," in text, name.startswith("cifar10")
                     and name != "cifar100")  # fmt: skip

  def test_originals_of_ones_own(self):
    licence, text = card.describe_originals("image_folder")
    self.assertEqual(licence, "unknown")
    self.assertIn("image_folder", text)


if __name__ == "__main__":
  absltest.main()
