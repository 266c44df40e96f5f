"""The paper's numbers stand beside ours where the data are the paper's."""

from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.data import sources
from robust_features.recipes import config_file
from robust_features.study import paper, settings
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

  def test_one_source_of_several_is_enough(self):
    config = config_file.load("cifar_small")
    config.data.mine = config.data.D.copy_and_resolve_references()
    config.data.mine.name = "cifar100"
    self.assertTrue(paper.applies(parse(config), "standard"))
    config.stages.standard.validation = "mine"
    self.assertFalse(paper.applies(parse(config), "standard"))

  @parameterized.parameters(
    ({}, True), ({"image_size": 64}, False), ({"balanced": True}, False),
  )  # fmt: skip
  def test_restricted_imagenet_as_the_paper_has_it(self, changes, want):
    fields = {"image_size": 224, "balanced": False, "data_dir": "d"} | changes
    cfg = settings.build(
      sources.DataConfig,
      recipes.data("restricted_imagenet", **fields),
      "data.D",
    )
    self.assertEqual(paper._is_papers(cfg), want)


class NumbersTest(absltest.TestCase):
  """Read off the paper once more: (accuracy, eps 0.25, eps 0.5), in percent."""

  def test_tables(self):
    found = {
      name: tuple(
        None if value is None else round(100 * value, 2)
        for value in (row["accuracy"], *map(row["robust_accuracy"].get,
                                            ("0.25", "0.5")))
      )
      for name, row in paper.ROWS.items()
    }  # fmt: skip
    self.assertEqual(
      found,
      {
        "standard": (95.25, 4.49, 0.0),
        "robust": (90.83, 82.48, 70.9),
        "nonrobust_image": (87.68, 0.82, 0.0),
        "nonrobust_noise": (45.6, 1.5, 0.0),
        "robust_image": (85.4, 48.2, 21.85),
        "robust_noise": (84.1, 48.27, 29.4),
        "robust_train_set": (None, 77.33, None),
        "robust_test_set": (None, 62.49, None),
        "rand_standard": (63.3, None, None),
        "det_standard": (43.7, None, None),
        "rand_robust": (25.2, None, None),
        "det_robust": (5.8, None, None),
        "det_standard_relabelled": (16.2, None, None),
        "det_robust_relabelled": (65.5, None, None),
        "rand_cifar10_1": (55.0, None, None),
        "det_cifar10_1": (44.0, None, None),
        "imagenet_standard": (98.0, None, 18.5),
        "imagenet_robust": (95.7, None, 92.8),
        "imagenet_robust_image": (86.8, None, 70.6),
        "imagenet_standard_table": (96.6, None, None),
        "imagenet_rand": (87.9, None, None),
        "imagenet_det": (64.4, None, None),
      },
    )

  def test_where_they_are_printed(self):
    found = {}
    for name, row in paper.ROWS.items():
      found.setdefault(row["source"], []).append(name)
    self.assertEqual(
      found["Table 7"],
      ["standard", "robust", "nonrobust_image", "nonrobust_noise",
       "robust_image", "robust_noise"],
    )  # fmt: skip
    self.assertEqual(found["Table 8"], ["robust_train_set", "robust_test_set"])
    for name, source in (
      ("rand_standard", "Tables 1, 9"), ("det_standard", "Tables 1, 9, 10"),
      ("rand_robust", "Table 9"), ("det_robust", "Tables 9, 10"),
      ("det_robust_relabelled", "Table 10"), ("rand_cifar10_1", "D.7"),
      ("imagenet_robust", "Figure 12"), ("imagenet_det", "Table 1"),
    ):  # fmt: skip
      self.assertIn(name, found[source])

  def test_transfer(self):
    found = [
      (p["architecture"], p["learner_accuracy"], p["untargeted"], p["targeted"])
      for p in paper.TRANSFER["transfer"]
    ]
    self.assertEqual(
      found,
      [
        ("VGG-16", 0.2794, 0.6567, 0.0915),
        ("Inception-v3", 0.3939, 0.8275, 0.23),
        ("ResNet-18", 0.4084, 0.9212, 0.324),
        ("DenseNet", 0.417, 0.9272, 0.365),
        ("ResNet-50", 0.447, 0.987, 0.716),
      ],
    )


if __name__ == "__main__":
  absltest.main()
