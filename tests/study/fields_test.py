"""Every field of every section has a meaning that can be read."""

import dataclasses

import toy_study
from absl.testing import absltest, parameterized

from robust_features import models, recipes, train
from robust_features.data import sources
from robust_features.study import fields
from robust_features.study.kinds import KINDS
from robust_features.study.parse import parse


@dataclasses.dataclass(frozen=True)
class Base:
  """A base.

  Attributes:
    size: Of the base, on
      two lines.
    rate: Of learning.
  """

  size: int
  rate: float


@dataclasses.dataclass(frozen=True)
class Own(Base):
  """Its own.

  Attributes:
    size: Of its own.
  """


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

  def test_a_meaning_of_several_lines_and_one_of_its_own(self):
    self.assertEqual(
      fields.meanings(Base),
      {"size": "Of the base, on two lines.", "rate": "Of learning."},
    )
    self.assertEqual(
      fields.meanings(Own), {"size": "Of its own.", "rate": "Of learning."}
    )

  def test_without_data_and_models(self):
    config = recipes.study("bare")
    config.stages.theory = recipes.statements_stage()
    found = fields.describe(parse(config))
    self.assertNotIn("data:", found)
    self.assertNotIn("models:", found)
    self.assertIn("stages of the kind statements: theory\n", found)
    self.assertRegex(found, r"\nrun:\n(  .*\n)*  chunk_steps = \d")

  def test_a_title_of_many_stages(self):
    config = toy_study.config("folder")
    for i in range(12):
      config.stages[f"another_{i:02}"] = config.stages.base
    found = fields.describe(parse(config))
    self.assertLessEqual(
      max(len(line) for line in found.splitlines() if "another" in line), 80
    )
    self.assertRegex(found, r"another_\d+,\n  another_\d+")

  def test_values_are_those_of_the_first(self):
    found = fields.describe(parse(toy_study.config("folder")))
    part = found.partition("kind train:")[2].partition("stages of")[0]
    self.assertIn("  data = 'D'\n", part)
    self.assertIn("kind step_sweep: sweep\n", found)

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
