"""What a library's user can get wrong is refused before anything is computed.

Every public entry point that takes images is given images that are not in
[0, 1], channels first, labels that are no class, and a radius of 8 for 8/255.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import (
  attacks,
  construct,
  evaluate,
  models,
  strong_attacks,
  train,
  train_step,
  transfer,
  usefulness,
)
from robust_features.attacks import carlini_wagner, losses
from robust_features.data import dataset as ds

NUM_CLASSES = 3


def key():
  return jax.random.key(0)


def never(params, x):
  """A network that is traced, for its shapes, and never run."""
  del params
  if not isinstance(x, jax.core.Tracer):
    raise AssertionError("the network was run")
  return x.mean((1, 2)), x.mean((1, 2))


MODEL = models.from_function(never, lambda key, x: {"w": jnp.zeros(1)})
VARIABLES = {"params": {"w": jnp.zeros(1)}}
PGD = attacks.AttackConfig("linf", 8 / 255, 2 / 255, 2)


def logits_fn(x):
  return never(None, x)[0]


def set_of(x, y):
  """Returns a data set that nobody has looked at."""
  return ds.Dataset(x, y.astype(np.int32), NUM_CLASSES, ("a", "b", "c"))


def maximize(x, y, eps, folder):
  del folder
  cfg = dataclasses.replace(PGD, eps=eps)
  keys, y = jax.random.split(key(), len(x)), jnp.asarray(y)
  attacks.maximize(
    lambda z: losses.cross_entropy(logits_fn(z), y), x, keys, cfg
  )


def auto_attack(x, y, eps, folder):
  del folder
  attacks.autoattack.run(logits_fn, x, y, norm="linf", eps=eps, key=key())


def minimize_distance(x, y, eps, folder):
  del eps, folder
  carlini_wagner.minimize_distance(
    lambda z: z.mean((1, 2)),
    x,
    jnp.asarray(y),
    attacks.CarliniWagnerConfig(1, 1),
  )


def evaluated(x, y, eps, folder):
  del folder
  cfg = evaluate.EvaluateConfig(norm="linf", eps=(eps,))
  evaluate.evaluate(MODEL, VARIABLES, set_of(x, y), cfg, key())


def accuracy(x, y, eps, folder):
  del eps, folder
  evaluate.accuracy(MODEL, VARIABLES, set_of(x, y), 4)


def predict(x, y, eps, folder):
  del y, eps, folder
  evaluate.predict(MODEL, VARIABLES, x, 4)


def represent(x, y, eps, folder):
  del y, eps, folder
  evaluate.represent(MODEL, VARIABLES, x, 4)


def strong(x, y, eps, folder):
  cfg = strong_attacks.AutoAttackConfig(
    "linf", (eps,), ("square",), attacks.autoattack.Budget(), 4
  )
  strong_attacks.auto_attack(MODEL, VARIABLES, set_of(x, y), cfg, key(), folder)


def nearest(x, y, eps, folder):
  del eps, folder
  cfg = attacks.CarliniWagnerConfig(1, 1)
  strong_attacks.nearest_errors(MODEL, VARIABLES, set_of(x, y), cfg, 4)


def transferred(x, y, eps, folder):
  del folder
  attack = dataclasses.replace(PGD, eps=eps)
  cfg = transfer.TransferConfig(attack, "next", 4)
  transfer.make_examples(MODEL, VARIABLES, set_of(x, y), cfg, key())


def constructed(x, y, eps, folder):
  cfg = construct.preset("det", dataclasses.replace(PGD, eps=eps))
  data = set_of(x, y)
  construct.construct(cfg, MODEL, VARIABLES, data, data, folder, key(), {})


def trained(x, y, eps, folder):
  adversary = dataclasses.replace(PGD, eps=eps)
  recipe = train_step.TrainConfig(batch_size=4, adversary=adversary)
  data = set_of(x, y)
  train.train(recipe, train.RunConfig(), MODEL, data, data, folder, key())


def linear(x, y, eps, folder):
  del folder
  usefulness.linear_usefulness(x, y, eps, "linf")


def useful(x, y, eps, folder):
  del folder
  cfg = dataclasses.replace(PGD, eps=eps)
  usefulness.representation_usefulness(never, None, x, y, cfg, key())


ENTRIES = (
  maximize, auto_attack, minimize_distance, evaluated, accuracy, predict,
  represent, strong, nearest, transferred, constructed, trained, linear, useful,
)  # fmt: skip
WITHOUT = {  # What an entry point does not take.
  "labels": (predict, represent),
  "eps": (minimize_distance, accuracy, predict, represent, nearest),
}


def taking(what):
  """Returns the entry points that take labels, or a radius."""
  return [entry for entry in ENTRIES if entry not in WITHOUT[what]]


class RefusedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    rng = np.random.default_rng(0)
    self.x = rng.uniform(size=(8, 8, 8, 3)).astype(np.float32)
    self.y = np.arange(8) % NUM_CLASSES

  def refused(self, entry, pattern, **changes):
    given = {"x": self.x, "y": self.y, "eps": 8 / 255} | changes
    with self.assertRaisesRegex(ValueError, pattern) as caught:
      entry(**given, folder=self.folder / "out")
    self.assertNotIn("\n", str(caught.exception))
    self.assertFalse((self.folder / "out").exists())

  @parameterized.parameters(*ENTRIES)
  def test_0_to_255(self, entry):
    self.refused(entry, r"\[0, 1\], got ", x=self.x * 255)

  @parameterized.parameters(*ENTRIES)
  def test_not_a_number(self, entry):
    self.refused(entry, r"\[0, 1\], got ", x=self.x * np.nan)

  @parameterized.parameters(*ENTRIES)
  def test_channels_first(self, entry):
    self.refused(entry, "looks like .*C, H, W", x=self.x.transpose(0, 3, 1, 2))

  def test_channels_first_in_a_forward_pass(self):
    with self.assertRaisesRegex(ValueError, "looks like .*B, C, H, W"):
      models.apply(MODEL, VARIABLES, self.x.transpose(0, 3, 1, 2))

  @parameterized.parameters(*taking("labels"))
  def test_labels_that_are_no_class(self, entry):
    for y in (self.y - 1, self.y + 1):
      if entry not in (linear, useful) or y.min() < 0:
        self.refused(entry, r"(y|labels) must (be|lie) ", y=y)

  @parameterized.parameters(*taking("eps"))
  def test_8_for_8_of_255(self, entry):
    self.refused(entry, "eps.*8/255", eps=8.0)

  def test_too_few_logits(self):
    model = models.from_function(lambda params, x: x.mean((1, 2))[:, :2])
    cfg = transfer.TransferConfig(PGD, "next", 4)
    with self.assertRaisesRegex(ValueError, "have 3 classes, .* 2 logits"):
      transfer.make_examples(
        model, VARIABLES, set_of(self.x, self.y), cfg, key()
      )

  def test_a_scalar_objective(self):
    keys = jax.random.split(key(), 8)
    with self.assertRaisesRegex(ValueError, "one value an image, .8,., got"):
      attacks.maximize(lambda z: z.mean(), self.x, keys, PGD)


if __name__ == "__main__":
  absltest.main()
