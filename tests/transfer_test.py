"""Transfer between linear models in closed form, ranks against scipy."""

import dataclasses
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import numpy as np
import pytest
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, recipes, transfer
from robust_features.data import dataset as ds
from robust_features.runtime import preemption
from robust_features.study import graph, paper, run
from robust_features.study.parse import parse

EPS = 0.1
ATTACK = attacks.AttackConfig("l2", EPS, EPS / 2, 4)


def config(**changes):
  fields = {"attack": ATTACK, "target": "next", "batch_size": 16}
  return transfer.TransferConfig(**(fields | changes))


def images(num=40, num_classes=2, seed=0):
  """Returns float images `[N, 4, 4, 3]` so far inside that the box is idle."""
  rng = np.random.default_rng(seed)
  x = rng.uniform(0.4, 0.6, (num, 4, 4, 3)).astype(np.float32)
  return ds.make(x, rng.integers(num_classes, size=num), num_classes)


def linear(num_classes=2, seed=1):
  kernel = np.random.default_rng(seed).normal(size=(48, num_classes))
  # Centred images: scores around zero, some images on either side.
  bias = -0.5 * kernel.sum(axis=0)
  return toys.Linear(num_classes), toys.linear_variables(kernel, bias)


def margins(variables, x, y):
  """Returns how far each label is ahead of the other class, `[N]`."""
  kernel = np.asarray(variables["params"]["kernel"], np.float64)
  bias = np.asarray(variables["params"]["bias"], np.float64)
  logits = x.reshape(len(x), -1).astype(np.float64) @ kernel + bias
  rows = np.arange(len(y))
  return logits[rows, y] - logits[rows, 1 - y]


def direction(variables):
  """Returns w_1 - w_0, `[D]`, and its norm."""
  kernel = np.asarray(variables["params"]["kernel"], np.float64)
  found = kernel[:, 1] - kernel[:, 0]
  return found, np.sqrt(np.square(found).sum())


# On images this small a radius that fools at all is a large one.
pytestmark = pytest.mark.filterwarnings("ignore:.*was 2/255 meant")


class LinearTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data = images(200)
    self.source, self.source_variables = linear(seed=1)
    self.examples = transfer.make_examples(
      self.source, self.source_variables, self.data, config(), jax.random.key(0)
    )

  def test_success_is_that_of_the_closed_form(self):
    """The source's step lowers any margin by eps times the cosine."""
    w, size = direction(self.source_variables)
    y = self.data.labels
    for seed in (2, 3):
      model, variables = linear(seed=seed)
      # Of another model's slope the part along the source's.
      kernel = variables["params"]["kernel"]
      kernel += 0.6 * self.source_variables["params"]["kernel"]
      variables = toys.linear_variables(kernel, -0.5 * kernel.sum(axis=0))
      v, _ = direction(variables)
      before = margins(variables, self.data.images, y)
      after = before - EPS * (v @ w) / size
      want = (after < 0)[before > 0].mean()
      found = transfer.rates(model, variables, self.data, self.examples, 16)
      self.assertAlmostEqual(found["untargeted"], want)
      self.assertBetween(want, 0.02, 0.98)
      self.assertAlmostEqual(found["untargeted_of_all"], (after < 0).mean())
      self.assertAlmostEqual(found["accuracy"], (before > 0).mean())

  def test_of_two_classes_both_kinds_are_one(self):
    np.testing.assert_allclose(
      self.examples.away, self.examples.towards, atol=1e-6
    )
    model, variables = linear(seed=2)
    found = transfer.rates(model, variables, self.data, self.examples, 16)
    self.assertEqual(found["targeted"], found["untargeted"])

  def test_examples_are_on_the_sphere(self):
    delta = self.examples.away - self.data.images
    sizes = np.sqrt(np.square(delta.astype(np.float64)).sum((1, 2, 3)))
    np.testing.assert_allclose(sizes, EPS, rtol=1e-5)

  def test_targeted_examples_lead_to_their_class(self):
    data = images(60, num_classes=4)
    model, variables = linear(num_classes=4)
    wide = dataclasses.replace(ATTACK, eps=2.0, step_size=0.5, num_steps=10)
    for rule in transfer.TARGETS:
      cfg = config(attack=wide, target=rule)
      found = transfer.make_examples(
        model, variables, data, cfg, jax.random.key(0)
      )
      rates = transfer.rates(model, variables, data, found, 16)
      self.assertEqual(rates["targeted"], 1.0)
      self.assertEqual(rates["untargeted"], 1.0)

  def test_batches_change_nothing(self):
    model, variables = linear(num_classes=3)
    data = images(13, num_classes=3)
    cfg = config(
      attack=dataclasses.replace(ATTACK, start="random"), target="other"
    )
    found = [
      transfer.make_examples(
        model, variables, data, dataclasses.replace(cfg, batch_size=size),
        jax.random.key(1),
      )
      for size in (2, 16)
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0].classes, found[1].classes)
    for kind in ("away", "towards"):
      one, other = getattr(found[0], kind), getattr(found[1], kind)
      np.testing.assert_allclose(one, other, atol=1e-6)

  def test_a_zero_gradient_is_told(self):
    sure = jax.tree.map(lambda v: 1e4 * v, self.source_variables)
    found = transfer.make_examples(
      self.source, sure, self.data, config(), jax.random.key(0)
    )
    self.assertEqual(self.examples.zero_gradient_fraction, 0.0)
    self.assertGreater(found.zero_gradient_fraction, 0.3)

  def test_a_request_to_stop_is_honoured(self):
    self.addCleanup(preemption.reset)
    preemption.request()
    with self.assertRaises(preemption.Stopped):
      transfer.make_examples(
        self.source, self.source_variables, self.data, config(),
        jax.random.key(0),
      )  # fmt: skip


class MakeTest(absltest.TestCase):
  """What both kinds of example are made with; nothing is climbed."""

  def test_classes_keys_and_signs(self):
    model, variables = linear(3)
    data = images(12, num_classes=3)
    climbed = mock.Mock(side_effect=[("away", 0.25), ("towards", 0.5)] * 2)
    with mock.patch.object(transfer, "_climb", climbed):
      found = transfer.make_examples(
        model, variables, data, config(target="other"), jax.random.key(4)
      )
    of_classes, *keys = jax.random.split(jax.random.key(4), 3)
    classes = transfer.target_classes("other", data.labels, 3, of_classes)
    self.assertEqual(classes.dtype, np.int32)
    np.testing.assert_array_equal(found.classes, classes)
    self.assertEqual((found.away, found.towards), ("away", "towards"))
    self.assertEqual(found.zero_gradient_fraction, 0.5)
    for call, aim, of_kind, sign in zip(
      climbed.call_args_list, (data.labels, classes), keys, (1, -1), strict=True
    ):
      np.testing.assert_array_equal(call.args[5], aim)
      self.assertEqual(call.args[6], of_kind)
      self.assertEqual(call.args[7], sign)

  def test_what_does_not_fit_is_refused_before_it_begins(self):
    model, variables = linear(2)
    large = dataclasses.replace(ATTACK, eps=7.0)
    for data, cfg, message in (
      (images(4, num_classes=3), config(), "3 classes, but .* 2 logits"),
      (images(4), config(attack=large), "attack.eps is 7, larger than the l2"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        transfer.make_examples(model, variables, data, cfg, jax.random.key(0))


class CountsTest(absltest.TestCase):
  def test_by_hand(self):
    found = transfer.success_rates(
      clean=np.array([0, 0, 1, 2, 2]),
      untargeted=np.array([1, 0, 0, 0, 1]),
      targeted=np.array([1, 1, 2, 2, 0]),
      y=np.array([0, 0, 0, 2, 2]),
      targets=np.array([1, 1, 1, 0, 0]),
    )
    self.assertEqual(
      found,
      {
        "accuracy": 4 / 5,
        "untargeted": 3 / 4,  # The third was wrong before.
        "targeted": 3 / 4,  # The third looked like its target before.
        "untargeted_of_all": 3 / 5,
        "targeted_of_all": 3 / 5,
      },
    )

  def test_none_that_count(self):
    y = np.array([0, 1])
    found = transfer.success_rates(1 - y, 1 - y, 1 - y, y, 1 - y)
    self.assertEqual((found["untargeted"], found["targeted"]), (0.0, 0.0))


class TargetsTest(absltest.TestCase):
  def test_next(self):
    found = transfer.target_classes(
      "next", np.array([0, 1, 2]), 3, jax.random.key(0)
    )
    np.testing.assert_array_equal(found, [1, 2, 0])

  def test_other(self):
    y = np.arange(3000) % 5
    found = transfer.target_classes("other", y, 5, jax.random.key(0))
    counts = np.bincount((found - y) % 5, minlength=5)
    self.assertEqual(counts[0], 0)
    # Four standard errors of a quarter of 3,000.
    np.testing.assert_allclose(counts[1:], 750, atol=4 * np.sqrt(3000 * 3 / 16))
    again = transfer.target_classes("other", y[:7], 5, jax.random.key(0))
    np.testing.assert_array_equal(again, found[:7])


class RankTest(absltest.TestCase):
  def test_ties_share_their_rank(self):
    """Ranks by hand: 1, 2.5, 2.5, 4 against 1, 2, 3, 4."""
    rows = [
      {"learner_accuracy": a, "untargeted": b, "targeted": -b}
      for a, b in ((0.1, 1.0), (0.2, 2.0), (0.2, 3.0), (0.9, 4.0))
    ]
    found = transfer.correlations(rows)
    want = 4.5 / np.sqrt(4.5 * 5.0)
    self.assertAlmostEqual(found["untargeted"], want)
    self.assertAlmostEqual(found["targeted"], -want)

  def test_a_constant_has_none(self):
    rows = [
      {"learner_accuracy": v, "untargeted": 0.5, "targeted": -v} for v in (1, 2)
    ]
    found = transfer.correlations(rows)
    self.assertIsNone(found["untargeted"])
    self.assertAlmostEqual(found["targeted"], -1.0)

  def test_the_papers_points(self):
    """Both figures rise without exception."""
    found = transfer.correlations(list(paper.TRANSFER["transfer"]))
    self.assertAlmostEqual(found["untargeted"], 1.0)
    self.assertAlmostEqual(found["targeted"], 1.0)


class SettingsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"target": "random"}, "target must be one of .*got 'random'"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    (
      {"attack": dataclasses.replace(ATTACK, eps=float("inf"))},
      "attack.eps must be finite",
    ),
    (
      {"attack": dataclasses.replace(ATTACK, step_size=0.0)},
      "attack.step_size must be above 0",
    ),
  )
  def test_refused(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      config(**changes)


class StageTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    toy_study.write_npz(cls.folder)
    cls.results = run.run(cls.config(), cls.folder / "run")

  @classmethod
  def config(cls):
    found = toy_study.config(cls.folder)
    for name in ("sweep", "eval_base", "eval_on_d_rand"):
      del found.stages[name]
    found.table = ()
    found.stages.twin = recipes.train_stage(
      "main", "D", found.stages.base.train
    )
    attack = recipes.attack("l2", 2.0, 0.4, 10)
    found.stages.scatter = recipes.transfer_stage(
      "base", ("base", "twin"), ("on_d_rand", "on_d_rand"), attack,
      num_examples=20,
    )  # fmt: skip
    return found

  def test_results(self):
    found = self.results["transfer"]["scatter"]
    self.assertEqual(found["num_examples"], 20)
    self.assertEqual(found["source_architecture"], "mlp")
    first, second = found["rows"]
    for field, value in found["source_rates"].items():
      self.assertEqual(first[field], value)
    self.assertGreater(first["untargeted"], 0.5)  # The source itself.
    self.assertGreater(first["untargeted"], second["untargeted"])
    self.assertGreater(second["untargeted"], 0.1)
    self.assertEqual((first["target"], second["target"]), ("base", "twin"))
    self.assertEqual(first["learner_accuracy"], second["learner_accuracy"])
    self.assertEqual(found["rank_correlation"],
                     {"untargeted": None, "targeted": None})  # fmt: skip
    self.assertEqual(found["paper"], [])  # These are other images.
    text = (self.folder / "run" / "results.md").read_text()
    self.assertIn("scatter: examples of base (mlp)", text)
    self.assertTrue((self.folder / "run/figures/scatter.png").exists())

  def test_imported_targets_need_no_learners(self):
    config = self.config()
    checkpoint = str(self.folder / "run" / "base")
    config.stages.outside = recipes.imported_stage(checkpoint)
    config.stages.scatter.targets = ("outside", "twin")
    with self.assertRaisesRegex(
      ValueError, "scatter.targets must name stages that train, got 'outside'"
    ):
      parse(config)
    config.stages.open = recipes.transfer_stage(
      "base", ("outside", "twin"), (), config.stages.scatter.transfer.attack,
      num_examples=20,
    )  # fmt: skip
    del config.stages.scatter
    workdir = toys.folder(self) / "again"
    shutil.copytree(self.folder / "run", workdir)
    found = run.run(config, workdir)["transfer"]["open"]
    first, second = found["rows"]
    self.assertEqual(first["architecture"], "mlp")
    for field, value in found["source_rates"].items():
      self.assertEqual(first[field], value)
    self.assertNotEqual(first["untargeted"], second["untargeted"])
    text = (workdir / "results.md").read_text()
    for name in ("outside", "twin"):
      self.assertIn(f"| mlp ({name})", text)

  def test_it_depends_on_every_model(self):
    made = graph.Study(parse(self.config()), self.folder / "run")
    resolved = made.resolved("scatter")
    for name in ("base", "twin", "on_d_rand"):
      self.assertIn(f"stages.{name}.train.learning_rate", resolved)

  @parameterized.parameters(
    ({"targets": ("base", "d_rand")}, "scatter.targets must be one of .*d_ran"),
    (
      {"learners": ("on_d_rand",)},
      "one stage for each of targets, got 1 for 2",
    ),
    ({"paper": "standard"}, "stages.scatter.paper must be one of '', 'transf"),
    ({"targets": (), "learners": ()}, "targets must name at least"),
  )
  def test_refused(self, changes, message):
    config = self.config()
    for field, value in changes.items():
      config.stages.scatter[field] = value
    with self.assertRaisesRegex(ValueError, message):
      run.run(config, self.folder / "run")

  def test_another_architecture_is_refused(self):
    config = self.config()
    config.models.other = recipes.model("mlp", num_classes=3, width=5,
                                        mean=(0.5,), std=(0.25,))  # fmt: skip
    config.stages.twin.architecture = "other"
    with self.assertRaisesRegex(
      ValueError, r"learners must have the arch.*'main' \(on_d_rand\) for 'othe"
    ):
      run.run(config, self.folder / "run")

  def test_too_large_a_radius(self):
    config = self.config()
    config.stages.scatter.transfer.attack.eps = 80.0
    with self.assertRaisesRegex(
      ValueError, "stages.scatter.transfer.attack.eps is 80, larger"
    ):
      run.run(config, toys.folder(self) / "new")


if __name__ == "__main__":
  absltest.main()
