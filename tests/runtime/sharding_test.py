"""Batches are split over the devices, all else is on each of them.

Several processes are in `processes_test`.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from robust_features.runtime import sharding


class ShardingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.assertEqual(jax.device_count(), 2)  # Or nothing here means anything.

  def test_replicate(self):
    tree = {"a": np.arange(6.0, dtype=np.float32), "b": np.ones((), np.int32)}
    found = sharding.replicate(tree)
    for name, want in tree.items():
      self.assertLen(found[name].addressable_shards, 2)
      for shard in found[name].addressable_shards:
        np.testing.assert_array_equal(shard.data, want)

  def test_split_batch(self):
    split = jax.jit(lambda x: sharding.split_batch(x) + 1)
    found = split(sharding.replicate(jnp.zeros((4, 3), jnp.float32)))
    self.assertEqual(
      [s.data.shape for s in found.addressable_shards], [(2, 3)] * 2
    )

  def test_a_batch_need_not_be_a_multiple_of_the_devices(self):
    x = np.arange(15.0, dtype=np.float32).reshape(5, 3)
    split = jax.jit(lambda x: sharding.split_batch(x) * 2)
    found = sharding.fetch(split(sharding.replicate(x)))
    np.testing.assert_array_equal(found, 2 * x)

  def test_what_is_in_place_is_not_moved_again(self):
    there = sharding.replicate(np.ones((4, 3), np.float32))
    self.assertIs(sharding.replicate(there), there)
    self.assertIsNot(sharding.place(there, sharding.over_data()), there)

  def test_place_over_data(self):
    x = np.arange(8, dtype=np.int32)
    found = sharding.place({"x": x}, sharding.over_data())["x"]
    parts = [shard.data for shard in found.addressable_shards]
    np.testing.assert_array_equal(parts, [x[:4], x[4:]])

  def test_keys_keep_their_kind(self):
    for impl in ("threefry2x32", "rbg"):
      key = jax.random.key(3, impl=impl)
      found = sharding.replicate(key)
      self.assertEqual(found.dtype, key.dtype)
      self.assertEqual(found.sharding, sharding.everywhere())
      np.testing.assert_array_equal(
        jax.random.key_data(found), jax.random.key_data(key)
      )

  def test_rows_of_ones_own_make_the_whole(self):
    x = np.arange(24).reshape(4, 6)
    for axis, part in ((0, (2, 6)), (1, (4, 3))):
      size = x.shape[axis]
      np.testing.assert_array_equal(sharding.local_rows(size), np.arange(size))
      found = sharding.from_local(x, size, axis)
      np.testing.assert_array_equal(found, x)
      self.assertEqual([s.data.shape for s in found.addressable_shards],
                       [part] * 2)  # fmt: skip

  def test_rows_of_one_of_several_processes(self):
    """Whose devices come in any order."""
    mine = mock.Mock()
    mine.addressable_devices_indices_map.return_value = {
      "b": (slice(4, 6),), "a": (slice(2, 4),)
    }  # fmt: skip
    rows = np.arange(12).reshape(4, 3)
    with (
      mock.patch.object(sharding, "over_data", return_value=mine),
      mock.patch.object(jax, "make_array_from_callback") as make,
    ):
      np.testing.assert_array_equal(sharding.local_rows(8), [2, 3, 4, 5])
      sharding.from_local(rows, 8)
    shape, _, part = make.call_args.args
    self.assertEqual(shape, (8, 3))
    for start in (2, 4):
      found = part((slice(start, start + 2), slice(None)))
      np.testing.assert_array_equal(found, rows[start - 2 : start])

  def test_fetch_returns_numpy(self):
    tree = {
      "split": sharding.place(np.arange(4), sharding.over_data()),
      "host": np.ones(2),
      "scalar": sharding.replicate(jnp.float32(3)),
    }
    found = sharding.fetch(tree)
    jax.tree.map(np.testing.assert_array_equal, found, {
      "split": np.arange(4), "host": np.ones(2), "scalar": np.float32(3),
    })  # fmt: skip
    for leaf in found.values():
      self.assertIsInstance(leaf, np.ndarray)


if __name__ == "__main__":
  absltest.main()
