"""What an evaluation counts, prints and keeps on disk."""

import dataclasses
import time
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest

from robust_features.attacks.autoattack import pool, progress, result

X = np.linspace(0, 1, 4 * 3, dtype=np.float32).reshape(4, 1, 1, 3)
Y = np.array([0, 1, 2, 0])
LOGITS = np.array(
  [[3.0, 1.0, 0.0], [0.0, 5.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
)


def begin(**kwargs):
  return progress.Progress.begin({"eps": 0.5}, LOGITS, X, Y, 2, **kwargs)


def finished():
  """Returns examples 1, of which an attack was tired, and 2, broken."""
  return pool.Finished(
    np.array([1, 2]), np.array([False, True]), 1 - X[1:3], np.array([10, 20]),
    np.array([1, 2]), np.array([0, 7]), np.array([3, 2]),
  )  # fmt: skip


class ProgressTest(absltest.TestCase):
  def test_the_beginning(self):
    found = begin()
    want = [True, True, True, False]
    np.testing.assert_array_equal(found.correct, want)
    np.testing.assert_array_equal(found.robust, want)
    np.testing.assert_array_equal(found.broken_by, [-1] * 4)
    np.testing.assert_array_equal(found.x_adv, X)
    for name in ("accuracy", "queries", "gradients", "zero_gradients",
                 "nonfinite_gradients", "seconds"):  # fmt: skip
      np.testing.assert_array_equal(getattr(found, name), [0, 0])
    self.assertEqual((found.num_done, found.every_s), (0, 30.0))
    self.assertIsNone(found.path)
    self.assertFalse(found.load())
    found.robust[0] = False
    self.assertTrue(found.correct[0])
    self.assertEqual(found.broken_by.dtype, np.int32)
    for name in ("queries", "gradients", "zero_gradients",
                 "nonfinite_gradients"):  # fmt: skip
      self.assertEqual(getattr(found, name).dtype, np.int64)

  def test_of_another_model(self):
    path = toys.folder(self) / progress.FILE
    begin(path=path).save({})
    other = progress.Progress.begin({"eps": 0.5}, LOGITS + 1, X, Y, 2,
                                    path=path)  # fmt: skip
    with self.assertRaisesRegex(ValueError, "progress of another model"):
      other.load()

  def test_what_is_recorded(self):
    found = begin()
    with mock.patch.object(time, "monotonic", return_value=12.5):
      found.record(1, finished(), 10.0)
      found.record(1, finished(), 12.0)
    np.testing.assert_array_equal(found.robust, [True, True, False, False])
    np.testing.assert_array_equal(found.correct, [True, True, True, False])
    np.testing.assert_array_equal(found.broken_by, [-1, -1, 1, -1])
    np.testing.assert_array_equal(found.x_adv[2], 1 - X[2])
    np.testing.assert_array_equal(found.x_adv[:2], X[:2])
    for name, want in (("queries", 60), ("gradients", 6),
                       ("zero_gradients", 2), ("nonfinite_gradients", 4),
                       ("seconds", 3.0)):  # fmt: skip
      np.testing.assert_array_equal(getattr(found, name), [0, want])
    found.finish_attack(1)
    np.testing.assert_array_equal(found.accuracy, [0, 0.5])
    self.assertEqual(found.num_done, 2)

  def test_the_file(self):
    path = toys.folder(self) / progress.FILE
    first = begin(path=path)
    first.record(0, finished(), time.monotonic())
    first.finish_attack(0)
    first.save({"todo": np.array([3, 1])})
    again = begin(path=path)
    self.assertTrue(again.load())
    self.assertEqual(again.num_done, 1)
    for field in dataclasses.fields(first):
      one, other = getattr(first, field.name), getattr(again, field.name)
      np.testing.assert_array_equal(one, other)
    work = mock.Mock()
    again.restore_pool(work)
    ((arrays,), _) = work.restore.call_args
    self.assertEqual(list(arrays), ["todo"])
    np.testing.assert_array_equal(arrays["todo"], [3, 1])
    again.restore_pool(work)  # Once.
    work.restore.assert_called_once()
    # The end of an attack leaves no slots behind.
    first.finish_attack(1)
    again.load()
    again.restore_pool(work)
    work.restore.assert_called_once()

  def test_whose_it_is(self):
    path = toys.folder(self) / progress.FILE
    begin(path=path).save({})
    for identity, message in (
      ({"eps": 0.25}, "with other eps: 0.5, got 0.25"),
      ({"eps": 0.5, "key": 1}, "with other key: None, got 1"),
      ({}, "with other eps: 0.5, got None"),
    ):
      other = begin(path=path)
      other.identity = identity
      with self.assertRaisesRegex(ValueError, message):
        other.load()

  def test_a_thousandth_of_the_spread_is_rounding(self):
    # Spreads of 3, 5, 2 and 1: the last one's thousandth is the finest.
    for row, away, same in ((3, 0.9e-3, True), (3, 1.1e-3, False),
                            (0, 2.9e-3, True), (0, 3.1e-3, False)):  # fmt: skip
      other = LOGITS.copy()
      other[row, 1] += away
      self.assertEqual(progress._same_predictions(LOGITS, other), same)
    self.assertTrue(progress._same_predictions(LOGITS, LOGITS.copy()))
    constant = np.ones((2, 3))
    self.assertTrue(progress._same_predictions(constant, constant))
    self.assertFalse(progress._same_predictions(LOGITS, LOGITS[:3]))

  def test_saves_are_due_after_so_many_seconds(self):
    with mock.patch.object(time, "monotonic") as clock:
      clock.return_value = 100.0
      found = begin(every_s=30.0)
      for now, due in ((100.0, False), (129.0, False), (130.0, True)):
        clock.return_value = now
        self.assertEqual(found.is_due(), due)
      found.save({})
      self.assertFalse(found.is_due())

  def test_identity(self):
    key = jax.random.key(7)
    found = progress.identity({"w": X}, X, Y, key, eps=0.5)
    self.assertEqual(found["eps"], 0.5)
    self.assertEqual(
      found["key"], np.asarray(jax.random.key_data(key)).tolist()
    )
    for name, other in (
      ("model", progress.identity({"w": X + 1}, X, Y, key)),
      ("images", progress.identity({"w": X}, X / 2, Y, key)),
      ("labels", progress.identity({"w": X}, X, Y + 1, key)),
      ("key", progress.identity({"w": X}, X, Y, jax.random.key(8))),
    ):
      differ = {n for n in ("model", "images", "labels", "key")
                if other[n] != found[n]}  # fmt: skip
      self.assertEqual(differ, {name})


class ResultTest(absltest.TestCase):
  def test_summary(self):
    found = result.AutoAttackResult(
      norm="l2", eps=0.5, x_adv=X, robust=np.array([True, False, False, False]),
      broken_by=np.array([-1, 0, 0, -1]),
      accuracy={"clean": 0.75, "square": 0.25},
      second_pass_accuracy=0.5, max_perturbation=0.49999999,
      queries={"square": 12345}, gradients={"square": 67},
      zero_gradients={"square": 0}, nonfinite_gradients={"square": 0},
      seconds={"square": 1.25}, warnings=("one", "two"),
    )  # fmt: skip
    self.assertEqual(found.robust_accuracy, 0.25)
    self.assertEqual(
      found.summary(),
      "AutoAttack l2, eps 0.5, 4 images\n"
      "  clean      75.00%\n"
      "  square     25.00%       12,345 queries          67 gradients"
      "       1.2 s\n"
      "  evaluated again: 50.00%\n"
      "  largest perturbation: 0.5\n"
      "  warning: one\n"
      "  warning: two",
    )


if __name__ == "__main__":
  absltest.main()
