"""Robust accuracy against closed forms, and what must not change it."""

import dataclasses
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, evaluate, models
from robust_features.data import dataset as ds
from robust_features.models import Outputs
from robust_features.runtime import preemption
from robust_features.runtime.measured import Measured


def config(**changes):
  fields = {
    "norm": "l2", "eps": (0.1,), "num_steps": 10, "step_ratio": 2.0,
    "num_restarts": 1, "loss": "cross_entropy", "bn_mode": "running",
    "batch_size": 16,
  }  # fmt: skip
  return evaluate.EvaluateConfig(**(fields | changes))


def linear_problem(num=53, shape=(3, 3, 1), seed=0):
  """Returns model, variables, data and the signed margins w x + b.

  Images stay far enough from the box's sides for it not to matter.
  """
  rng = np.random.default_rng(seed)
  w = rng.normal(size=(np.prod(shape), 1)).astype(np.float32)
  x = rng.uniform(0.4, 0.6, (num, *shape)).astype(np.float32)
  flat = x.reshape(num, -1)
  b = -float(np.median(flat @ w))
  variables = toys.linear_variables(np.hstack([-w / 2, w / 2]), [-b / 2, b / 2])
  margin = flat.astype(np.float64) @ w.astype(np.float64) + b
  y = (margin[:, 0] > 0).astype(np.int64)
  wrong = rng.random(num) < 0.2
  y[wrong] = 1 - y[wrong]
  signed = np.where(y == 1, margin[:, 0], -margin[:, 0])
  return toys.Linear(2), variables, ds.make(x, y, 2), signed, w


def cnn_problem(num=40):
  model = toys.small_cnn()
  variables = models.init_variables(model, jax.random.key(0), (8, 8, 3))
  return model, variables, toys.dataset(num)


def run(model, variables, data, cfg, seed=0):
  return evaluate.evaluate(model, variables, data, cfg, jax.random.key(seed))


class ClosedFormTest(parameterized.TestCase):
  @parameterized.product(
    norm=("l2", "linf"), loss=("cross_entropy", "cw_margin")
  )
  def test_linear_classifier(self, norm, loss):
    """It is robust where the margin exceeds eps times the dual norm."""
    model, variables, data, signed, w = linear_problem()
    dual = np.linalg.norm(w) if norm == "l2" else np.abs(w).sum()
    distance = signed / dual
    ordered = np.sort(distance[distance > 0])
    # Half-way between two examples' distances, not to depend on rounding.
    eps = tuple(float(ordered[i : i + 2].mean()) for i in (5, 15, 30))
    found = run(model, variables, data, config(norm=norm, eps=eps, loss=loss))
    self.assertEqual(found.accuracy, (signed > 0).mean())
    self.assertLess(found.accuracy, 0.95)
    seen = (signed > 0) == (data.labels == 1)
    confusion = [[((data.labels == y) & (seen == z)).sum() for z in (0, 1)]
                 for y in (0, 1)]  # fmt: skip
    self.assertEqual(found.confusion, confusion)
    for radius in eps:
      robust = distance > radius
      self.assertEqual(found.robust_accuracy[radius], robust.mean())
      by_class = [robust[data.labels == c].mean() for c in (0, 1)]
      np.testing.assert_allclose(
        found.class_robust_accuracy[radius], by_class, rtol=1e-12
      )
    self.assertEqual(found.num_examples, 53)

  def test_classes_that_the_data_lack_are_seen(self):
    """A model of more logits: what it sees is counted in a further column."""
    images = np.zeros((4, 2, 2, 1), np.float32)
    images[1] = 0.5
    variables = toys.linear_variables([[0, 0, 1]] * 4, [0.5, 0.0, 0.0])
    data = ds.make(images, np.array([0, 0, 1, 1]), 2)
    found = run(toys.Linear(3), variables, data, config(eps=()))
    self.assertEqual(found.confusion, [[1, 0, 1], [2, 0, 0], [0, 0, 0]])

  def test_step_sweep(self):
    model, variables, data, signed, w = linear_problem()
    distance = signed / np.linalg.norm(w)
    eps = float(np.sort(distance[distance > 0])[20:22].mean())
    rows = evaluate.step_sweep(
      model, variables, data, config(eps=(eps, 9 * eps)), jax.random.key(0),
      steps=(0, 1, 4), step_ratios=(0.25, 1.0),
    )  # fmt: skip
    self.assertEqual([row["num_steps"] for row in rows], [0, 1, 4])
    self.assertEqual(rows[0]["robust_accuracy"], (signed > 0).mean())
    for row in rows[1:]:
      # A quarter of the radius is not enough, the whole of it is.
      self.assertEqual(row["step_ratio"], 1.0)
      self.assertEqual(row["robust_accuracy"], (distance > eps).mean())


class InvarianceTest(parameterized.TestCase):
  def test_radii_in_any_order_give_a_decreasing_curve(self):
    model, variables, data = cnn_problem()
    cfg = config(eps=(0.5, 0.0, 0.1, 1.5), num_steps=3)
    found = run(model, variables, data, cfg)
    radii = list(found.robust_accuracy)
    self.assertEqual(radii, [0.0, 0.1, 0.5, 1.5])
    values = list(found.robust_accuracy.values())
    self.assertEqual(values, sorted(values, reverse=True))
    self.assertEqual(values[0], found.accuracy)
    self.assertLessEqual(values[-1], found.accuracy)

  def test_a_weak_attack_at_a_large_radius_does_not_undo_a_smaller_one(self):
    # Without steps nothing is found at 1.5; what broke at 0.5 stays broken.
    model, variables, data, _, _ = linear_problem()
    found = run(model, variables, data, config(eps=(0.5, 1.5), step_ratio=0.0))
    self.assertEqual(found.robust_accuracy[0.5], found.accuracy)
    strong = run(model, variables, data, config(eps=(0.5,)))
    self.assertLess(strong.robust_accuracy[0.5], found.accuracy)

  def test_the_batch_size_and_its_padding_change_nothing(self):
    model, variables, data, signed, w = linear_problem()
    eps = float(np.median(np.abs(signed)) / np.linalg.norm(w))
    found = [
      run(model, variables, data,
          config(eps=(eps,), num_restarts=2, num_steps=2, batch_size=size))
      for size in (7, 16, 1000)
    ]  # fmt: skip
    for other in found[1:]:
      self.assertEqual(other.robust_accuracy, found[0].robust_accuracy)
      self.assertEqual(
        other.class_robust_accuracy, found[0].class_robust_accuracy
      )
      self.assertEqual(other.attack, found[0].attack)

  def test_logits_do_not_depend_on_the_batch(self):
    model, variables, data = cnn_problem(21)
    whole = evaluate.predict(model, variables, data.images, 1000)
    parts = evaluate.predict(model, variables, data.images, 4)
    self.assertEqual(whole.shape, (21, 3))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
    floats = (data.images / 255).astype(np.float32)
    again = evaluate.predict(model, variables, floats, 1000)
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5)

  def test_bn_mode_is_that_of_the_attack_not_of_the_verdict(self):
    """The attack climbs a model that is right where the judged one is wrong."""

    class Contrary(toys.Linear):
      def __call__(self, x, *, bn_mode="running", fake_relu=False):
        found = super().__call__(x)
        sign = 1.0 if bn_mode == "running" else -1.0
        return Outputs(sign * found.logits, found.representation)

    _, variables, data, _, _ = linear_problem()
    cfg = config(eps=(0.5,), num_steps=3)
    found = run(Contrary(2), variables, data, cfg)
    self.assertLess(found.robust_accuracy[0.5], found.accuracy)
    batch = dataclasses.replace(cfg, bn_mode="batch")
    found = run(Contrary(2), variables, data, batch)
    self.assertEqual(found.robust_accuracy[0.5], found.accuracy)

  def test_restarts_are_made(self):
    """From the image no gradient leads on; from random points some do."""

    class Plateau(nn.Module):
      def __call__(self, x, *, bn_mode="running", fake_relu=False):
        del bn_mode, fake_relu
        climb = jax.nn.relu(x.sum(axis=(1, 2, 3)) - 6.02)
        logits = jnp.stack([jnp.full_like(climb, 0.1), climb], axis=1)
        return Outputs(logits, climb[:, None])

    images = np.full((24, 2, 2, 3), 0.5, np.float32)
    data = ds.make(images, np.zeros(24, np.int32), 2)
    cfg = config(num_steps=3, eps=(0.2,))
    one = run(Plateau(), {}, data, cfg)
    self.assertEqual(one.robust_accuracy[0.2], 1.0)
    self.assertEqual(one.attack["zero_gradient_fraction"], 1.0)
    many = run(Plateau(), {}, data, dataclasses.replace(cfg, num_restarts=6))
    self.assertLess(many.robust_accuracy[0.2], 0.3)
    self.assertEqual(many.attack["gradients"], 18)

  def test_an_example_s_key_is_of_its_index(self):
    """Whatever its place in the batch, and whoever broke before."""

    class Bright(nn.Module):
      def __call__(self, x, *, bn_mode="running", fake_relu=False):
        del bn_mode, fake_relu
        logits = jnp.stack([jnp.full(len(x), 0.5), x[:, 0, 0, 0]], axis=1)
        return Outputs(logits, logits)

    def maximize(objective, x, keys, cfg, **unused):
      del objective, unused
      draws = jax.vmap(jax.random.uniform)(keys) * (cfg.eps / 0.2)
      none = jnp.zeros(len(x), jnp.int32)
      x_adv = jnp.broadcast_to(draws[:, None, None, None], x.shape)
      return attacks.AttackResult(x_adv, draws - 0.5, none, none)

    labels = np.zeros(24, np.int32)
    labels[::5] = 1  # Wrong to begin with.
    data = ds.make(np.zeros((24, 2, 2, 1), np.float32), labels, 2)
    with mock.patch.object(evaluate.attacks, "maximize", maximize):
      for seed, size in ((0, 24), (0, 10), (1, 10)):
        cfg = config(eps=(0.1, 0.2), num_steps=3, batch_size=size)
        found = run(Bright(), {}, data, cfg, seed)
        keys = attacks.example_keys(jax.random.key(seed), jnp.arange(24))
        draws = np.asarray(jax.vmap(jax.random.uniform)(keys))
        for eps in cfg.eps:
          robust = (labels == 0) & (draws * (eps / 0.2) <= 0.5)
          self.assertEqual(found.robust_accuracy[eps], robust.mean())

  def test_a_class_without_images_has_no_accuracy(self):
    model, variables, data, _, _ = linear_problem()
    only = ds.take(data, np.flatnonzero(data.labels == 1))
    found = run(model, variables, only, config(eps=(0.1,)))
    self.assertIsNone(found.class_robust_accuracy[0.1][0])
    self.assertGreater(found.class_robust_accuracy[0.1][1], 0)


class StopTest(parameterized.TestCase):
  """What is broken is not attacked on, and no verdict changes."""

  @parameterized.parameters(
    ("l2", "cross_entropy", (0.05, 0.5)), ("linf", "dlr", (0.004, 0.04)),
  )  # fmt: skip
  def test_verdicts_are_those_of_the_whole_attack(self, norm, loss, eps):
    model, variables, data = cnn_problem(num=60)
    # Logits as large as a trained network's, and labels that it predicts.
    head = variables["params"]["linear"]
    head["kernel"] = 40 * head["kernel"]
    predicted = evaluate.predict(model, variables, data.images, 16).argmax(1)
    data = ds.make(data.images, predicted, 3)
    cfg = config(norm=norm, loss=loss, eps=eps, num_steps=20, num_restarts=2)
    calls = []

    def counted(*args, **kwargs):
      calls.append(int(kwargs["cfg"].num_steps))
      return attack(*args, **kwargs)

    attack = evaluate._attack
    with mock.patch.object(evaluate, "_attack", counted):
      found = run(model, variables, data, cfg)
    self.assertEqual(set(calls), {2, 20})
    x, y = jnp.asarray(ds.to_float(data.images)), jnp.asarray(predicted)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(60))

    def logits_fn(x):
      return models.apply(model, variables, x).logits

    @jax.jit
    def whole(cfg):
      objective = evaluate.classification_objective(logits_fn, y, loss)
      x_adv = attacks.maximize(objective, x, keys, cfg).x_adv
      return logits_fn(x_adv).argmax(1) == y

    alive = np.ones(60, bool)
    for radius in eps:
      alive &= np.asarray(whole(cfg.attack(radius)))
      self.assertEqual(found.robust_accuracy[radius], alive.mean())
    self.assertGreater(found.robust_accuracy[eps[0]], 0.6)
    self.assertBetween(alive.mean(), 0.05, 0.6)

  def test_batch_statistics_are_attacked_to_the_end(self):
    """The attacked model is not the judged one: no iterate decides."""
    model, variables, data = cnn_problem()
    cfg = config(bn_mode="batch", num_steps=20)
    evaluate._attack.clear_cache()  # Or an earlier test's program is run.
    with mock.patch.object(evaluate.attacks, "maximize") as maximize:
      maximize.side_effect = RuntimeError("seen")
      with self.assertRaisesRegex(RuntimeError, "seen"):
        run(model, variables, data, cfg)
    self.assertIsNone(maximize.call_args.kwargs["stop_above"])

    def whole(*args, cfg, **kwargs):
      del kwargs
      self.assertEqual(cfg.num_steps, 20)
      return [np.zeros(len(args[2]), bool)] * 4  # Of the indices.

    with mock.patch.object(evaluate, "_attack", whole):
      run(model, variables, data, cfg)

  def test_who_came_closest_goes_first(self):
    """So that who takes long is beside who does."""
    model, variables, data, signed, _ = linear_problem()
    right, seen = np.flatnonzero(signed > 0), []

    def attack(model, variables, indices, images, y, key, *, cfg, **unused):
      del model, variables, images, y, key, unused
      if cfg.num_steps > 1:
        seen.extend(indices.tolist())
      never = np.zeros(len(indices), bool)
      return never, -1.0 * (indices * 7 % 30), never, never

    with mock.patch.object(evaluate, "_attack", attack):
      found = run(model, variables, data, config(eps=(0.1,)))
    want = sorted(right.tolist(), key=lambda index: index * 7 % 30)
    margins = [index * 7 % 30 for index in dict.fromkeys(seen)]
    self.assertEqual(margins, [index * 7 % 30 for index in want])
    self.assertEqual(found.robust_accuracy[0.1], len(right) / len(signed))


class KeptTest(absltest.TestCase):
  def test_what_is_on_disk_is_not_attacked_again(self):
    """Nor taken for another radius, or for the whole attack its first part."""
    model, variables, data, signed, w = linear_problem()
    distance = signed / np.linalg.norm(w)
    least = np.median(distance)
    data = ds.take(data, np.flatnonzero(distance > least))
    # The first radius breaks none, nor do a tenth of the second's steps.
    eps = 0.5 * float(least), 1.5 * float(least)
    cfg = config(eps=eps, step_ratio=1.0)
    wanted = run(model, variables, data, cfg)
    self.assertEqual(wanted.robust_accuracy[eps[0]], 1.0)
    self.assertBetween(wanted.robust_accuracy[eps[1]], 0.1, 0.9)
    measured = Measured(toys.folder(self))
    for never in (None, AssertionError("attacked again")):
      with mock.patch.object(
        evaluate, "_attack", wraps=evaluate._attack, side_effect=never
      ):
        found = evaluate.evaluate(
          model, variables, data, cfg, jax.random.key(0), measured=measured
        )
      found = dataclasses.replace(found, seconds=wanted.seconds)
      self.assertEqual(found, wanted)


class StrengthTest(parameterized.TestCase):
  def test_what_is_counted(self):
    """Every example once a radius, for what it met before it broke."""
    model, variables, data, signed, _ = linear_problem()
    right = np.flatnonzero(signed > 0)

    def attack(model, variables, indices, images, y, key, *, cfg, **unused):
      del model, variables, images, y, key, unused
      broken = indices % 7 == 0
      if cfg.num_steps == 1:  # A tenth.
        margin = 1.0 * (indices % 5 == 0)
        return broken, margin, indices % 2 == 0, indices < 9
      return broken, 0.0 * indices, indices % 3 == 0, indices % 4 == 0

    cfg, bar = config(eps=(0.1, 0.2)), mock.MagicMock()
    with (
      mock.patch.object(evaluate, "_attack", attack),
      mock.patch.object(evaluate, "progress", return_value=bar) as progress,
    ):
      found = run(model, variables, data, cfg)
    alive, zero, bad, attacked = right, 0, 0, 0
    for eps in cfg.eps:
      attacked += len(alive)
      early = alive % 5 == 0
      zero += (early & (alive % 2 == 0)).sum()
      bad += (early & (alive < 9)).sum()
      rest = alive[~early]
      zero += (rest % 3 == 0).sum()
      bad += (rest % 4 == 0).sum()
      alive = rest[rest % 7 != 0]
      self.assertEqual(found.robust_accuracy[eps], len(alive) / 53)
    told = found.attack
    self.assertEqual(told["zero_gradient_fraction"], zero / attacked)
    self.assertEqual(told["nonfinite_gradient_fraction"], bad / attacked)
    progress.assert_called_once_with(2 * len(right), "evaluate", unit="image")
    moves = bar.__enter__.return_value.update.call_args_list
    self.assertEqual(sum(move.args[0] for move in moves), attacked)

  def test_zero_gradients_are_reported(self):
    model, variables, data, _, _ = linear_problem()
    sure = jax.tree.map(lambda v: 1e4 * v, variables)
    found = run(model, sure, data, config())
    # All but the few that lie next to the boundary.
    self.assertGreater(found.attack["zero_gradient_fraction"], 0.9)
    self.assertGreater(found.robust_accuracy[0.1], 0.9 * found.accuracy)
    found = run(model, sure, data, config(loss="cw_margin"))
    self.assertEqual(found.attack["zero_gradient_fraction"], 0.0)
    self.assertLess(found.robust_accuracy[0.1], found.accuracy)

  def test_the_attack_is_described(self):
    model, variables, data, _, _ = linear_problem()
    found = run(model, variables, data, config(num_steps=4, num_restarts=3))
    want = {
      "name": "pgd", "norm": "l2", "num_steps": 4, "step_size": "2 eps/4",
      "num_restarts": 3, "loss": "cross_entropy", "bn_mode": "running",
      "gradients": 12, "zero_gradient_fraction": 0.0,
      "nonfinite_gradient_fraction": 0.0,
    }  # fmt: skip
    self.assertEqual(found.attack, want)

  def test_what_is_not_told_is_the_paper_s(self):
    """Radii of table 7; the steps are those of `recipes.evaluation`."""
    told = config(
      eps=(0.25, 0.5), num_steps=100, step_ratio=2.5, batch_size=500
    )
    self.assertEqual(evaluate.EvaluateConfig(), told)

  def test_the_step_is_a_share_of_the_radius(self):
    attack = config(step_ratio=2.5, num_steps=100).attack(0.5)
    self.assertAlmostEqual(attack.step_size, 2.5 * 0.5 / 100)

  def test_a_larger_loss_alone_is_not_kept(self):
    """Of two points the misclassified one wins, whatever its loss."""
    logits = jnp.array([[2.0, 1.9, -9.0], [2.0, 2.1, 2.1]], jnp.float32)
    y = jnp.array([0, 0], jnp.int32)
    objective = evaluate.classification_objective(
      lambda _: logits, y, "cross_entropy"
    )
    _, scores = objective(None)
    np.testing.assert_allclose(scores, [-0.1, 0.1], rtol=1e-5)


class RefusalTest(parameterized.TestCase):
  def test_outputs_that_are_not_finite(self):
    model, variables, data, _, _ = linear_problem()
    broken = jax.tree.map(lambda v: v * jnp.nan, variables)
    with self.assertRaisesRegex(ValueError, "outputs are not finite"):
      run(model, broken, data, config())

  def test_outputs_that_are_not_finite_on_one_image(self):
    kernel = np.zeros((4, 2))
    kernel[:2, 0] = 3e38  # Twice that is beyond float32.
    images = np.zeros((6, 2, 2, 1), np.uint8)
    images[3] = 255
    with self.assertRaisesRegex(ValueError, "outputs are not finite"):
      evaluate.predict(toys.Linear(2), toys.linear_variables(kernel), images, 4)

  def test_labels_without_a_logit(self):
    model, variables, data, _, _ = linear_problem()
    data = ds.make(data.images, np.append(data.labels[1:], 2), 3)
    for call in (
      lambda: run(model, variables, data, config()),
      lambda: evaluate.accuracy(model, variables, data, 16),
    ):
      with self.assertRaisesRegex(ValueError, "labels go up to 2, but .* 2 l"):
        call()

  def test_classes_without_a_logit(self):
    model, variables, data, _, _ = linear_problem()
    evaluate.check_fit(model, variables, data)
    with self.assertRaisesRegex(ValueError, "have 3 classes, but .* 2 logits"):
      evaluate.check_fit(model, variables, ds.make(data.images, data.labels, 3))

  @parameterized.parameters(evaluate.predict, evaluate.represent)
  def test_no_images(self, function):
    model, variables, data, _, _ = linear_problem()
    with self.assertRaisesRegex(ds.DataError, "holds no image"):
      function(model, variables, data.images[:0], 16)

  @parameterized.parameters(
    ("linf", 8, r"eps must be at most 1 for linf, got 8; .*write 8/255\?"),
    ("l2", 8.0, r"eps is 8, larger than the l2 diameter 3 .*write 8/255\?"),
  )
  def test_a_radius_in_units_of_255(self, norm, eps, message):
    model, variables, data, _, _ = linear_problem()
    with self.assertRaisesRegex(ValueError, message) as caught:
      run(model, variables, data, config(norm=norm, eps=(0.1, eps)))
    self.assertNotIn("\n", str(caught.exception))
    run(model, variables, data, config(norm=norm, eps=(8 / 255,)))

  @parameterized.parameters(
    ({"loss": "hinge"}, "loss must be one of .*got 'hinge'"),
    ({"bn_mode": "train"}, "bn_mode must be 'running' or 'batch', got 'train'"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"norm": "l1"}, "norm must be one of"),
    ({"eps": (-0.5,)}, "eps must be a number >= 0, got -0.5"),
    ({"num_steps": -1}, "num_steps must be an integer >= 0"),
    ({"num_restarts": 0}, "num_restarts must be an integer >= 1"),
    ({"norm": "l1", "eps": ()}, "norm must be one of"),
    ({"num_restarts": 0, "eps": ()}, "num_restarts must be an integer >= 1"),
    ({"eps": ("a",)}, "eps must be .*got"),
    ({"step_ratio": float("inf")}, "step_ratio must be a finite number >= 0"),
    ({"step_ratio": -0.5}, "step_ratio must be a finite number >= 0"),
  )
  def test_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      config(**changes)

  def test_dlr_with_two_classes(self):
    model, variables, data, _, _ = linear_problem()
    with self.assertRaisesRegex(ValueError, "dlr needs at least 3 classes"):
      run(model, variables, data, config(loss="dlr"))

  def test_a_request_to_stop_is_honoured_between_batches(self):
    model, variables, data, _, _ = linear_problem()
    self.addCleanup(preemption.reset)
    preemption.request()
    with self.assertRaises(preemption.Stopped):
      run(model, variables, data, config())
    # Of a caller that must save something first nothing is heard.
    found = evaluate.evaluate(
      model, variables, data, config(), jax.random.key(0), interruptible=False
    )
    self.assertEqual(found.num_examples, 53)

  def test_nothing_correct_leaves_nothing_to_attack(self):
    model, variables, data, _, _ = linear_problem()
    predicted = evaluate.predict(model, variables, data.images, 16).argmax(1)
    wrong = dataclasses.replace(data, labels=(1 - predicted).astype(np.int32))
    found = run(model, variables, wrong, config())
    self.assertEqual((found.accuracy, found.robust_accuracy[0.1]), (0.0, 0.0))


if __name__ == "__main__":
  absltest.main()
