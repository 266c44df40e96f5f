"""Error-minimising noise: by hand, in its ball, resumed to the same bits."""

import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import (
  attacks,
  error_minimising,
  error_minimising_step,
  evaluate,
  models,
)
from robust_features.attacks import losses
from robust_features.data import constructed
from robust_features.runtime import preemption
from robust_features.runtime.checkpoint import Checkpoints

EPS = 8 / 255
CFG = error_minimising.ErrorMinimisingConfig(
  attacks.AttackConfig("linf", EPS, EPS / 4, 3, keep_best=False),
  train_steps=3, train_batch_size=8, learning_rate=0.05, momentum=0.9,
  weight_decay=1e-3, stop_error=0.05, max_rounds=30, pixels="uint8",
  batch_size=16, shard_size=10,
)  # fmt: skip


def softmax(z):
  z = np.exp(z - z.max(axis=1, keepdims=True))
  return z / z.sum(axis=1, keepdims=True)


class ByHandTest(absltest.TestCase):
  def test_two_rounds_of_a_linear_network(self):
    """Momentum, decay, order and signed steps, in numpy."""
    data = toys.dataset(20, num_classes=3, size=4, dtype=np.float32)
    cfg = dataclasses.replace(
      CFG, max_rounds=2, stop_error=0.0, pixels="float32"
    )
    model, key = toys.Linear(3), jax.random.key(5)
    folder = toys.folder(self)
    found = error_minimising.make(cfg, model, data, folder, key, {})
    init, order = (jax.random.fold_in(key, stream) for stream in (0, 1))
    params = error_minimising.begin(cfg, model, data, init).params
    weights = {k: np.asarray(v, np.float64) for k, v in params.items()}
    speed = {k: np.zeros_like(v) for k, v in weights.items()}
    x = data.images.reshape(20, -1).astype(np.float64)
    noisy, onehot, step = x.copy(), np.eye(3)[data.labels], 0

    def wrongness(rows):
      logits = rows @ weights["kernel"] + weights["bias"]
      return softmax(logits), logits

    for record in found.history:
      for _ in range(3):
        epoch = jax.random.fold_in(order, step // 2)
        rows = np.asarray(jax.random.permutation(epoch, 20))
        rows = rows[step % 2 * 8 :][:8]
        away = (wrongness(noisy[rows])[0] - onehot[rows]) / 8
        grads = {"kernel": noisy[rows].T @ away, "bias": away.sum(axis=0)}
        for name, grad in grads.items():
          decayed = grad + 1e-3 * weights[name]
          speed[name] = 0.9 * speed[name] + decayed
          weights[name] = weights[name] - 0.05 * speed[name]
        step += 1
      for _ in range(3):
        grad = (wrongness(noisy)[0] - onehot) @ weights["kernel"].T
        noisy = noisy - EPS / 4 * np.sign(grad)
        noisy = np.clip(np.clip(noisy, x - EPS, x + EPS), 0, 1)
      error = (wrongness(noisy)[1].argmax(axis=1) != data.labels).mean()
      self.assertAlmostEqual(record["error"], error)
    stored = constructed.load(folder / "data")
    np.testing.assert_allclose(stored.images.reshape(20, -1), noisy, atol=1e-5)
    np.testing.assert_allclose(
      found.variables["params"]["kernel"], weights["kernel"], atol=1e-5
    )


class StreamsTest(absltest.TestCase):
  """Of the key come the order, and what is random in the network, by step."""

  def test_a_round_draws_by_its_steps(self):
    data = toys.dataset(10, size=4, dtype=np.float32)
    model = models.from_linen(toys.Dropping())
    cfg = dataclasses.replace(
      CFG, train_steps=2, train_batch_size=4, learning_rate=0.0
    )
    begun = error_minimising_step.begin(cfg, model, data, jax.random.key(0))
    state = begun._replace(step=jnp.int32(3))  # The second of its epoch.
    order, drops = jax.random.key(1), jax.random.key(2)
    labels = jnp.asarray(data.labels)
    after, loss = error_minimising_step.train(
      state, labels, order, drops, model=model, cfg=cfg
    )
    self.assertEqual(int(after.step), 5)
    want = []
    for step in (3, 4):
      epoch = jax.random.fold_in(order, step // 2)
      rows = jax.random.permutation(epoch, 10)[step % 2 * 4 :][:4]
      outputs, _ = models.apply_in_training(
        model, begun.variables, begun.images[rows],
        jax.random.fold_in(drops, step),
      )  # fmt: skip
      want.append(losses.cross_entropy(outputs.logits, labels[rows]).mean())
    np.testing.assert_allclose(loss, np.mean(want), rtol=1e-5)

  def test_which_key_is_whose(self):
    key, data = jax.random.key(9), toys.dataset(8)
    with (
      mock.patch.object(
        error_minimising, "train", side_effect=InterruptedError
      ) as train,
      self.assertRaises(InterruptedError),
    ):
      error_minimising.make(
        CFG, toys.Linear(3), data, toys.folder(self), key, {}
      )
    for stream, given in enumerate(train.call_args.args[2:], start=1):
      want = jax.random.fold_in(key, stream)
      np.testing.assert_array_equal(
        jax.random.key_data(given), jax.random.key_data(want)
      )


class MakeTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data, cls.model = toys.dataset(24), toys.small_cnn()
    cls.folder = toys.class_folder(cls)
    cls.found = cls.make(cls.folder)

  @classmethod
  def make(cls, folder, cfg=CFG, **more):
    return error_minimising.make(
      cfg, cls.model, cls.data, folder, jax.random.key(0), {"a": 1}, **more
    )

  def test_the_set(self):
    made = constructed.load(self.folder / "data")
    np.testing.assert_array_equal(made.labels, self.data.labels)
    self.assertEqual(made.images.dtype, np.uint8)
    away = np.abs(made.images.astype(int) - self.data.images.astype(int))
    self.assertBetween(away.max(), 1, 8)
    manifest = self.found.manifest
    self.assertEqual(len(manifest["shards"]), 3)
    self.assertEqual(manifest["kind"], "error_minimising")
    delta = (made.images / 255.0 - self.data.images / 255.0).reshape(24, -1)
    self.assertAlmostEqual(
      manifest["mean"]["moved_from_original"],
      np.linalg.norm(delta, axis=1).mean(), places=5,
    )  # fmt: skip
    seen = evaluate.accuracy(self.model, self.found.variables, made, 24)
    self.assertAlmostEqual(manifest["mean"]["success"], seen)
    for name in ("card.md", "grid.png", "origin.json"):
      self.assertTrue((self.folder / "data" / name).exists())

  def test_it_ends_at_the_error_that_is_wanted(self):
    errors = [record["error"] for record in self.found.history]
    rounds = [record["round"] for record in self.found.history]
    self.assertEqual(rounds, list(range(1, len(errors) + 1)))
    self.assertTrue(self.found.reached)
    self.assertLessEqual(errors[-1], CFG.stop_error)
    self.assertGreater(min(errors[:-1]), CFG.stop_error)
    self.assertLess(len(errors), CFG.max_rounds)

  def test_or_after_so_many_rounds(self):
    cfg = dataclasses.replace(CFG, max_rounds=1)
    found = self.make(toys.folder(self), cfg)
    self.assertFalse(found.reached)
    self.assertLen(found.history, 1)
    self.assertEqual(found.history, self.found.history[:1])

  def test_at_that_error_it_is_done(self):
    first = self.found.history[:1]
    cfg = dataclasses.replace(CFG, stop_error=first[0]["error"])
    found = self.make(toys.folder(self), cfg)
    self.assertTrue(found.reached)
    self.assertEqual(found.history, first)

  def test_data_or_a_network_that_do_not_fit(self):
    wrong = dataclasses.replace(self.data, labels=self.data.labels + 1)
    with self.assertRaisesRegex(ValueError, r"labels must lie in \[0, 3\)"):
      error_minimising.make(
        CFG, self.model, wrong, toys.folder(self), jax.random.key(0), {}
      )
    with self.assertRaisesRegex(ValueError, "gives 4 logits, but .* 3 classes"):
      error_minimising.make(
        CFG, toys.Linear(4), self.data, toys.folder(self), jax.random.key(0), {}
      )

  def test_a_stop_amid_a_round_goes_on_to_the_same_bits(self):
    self.addCleanup(preemption.reset)
    folder = toys.folder(self)
    descend, calls = error_minimising.descend, []

    def stopping(*args):
      calls.append(args)
      if len(calls) == 3:  # The first of two batches of the second round.
        preemption.request()
      return descend(*args)

    with (
      mock.patch.object(error_minimising, "descend", stopping),
      self.assertRaises(preemption.Stopped),
    ):
      self.make(folder)
    self.assertFalse((folder / "data").exists())
    saved = [path.name for path in (folder / "checkpoints").glob("[0-9]*")]
    self.assertEqual(saved, ["1"])
    preemption.reset()
    found = self.make(folder)
    self.assertEqual(found.history, self.found.history)
    self.assertEqual(found.manifest["sha256"], self.found.manifest["sha256"])

  def test_a_finished_run_computes_nothing(self):
    with mock.patch.object(
      error_minimising, "train", side_effect=AssertionError
    ):
      found = self.make(self.folder)
    self.assertEqual(found.manifest["sha256"], self.found.manifest["sha256"])
    # Of all sittings, though this one took next to none.
    with Checkpoints(self.folder / "checkpoints", read_only=True) as before:
      self.assertGreater(found.seconds, before.restore()[1]["seconds"])

  def test_a_loss_that_is_not_finite(self):
    cfg = dataclasses.replace(CFG, learning_rate=1e30)
    with self.assertRaisesRegex(ValueError, "not finite in round 1; lower lea"):
      self.make(toys.folder(self), cfg)

  def test_the_record_is_json(self):
    history = self.found.history
    self.assertEqual(json.loads(json.dumps(history)), history)


class SettingsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"train_steps": 0}, "train_steps must be at least 1, got 0"),
    ({"max_rounds": 0}, "max_rounds must be at least 1"),
    ({"learning_rate": float("nan")}, "learning_rate must be a finite"),
    ({"learning_rate": -0.1}, "learning_rate must be a finite number >= 0"),
    ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ({"stop_error": 1.0}, r"stop_error must be in \[0, 1\), got 1.0"),
    ({"pixels": "uint16"}, "pixels must be 'uint8' or 'float32', got 'uint16'"),
  )
  def test_refused(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(CFG, **fields)

  @parameterized.parameters(
    ({"eps": 0.0}, "attack.eps must be above 0 and finite, got 0"),
    ({"eps": float("inf")}, "attack.eps must be above 0 and finite, got inf"),
    ({"num_steps": 0}, "attack.num_steps must be at least 1"),
    ({"start": "random"}, "attack.start must be 'x' and .* got 'random' and 1"),
    ({"num_restarts": 2}, "got 'x' and 2"),
  )
  def test_attacks_refused(self, fields, message):
    attack = dataclasses.replace(CFG.attack, **fields)
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(CFG, attack=attack)

  def test_too_few_images(self):
    with self.assertRaisesRegex(
      ValueError, "train_batch_size is 8, more than the 7 images"
    ):
      error_minimising.check_fit(CFG, 7, (8, 8, 3))
    error_minimising.check_fit(CFG, 8, (8, 8, 3))

  def test_a_radius_beyond_the_box(self):
    attack = dataclasses.replace(CFG.attack, norm="l2", eps=99.0)
    cfg = dataclasses.replace(CFG, attack=attack)
    with self.assertRaisesRegex(ValueError, "attack.eps is 99, larger than"):
      error_minimising.check_fit(cfg, 8, (8, 8, 3))


if __name__ == "__main__":
  absltest.main()
