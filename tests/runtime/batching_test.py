"""Every example once, in order, whatever the batch; stops between batches."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.runtime import batching, preemption


class Bar:
  def __init__(self):
    self.moves = []

  def update(self, count):
    self.moves.append(count)


class BatchesTest(parameterized.TestCase):
  def test_batches(self):
    found = list(batching.batches(np.array([3, 4, 5, 6, 9]), 2))
    counts = [count for _, count in found]
    self.assertEqual(counts, [2, 2, 1])
    real = np.concatenate([part[:count] for part, count in found])
    np.testing.assert_array_equal(real, [3, 4, 5, 6, 9])
    self.assertTrue(all(len(part) == 2 for part, _ in found))
    # The last one is repeated.
    ((part, _),) = batching.batches(np.array([3, 4]), 4)
    np.testing.assert_array_equal(part, [3, 4, 4, 4])

  @parameterized.parameters(
    (250, 53, 54), (16, 53, 16), (15, 53, 16), (8, 3, 4), (4, 4, 4), (1, 9, 2)
  )
  def test_even_batch(self, batch_size, num, want):
    self.assertEqual(batching.even_batch(batch_size, num), want)


class MapBatchesTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5, 8)
  def test_every_example_once_and_in_order(self, batch_size):
    indices = np.array([7, 1, 4, 9, 2])
    bar, seen = Bar(), []

    def function(part):
      seen.append(part)
      return {"twice": jnp.asarray(2 * part), "rows": np.stack([part, part], 1)}

    found = batching.map_batches(function, indices, batch_size, bar=bar)
    np.testing.assert_array_equal(found["twice"], 2 * indices)
    np.testing.assert_array_equal(found["rows"][:, 1], indices)
    self.assertEqual(sum(bar.moves), 5)
    self.assertTrue(all(len(part) == batch_size for part in seen))

  def test_what_is_fed_goes_with_its_batch(self):
    indices, order = np.array([5, 3, 8]), []

    def feed(parts):
      np.testing.assert_array_equal(parts, [[5, 3], [8, 8]])
      return iter([("first", 1), ("second", 2)])

    def function(part, name, number):
      order.append((name, number))
      return part * number

    found = batching.map_batches(function, indices, 2, feed=feed)
    np.testing.assert_array_equal(found, [5, 3, 16])
    self.assertEqual(order, [("first", 1), ("second", 2)])
    with self.assertRaises(ValueError):  # Too little for all batches.
      batching.map_batches(function, indices, 2, feed=lambda _: [("first", 1)])

  def test_a_batch_is_fetched_while_the_next_one_runs(self):
    order = []

    class Found(Bar):
      def update(self, count):
        order.append(("fetched", count))

    def function(part):
      order.append("runs")
      return part

    batching.map_batches(function, np.arange(5), 2, bar=Found())
    self.assertEqual(
      order,
      ["runs", "runs", ("fetched", 2), "runs", ("fetched", 2), ("fetched", 1)],
    )

  def test_stops_between_batches_unless_told_not_to(self):
    self.addCleanup(preemption.reset)
    calls = []

    def function(part):
      calls.append(part)
      preemption.request()
      return part

    with self.assertRaises(preemption.Stopped):
      batching.map_batches(function, np.arange(6), 2)
    self.assertLen(calls, 1)
    found = batching.map_batches(function, np.arange(6), 2, interruptible=False)
    np.testing.assert_array_equal(found, np.arange(6))


if __name__ == "__main__":
  absltest.main()
