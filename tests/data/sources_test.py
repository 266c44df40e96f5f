"""Sources together: configs, parts, how much is kept."""

import dataclasses
import inspect
import os
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized
from sklearn import datasets
from source_case import SourceTestCase, random_images

from robust_features.data import (
  constructed,
  image_folder,
  lazy,
  planted,
  restricted_imagenet,
  sources,
  tfds_source,
)
from robust_features.data import dataset as dataset_lib
from robust_features.data.sources import DataConfig as config


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
    ("madry", {}, "data_dir must be set"),
    ("constructed", {}, "data_dir must be set"),
    ("digits", {"test_fraction": 1.0}, r"test_fraction .*\[0, 1\).*got 1.0"),
    ("digits", {"test_fraction": -0.1}, "test_fraction .*got -0.1"),
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

  def test_what_is_drawn_with_which_seed(self):
    """Each part from a stream of its own, whose number stays."""
    cfg = config("planted", num_train=30, num_validation=10, num_test=7, seed=5)
    train, validation, test = sources.load(cfg)
    made = planted.PlantedConfig()
    whole = planted.generate(40, (5, 3), made)
    left, held_out = dataset_lib.split_validation(whole, 10, (5, 2))
    np.testing.assert_array_equal(train.images, left.images)
    np.testing.assert_array_equal(validation.images, held_out.images)
    np.testing.assert_array_equal(
      test.images, planted.generate(7, (5, 4), made).images
    )
    root = self.folder()
    np.savez(root / "a.npz", train_images=random_images(20, 4, 0),
             train_labels=np.arange(20) % 2)  # fmt: skip
    cfg = config("npz", data_dir=str(root / "a.npz"), num_train=6, seed=5)
    found = sources.load(cfg).train
    rows = np.random.default_rng((5, 1)).permutation(20)[:6]
    np.testing.assert_array_equal(
      found.images, random_images(20, 4, 0)[np.sort(rows)]
    )

  def test_what_is_not_told(self):
    want = ("digits", "", "", 0, 0, 0, 0, 0, 0.0, False, False, 0, False)
    self.assertEqual(dataclasses.astuple(config("digits")), want)

  def test_the_edges_of_what_is_taken(self):
    config("digits", image_size=8, short_side=8)
    config("digits", image_size=8, short_side=0, test_fraction=0.99)
    for changes in ({"test_fraction": 1.0}, {"test_fraction": -0.1},
                    {"image_size": 8, "short_side": 7}, {"seed": True},
                    {"num_test": -1}, {"num_train": 1.0}):  # fmt: skip
      with self.assertRaisesRegex(ValueError, [*changes][-1]):
        config("digits", **changes)
    # Half may be held out; of more, a tenth is.
    for num, size, want in ((5, 10, 5), (6, 10, 1), (6, 11, 1), (0, 0, 0),
                            (20, 39, 3), (20, 40, 20)):  # fmt: skip
      self.assertEqual(sources.num_held_out(num, size), want)

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

  def test_which_digits_are_held_out_and_their_levels(self):
    data, labels = datasets.load_digits(return_X_y=True)
    rows = np.sort(np.random.default_rng(0).permutation(1797)[:297])
    test = sources.load(config("digits", seed=3)).test
    np.testing.assert_array_equal(test.labels, labels[rows])
    np.testing.assert_array_equal(
      test.images, np.rint(data[rows].reshape(-1, 8, 8, 1) * 255 / 16)
    )

  def test_streamed_parts_are_the_same_images(self):
    fields = {"num_train": 9, "num_test": 5, "num_validation": 4, "seed": 2}
    whole = sources.load(config("digits", **fields))
    found = sources.load(config("digits", **fields, streamed=True))
    for part, want in zip(found, whole, strict=True):
      self.assertIsInstance(part.images, lazy.Images)
      self.assertEqual(dataset_lib.digest(part), dataset_lib.digest(want))

  @parameterized.parameters(
    ("image_folder", image_folder, {}),
    ("tfds", tfds_source, {"name": "cifar10"}),
    ("restricted_imagenet", image_folder, {"balanced": True}),
    ("restricted_imagenet", tfds_source, {"name": "imagenet2012"}),
  )
  def test_a_loader_gets_what_was_asked_for(self, source, module, fields):
    asked = {"data_dir": "/d", "image_size": 16, "short_side": 20,
             "streamed": True, **fields}  # fmt: skip
    want = {k: v for k, v in asked.items() if k != "balanced"}
    if module is image_folder:
      asked["skip_unreadable"] = want["skip_unreadable"] = True
    if source == "restricted_imagenet":
      balanced = asked.get("balanced", False)
      want["groups"] = restricted_imagenet.groups(balanced)
    signature = inspect.signature(module.load)
    with (
      mock.patch.object(restricted_imagenet, "check_folder"),
      mock.patch.object(module, "load", side_effect=InterruptedError) as load,
      self.assertRaises(InterruptedError),
    ):
      sources.load(config(source, **asked))
    call = load.call_args
    self.assertEqual(signature.bind(*call.args, **call.kwargs).arguments, want)

  def test_a_constructed_set_is_streamed_where_asked(self):
    for streamed in (False, True):
      with (
        mock.patch.object(
          constructed, "load", side_effect=InterruptedError
        ) as load,
        self.assertRaises(InterruptedError),
      ):
        sources.load(config("constructed", data_dir="/d", streamed=streamed))
      load.assert_called_once_with("/d", streamed=streamed)

  def test_the_test_set_of_digits_does_not_depend_on_the_seed(self):
    tests = [sources.load(config("digits", seed=seed)).test for seed in (0, 1)]
    self.assertEqual(*(dataset_lib.digest(test) for test in tests))

  def test_a_small_set_is_used_whole_and_a_line_says_so(self):
    train, validation, test = self.load(
      "digits", num_train=2000, num_test=300, num_validation=100
    )
    sizes = (train.num_examples, validation.num_examples, test.num_examples)
    self.assertEqual(sizes, (1400, 100, 297))
    self.assert_said(
      "digits: num_train=2000, but there are 1400: all are used",
      "digits: num_test=300, but there are 297: all are used",
    )

  def test_numbers_that_fit_are_kept_to_the_letter(self):
    parts = self.load("digits", num_train=750, num_test=297, num_validation=750)
    self.assertEqual([part.num_examples for part in parts], [750, 750, 297])
    self.assert_said()

  def test_validation_takes_a_tenth_rather_than_more_than_half(self):
    train, validation, _ = self.load("digits", num_validation=751)
    self.assertEqual((train.num_examples, validation.num_examples), (1350, 150))
    self.assert_said("num_validation=751 is more than half of 1500 .* 150, is")

  def test_refuses_a_size_that_cannot_be_had(self):
    self.assert_refused(config("digits", image_size=32), "image_size .*8x8")


class TestFractionTest(SourceTestCase):
  def archive(self, num=40, with_test=False):
    root = self.folder()
    arrays = {
      "train_images": random_images(num, 4, 0),
      "train_labels": np.arange(num) * 4 // num,  # Sorted by class.
    }
    if with_test:
      arrays["test_images"] = arrays["train_images"]
      arrays["test_labels"] = arrays["train_labels"]
    np.savez(root / "mine.npz", **arrays)
    return str(root / "mine.npz")

  def test_without_a_test_set_a_line_says_so(self):
    parts = self.load("npz", data_dir=self.archive())
    self.assertEqual([part.num_examples for part in parts], [40, 0, 0])
    self.assertEqual(parts.test.num_classes, 4)
    self.assert_said("npz: no test images; test_fraction would hold some out")

  def test_every_class_is_held_out_in_its_share(self):
    train, _, test = self.load(
      "npz", data_dir=self.archive(), test_fraction=0.2
    )
    np.testing.assert_array_equal(dataset_lib.class_counts(train), [8] * 4)
    np.testing.assert_array_equal(dataset_lib.class_counts(test), [2] * 4)
    seen = [im.tobytes() for part in (train, test) for im in part.images]
    self.assertLen(set(seen), 40)
    self.assert_said()
    whole = self.load("npz", data_dir=self.archive()).train
    halves = dataset_lib.split_stratified(whole, 8, 0)
    for part, want in zip((train, test), halves, strict=True):
      self.assertEqual(dataset_lib.digest(part), dataset_lib.digest(want))

  def test_no_seed_trains_on_the_test_images_of_another(self):
    path = self.archive()
    tests = [
      self.load("npz", data_dir=path, test_fraction=0.2, seed=seed).test
      for seed in (0, 1)
    ]
    self.assertEqual(*(dataset_lib.digest(test) for test in tests))

  def test_refuses(self):
    path = self.archive(with_test=True)
    cfg = config("npz", data_dir=path, test_fraction=0.2)
    self.assert_refused(cfg, "test_fraction must be 0 .* 40 test images")
    for fraction in (0.01, 0.99):
      cfg = config("npz", data_dir=self.archive(), test_fraction=fraction)
      self.assert_refused(cfg, f"test_fraction must leave .* {fraction} of 40")


class PathTest(SourceTestCase):
  """The same data under another path are the same data."""

  def test_spellings_have_one_digest(self):
    root = self.folder()
    np.savez(
      root / "mine.npz",
      train_images=random_images(6, 4, 0), train_labels=np.arange(6) % 2,
    )  # fmt: skip
    here = os.getcwd()
    self.addCleanup(os.chdir, here)
    os.chdir(root.parent)
    home = os.environ | {"HOME": str(root.parent)}
    self.enter_context(mock.patch.dict(os.environ, home))
    digests = set()
    for data_dir in (root, f"{root}/", root.name, f"./{root.name}//",
                     f"~/{root.name}", root / "mine.npz"):  # fmt: skip
      found = self.load("npz", name="mine", data_dir=str(data_dir))
      digests.add(dataset_lib.digest(found.train))
    self.assertLen(digests, 1)

  def test_a_home_that_is_not_there(self):
    cfg = config("image_folder", data_dir="~no_such_user/photos")
    with self.assertRaisesRegex(ValueError, "data_dir begins with the home of"):
      sources.load(cfg)
    cfg = config("image_folder", data_dir="~")
    home = os.environ | {"HOME": "/no/such"}
    with mock.patch.dict(os.environ, home):
      self.assert_refused(cfg, "data_dir '/no/such' is not a folder")


if __name__ == "__main__":
  absltest.main()
