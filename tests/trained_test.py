"""Trained models opened by folder, and studies that begin with an import."""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import evaluate, models, recipes, trained
from robust_features.runtime import checkpoint
from robust_features.study import graph, run, settings
from robust_features.study.kinds import KINDS
from robust_features.study.parse import parse


def config(folder):
  """Returns a study that imports a model, attacks it and makes D_R from it."""
  found = recipes.study("imported")
  found.data.D = recipes.data("digits", num_validation=100)
  found.models.main = recipes.model("mlp", mean=(0.3,), std=(0.38,), width=16)
  recipe = recipes.train(
    num_epochs=1,
    batch_size=100,
    augment=recipes.no_augmentation(),
    ema_decay=0.5,
  )
  found.stages.here = recipes.train_stage("main", "D", recipe)
  found.stages.there = recipes.imported_stage(str(folder))
  evaluation = recipes.evaluation(eps=(0.5,), num_steps=2)
  for name in ("here", "there"):
    recipes.add_row(found, name, name, evaluation)
  inversion = recipes.inversion("robust")
  inversion.attack.num_steps = 2
  recipes.add_data_set(found, "d_robust", "there", inversion, recipe)
  return found


class StudyTest(absltest.TestCase):
  """A stage of one study is the imported model of another."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    cls.first = config("unused")
    for name in ("there", "eval_there", "d_robust", "on_d_robust"):
      del cls.first.stages[name]
    cls.first.table = ("eval_here",)
    cls.begun = run.run(cls.first, cls.folder / "first")
    cls.stage = cls.folder / "first" / "here"
    cls.found = run.run(config(cls.stage), cls.folder / "second")

  def test_the_imported_model_is_the_one_that_was_trained(self):
    here, there = self.found["rows"]
    self.assertEqual(here["model_digest"], there["model_digest"])
    for field in ("accuracy", "robust_accuracy"):
      self.assertEqual(here[field], there[field])
    self.assertGreater(there["accuracy"], 0.18)  # Chance is 0.1.
    self.assertEqual(self.found["imported"]["there"]["model"]["name"], "mlp")

  def test_it_is_the_source_of_a_data_set(self):
    self.assertGreater(self.found["data_sets"]["d_robust"]["num_examples"], 0)
    text = (self.folder / "second" / "results.md").read_text()
    self.assertIn("## Imported models", text)

  def test_the_folder_is_all_that_is_needed(self):
    last = trained.load(self.stage)
    digest = self.begun["models"]["here"]["digest"]
    self.assertEqual(checkpoint.digest(last.variables), digest)
    net = models.make_model(last.config)
    splits = graph.Study(parse(self.first), self.folder / "first").splits("D")
    accuracy = evaluate.accuracy(net, last.variables, splits.test, 100)
    self.assertEqual(accuracy, self.begun["rows"][0]["accuracy"])
    best = trained.load(self.stage, "best")
    shapes = [jax.tree.map(np.shape, t.variables) for t in (last, best)]
    self.assertEqual(*shapes)

  def test_weights_that_were_not_trained_there(self):
    for which, field in (("last", "digest"), ("best", "best_digest")):
      folder = self.folder / f"changed_{which}"
      shutil.copytree(self.stage, folder)
      result = json.loads((folder / "result.json").read_text())
      result[field] = "0" * 64
      (folder / "result.json").write_text(json.dumps(result))
      with self.assertRaisesRegex(
        checkpoint.CheckpointError, "is not the checkpoint that was trained"
      ):
        trained.load(folder, which)

  def test_another_model_in_its_place_is_noticed(self):
    folder = self.folder / "other"
    cfg = trained.load(self.stage).config
    net = models.make_model(cfg)
    for seed in (0, 1):
      variables = models.init_variables(net, jax.random.key(seed), (8, 8, 1))
      model = {"model": self.found["imported"]["there"]["model"]}
      checkpoint.save_variables(folder / str(seed), variables, model)
    both = config(folder / "link")
    (folder / "link").symlink_to(folder / "0")
    only = ("there", "eval_there")
    for name in set(both.stages) - set(only):
      del both.stages[name]
    both.table = ("eval_there",)
    run.run(both, self.folder / "third")
    (folder / "link").unlink()
    (folder / "link").symlink_to(folder / "1")
    (self.folder / "third" / "eval_there" / "result.json").unlink()
    with self.assertRaisesRegex(ValueError, "holds another model than when"):
      run.run(both, self.folder / "third")


class RefusalTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)

  def test_before_any_work(self):
    stage = self.folder / "stage"
    stage.mkdir()
    (stage / "config.json").write_text("{}")
    for where, message in (
      ("", "stages.there.checkpoint is empty"),
      (
        self.folder / "none",
        "there.checkpoint: .*none does not exist; give",
      ),
      (stage, "is no finished stage"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        run.run(config(where), self.folder / "run")
    self.assertFalse((self.folder / "run" / "here").exists())

  def test_a_model_of_other_images(self):
    folder = toys.write_checkpoint(self.folder / "colour")
    with self.assertRaisesRegex(ValueError, "10 classes and 3 colours, but"):
      run.run(config(folder), self.folder / "run")

  def test_a_stage_of_another_kind(self):
    stage = self.folder / "autoattack"
    stage.mkdir()
    (stage / "config.json").write_text("{}")
    for result in ("{}", '{"model": "standard"}', '{"model": {"depth": 3}}'):
      (stage / "result.json").write_text(result)
      with self.assertRaisesRegex(ValueError, "does not say its architecture"):
        trained.load(stage)

  def test_a_whole_study(self):
    (self.folder / "study.json").write_text("{}")
    with self.assertRaisesRegex(ValueError, "is a whole study; give the fold"):
      trained.load(self.folder)

  def test_last_or_best(self):
    with self.assertRaisesRegex(ValueError, "'last' or 'best', got 'first'"):
      trained.load(self.folder, "first")


def imported(**changes):
  """Returns a stage that imports a folder `there`."""
  fields = dict(recipes.imported_stage("there", **changes).items())
  stage = KINDS[fields.pop("kind")].stage
  return settings.build(stage, fields, "stages.s")


class KindTest(parameterized.TestCase):
  def opened(self, **fields):
    variables = {"params": {"w": np.ones((2, 3))}, "stats": {"m": np.ones(5)}}
    cfg = models.ModelConfig("cnn", **fields)
    return trained.Trained(cfg, variables, {"source": "a.pt"})

  def test_what_is_kept_and_opened(self):
    made = imported(dtype="bfloat16")
    opened = self.opened(width=4)
    digest = checkpoint.digest(opened.variables)
    asked = mock.Mock(workdir="run")
    with mock.patch.object(trained, "load", return_value=opened) as load:
      result = KINDS["imported"].run(asked, "s", made, "folder")
      asked.require.return_value = result
      found = KINDS["imported"].open(asked, "s", made, "best")
      self.assertEqual(KINDS["imported"].network(None, made), opened.config)
      asked.require.return_value = result | {"digest": "other"}
      with self.assertRaisesRegex(ValueError, "there holds another model"):
        KINDS["imported"].open(asked, "s", made, "last")
    load.assert_called_with("there")
    self.assertEqual((result["num_params"], result["seconds"]), (6, 0.0))
    self.assertEqual(result["digest"], digest)
    self.assertEqual(result["origin"], {"source": "a.pt"})
    self.assertEqual((result["model"]["width"], result["model"]["dtype"]),
                     (4, "bfloat16"))  # fmt: skip
    self.assertEqual(found.config.dtype, "bfloat16")
    self.assertIs(found.variables, opened.variables)

  @parameterized.parameters(
    ("cnn", 3, 10, True), ("cnn", 1, 10, True), ("cnn", 2, 10, False),
    ("cnn", 3, 11, False), ("own:net", 2, 10, True),
    ("own:net", 3, 11, False),
  )  # fmt: skip
  def test_classes_and_colours_must_fit(self, name, colours, classes, fine):
    made = imported()
    cfg = mock.Mock(mean=colours * (0.5,), num_classes=classes)
    cfg.name = name
    asked = mock.Mock()
    asked.image_shape.return_value = 8, 9, 3
    asked.num_classes.return_value = 10
    with mock.patch.object(
      trained, "load", return_value=trained.Trained(cfg, {}, {})
    ):
      if fine:
        KINDS["imported"].preflight(asked, "s", made)
        asked.image_shape.assert_called_once_with("s")
        asked.num_classes.assert_called_once_with("D")
        return
      with self.assertRaisesRegex(
        ValueError, f"s.checkpoint is a model of {classes} classes and "
        f"{colours} colours, but data.D has 10 and 3",
      ):  # fmt: skip
        KINDS["imported"].preflight(asked, "s", made)


if __name__ == "__main__":
  absltest.main()
