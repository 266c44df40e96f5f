"""What a config becomes, and what is refused without its data."""

import toy_study
from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.study.parse import parse


class NamesTest(parameterized.TestCase):
  @parameterized.parameters("data", "figures", "a b", "a/b", "-a")
  def test_stages_that_can_have_no_folder(self, name):
    config = toy_study.config("folder")
    config.stages[name] = config.stages.base
    with self.assertRaisesRegex(
      ValueError, "cannot be a folder of its own; choose another name"
    ):
      parse(config)

  @parameterized.parameters(3, "", "a b", ".a", "a/b")
  def test_studies_that_can_have_none(self, name):
    config = recipes.study("toy")
    config.unlock()
    del config.name
    config.name = name
    with self.assertRaisesRegex(ValueError, f"^name must be .*got {name!r}$"):
      parse(config)

  def test_a_seed_is_a_number(self):
    config = toy_study.config("folder")
    del config.seed
    config.seed = True
    with self.assertRaisesRegex(ValueError, "seed must be an integer.*True"):
      parse(config)

  def test_a_stage_without_a_kind(self):
    config = toy_study.config("folder")
    del config.stages.base.kind
    with self.assertRaisesRegex(ValueError, "^stages.base.kind is missing$"):
      parse(config)

  def test_the_rows_there_are(self):
    config = toy_study.config("folder", table=("base",))
    with self.assertRaisesRegex(
      ValueError, "no row; there are eval_base, eval_on_d_rand$"
    ):
      parse(config)


class NodesTest(absltest.TestCase):
  def test_each_parent_and_source_once(self):
    config = toy_study.config("folder")
    config.stages.scatter = recipes.transfer_stage(
      "base", ("base", "on_d_rand", "base"), (),
      recipes.attack("l2", 0.5, 0.1, 2),
    )  # fmt: skip
    nodes = parse(config).nodes
    self.assertEqual(nodes["scatter"].parents, ("base", "on_d_rand"))
    self.assertEqual(nodes["scatter"].sources, ("D",))
    # Data and validation are one source.
    self.assertEqual((nodes["base"].parents, nodes["base"].sources),
                     ((), ("D",)))  # fmt: skip
    self.assertEqual((nodes["d_rand"].parents, nodes["d_rand"].sources),
                     (("base",), ("D",)))  # fmt: skip

  def test_a_model_that_is_called_like_a_source(self):
    config = toy_study.config("folder")
    config.stages.D = config.stages.base
    config.stages.eval_base.model = "D"
    node = parse(config).nodes["eval_base"]
    self.assertEqual((node.parents, node.sources), (("D",), ("D",)))

  def test_a_model_is_no_set(self):
    config = toy_study.config("folder")
    config.stages.eval_base.data = "base"
    with self.assertRaisesRegex(
      ValueError, "eval_base.data must be one of 'D', 'd_rand', got 'base'"
    ):
      parse(config)

  def test_a_circle_is_shown(self):
    config = toy_study.config("folder")
    config.stages.base.data = "d_rand"
    with self.assertRaisesRegex(
      ValueError, "^stages.base needs itself: base <- d_rand <- base$"
    ):
      parse(config)


if __name__ == "__main__":
  absltest.main()
