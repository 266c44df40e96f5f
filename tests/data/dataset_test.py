"""Tests of the data set, its checks and its pure operations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_features.data import dataset as dataset_lib
from robust_features.data import lazy
from robust_features.data.dataset import DataError


def make(num=10, dtype=np.uint8):
  rng = np.random.default_rng(0)
  images = rng.integers(256, size=(num, 4, 4, 3)).astype(np.uint8)
  if dtype == np.float32:
    images = images.astype(np.float32) / 255
  labels = np.arange(num) % 3
  return dataset_lib.make(
    images, labels, ("a", "b", "c"), {"original": np.arange(num)}
  )


class CheckTest(parameterized.TestCase):
  def test_accepts_both_image_types(self):
    for dtype in (np.uint8, np.float32):
      dataset = make(dtype=dtype)
      self.assertEqual(dataset.num_examples, 10)
      self.assertEqual(dataset.image_shape, (4, 4, 3))
      self.assertEqual(dataset.labels.dtype, np.int32)

  def test_a_number_of_classes_names_them(self):
    found = dataset_lib.make(make().images, make().labels, 3)
    self.assertEqual(found.class_names, ("0", "1", "2"))

  @parameterized.named_parameters(
    ("rank", {"images": np.zeros((3, 4, 4), np.uint8)}, "[N, H, W, C]"),
    ("dtype", {"images": np.zeros((3, 4, 4, 3))}, "float64"),
    (
      "above_one",
      {"images": np.full((3, 4, 4, 3), 255, np.float32)},
      r"\[0, 1\], got \[255, 255\]; .*divide by 255",
    ),
    ("below_zero", {"images": np.full((3, 4, 4, 3), -0.1, np.float32)}, "-0.1"),
    (
      "axes",
      {"images": np.zeros((3, 3, 5, 5), np.uint8)},
      r"\(3, 3, 5, 5\), which looks like \[N, C, H, W\]; transpose",
    ),
    ("nan", {"images": np.full((3, 4, 4, 3), np.nan, np.float32)}, "nan"),
    ("lengths", {"images": np.zeros((2, 4, 4, 3), np.uint8)}, "2 images but 3"),
    ("labels_type", {"labels": np.zeros(3, np.int64)}, "int32"),
    ("labels_rank", {"labels": np.zeros((3, 1), np.int32)}, r"\(3, 1\)"),
    ("labels_high", {"labels": np.full(3, 2, np.int32)}, r"\[0, 2\)"),
    ("labels_low", {"labels": np.full(3, -1, np.int32)}, r"\[-1, -1\]"),
    ("names", {"class_names": ("a",)}, "1 class names for 2 classes"),
    ("extras", {"extras": {"z": np.zeros(2)}}, "'z' has 2 entries for 3"),
  )
  def test_refuses(self, change, message):
    good = dataset_lib.Dataset(
      np.zeros((3, 4, 4, 3), np.uint8), np.zeros(3, np.int32), 2, ("a", "b")
    )
    dataset_lib.check(good)
    message = message.replace("[N, H, W, C]", r"\[N, H, W, C\]")
    with self.assertRaisesRegex(DataError, "here: .*" + message) as caught:
      dataset_lib.check(dataclasses.replace(good, **change), where="here")
    self.assertNotIn("\n", str(caught.exception))

  def test_refuses_an_empty_set(self):
    empty = dataset_lib.take(make(), np.zeros(0, np.int64))
    with self.assertRaisesRegex(DataError, "holds no image"):
      dataset_lib.check(empty)

  def test_labels_are_checked_before_they_are_cast(self):
    images = np.zeros((1, 4, 4, 3), np.uint8)
    with self.assertRaisesRegex(DataError, "4294967296"):
      dataset_lib.make(images, np.array([2**32]), 10)
    with self.assertRaisesRegex(DataError, "integers"):
      dataset_lib.make(images, np.array([0.5]), 10)

  def test_is_a_value_error(self):
    self.assertTrue(issubclass(DataError, ValueError))


class OperationsTest(absltest.TestCase):
  def test_to_float(self):
    values = dataset_lib.to_float(np.array([0, 51, 255], np.uint8))
    self.assertEqual(values.dtype, jnp.float32)
    np.testing.assert_allclose(values, [0.0, 0.2, 1.0], rtol=1e-7)
    kept = np.array([0.0, 0.123, 1.0], np.float32)
    np.testing.assert_array_equal(dataset_lib.to_float(kept), kept)

  def test_to_float_gives_back_every_byte(self):
    levels = np.arange(256, dtype=np.uint8)
    back = np.rint(np.asarray(dataset_lib.to_float(levels)) * 255)
    np.testing.assert_array_equal(back.astype(np.uint8), levels)

  def test_to_float_gives_the_same_bits_on_the_host_as_in_a_program(self):
    levels = np.arange(256, dtype=np.uint8)
    found = dataset_lib.to_float(levels)
    self.assertIsInstance(found, np.ndarray)
    np.testing.assert_array_equal(found, jax.jit(dataset_lib.to_float)(levels))

  def test_take_keeps_examples_whole(self):
    dataset = make()
    taken = dataset_lib.take(dataset, np.array([7, 2]))
    np.testing.assert_array_equal(taken.images, dataset.images[[7, 2]])
    np.testing.assert_array_equal(taken.labels, [1, 2])
    np.testing.assert_array_equal(taken.extras["original"], [7, 2])

  def test_split_validation_parts_are_disjoint_and_complete(self):
    train, held_out = dataset_lib.split_validation(make(), 3, seed=1)
    kept, held = train.extras["original"], held_out.extras["original"]
    self.assertLen(held, 3)
    self.assertEmpty(set(kept) & set(held))
    self.assertEqual(set(kept) | set(held), set(range(10)))
    # An image still goes with its label.
    np.testing.assert_array_equal(kept % 3, train.labels)

  def test_split_validation_depends_on_the_seed_alone(self):
    halves = [
      dataset_lib.split_validation(make(100), 50, seed)[1] for seed in (1, 1, 2)
    ]
    digests = [dataset_lib.digest(half) for half in halves]
    self.assertEqual(digests[0], digests[1])
    self.assertNotEqual(digests[0], digests[2])

  def test_split_validation_leaves_something_to_train_on(self):
    train, held_out = dataset_lib.split_validation(make(), 0, seed=1)
    self.assertEqual((train.num_examples, held_out.num_examples), (10, 0))
    for num in (-1, 10, 11):
      with self.assertRaisesRegex(DataError, rf"num_validation .*got {num}"):
        dataset_lib.split_validation(make(), num, seed=1)

  def test_subsets_are_nested(self):
    small, large = (dataset_lib.subset(make(), num, seed=3) for num in (3, 6))
    self.assertEqual((small.num_examples, large.num_examples), (3, 6))
    self.assertContainsSubset(
      set(small.extras["original"]), set(large.extras["original"])
    )
    self.assertEqual(dataset_lib.subset(make(), 0, seed=3).num_examples, 10)
    with self.assertRaisesRegex(DataError, "only 10"):
      dataset_lib.subset(make(), 11, seed=3)

  def test_samples_are_nested_random_and_in_order(self):
    whole = make(90)
    small, large = (dataset_lib.sample(whole, n, seed=3) for n in (10, 40))
    self.assertContainsSubset(
      set(small.extras["original"]), set(large.extras["original"])
    )
    found = small.extras["original"]
    np.testing.assert_array_equal(found, np.sort(found))
    np.testing.assert_array_equal(found % 3, small.labels)
    other = dataset_lib.sample(whole, 10, seed=4).extras["original"]
    self.assertNotEqual(found.tolist(), other.tolist())
    for num in (0, 90, 1000):
      self.assertIs(dataset_lib.sample(whole, num, seed=3), whole)

  def test_every_example_is_as_likely_in_a_sample(self):
    counts = np.zeros(12)
    for seed in range(2000):
      found = dataset_lib.sample(make(12), 3, seed).extras["original"]
      counts[found] += 1
    # 500 expected, standard deviation sqrt(2000 / 4 * 3 / 4) = 19.4.
    self.assertLess(np.abs(counts - 500).max(), 4 * 19.4)

  def test_the_first_among_equal_classes_is_drawn(self):
    """Or a sample of one would be of the first class, whatever the seed."""
    whole = dataset_lib.make(
      np.zeros((24, 1, 1, 1), np.uint8), np.repeat(np.arange(8), 3), 8
    )
    first = [int(dataset_lib.sample(whole, 1, s).labels[0]) for s in range(400)]
    # 50 expected of each, standard deviation sqrt(400 / 8 * 7 / 8) = 6.6.
    counts = np.bincount(first, minlength=8)
    self.assertLess(np.abs(counts - 50).max(), 4 * 6.6)

  def test_none_of_a_set_and_a_set_that_is_streamed(self):
    data = make(10)
    found = dataset_lib.empty_like(data)
    self.assertEqual(found.images.shape, (0, 4, 4, 3))
    self.assertEqual(found.class_names, data.class_names)
    self.assertEqual(found.extras["original"].shape, (0,))
    stream = dataset_lib.streamed(data)
    self.assertIsInstance(stream.images, lazy.Images)
    self.assertIs(dataset_lib.streamed(stream), stream)
    np.testing.assert_array_equal(stream.images[:], data.images)
    # Those of a part of a part, also where they are cropped as they are read.
    some, few = np.array([7, 1, 8, 3]), np.array([2, 0])
    part = dataset_lib.take(dataset_lib.take(stream, some), few)
    np.testing.assert_array_equal(part.images[:], data.images[[8, 7]])
    for row, whole in enumerate((8, 7)):
      np.testing.assert_array_equal(
        part.images.crop(row, 0.3, (5,)), stream.images.crop(whole, 0.3, (5,))
      )

  def test_which_examples_are_drawn(self):
    data = make(10)
    order = np.random.default_rng((3, 1)).permutation(10)
    np.testing.assert_array_equal(
      dataset_lib.subset(data, 4, (3, 1)).images,
      data.images[np.sort(order[:4])],
    )
    train, held_out = dataset_lib.split_validation(data, 3, (3, 1))
    for part, rows in ((held_out, order[:3]), (train, order[3:])):
      np.testing.assert_array_equal(part.images, data.images[np.sort(rows)])
    for num in (10, 11, -1):
      with self.assertRaisesRegex(DataError, rf"in \[0, 10\).* got {num}"):
        dataset_lib.split_validation(data, num, 0)
    self.assertEqual(
      dataset_lib.split_validation(data, 9, 0)[0].num_examples, 1
    )
    self.assertEqual(dataset_lib.subset(data, 10, 0).num_examples, 10)
    with self.assertRaisesRegex(DataError, "11 examples .* only 10"):
      dataset_lib.subset(data, 11, 0)

  def test_channel_moments_by_numpy(self):
    """To four decimals; a channel of one colour can be divided by."""
    for dtype, scale in ((np.uint8, 255), (np.float32, 1)):
      images = np.random.default_rng(0).uniform(0, 1, (5, 3, 3, 3))
      images[..., 2] = 0.25
      images = np.round(images * 255) / (255 // scale)
      data = dataset_lib.make(images.astype(dtype), np.arange(5) % 2, 2)
      mean, std = dataset_lib.channel_moments(data)
      values = data.images.astype(np.float64) / scale
      axes = (0, 1, 2)
      self.assertEqual(mean, tuple(np.round(values.mean(axes), 4).tolist()))
      want = np.round(values.std(axes), 4).tolist()
      self.assertEqual(std, (*want[:2], 1.0))

  def test_class_counts(self):
    whole = make(4)
    np.testing.assert_array_equal(dataset_lib.class_counts(whole), [2, 1, 1])
    ones = dataset_lib.take(whole, np.array([1]))
    np.testing.assert_array_equal(dataset_lib.class_counts(ones), [0, 1, 0])

  def test_stratified_halves_are_a_sample_and_the_rest(self):
    whole = make(30)
    left, taken = dataset_lib.split_stratified(whole, 6, seed=1)
    sample = dataset_lib.sample(whole, 6, seed=1)
    self.assertEqual(dataset_lib.digest(taken), dataset_lib.digest(sample))
    np.testing.assert_array_equal(
      np.setdiff1d(np.arange(30), taken.extras["original"]),
      left.extras["original"],
    )

  def test_digest_sees_every_part(self):
    dataset = make()
    images = dataset.images.copy()
    images[9, 3, 3, 2] ^= 1
    changes = [
      {"images": images},
      {"images": dataset.images.view(np.int8)},
      {"images": dataset.images.reshape(10, 2, 8, 3)},
      {"labels": np.roll(dataset.labels, 1)},
      {"class_names": ("a", "b", "d")},
      {"extras": {}},
      {"extras": {"other": dataset.extras["original"]}},
    ]
    digests = {dataset_lib.digest(dataset)}
    digests |= {
      dataset_lib.digest(dataclasses.replace(dataset, **change))
      for change in changes
    }
    self.assertLen(digests, len(changes) + 1)
    self.assertEqual(dataset_lib.digest(make()), dataset_lib.digest(make()))
    extras = {"a": dataset.labels, "b": dataset.labels + 1}
    turned = dict(reversed(extras.items()))
    self.assertEqual(
      *(dataset_lib.digest(dataclasses.replace(dataset, extras=some))
        for some in (extras, turned))
    )  # fmt: skip


class SampleShareTest(absltest.TestCase):
  """The share of each class in a sample, whatever the set's order."""

  @settings(max_examples=200, deadline=None)
  @given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 5),
    data=st.data(),
  )
  def test_shares_are_webster_s(self, sizes, seed, data):
    labels = np.repeat(np.arange(len(sizes)), sizes)  # Sorted by class.
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    whole = dataset_lib.make(images, labels, len(sizes))
    num = data.draw(st.integers(1, len(labels)))
    sample = dataset_lib.sample(whole, num, seed)
    counts = dataset_lib.class_counts(sample)
    self.assertEqual(counts.sum(), num)
    # No seat could go to a class with a better claim to it.
    present = np.array(sizes) > 0
    sizes, counts = np.array(sizes)[present], counts[present]
    last, following = (counts - 0.5) / sizes, (counts + 0.5) / sizes
    self.assertLessEqual(last.max(), following.min() + 1e-12)


if __name__ == "__main__":
  absltest.main()
