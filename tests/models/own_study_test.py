"""Networks of one's own go through the quickstart's whole study by name."""

import pathlib
import sys
import tempfile

import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import models, recipes, trained
from robust_features.runtime import checkpoint
from robust_features.study import run

ROOT = pathlib.Path(__file__).parents[2]
sys.path.append(str(ROOT))


def quickstart(name, **kwargs):
  """Returns the quickstart's smoke variant with another network."""
  from configs import quickstart

  config = quickstart.get_config("smoke")
  config.models.main.name = name
  config.models.main.kwargs = kwargs
  return config


class WholeStudyTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("vit", "own_networks:ViT", {"dim": 8, "patch": 8}),
    ("nnx", "own_networks:CNN", {"width": 6}),
  )
  def test_every_row_is_measured_and_the_folder_opens(self, name, kwargs):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    found = run.run(quickstart(name, **kwargs), folder)
    self.assertLen(found["rows"], 10)
    for row in found["rows"]:
      self.assertBetween(row["accuracy"], 0.0, 1.0)
    opened = trained.load(folder / "on_d_det")
    self.assertEqual(opened.config.name, name)
    self.assertEqual(dict(opened.config.kwargs), kwargs)
    self.assertEqual(
      checkpoint.digest(opened.variables), found["models"]["on_d_det"]["digest"]
    )
    self.assertEqual(
      models.make_model(opened.config),
      models.make_model(
        models.ModelConfig(name, opened.config.num_classes, kwargs=kwargs)
      ),
    )


class OpenedElsewhereTest(absltest.TestCase):
  def test_one_line_where_the_module_is_not(self):
    folder = toys.folder(self)
    toy_study.write_npz(folder)
    config = toy_study.config(folder, models__main__name="own_networks:linear")
    config.models.main.width = 0
    for name in set(config.stages) - {"base", "eval_base"}:
      del config.stages[name]
    config.table = ("eval_base",)
    run.run(config, folder / "run")
    path = folder / "run" / "base" / "result.json"
    path.write_text(path.read_text().replace("own_networks:", "gone:"))
    opened = trained.load(folder / "run" / "base")
    with self.assertRaisesRegex(
      ValueError, "name 'gone:linear' cannot be imported .*install its package"
    ):
      models.make_model(opened.config)


class FitTest(parameterized.TestCase):
  """What does not fit is refused by name before any stage is run."""

  @parameterized.parameters(
    ({"models__main__num_classes": 10},
     "models.main.num_classes is 10, but the data have 3 classes; give 3"),
    ({"models__main__name": "vgg16"},
     "models.main: the images are too small for this network"),
    ({"models__main__name": "own_networks:WrongShape"},
     r"models.main: a network returns logits \[B, K\].*its logits"),
    ({"models__main__name": "own_networks:Counted",
      "models__main__kwargs": {"num_classes": 4}},
     "models.main: the network gives 4 logits, but the data have 3"),
    ({"models__main__name": "none_such:net"},
     "models.main: name 'none_such:net' cannot be imported"),
    ({"models__main__name": "resnet51"}, "models.main.name must be one of"),
    ({"models__main__mean": (0.1, 0.2), "models__main__std": (1.0, 1.0)},
     "models.main: mean needs 1 or 3 numbers"),
  )  # fmt: skip
  def test_before_training(self, overrides, message):
    folder = toys.folder(self)
    toy_study.write_npz(folder)
    overrides = {"models__main__width": 0} | overrides
    with self.assertRaisesRegex(ValueError, message):
      run.run(toy_study.config(folder, **overrides), folder / "run")
    self.assertFalse((folder / "run" / "base" / "config.json").exists())

  def test_classes_and_normalisation_are_the_datas(self):
    folder = toys.folder(self)
    toy_study.write_npz(folder)
    config = toy_study.config(folder, data__D__data_dir=f"{folder}/toy.npz")
    config.data.D.name = "cifar10"  # As a config for CIFAR-10 leaves it.
    config.models.main = recipes.model("mlp", width=6)
    for name in set(config.stages) - {"base", "eval_base"}:
      del config.stages[name]
    config.table = ("eval_base",)
    found = run.run(config, folder / "run")
    model = found["models"]["base"]["model"]
    self.assertEqual(model["num_classes"], 3)
    images = run.Study(run.parse(config), folder / "run").splits("D").train
    for channel in range(3):
      pixels = images.images[..., channel] / 255
      self.assertAlmostEqual(model["mean"][channel], pixels.mean(), places=4)
      self.assertAlmostEqual(model["std"][channel], pixels.std(), places=4)


if __name__ == "__main__":
  absltest.main()
