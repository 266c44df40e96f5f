"""The paper's numbers stand beside ours where the data are the paper's."""

from absl.testing import absltest, parameterized

from robust_features.recipes import config_file
from robust_features.study import paper
from robust_features.study.parse import parse


class AppliesTest(parameterized.TestCase):
  def rows(self, name, **overrides):
    """Returns {row: whether the paper's number would be printed}."""
    fields = {f.replace("__", "."): v for f, v in overrides.items()}
    plan = parse(config_file.load(name, fields))
    return {
      row: paper.applies(plan, row)
      for row in plan.config.table
      if plan.nodes[row].stage.paper
    }

  def test_cifar10_and_its_new_test_set(self):
    found = self.rows(
      "cifar_nonrobust:cifar10_1", data__cifar10_1__data_dir="DIR2"
    )
    self.assertIn(True, ["cifar10_1" in row for row in found])
    self.assertEqual(set(found.values()), {True})

  @parameterized.parameters(
    {"data__D__source": "image_folder", "data__D__data_dir": "photos"},
    {"data__D__source": "npz", "data__D__data_dir": "mine.npz"},
    {"data__D__name": "cifar100"},
    {"data__D__source": "planted"},
  )
  def test_nothing_else_however_it_is_called(self, **overrides):
    found = self.rows("cifar_small", **overrides)
    self.assertNotEmpty(found)
    self.assertEqual(set(found.values()), {False})

  def test_one_stage_on_other_data_is_enough(self):
    config = config_file.load("cifar_small")
    config.data.mine = config.data.D.copy_and_resolve_references()
    config.data.mine.name = "cifar100"
    config.stages.d_det.data = "mine"
    plan = parse(config)
    self.assertTrue(paper.applies(plan, "eval_standard"))
    self.assertFalse(paper.applies(plan, "eval_on_d_det"))


if __name__ == "__main__":
  absltest.main()
