"""Batches are split over the devices, all else is on each of them."""

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

  def test_a_batch_that_cannot_be_split_is_refused(self):
    sharding.require_divisible(4, "batch_size")
    with self.assertRaisesRegex(
      ValueError, "batch_size must be a multiple of the 2 devices, got 5"
    ):
      sharding.require_divisible(5, "batch_size")


if __name__ == "__main__":
  absltest.main()
