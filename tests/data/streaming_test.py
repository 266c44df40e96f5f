"""Streamed and resident are the same bits; what is read is decided by steps."""

import itertools
import math
import os
from unittest import mock

import jax
import numpy as np
import PIL.Image
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, construct, evaluate, train
from robust_features.data import (
  augment,
  constructed,
  image_folder,
  lazy,
  streaming,
)
from robust_features.data import dataset as ds
from robust_features.runtime import preemption, sharding


def write_photographs(folder, sizes=((40, 30), (25, 50), (32, 32))):
  """Writes one JPEG of each size in each of two classes, as a train folder."""
  rng = np.random.default_rng(0)
  for name, (i, (width, height)) in itertools.product(
    "ab", enumerate(sizes)
  ):  # fmt: skip
    path = folder / "train" / name / f"{i}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path, quality=95)


def run(test, data, chunk_steps=2, workdir=None, **changes):
  """Trains on 31 images in batches of 7, which two devices do not divide."""
  fields = {"batch_size": 7, "augment": augment.AugmentConfig(1, True, 0, 0)}
  return train.train(
    toys.recipe(**fields | changes),
    train.RunConfig(chunk_steps=chunk_steps, checkpoint_every_seconds=1e9),
    toys.Linear(data.num_classes), data, ds.empty_like(data),
    workdir or toys.folder(test), jax.random.key(0),
  )  # fmt: skip


class SameBitsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.resident = toys.dataset(31)
    cls.streamed = ds.streamed(cls.resident)

  def setUp(self):
    super().setUp()
    self.addCleanup(preemption.reset)

  def test_training_also_interrupted_with_other_chunks(self):
    want = run(self, self.resident)
    self.assertEqual(run(self, self.streamed).digest, want.digest)
    self.assertEqual(want.input_seconds, 0.0)
    workdir = toys.folder(self)
    preemption.request()
    with self.assertRaises(preemption.Stopped):
      run(self, self.streamed, chunk_steps=3, workdir=workdir)
    preemption.reset()
    found = run(self, self.streamed, chunk_steps=1, workdir=workdir)
    self.assertEqual(found.digest, want.digest)
    self.assertGreater(found.input_seconds, 0.0)

  def test_evaluation(self):
    model = toys.Linear(3)
    variables = train.models.init_variables(model, jax.random.key(1), (8, 8, 3))
    cfg = evaluate.EvaluateConfig(num_steps=10, batch_size=7, num_restarts=2)
    want, found = (
      evaluate.evaluate(model, variables, data, cfg, jax.random.key(2))
      for data in (self.resident, self.streamed)
    )
    self.assertEqual(found.robust_accuracy, want.robust_accuracy)
    self.assertEqual(found.class_robust_accuracy, want.class_robust_accuracy)
    self.assertEqual(found.attack, want.attack)
    for function in (evaluate.predict, evaluate.represent):
      one, other = (
        function(model, variables, data.images, 7)
        for data in (self.resident, self.streamed)
      )
      np.testing.assert_array_equal(one, other)

  def test_construction_from_a_pool_and_its_set_read_back(self):
    attack = attacks.AttackConfig("l2", math.inf, 0.1, 3, keep_best=False)
    cfg = construct.preset("robust", attack, batch_size=7, shard_size=10)
    model = toys.Linear(3)
    variables = train.models.init_variables(model, jax.random.key(1), (8, 8, 3))
    sums = []
    for data in (self.resident, self.streamed):
      folder = toys.folder(self)
      manifest = construct.construct(
        cfg, model, variables, data, data, folder, jax.random.key(3), {}
      )
      sums.append(manifest["sha256"])
    self.assertEqual(*sums)
    whole = constructed.load(folder)
    stream = constructed.load(folder, streamed=True)
    self.assertIsInstance(stream.images, lazy.Images)
    self.assertEqual(ds.digest(stream), ds.digest(whole))
    at = np.array([30, 0, 9, 10])
    np.testing.assert_array_equal(stream.images[at], whole.images[at])
    square = at.reshape(2, 2)
    np.testing.assert_array_equal(stream.images[square], whole.images[square])
    np.testing.assert_array_equal(stream.images[3], whole.images[3])
    path = folder / "00001-images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with self.assertRaisesRegex(ds.DataError, "00001-images.npy does not"):
      constructed.load(folder, streamed=True)

  def test_nothing_is_read_to_choose_examples(self):
    source = mock.Mock(spec=["read", "original"])
    images = lazy.Images(source, np.arange(31), (8, 8, 3), np.dtype(np.uint8))
    data = ds.make(images, self.resident.labels, 3)
    part = ds.subset(ds.split_validation(data, 5, 0)[0], 4, 1)
    want = ds.subset(ds.split_validation(self.resident, 5, 0)[0], 4, 1)
    np.testing.assert_array_equal(part.labels, want.labels)
    source.read.assert_not_called()

  def test_what_knows_no_stream_sees_an_array(self):
    np.testing.assert_array_equal(
      ds.to_float(self.streamed.images), ds.to_float(self.resident.images)
    )
    self.assertEqual(ds.digest(self.streamed), ds.digest(self.resident))
    self.assertEqual(
      ds.channel_moments(self.streamed), ds.channel_moments(self.resident)
    )


class FolderTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    write_photographs(self.folder)

  def load(self, **changes):
    return image_folder.load(str(self.folder), 16, short_side=20, **changes)[0]

  def test_same_as_resident(self):
    want, found = self.load(), self.load(streamed=True)
    np.testing.assert_array_equal(found.images[:], want.images)
    self.assertEqual(ds.digest(found), ds.digest(want))

  def test_an_image_that_is_damaged_names_itself(self):
    found = self.load(streamed=True)
    path = self.folder / "train" / "a" / "1.jpg"
    os.truncate(path, path.stat().st_size // 2)
    with self.assertRaisesRegex(ds.DataError, "a/1.jpg: not an image"):
      run(self, found, batch_size=3)
    want, found = (
      self.load(skip_unreadable=True, streamed=streamed)
      for streamed in (False, True)
    )
    self.assertLen(found.labels, 5)
    self.assertEqual(ds.digest(found), ds.digest(want))

  def test_training_on_random_crops_is_a_function_of_the_steps(self):
    data = self.load(streamed=True)
    crops = augment.AugmentConfig(0, False, 0, 0, resized_crop=0.3)
    kept = {"augment": crops, "batch_size": 3}
    one = run(self, data, chunk_steps=1, **kept)
    self.assertEqual(run(self, data, chunk_steps=2, **kept).digest, one.digest)
    other = run(self, data, batch_size=3, augment=toys.NO_AUGMENTATION)
    self.assertNotEqual(one.digest, other.digest)
    with self.assertRaisesRegex(ValueError, "resized_crop .*streamed=True"):
      run(self, self.load(), **kept)


class CropTest(parameterized.TestCase):
  @parameterized.parameters((30, 40), (400, 50), (7, 7))
  def test_boxes_lie_in_the_image(self, height, width):
    shares = []
    for seed in range(200):
      rng = np.random.default_rng(seed)
      top, left, h, w = lazy.random_box(rng, height, width, 0.25)
      self.assertBetween(top, 0, height - h)
      self.assertBetween(left, 0, width - w)
      shares.append(h * w / (height * width))
    if (height, width) == (30, 40):
      # Rounding a side moves an area by a few percent.
      self.assertBetween(min(shares), 0.23, 0.35)
      self.assertBetween(max(shares), 0.85, 1.0)

  def test_a_box_is_torchvisions(self):
    """Half of the area at 4/3, at the last place; then what never fits."""

    class Draws:
      def __init__(self, share, aspect):
        self.share, self.aspect, self.tries = share, aspect, 0

      def uniform(self, low, high):
        if high == 1.0:
          self.tries += 1
          return self.share * low / 0.25
        np.testing.assert_allclose((low, high), np.log([3 / 4, 4 / 3]))
        return np.log(self.aspect)

      def integers(self, bound):
        return bound - 1

    rng = Draws(0.5, 4 / 3)
    self.assertEqual(lazy.random_box(rng, 30, 40, 0.25), (9, 12, 21, 28))
    self.assertEqual(rng.tries, 1)
    # Sides are rounded: of 646 pixels, 25.42 and 25.42; of 624, 24.98.
    for pixels, side in ((646, 25), (624, 25)):
      box = lazy.random_box(Draws(pixels / 1200, 1.0), 30, 40, 0.25)
      self.assertEqual(box[2:], (side, side))
    rng = Draws(0.5, 3 / 4)
    self.assertEqual(lazy.random_box(rng, 30, 40, 0.25), (2, 19, 28, 21))
    # As wide and as high as the image is no more than it is.
    self.assertEqual(lazy.random_box(Draws(1, 1), 9, 9, 0.25), (0, 0, 9, 9))
    for shape, want in (((9, 50), (0, 19, 9, 12)), ((50, 9), (19, 0, 12, 9))):
      rng = Draws(1.0, 1.0)
      self.assertEqual(lazy.random_box(rng, *shape, 0.25), want)
      self.assertEqual(rng.tries, 10)

  def test_a_part_is_resized_as_pillow_does(self):
    image = toys.dataset(1).images[0]
    for values in (image, image[..., :1], image.astype(np.float32)):
      found = lazy.resized(values, (1, 2, 6, 5), (4, 3))
      self.assertEqual(found.shape, (4, 3, values.shape[-1]))
      for channel in range(values.shape[-1]):
        part = PIL.Image.fromarray(values[1:7, 2:7, channel].copy())
        want = part.resize((3, 4), PIL.Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found[..., channel], np.asarray(want))

  def test_a_chunk_of_a_set_and_its_size(self):
    data = toys.dataset(5).images
    stream = lazy.of_array(data)
    self.assertEqual(stream.size, data.size)
    self.assertEqual(stream.image_nbytes, data[0].nbytes)
    with mock.patch.object(lazy, "_CHUNK_BYTES", 2 * data[0].nbytes):
      parts = list(lazy.chunks(stream))
    self.assertEqual([len(part) for part in parts], [2, 2, 1])
    np.testing.assert_array_equal(np.concatenate(parts), data)
    with mock.patch.object(lazy, "_CHUNK_BYTES", 1):
      self.assertLen(list(lazy.chunks(stream)), 5)
    np.testing.assert_array_equal(list(stream), data)

  def test_the_seed_alone_decides(self):
    data = ds.streamed(toys.dataset(3, size=32)).images
    one, same, other = (
      data.crop(1, 0.1, seed) for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(one, same)
    self.assertEqual(one.shape, (32, 32, 3))
    self.assertTrue((one != other).any())
    floats = ds.streamed(toys.dataset(3, size=32, dtype=np.float32)).images
    self.assertEqual(floats.crop(1, 0.1, (1,)).dtype, np.float32)

  def test_a_whole_box_is_the_image(self):
    image = toys.dataset(1).images[0]
    found = lazy.resized(image, (0, 0, 8, 8), (8, 8))
    np.testing.assert_array_equal(found, image)

  @parameterized.parameters(1, 3)
  def test_a_box_of_a_photograph_is_that_of_its_array(self, channels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 7, channels), dtype=np.uint8)
    picture = PIL.Image.fromarray(image.squeeze())
    box, size = (2, 1, 6, 5), (4, 3)
    found = lazy.resized(picture, box, size)
    np.testing.assert_array_equal(found, lazy.resized(image, box, size))
    self.assertEqual(found.shape, (4, 3, channels))


class PartsTest(absltest.TestCase):
  def test_the_last_chunk_of_an_epoch_may_be_shorter(self):
    data, order = toys.dataset(8), jax.numpy.arange(8)
    for images in (data.images, ds.streamed(data).images):
      feed = streaming.TrainFeed(
        images, data.labels, 2, 3, 0.0, (1,), streaming.Watch()
      )
      counts = [count for count, _ in feed.chunks(order, 30, 30, 34)]
      self.assertEqual(counts, [3, 1])

  def test_a_crop_is_of_the_key_the_step_and_the_image(self):
    """Whatever the chunk, and wherever in its batch the image comes."""
    key = jax.random.fold_in(jax.random.key(3), 7)
    seed = streaming.seed_of(key)
    self.assertEqual(seed, tuple(map(int, jax.random.key_data(key))))
    self.assertLen(seed, 2)
    data = ds.streamed(toys.dataset(6, size=16))
    order = jax.numpy.asarray([4, 0, 5, 2, 1, 3], jax.numpy.int32)
    for chunk_steps in (1, 2):
      feed = streaming.TrainFeed(
        data.images, data.labels, 2, chunk_steps, 0.2, seed, streaming.Watch()
      )
      found = {}
      for count, steps in feed.chunks(order, 30, 31, 33):
        for step in range(int(steps.first), int(steps.first) + count):
          found[step] = steps.at(step, 2)
      self.assertEqual(list(found), [31, 32])
      for step, rows in ((31, (5, 2)), (32, (1, 3))):
        images, labels, indices = found[step]
        np.testing.assert_array_equal(indices, rows)
        np.testing.assert_array_equal(labels, data.labels[[*rows]])
        for image, row in zip(np.asarray(images), rows, strict=True):
          want = data.images.crop(row, 0.2, (*seed, step, row))
          np.testing.assert_array_equal(image, want)

  def test_every_process_gives_its_rows(self):
    rows = np.arange(12).reshape(2, 6)
    found = sharding.from_local(rows, 6, axis=1)
    np.testing.assert_array_equal(found, rows)
    self.assertEqual(found.sharding, sharding.over_data(axis=1))
    np.testing.assert_array_equal(sharding.local_rows(6), np.arange(6))

  def test_waiting_is_measured_and_reading_is_ahead(self):
    watch, read = streaming.Watch(), []

    def one(part):
      read.append(part)
      return np.full(2, part)

    batches = streaming.read_ahead(one, range(5), 16, watch)
    self.assertEqual([int(batch[0]) for batch in batches], list(range(5)))
    self.assertCountEqual(read, range(5))
    self.assertGreater(watch.seconds, 0.0)


if __name__ == "__main__":
  absltest.main()
