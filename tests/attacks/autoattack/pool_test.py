"""Slots that are kept full, with an attack that only counts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks.autoattack import machine, pool

# Example i takes LENGTHS[i] steps, and is broken if that number is odd.
LENGTHS = np.array([3, 1, 7, 2, 9, 1, 1, 4, 2, 5, 1, 6], np.int32)


class BatchTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 2)
  def test_other_types_are_refused(self, which):
    """float32 images and integer classes, as every attack takes them."""
    keys = jax.random.split(jax.random.key(0), 2)
    fields = [
      jnp.zeros((2, 3, 3, 1)), jnp.zeros(2, int), jnp.zeros((2, 1), int),
    ]  # fmt: skip
    self.assertLen(machine.make_batch(*fields, keys).y, 2)
    other = jnp.float16 if which == 0 else jnp.float32
    fields[which] = fields[which].astype(other)
    with self.assertRaises(AssertionError):
      machine.make_batch(*fields, keys)


class State(NamedTuple):
  tally: machine.Tally
  clock: Any


def _init(batch, cfg):
  del cfg
  return State(machine.new_tally(batch.x), jnp.zeros(len(batch.y), jnp.int32))


def _step(logits_fn, batch, state, cfg):
  del logits_fn
  clock = state.clock + cfg["stride"]
  done = clock >= batch.y
  broken = done & (batch.y % 2 == 1)
  tally = state.tally._replace(
    x_adv=jnp.where(broken[:, None, None, None], 1.0 - batch.x, batch.x),
    success=broken, done=done, queries=state.tally.queries + 1,
    gradients=state.tally.gradients + 2,
    zero_gradients=state.tally.zero_gradients + 3,
    nonfinite_gradients=state.tally.nonfinite_gradients + 4,
  )  # fmt: skip
  return State(tally, clock)


ATTACK = machine.Attack(_init, _step)
LOGITS = jax.tree_util.Partial(lambda x: x)


class PoolTest(absltest.TestCase):
  def pool(self, todo, batch_size=4, multiple=1, num_steps=1, cfg=None):
    self.seen = []

    def examples(indices):
      self.seen.append(np.array(indices))
      x = jnp.asarray(indices, jnp.float32)[:, None, None, None] / 100
      return machine.make_batch(
        x, jnp.asarray(LENGTHS[indices]), jnp.zeros((len(indices), 1), int),
        jax.random.split(jax.random.key(0), len(indices)),
      )  # fmt: skip

    return pool.Pool(
      ATTACK, cfg or {"stride": jnp.int32(1)}, LOGITS, examples,
      np.asarray(todo), batch_size=batch_size, multiple=multiple,
      num_steps=num_steps,
    )  # fmt: skip

  def run_all(self, work):
    """Steps to the end; returns what was finished, step by step."""
    found = []
    while (finished := work.step()) is not None:
      found.append(finished)
    return found

  def check(self, found, todo):
    index = np.concatenate([f.index for f in found])
    self.assertCountEqual(index, todo)
    lengths = LENGTHS[index]
    for name, times in (
      ("queries", 1),
      ("gradients", 2),
      ("zero_gradients", 3),
      ("nonfinite_gradients", 4),
    ):
      counts = np.concatenate([getattr(f, name) for f in found])
      np.testing.assert_array_equal(counts, times * lengths)
    success = np.concatenate([f.success for f in found])
    np.testing.assert_array_equal(success, lengths % 2 == 1)
    x_adv = np.concatenate([f.x_adv for f in found]).ravel()
    x = np.float32(index) / np.float32(100)
    np.testing.assert_allclose(x_adv, np.where(success, 1 - x, x), rtol=1e-6)

  def test_every_example_once_whatever_the_slots(self):
    todo = np.arange(len(LENGTHS))
    for batch_size, num_steps in ((4, 1), (4, 3), (8, 1), (12, 2), (32, 100)):
      found = self.run_all(self.pool(todo, batch_size, 1, num_steps))
      self.check(found, todo)

  def test_a_slot_whose_example_is_done_gets_the_next(self):
    work = self.pool([0, 1, 2, 3, 4, 5])
    self.assertEqual(work.num_left, 6)
    self.assertEqual(list(work.step().index), [1])
    np.testing.assert_array_equal(self.seen[0], [0, 1, 2, 3])
    self.assertEqual(work.num_left, 5)
    self.assertEqual(list(work.step().index), [3])
    np.testing.assert_array_equal(self.seen[1], [0, 4, 2, 3])
    self.assertEqual(list(work.step().index), [0, 5])
    np.testing.assert_array_equal(self.seen[2], [0, 4, 2, 5])
    # Nothing is left to refill with, and a third of four is not idle enough.
    self.assertEmpty(work.step().index)
    self.assertLen(self.seen, 3)
    self.assertEqual(work.num_left, 2)
    self.check(self.run_all(work), [2, 4])
    self.assertIsNone(work.step())

  def test_what_is_left_moves_to_fewer_slots(self):
    todo = np.arange(12)
    work = self.pool(todo, batch_size=32)
    sizes, found = [], []
    while (finished := work.step()) is not None:
      sizes.append(len(work._index))
      found.append(finished)
    # 12 slots for 12; 8 as soon as they save a third, and no fewer.
    self.assertEqual(sizes, [12, 8, 8, 8, 8, 8, 8, 8, 8])
    self.check(found, todo)

  def test_a_quarter_is_not_idle_enough(self):
    """Nor is anything, while there are more to come."""
    work = self.pool([*range(12), 4, 4, 4, 4], batch_size=32)
    sizes = []
    while work.step() is not None:
      sizes.append(len(work._index))
    # 12, 10 and 9 are left after the steps; 8 save a third of 16, 12 do not.
    self.assertEqual(sizes[:6], [16, 16, 16, 16, 8, 8])
    work = self.pool(2 * [1, 5, 6, 10] + 16 * [4], batch_size=12)
    self.assertLen(work.step().index, 8)
    self.assertEqual(len(work.step().index), 0)
    self.assertLen(work._index, 12)

  def test_idle_slots_compute_on_some_other_image(self):
    work = self.pool([2, 4], batch_size=8)
    work.step()
    np.testing.assert_array_equal(self.seen[0], [2, 4] + 6 * [2])

  def test_restored_goes_on(self):
    for batch_size, multiple in ((4, 1), (8, 1), (3, 3)):
      work = self.pool(np.arange(12))
      before = [work.step() for _ in range(2)]
      arrays = work.arrays()
      again = self.pool([], batch_size, multiple)
      again.restore(arrays)
      self.assertEqual(again.num_left, work.num_left)
      after = self.run_all(again)
      self.check([*before, *after], np.arange(12))
      straight = self.run_all(work)
      if multiple == 1:
        self.assertLen(after, len(straight))
        for one, other in zip(after, straight, strict=True):
          np.testing.assert_array_equal(one.index, other.index)

  def test_what_was_under_way_begins_again_in_order(self):
    """Where the devices do not divide the slots, or there are too many."""
    arrays = {"slot_index": np.array([5, -1, 2, 7]), "todo": np.array([9, 8])}
    for batch_size, multiple in ((3, 3), (2, 1), (8, 3)):
      work = self.pool([], batch_size, multiple)
      work.restore(arrays)
      self.assertEqual(list(work._todo), [2, 5, 7, 8, 9])
      self.assertTrue((work._index == -1).all())
      self.assertEqual(work.num_left, 5)
      self.check(self.run_all(work), [2, 5, 7, 8, 9])
    work = self.pool([])
    work.restore({"slot_index": np.full(4, -1), "todo": np.array([3])})
    self.check(self.run_all(work), [3])

  def test_slots_that_fit_are_taken_over(self):
    """Of three at most there are four, where there are four devices."""
    work = self.pool(np.arange(12))
    work.step()
    again = self.pool([], batch_size=3, multiple=4)
    again.restore(work.arrays())
    np.testing.assert_array_equal(again._index, work._index)
    self.check(self.run_all(again), work._todo.tolist()
               + work._index[work._index >= 0].tolist())  # fmt: skip

  def test_numbers_of_slots(self):
    """(examples, batch size, devices): rounds of one size, few slots idle."""
    for args, want in (
      ((40, 32), 20), ((64, 32), 32), ((65, 32), 24), ((33, 32), 20),
      ((5, 32), 8), ((12, 32), 12), ((13, 32), 16), ((0, 32), 8), ((9, 4), 4),
      ((1, 2), 2), ((10, 6), 6), ((12, 32, 3), 12), ((13, 32, 3), 18),
      ((10, 32, 8), 16), ((2, 3, 4), 4),
    ):  # fmt: skip
      self.assertEqual(pool.num_slots(*args), want, args)

  def test_rounding_up(self):
    for count, multiple, want in ((0, 4, 0), (1, 4, 4), (4, 4, 4), (5, 4, 8)):
      self.assertEqual(pool.round_up(count, multiple), want)


class MachineTest(absltest.TestCase):
  def test_select_is_of_examples(self):
    mask = jnp.array([True, False])
    new, old = ({"a": jnp.full((2, 3), v), "b": jnp.full(2, v)} for v in (1, 0))
    found = machine.select(mask, new, old)
    np.testing.assert_array_equal(found["a"], [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(found["b"], [1, 0])

  def test_predictions_and_targets(self):
    logits = jnp.array(
      [[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 1.0, 4.0], [9.0, jnp.nan, 0.0, 0.0]]
    )
    y = jnp.array([0, 3, 0], jnp.int32)  # NaN is the largest, to argmax.
    np.testing.assert_array_equal(
      machine.misclassified(logits, y), [False, True, False]
    )
    found = machine.likeliest_targets(logits[:2], y[:2], 2)
    np.testing.assert_array_equal(found, [[2, 1], [1, 2]])
    self.assertEqual(found.dtype, jnp.int32)

  def test_a_tally_begins_at_the_image_and_with_nothing(self):
    x = jnp.full((2, 1, 1, 1), 0.25)
    found = machine.new_tally(x)
    np.testing.assert_array_equal(found.x_adv, x)
    for leaf in found[1:]:
      np.testing.assert_array_equal(leaf, [0, 0])

  def test_steps_are_counted_and_what_is_done_stays(self):
    batch = machine.make_batch(
      jnp.zeros((3, 1, 1, 1)), jnp.array([1, 2, 5]), jnp.zeros((3, 1), int),
      jax.random.split(jax.random.key(0), 3),
    )  # fmt: skip
    cfg = {"stride": jnp.int32(1)}
    whole = machine.run_to_end(ATTACK, LOGITS, batch, cfg)
    np.testing.assert_array_equal(whole.clock, [1, 2, 5])
    np.testing.assert_array_equal(whole.tally.queries, [1, 2, 5])
    state = ATTACK.init(batch, cfg)
    for steps, want in ((1, [1, 1, 1]), (2, [1, 2, 3]), (9, [1, 2, 5])):
      state = machine.advance(ATTACK, LOGITS, batch, state, cfg, steps)
      np.testing.assert_array_equal(state.clock, want)


if __name__ == "__main__":
  absltest.main()
