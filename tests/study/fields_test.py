"""Every field of every section has a meaning that can be read."""

import dataclasses

import toy_study
from absl.testing import absltest, parameterized

from robust_features import models, train
from robust_features.data import sources
from robust_features.study import fields
from robust_features.study.kinds import KINDS
from robust_features.study.parse import parse


class FieldsTest(parameterized.TestCase):
  @parameterized.parameters(
    sources.DataConfig,
    models.ModelConfig,
    train.RunConfig,
    *(kind.stage for kind in KINDS.values()),
  )
  def test_every_field_has_a_meaning(self, cls):
    self.check(cls)

  def check(self, cls):
    known = fields.meanings(cls)
    for field in dataclasses.fields(cls):
      self.assertGreater(len(known.get(field.name, "")), 5, field.name)
      if dataclasses.is_dataclass(field.type):
        self.check(field.type)

  def test_a_study(self):
    found = fields.describe(parse(toy_study.config("folder")))
    self.assertIn("seed = 3\n      Of everything random", found)
    self.assertIn(
      "stages of the kind train: base, on_d_rand; values of base\n", found
    )
    self.assertIn("  kwargs = {}\n      further keywords", found)
    self.assertRegex(found, r"  train.adversary.eps = 0.0\n      Radius of the")
    # A field that a base class describes.
    self.assertIn("label_shift = 0\n      Added to every label", found)
    self.assertLess(max(map(len, found.splitlines())), 100)


if __name__ == "__main__":
  absltest.main()
