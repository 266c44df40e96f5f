"""AutoAttack against the published one, and what a user can get wrong."""

import functools
import inspect
import json
import pathlib
from unittest import mock

import autoattack_golden
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import autoattack
from robust_features.attacks.autoattack import (
  apgd,
  checks,
  fab,
  pool,
  square,
)
from robust_features.attacks.autoattack.progress import FILE
from robust_features.models import layers
from robust_features.runtime import processes

SMALL = autoattack.Budget(num_steps=8, num_targets=2, num_queries=30)


def _linear_logits(w, x):
  return x.reshape(x.shape[0], -1) @ w


def _linear(num_classes=5, count=10, seed=0):
  """Returns a linear model, and images with its own predictions."""
  rng = np.random.default_rng(seed)
  w = jnp.asarray(rng.normal(size=(48, num_classes)), jnp.float32)
  logits_fn = jax.tree_util.Partial(_linear_logits, w)
  x = rng.uniform(0, 1, (count, 4, 4, 3)).astype(np.float32)
  return logits_fn, x, np.asarray(jnp.argmax(logits_fn(x), axis=1))


def _run(logits_fn, x, y, **kwargs):
  settings = {
    "norm": "l2",
    "eps": 0.15,
    "key": jax.random.key(0),
    "batch_size": 8,
    "budget": SMALL,
  }
  return autoattack.run(logits_fn, x, y, **(settings | kwargs))


class ReferenceTest(parameterized.TestCase):
  """On the same weights, as many images stay robust as for the original."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # Square's 5,000 queries run for longer than they compile.
    jax.config.update("jax_disable_most_optimizations", False)
    cls.addClassCleanup(
      jax.config.update, "jax_disable_most_optimizations", True
    )

  @parameterized.parameters(("l2", "robust"), ("linf", "standard"))
  def test_standard_version(self, norm, name):
    """40 images, one net a norm; `benchmarks.autoattack_parity` has the rest.

    What each attack does is held elsewhere, by the published rules.
    """
    golden = autoattack_golden.load()
    x, y = (array[:40] for array in autoattack_golden.images(golden))
    result = autoattack.run(
      autoattack_golden.net(golden, name),
      x,
      y,
      norm=norm,
      eps=autoattack_golden.EPS[norm],
      key=jax.random.key(0),
      batch_size=40,
    )
    expected = golden[f"{name}/{norm}:standard"][:40]
    self.assertBetween(expected.sum(), 2, 38)
    # One image at most, either way.
    self.assertLessEqual(int((result.robust != expected).sum()), 1)
    self.assertEqual(result.second_pass_accuracy, result.robust_accuracy)
    self.assertLessEqual(
      result.max_perturbation, autoattack_golden.EPS[norm] * (1 + 1e-6)
    )
    self.assertEqual(result.warnings, ())


class Slots:
  """Stands for `pool.Pool`: breaks what it is told to, each in a step."""

  def __init__(self, made, breaks, *given, **settings):
    _, self.cfg, _, self.example_fn, self.todo = given
    self.settings, self.left = settings, list(breaks[len(made)])
    made.append(self)

  @property
  def num_left(self):
    return len(self.left)

  def step(self):
    if not self.left:
      return None
    index = np.array([self.left.pop(0)])
    one = np.ones(1, int)
    x_adv = 1 - np.asarray(self.example_fn(index).x)
    return pool.Finished(index, one > 0, x_adv, 3 * one, 2 * one, one, one)

  def arrays(self):
    return {}


class StagesTest(parameterized.TestCase):
  """What each attack is given, and what is made of what it found."""

  def run_it(self, attacks, num_classes=5, breaks=None, **kwargs):
    """Returns the result and each attack's slots; `breaks` images of each."""
    logits_fn, x, y = _linear(num_classes)
    made, breaks = [], breaks or [()] * len(attacks)
    slots = functools.partial(Slots, made, breaks)
    with mock.patch.object(pool, "Pool", slots):
      found = _run(logits_fn, x, y, attacks=attacks, **kwargs)
    return found, made

  @parameterized.parameters(autoattack.STANDARD, ("apgd-dlr", "square"))
  def test_keys_are_of_the_attack_and_of_the_image(self, *names):
    """Whatever the attack's place; the numbers are part of every result."""
    streams = {"apgd-ce": 0, "apgd-t": 1, "fab-t": 2, "square": 3,
               "apgd-dlr": 4}  # fmt: skip
    logits_fn, x, y = _linear()
    _, made = self.run_it(names, key=jax.random.key(7))
    index = np.array([6, 2])
    others = np.asarray(logits_fn(x)).copy()
    others[np.arange(10), y] = -np.inf
    targets = np.argsort(-others, axis=1)[:, :4]
    for name, work in zip(names, made, strict=True):
      batch = work.example_fn(index)
      for i, key in zip(index, batch.keys, strict=True):
        root = jax.random.fold_in(jax.random.key(7), streams[name])
        self.assertEqual(key, jax.random.fold_in(root, i))
      np.testing.assert_array_equal(batch.x, x[index])
      np.testing.assert_array_equal(batch.y, y[index])
      np.testing.assert_array_equal(batch.targets, targets[index])

  @parameterized.parameters(
    (2, 1, "cw_margin", "cw_margin_targeted"),
    (3, 2, "dlr", "cw_margin_targeted"),
    (4, 3, "dlr", "dlr_targeted"),
    (9, 7, "dlr", "dlr_targeted"),
  )
  def test_settings_of_each_attack(self, num_classes, targets, dlr, targeted):
    """arXiv:2003.01690, section 4: DLR needs three classes, targeted four."""
    budget = autoattack.Budget(11, 7, 13, 2)
    _, made = self.run_it(
      autoattack.ATTACKS, num_classes, budget=budget, eps=0.2
    )
    ce, t, fab_t, windows, plain = (work.cfg for work in made)
    for cfg, loss in (
      (ce, "cross_entropy"), (t, targeted), (plain, dlr),
    ):  # fmt: skip
      want = apgd.ApgdConfig("l2", 0.2, loss, 11, 2, targets)
      self.assertEqual(cfg, want)
    self.assertEqual(fab_t, fab.FabConfig("l2", 0.2, 11, targets))
    self.assertEqual(windows, square.SquareConfig("l2", 0.2, 13))

  def test_an_attack_is_made_on_what_the_last_left_robust(self):
    found, made = self.run_it(
      ("apgd-ce", "square", "fab-t"), breaks=([4, 1, 2, 8, 0], [], [9]),
      batch_size=64,
    )  # fmt: skip
    left = [3, 5, 6, 7, 9]
    self.assertEqual(
      [w.todo.tolist() for w in made], [[*range(10)], left, left]
    )
    self.assertEqual(made[0].settings["batch_size"], 10)
    self.assertEqual(
      found.accuracy,
      {"clean": 1.0, "apgd-ce": 0.5, "square": 0.5, "fab-t": 0.4},
    )
    self.assertEqual(
      found.broken_by.tolist(), [0, 0, 0, -1, 0, -1, -1, -1, 0, 2]
    )
    self.assertEqual(found.queries, {"apgd-ce": 15, "square": 0, "fab-t": 3})
    self.assertEqual(found.gradients, {"apgd-ce": 10, "square": 0, "fab-t": 2})
    # Square found nothing beyond the attack before it.
    self.assertNotIn("square", " ".join(found.warnings))

  def test_square_is_suspicious_after_others_alone(self):
    for attacks, breaks, lowered in (
      (("square", "apgd-ce"), ([1, 2], []), None),
      (("apgd-ce", "square"), ([1, 2], [3]), "by 10.00%"),
    ):
      found, _ = self.run_it(attacks, breaks=breaks)
      text = " ".join(found.warnings)
      self.assertEqual("square lowered" in text, lowered is not None)
      self.assertIn(lowered or "", text)

  def test_when_it_is_saved(self):
    """On demand of this process or of another one, else when it is due."""
    asks = iter([False, True, False])
    for save_now, agree, saves in (
      (None, lambda due: due, []),
      (lambda: next(asks), lambda due: due, [1]),
      (None, lambda due: True, [2, 1, 0]),
    ):
      lines = []
      with mock.patch.object(processes, "agree", agree):
        self.run_it(
          ("square",), breaks=([5, 6, 7],), save_now=save_now,
          progress=lines.append,
        )  # fmt: skip
      self.assertEqual(
        lines,
        [f"square: {left} images left, robust accuracy at most "
         f"{0.7 + left / 10:.2%}" for left in saves]
        + ["square: robust accuracy 70.00%"],
      )  # fmt: skip

  @parameterized.parameters(
    ({"budget": autoattack.Budget(8, 2, 31)}, "num_queries: 30, got 31"),
    ({"budget": autoattack.Budget(8, 3, 30)}, "num_targets: 2, got 3"),
    ({"key": jax.random.key(1)}, "other key"),
    ({"attacks": ("fab-t",)}, "other attacks"),
    ({"norm": "linf"}, "other norm"),
  )
  def test_progress_of_another_evaluation(self, changes, message):
    keep = {"workdir": self.create_tempdir().full_path, "attacks": ("square",)}
    self.run_it(**keep)
    with self.assertRaisesRegex(ValueError, message):
      self.run_it(**(keep | changes))
    lines = []
    self.run_it(**keep, batch_size=3, progress=lines.append)  # Of no account.
    self.assertRegex(lines[0], "goes on from .*progress.npz, 1 attacks done")


class InvarianceTest(absltest.TestCase):
  def test_batch_size_and_devices_change_nothing(self):
    logits_fn, x, y = _linear()
    mesh = jax.make_mesh(
      (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    attacks = ("apgd-ce", "square")
    first = _run(logits_fn, x, y, attacks=attacks)
    self.assertBetween(first.robust_accuracy, 0.1, 0.9)
    small = _run(logits_fn, x, y, attacks=attacks, batch_size=4)
    split = _run(logits_fn, x, y, attacks=attacks, sharding=sharding)
    for other in (small, split):
      np.testing.assert_array_equal(other.robust, first.robust)
      np.testing.assert_array_equal(other.broken_by, first.broken_by)
      np.testing.assert_allclose(other.x_adv, first.x_adv, atol=1e-6)
      self.assertEqual(other.queries, first.queries)
    # Nor does the order of attacks: each has a random stream of its own.
    alone = _run(logits_fn, x, y, attacks=("square",))
    among = _run(logits_fn, x, y, attacks=("square", "apgd-ce"))
    broken = among.broken_by == 0
    np.testing.assert_array_equal(broken, alone.broken_by == 0)

  def test_another_key_draws_other_numbers(self):
    logits_fn, x, y = _linear()
    one = _run(logits_fn, x, y, attacks=("square",))
    two = _run(logits_fn, x, y, attacks=("square",), key=jax.random.key(1))
    self.assertGreater(np.abs(one.x_adv - two.x_adv).max(), 1e-3)

  def test_sizes_of_batches(self):
    for count, batch_size, multiple, expected in (
      (17, 32, 1, 20),
      (193, 100, 1, 100),  # Two rounds of 97.
      (205, 100, 1, 72),  # Three of 69.
      (3, 32, 1, 8),
      (0, 32, 1, 8),
      (5, 5, 1, 5),
      (9, 64, 8, 16),
      (30, 30, 4, 32),
      (7, 30, 3, 12),
    ):
      found = pool.num_slots(count, batch_size, multiple)
      self.assertEqual(found, expected, (count, batch_size, multiple))
      self.assertEqual(found % multiple, 0)


class ResumeTest(absltest.TestCase):
  def test_interrupted_equals_straight_bit_for_bit(self):
    logits_fn, x, y = _linear()
    straight = _run(logits_fn, x, y)
    for stop_after in (1, 3, 6):
      workdir = pathlib.Path(self.create_tempdir().full_path)
      lines = []

      def interrupt(line, lines=lines, stop_after=stop_after):
        lines.append(line)
        if len(lines) == stop_after:
          raise KeyboardInterrupt

      keep = {"workdir": workdir, "save_every_s": 0.0}
      with self.assertRaises(KeyboardInterrupt):
        _run(logits_fn, x, y, progress=interrupt, **keep)
      resumed = _run(logits_fn, x, y, progress=lines.append, **keep)
      self.assertIn("goes on from", lines[stop_after])
      np.testing.assert_array_equal(resumed.x_adv, straight.x_adv)
      np.testing.assert_array_equal(resumed.broken_by, straight.broken_by)
      self.assertEqual(resumed.accuracy, straight.accuracy)
      self.assertEqual(resumed.queries, straight.queries)
      self.assertEqual(resumed.gradients, straight.gradients)
      # Another time there is nothing left to do.
      again = _run(logits_fn, x, y, **keep)
      np.testing.assert_array_equal(again.x_adv, straight.x_adv)
      self.assertEqual(again.queries, straight.queries)

  def test_a_closure_is_known_by_its_predictions(self):
    """However small its logits: a tolerance in their units says nothing."""
    logits_fn, x, y = _linear()
    other, _, _ = _linear(seed=1)
    workdir = self.create_tempdir().full_path
    _run(lambda x: 1e-3 * logits_fn(x), x, y, workdir=workdir,
         attacks=("apgd-ce",))  # fmt: skip
    with self.assertRaisesRegex(ValueError, "progress of another model"):
      _run(lambda x: 1e-3 * other(x), x, y, workdir=workdir,
           attacks=("apgd-ce",))  # fmt: skip

  def test_refuses_progress_of_something_else(self):
    logits_fn, x, y = _linear()
    workdir = self.create_tempdir().full_path
    attacks = ("apgd-ce",)
    _run(logits_fn, x, y, workdir=workdir, attacks=attacks)
    with self.assertRaisesRegex(ValueError, "with other eps: 0.15, got 0.2"):
      _run(logits_fn, x, y, workdir=workdir, attacks=attacks, eps=0.2)
    with self.assertRaisesRegex(ValueError, "with other images"):
      _run(logits_fn, x / 2, y, workdir=workdir, attacks=attacks)
    other, _, _ = _linear(seed=1)
    with self.assertRaisesRegex(ValueError, "evaluation with other model"):
      _run(other, x, y, workdir=workdir, attacks=attacks)
    path = pathlib.Path(workdir) / FILE
    path.write_bytes(path.read_bytes()[:1000])
    with self.assertRaisesRegex(ValueError, "is damaged .*; delete it"):
      _run(logits_fn, x, y, workdir=workdir, attacks=attacks)

  def test_file_is_plain(self):
    logits_fn, x, y = _linear()
    workdir = pathlib.Path(self.create_tempdir().full_path)
    _run(logits_fn, x, y, workdir=workdir, attacks=("apgd-ce",))
    with np.load(workdir / FILE, allow_pickle=False) as arrays:
      identity = json.loads(str(arrays["identity"]))
      self.assertEqual(arrays["x_adv"].shape, x.shape)
    self.assertEqual(identity["norm"], "l2")
    self.assertEqual(identity["attacks"], ["apgd-ce"])


class ModelTest(absltest.TestCase):
  def test_few_classes(self):
    for num_classes, words in (
      (2, ("1 targets instead of 2", "margin instead of the targeted DLR")),
      (3, ("margin instead of the targeted DLR",)),
    ):
      logits_fn, x, y = _linear(num_classes)
      result = _run(logits_fn, x, y, eps=0.6, attacks=("apgd-t",))
      self.assertBetween(result.robust_accuracy, 0.1, 0.8)
      self.assertLen(result.warnings, 1)
      for word in words:
        self.assertIn(word, result.warnings[0])

  def test_nine_classes_have_eight_targets(self):
    text = checks.class_warning(9, autoattack.STANDARD, 9)
    self.assertEqual(text, "with 9 classes: 8 targets instead of 9")
    self.assertIsNone(checks.class_warning(10, autoattack.STANDARD, 9))
    self.assertIn("margin", checks.class_warning(2, ("apgd-dlr",), 9) or "")

  def test_bfloat16_model_stays_in_the_ball(self):
    w = jnp.asarray(np.random.default_rng(0).normal(size=(48, 5)), jnp.bfloat16)

    def logits_fn(w, x):
      return x.reshape(x.shape[0], -1).astype(jnp.bfloat16) @ w

    _, x, _ = _linear()
    partial = jax.tree_util.Partial(logits_fn, w)
    y = np.asarray(jnp.argmax(jax.jit(partial)(x), axis=1))
    for norm, eps in (("l2", 0.1), ("linf", 0.01)):  # Small beside a pixel.
      result = _run(partial, x, y, norm=norm, eps=eps, attacks=("apgd-ce",))
      self.assertEqual(result.x_adv.dtype, np.float32)
      self.assertBetween(result.max_perturbation, eps / 10, eps * (1 + 1e-6))
      self.assertBetween(result.x_adv.min(), 0.0, 1.0)
      self.assertBetween(result.x_adv.max(), 0.0, 1.0)

  def test_outputs_with_logits_are_taken(self):
    logits_fn, x, y = _linear()
    wanted = _run(logits_fn, x, y, attacks=("apgd-ce",))
    found = _run(
      lambda x: layers.Outputs(logits_fn(x), x), x, y, attacks=("apgd-ce",)
    )
    np.testing.assert_array_equal(found.x_adv, wanted.x_adv)
    self.assertEqual(found.warnings, ())

  def test_double_precision_changes_nothing(self):
    logits_fn, x, y = _linear()
    budget = autoattack.Budget(num_steps=3, num_targets=1, num_queries=5)
    for norm, eps, attacks in (
      ("l2", 0.15, ("apgd-ce", "fab-t", "square")),
      ("linf", 0.02, ("square",)),
    ):
      run = functools.partial(
        _run, logits_fn, x, y, norm=norm, eps=eps, budget=budget,
        attacks=attacks,
      )  # fmt: skip
      single = run()
      with jax.enable_x64(True):
        double = run()
      self.assertEqual(double.x_adv.dtype, np.float32)
      np.testing.assert_array_equal(double.broken_by, single.broken_by)
      np.testing.assert_allclose(double.x_adv, single.x_adv, atol=1e-5)

  def test_misclassified_images_cost_nothing(self):
    logits_fn, x, y = _linear()
    wrong = (y + 1) % 5
    result = _run(logits_fn, x, wrong)
    self.assertEqual(result.accuracy["clean"], 0.0)
    self.assertEqual(sum(result.queries.values()), 0)
    np.testing.assert_array_equal(result.x_adv, x)


class WarningTest(parameterized.TestCase):
  def test_probabilities(self):
    logits = np.asarray(jax.nn.softmax(jnp.asarray([[1.0, 3.0], [9.0, 2.0]])))
    self.assertIn("probabilities", checks.probability_warning(logits) or "")
    self.assertIsNone(checks.probability_warning(logits * 2))
    self.assertIsNone(checks.probability_warning(logits - 1))

  def test_zero_gradients(self):
    _, x, _ = _linear()

    def saturated(x):  # Cross-entropy's gradient underflows to zero.
      flat = x.reshape(x.shape[0], -1).sum(axis=1)
      return jnp.stack([1e4 + flat, flat, flat, flat], axis=1)

    y = np.zeros(len(x), int)
    result = _run(saturated, x, y, attacks=("apgd-ce",))
    self.assertEqual(result.zero_gradients["apgd-ce"], len(x))
    self.assertIn("apgd-ce: 10 examples met a gradient", result.warnings[0])
    self.assertIn("warning: apgd-ce", result.summary())

  @parameterized.parameters("apgd-ce", "fab-t")
  def test_gradients_that_are_not_finite(self, attack):
    """They are warned of, and the other entries go on being climbed."""
    smooth, x, y = _linear(count=12)
    x[:6, -1, -1, -1], x[6:, -1, -1, -1] = 0.95, 0.05

    def rough(x):  # d sqrt(0 z)/dz is NaN, on bright images only.
      bright = x[:, -1, -1, -1] > 0.5
      term = jnp.sqrt(jnp.where(bright, 0.0 * x[:, 0, 0, 0], 1.0))
      return smooth(x) + term[:, None]

    y = np.asarray(smooth(x).argmax(1))
    found = _run(rough, x, y, attacks=(attack,), eps=0.3)
    wanted = _run(smooth, x, y, attacks=(attack,), eps=0.3)
    self.assertEqual(found.nonfinite_gradients[attack], 6)
    self.assertEqual(wanted.nonfinite_gradients[attack], 0)
    (text,) = found.warnings
    self.assertIn(f"{attack}: 6 examples met a gradient that is not fin", text)
    # One entry of 48 is lost, on half of the images.
    bright = (wanted.broken_by == 0)[:6].sum()
    self.assertGreater(bright, 2)
    self.assertGreaterEqual((found.broken_by == 0)[:6].sum(), bright - 1)
    np.testing.assert_array_equal(found.robust[6:], wanted.robust[6:])

  def test_randomised_model(self):
    rng = np.random.default_rng(0)
    _, x, _ = _linear()

    def noisy(x):
      return x.reshape(len(x), -1)[:, :5] + jnp.asarray(
        rng.normal(size=(1, 5)), jnp.float32
      )

    few = jnp.asarray(x)
    text = checks.randomness_warning(jax.tree_util.Partial(noisy), few)
    self.assertIn("randomised", text or "")
    steady, _, _ = _linear()
    self.assertIsNone(checks.randomness_warning(steady, few))

  def test_square_and_second_pass(self):
    self.assertIn("by 5.00%", checks.square_warning(0.5, 0.45) or "")
    self.assertIsNone(checks.square_warning(0.5, 0.499))
    self.assertIn("give 40.00%", checks.second_pass_warning(0.5, 0.4) or "")
    self.assertIsNone(checks.second_pass_warning(0.5, 0.5))

  def test_masked_gradients_are_betrayed_by_square(self):
    logits_fn, x, y = _linear(count=16)

    def masked(x):
      return jax.lax.stop_gradient(logits_fn(x))

    result = _run(
      masked, x, y, attacks=("apgd-ce", "square"), eps=0.5,
      budget=autoattack.Budget(num_steps=2, num_queries=200),
    )  # fmt: skip
    self.assertLen(result.warnings, 2)
    self.assertIn("gradient of exactly zero", result.warnings[0])
    self.assertIn("square lowered the robust accuracy", result.warnings[1])


class BadInputTest(parameterized.TestCase):
  def test_images_and_labels(self):
    logits_fn, x, y = _linear()
    for bad_x, bad_y, message in (
      (x * 255, y, r"x must be in \[0, 1\], got values from"),
      (x - 0.5, y, r"x must be in \[0, 1\]"),
      (x * np.nan, y, r"x must be in \[0, 1\]"),
      (x[0], y, r"x must be \[N, H, W, C\]"),
      (x, y + 3, r"y must be in \[0, 5\), got"),
      (x, y - 5, r"y must be in \[0, 5\), got -"),
      (x, y[:3], r"y must be \[10\] integers"),
      (x, y.astype(np.float32), r"y must be \[10\] integers, got float32"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        _run(logits_fn, bad_x, bad_y)

  @parameterized.parameters(
    (lambda x: jnp.full((len(x), 5), jnp.nan), "got NaN or inf on 10 images"),
    (lambda x: jnp.ones((len(x), 5)), "logits must depend on x"),
    (lambda x: x[:, 0, 0, 0], r"must return \[B, K\]"),
    (lambda x: x[..., 0], r"must return \[B, K\]"),
    (lambda x: x[:, 0, :1, 0], "K >= 2"),
    (lambda x: (x[:, 0, 0], x), "got a tuple; give a function that picks"),
    (lambda x: {"logits": x[:, 0, 0]}, "got a dict; give a function that"),
  )
  def test_models(self, logits_fn, message):
    _, x, y = _linear()
    with self.assertRaisesRegex(ValueError, message):
      _run(logits_fn, x, y)

  def test_what_is_not_told_is_the_published(self):
    budget = autoattack.Budget()
    self.assertEqual(
      (budget.num_steps, budget.num_targets, budget.num_queries,
       budget.num_restarts), (100, 9, 5000, 1),
    )  # fmt: skip
    told = inspect.signature(autoattack.run).parameters
    self.assertEqual(told["batch_size"].default, 250)
    self.assertEqual(told["save_every_s"].default, 30.0)
    self.assertEqual(
      told["attacks"].default, ("apgd-ce", "apgd-t", "fab-t", "square")
    )
    self.assertEqual(told["budget"].default, budget)

  def test_settings(self):
    logits_fn, x, y = _linear()
    for kwargs, message in (
      ({"norm": "l1"}, "norm must be one of"),
      ({"eps": 0.0}, "eps must be a finite number > 0"),
      ({"eps": 8.0}, "eps is 8, larger than the l2 diameter 6.92"),
      ({"eps": "8/255"}, "got '8/255'"),
      (
        {"norm": "linf", "eps": 8.0},
        "eps is 8, larger than the linf diameter 1",
      ),
      ({"attacks": ("pgd",)}, "attacks must be distinct names"),
      ({"attacks": ("square", "square")}, "attacks must be distinct names"),
      ({"batch_size": 0}, "batch_size must be at least 1"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        _run(logits_fn, x, y, **kwargs)
    with self.assertRaisesRegex(ValueError, "num_steps must be an int >= 1"):
      autoattack.Budget(num_steps=0)


if __name__ == "__main__":
  absltest.main()
