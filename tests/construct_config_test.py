"""Which fields of a construction go together."""

import dataclasses

from absl.testing import absltest, parameterized

from robust_features import construct, construct_config, recipes
from robust_features.attacks import AttackConfig
from robust_features.study import settings

PERTURB = AttackConfig("l2", 0.5, 0.1, 10)
NOISE = AttackConfig("l2", 0.5, 0.0, 0)
INVERT = AttackConfig("l2", float("inf"), 0.1, 60, keep_best=False)


def other(**changes):
  return construct.ConstructConfig("other", changes.pop("attack", PERTURB),
                                   **changes)  # fmt: skip


class FieldsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"init": "zero"}, "init must be one of .*got 'zero'"),
    ({"pixels": "int8"}, "pixels must be one of .*got 'int8'"),
    ({"objective": "best"}, "objective must be one of .*got 'best'"),
    ({"target": "last"}, "target must be one of .*got 'last'"),
    ({"label": "next"}, "label must be one of .*got 'next'"),
    ({"base": "zero"}, "base must be one of .*got 'zero'"),
    ({"fixed_noise": "all"}, "fixed_noise must be one of .*got 'all'"),
    ({"spare": "all"}, "spare must be one of .*got 'all'"),
    ({"repel_label": "next"}, "repel_label must be one of .*got 'next'"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"shard_size": -1}, "shard_size must be at least 1, got -1"),
    ({"examples_per_image": 0}, "examples_per_image must be at least 1"),
    ({"transform_copies": -1}, "transform_copies must be at least 0"),
    ({"repel_weight": float("nan")}, "repel_weight must be finite, got nan"),
    ({"kind": ""}, "kind must name the set"),
    ({"kind": "rand"}, "target must be 'uniform' for kind 'rand'; name "),
    ({"kind": "det", "label": "own"}, "label must be 'target' for kind 'det'"),
    ({"kind": "det", "base": "uniform"}, "base must be 'image' for kind"),
    ({"kind": "det", "spare": "label_is_own"}, "spare must be 'none' for kind"),
    ({"target": "none"}, "target must be a class .*got 'none'"),
    ({"objective": "representation", "label": "own"},
     "target must be a class .*and 'none' elsewhere, got 'next'"),
    ({"objective": "untargeted", "label": "own", "target": "none",
      "repel_label": "target"}, "repel_label must be 'own' without a target"),
    ({"init": "noise"}, "init must be 'self' for objective 'target'"),
    ({"fake_relu": True}, "fake_relu must be False for objective 'target'"),
    ({"objective": "representation", "label": "own", "target": "none",
      "attack": INVERT, "base": "uniform"}, "base must be 'image' for objec"),
    ({"objective": "representation", "label": "own", "target": "none",
      "attack": INVERT, "transform_copies": 1}, "transform_copies must be 0"),
    ({"fixed_noise": "example"}, "fixed_noise must be 'none' for objective"),
    ({"objective": "none", "transform_copies": 1, "attack": NOISE},
     "transform_copies must be 0 for objective 'none'"),
    ({"objective": "none"}, "attack.num_steps must be 0 .*got 10"),
    ({"objective": "none", "fixed_noise": "example",
      "attack": AttackConfig("l2", 0.0, 0.0, 0)}, "attack.eps is the norm"),
    ({"objective": "none", "fixed_noise": "example",
      "attack": AttackConfig("l2", float("inf"), 0.0, 0)}, "attack.eps is the"),
    ({"examples_per_image": 2}, "examples_per_image must be 1 if nothing is"),
    ({"label": "own", "spare": "label_is_own"}, "spare must be 'none' where"),
    ({"base": "uniform", "spare": "predicted"}, "spare must be 'none' with ba"),
  )  # fmt: skip
  def test_refused(self, changes, message):
    with self.assertRaisesRegex(ValueError, f"^{message}"):
      dataclasses.replace(other(), **changes)

  def test_presets(self):
    for kind, want in construct_config.KINDS.items():
      attack = INVERT if want[0] == "representation" else PERTURB
      found = construct.preset(kind, attack, shard_size=7)
      self.assertEqual(
        (found.kind, found.objective, found.target, found.label),
        (kind, *want),
      )
      self.assertEqual(found.shard_size, 7)
    with self.assertRaisesRegex(ValueError, "kind must be one of .*'best'"):
      construct.preset("best", PERTURB)

  def test_recipes_have_the_same_defaults(self):
    section = recipes.construction("other", recipes.attack("l2", 0.5, 0.1, 10))
    found = settings.build(construct.ConstructConfig, section, "s")
    self.assertEqual(found, other())

  @parameterized.parameters(*construct_config.KINDS)
  def test_recipes_of_the_papers_kinds(self, kind):
    inverts = kind in ("robust", "nonrobust")
    make = recipes.inversion if inverts else recipes.targeted
    found = settings.build(construct.ConstructConfig, make(kind), "s")
    want = construct.preset(kind, found.attack, fake_relu=inverts)
    self.assertEqual(found, want)


if __name__ == "__main__":
  absltest.main()
