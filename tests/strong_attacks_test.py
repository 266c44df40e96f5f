"""AutoAttack and CW-l2 on a data set: closed form, interruption, records."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, recipes, strong_attacks
from robust_features.attacks import autoattack
from robust_features.data import dataset as ds
from robust_features.runtime import preemption, sharding
from robust_features.study import run

SMALL = autoattack.Budget(num_steps=10, num_targets=2, num_queries=20)


def config(**changes):
  fields = {"norm": "l2", "eps": (0.02, 0.05), "attacks": ("apgd-t", "square"),
            "budget": SMALL, "batch_size": 8}  # fmt: skip
  return strong_attacks.AutoAttackConfig(**(fields | changes))


def problem(num=24):
  """Returns (model, variables, data, distance `[N]` to the boundary)."""
  rng = np.random.default_rng(0)
  x = rng.uniform(0.4, 0.6, (num, 4, 4, 3)).astype(np.float32)
  kernel = rng.normal(size=(48, 3))
  variables = toys.linear_variables(kernel, -0.5 * kernel.sum(axis=0))
  logits = x.reshape(num, -1) @ kernel - 0.5 * kernel.sum(axis=0)
  y = logits.argmax(1)
  y[:2] = (y[:2] + 1) % 3  # Wrong to begin with.
  gaps = logits[np.arange(num), y][:, None] - logits
  slopes = kernel[:, y].T[:, :, None] - kernel[None]  # [N, D, K]
  sizes = np.sqrt(np.square(slopes).sum(1))
  others = np.arange(3)[None] != y[:, None]
  distances = np.where(others, gaps / np.where(others, sizes, 1), np.inf)
  return toys.Linear(3), variables, ds.make(x, y, 3), distances.min(1)


class AutoAttackTest(parameterized.TestCase):
  def run_it(self, directory=None, **changes):
    model, variables, data, _ = problem()
    return strong_attacks.auto_attack(
      model, variables, data, config(**changes), jax.random.key(0),
      directory or toys.folder(self),
    )  # fmt: skip

  def test_a_linear_model(self):
    *_, distances = problem()
    for row in self.run_it():
      want = (distances > row["eps"]).mean()
      self.assertBetween(want, 0.1, 0.9)
      self.assertAlmostEqual(row["robust_accuracy"], want)
      self.assertAlmostEqual(row["second_pass_accuracy"], want)
      accuracy = row["accuracy"]
      self.assertAlmostEqual(accuracy["clean"], 22 / 24)
      self.assertEqual(accuracy["square"], row["robust_accuracy"])
      self.assertLessEqual(accuracy["square"], accuracy["apgd-t"])
      # Fewer than four classes: the margin instead of DLR, exact here.
      self.assertLen(row["warnings"], 1)
      self.assertNotIn("x_adv", row)

  def test_what_every_radius_is_given(self):
    """One key, a folder each; a signal is heard without waiting for a save."""
    folder = toys.folder(self)
    with (
      mock.patch.object(autoattack, "run") as attack,
      mock.patch.object(strong_attacks, "_row", return_value={}),
    ):
      self.run_it(folder)
    for call, eps in zip(attack.call_args_list, (0.02, 0.05), strict=True):
      how = call.kwargs
      self.assertEqual((how["eps"], how["norm"]), (eps, "l2"))
      self.assertEqual(how["key"], jax.random.key(0))
      self.assertEqual(how["workdir"], folder / f"eps_{eps}")
      self.assertIs(how["save_now"], preemption.pending)
      self.assertEqual(how["sharding"], sharding.over_data())
      # By which what was compiled is found again.
      again = strong_attacks._logits_fn(toys.Linear(3))
      self.assertIs(call.args[0].func, again)

  def test_stopped_at_every_look_and_resumed(self):
    """Every sitting lasts one look longer than the one before."""
    directory, stops = toys.folder(self), 0
    stopped = preemption.Stopped("SIGTERM")
    while True:
      looks = mock.Mock(side_effect=[None] * stops + [stopped])
      try:
        with (
          mock.patch.object(preemption, "requested", return_value=True),
          mock.patch.object(preemption, "check", looks),
        ):
          found = self.run_it(directory)
        break
      except preemption.Stopped:
        stops += 1
        self.assertNotEmpty(list(directory.rglob("progress.npz")))
    self.assertGreater(stops, 2)
    straight = self.run_it()
    for row in (*found, *straight):
      del row["seconds"]
    self.assertEqual(found, straight)

  @parameterized.parameters(
    ({"norm": "l1"}, "norm must be one of"),
    ({"eps": (0.0,)}, "eps must be a finite number > 0"),
    ({"eps": ("8/255",)}, "eps must be a tuple of numbers"),
    ({"attacks": ("pgd",)}, "attacks must be distinct names"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
  )
  def test_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      config(**changes)


class StageTest(absltest.TestCase):
  def test_a_study_with_nothing_else(self):
    folder = toys.folder(self)
    toy_study.write_npz(folder)
    found = toy_study.config(folder)
    for name in list(found.stages):
      if name != "base":
        del found.stages[name]
    found.table = ()
    stage = recipes.autoattack_stage("base", "linf", (4 / 255,), num_examples=9)
    self.assertEqual(tuple(stage.autoattack.attacks), autoattack.STANDARD)
    budget = dataclasses.asdict(autoattack.Budget())
    self.assertEqual(stage.autoattack.budget.to_dict(), budget)
    stage.autoattack.attacks = ("apgd-ce",)
    stage.autoattack.budget.num_steps = 2
    found.stages.strong = stage
    with mock.patch.object(ds, "sample", wraps=ds.sample) as sample:
      result = run.run(found, folder / "run")["autoattack"]["strong"]
    # Every class in its share: the first nine may be of one.
    sample.assert_called_once_with(mock.ANY, 9, 3)
    self.assertEqual((result["num_examples"], result["seed"]), (9, 3))
    self.assertEqual(result["budget"]["num_steps"], 2)
    (row,) = result["rows"]
    self.assertAlmostEqual(row["eps"], 4 / 255)
    self.assertAlmostEqual(9 * row["accuracy"]["clean"] % 1, 0)
    self.assertEqual(result["seconds"], row["seconds"]["apgd-ce"])
    kept = folder / "run" / "strong" / "eps_0.0156863" / "progress.npz"
    self.assertTrue(kept.exists())
    self.assertIn("AutoAttack on base, linf",
                  (folder / "run" / "results.md").read_text())  # fmt: skip
    stage.autoattack.eps = (9.0,)
    with self.assertRaisesRegex(
      ValueError, "stages.strong.autoattack.eps is 9"
    ):
      run.run(found, folder / "other")


class NearestErrorsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    # optax.adam raises a float to an integer power.
    self.enter_context(jax.numpy_dtype_promotion("standard"))

  def test_a_linear_model(self):
    model, variables, data, distances = problem(7)
    cfg = attacks.CarliniWagnerConfig(
      num_steps=200, num_searches=6, learning_rate=0.02, initial_c=0.1
    )
    found, bad = strong_attacks.nearest_errors(model, variables, data, cfg, 4)
    self.assertEqual(bad, 0.0)
    want = np.maximum(distances, 0)
    np.testing.assert_allclose(found, want, rtol=0.05, atol=1e-3)

  def test_data_of_more_classes_are_refused_before_it_begins(self):
    model, variables, data, _ = problem(4)
    data = ds.make(data.images, data.labels + 1, 4)
    cfg = attacks.CarliniWagnerConfig()
    with self.assertRaisesRegex(ValueError, "3"):
      strong_attacks.nearest_errors(model, variables, data, cfg, 4)

  def test_a_request_to_stop_is_honoured(self):
    model, variables, data, _ = problem(4)
    cfg = dataclasses.replace(
      attacks.CarliniWagnerConfig(), num_steps=1, num_searches=1
    )
    with (
      mock.patch.object(
        preemption, "check", side_effect=preemption.Stopped("SIGTERM")
      ),
      self.assertRaises(preemption.Stopped),
    ):
      strong_attacks.nearest_errors(model, variables, data, cfg, 4)


if __name__ == "__main__":
  absltest.main()
