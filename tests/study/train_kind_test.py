"""Train stages that begin from another's model, or learn from one."""

import json
import pathlib
import tempfile

import jax
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import models, recipes, train
from robust_features.runtime import checkpoint, sharding
from robust_features.study import graph, outlook, run
from robust_features.study.parse import parse


def config(folder):
  """Returns a study whose stages but `base` and `student` learn nothing."""
  found = toy_study.config(folder)
  made = found.stages
  recipe = made.base.train
  for name in ("sweep", "d_rand", "on_d_rand", "eval_on_d_rand"):
    del made[name]
  found.table = ("eval_base",)
  still = recipes.train(**recipe)
  still.learning_rate = 0.0

  def add(name, recipe, **changes):
    made[name] = recipes.train_stage("main", "D", recipe, **changes)

  add("as_begun", still, init_from="base")
  add("as_begun_again", still, init_from="as_begun")
  add("as_ended", still, init_from="base", init_which="last")
  add("begun_from_the_end", still, init_from="as_ended")
  student = recipes.train(**recipe)
  student.distil_weight = 1.0
  add("student", student, teacher="base", init_from="base")
  add("alone", recipe, init_from="base")
  return found


class StudyTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    toy_study.write_npz(folder)
    cls.workdir = folder / "run"
    run.run(config(folder), cls.workdir)
    cls.study = graph.Study(parse(config(folder)), cls.workdir)

  def digest(self, name):
    return self.study.require(name)["digest"]

  def test_the_same_beginning(self):
    study, model = self.study, self.study.model("base")[0]
    want = train.initial_variables(model, (8, 8, 3), study.key("base"))
    self.assertEqual(self.digest("as_begun"), checkpoint.digest(want))
    self.assertEqual(self.digest("as_begun_again"), checkpoint.digest(want))
    self.assertNotEqual(self.digest("base"), checkpoint.digest(want))

  def test_it_is_the_one_that_training_begins_from(self):
    model, data = toys.Linear(3), toys.dataset(16)
    key = jax.random.key(5)
    found = train.train(
      toys.recipe(learning_rate=0.0), train.RunConfig(), model, data, data,
      toys.folder(self), key,
    )  # fmt: skip
    want = sharding.replicate(
      train.initial_variables(model, data.image_shape, key)
    )
    self.assertEqual(found.digest, checkpoint.digest(want))
    again = train.train(
      toys.recipe(), train.RunConfig(), model, data, data, toys.folder(self),
      key, initial=want,
    )  # fmt: skip
    self.assertNotEqual(again.digest, found.digest)
    # What was given is not used up.
    self.assertEqual(checkpoint.digest(want), found.digest)

  def test_the_end_as_a_beginning(self):
    for name in ("as_ended", "begun_from_the_end"):
      self.assertEqual(self.digest(name), self.digest("base"))

  def test_a_teacher_changes_what_is_learnt(self):
    """Labels apart, the student does what the teacher does."""
    images = self.study.dataset("D", "train").images / np.float32(255)
    p = {
      name: jax.nn.softmax(
        models.apply(*self.study.model(name), jax.numpy.asarray(images)).logits
      )
      for name in ("base", "student", "as_begun")
    }
    apart = {
      name: float(np.abs(p[name] - p["base"]).mean())
      for name in ("student", "as_begun")
    }
    self.assertLess(apart["student"], apart["as_begun"])
    self.assertNotEqual(self.digest("student"), self.digest("alone"))

  def test_another_source_makes_it_stale(self):
    for name in ("as_begun", "student"):
      inputs = json.loads((self.workdir / name / "inputs.json").read_text())
      self.assertEqual(inputs["stages.base.digest"], self.digest("base"))


class RefusalTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    toy_study.write_npz(self.folder)

  def refused(self, found, message):
    with self.assertRaisesRegex(ValueError, message):
      plan = parse(found)
      graph.Study(plan, self.folder / "run").preflight(outlook.order(plan))

  def test_the_beginning_of_an_imported_model(self):
    found = config(self.folder)
    found.stages.there = recipes.imported_stage(str(self.folder))
    found.stages.alone.init_from = "there"
    self.refused(found, "alone.init_which must be 'last' or 'best'.*there")

  def test_a_beginning_of_another_network(self):
    found = config(self.folder)
    found.models.wide = recipes.model("mlp", width=7)
    found.stages.as_ended.architecture = "wide"
    self.refused(found, "as_ended.init_from must name a model of the same")

  def test_teachers_that_do_not_fit(self):
    two = toys.dataset(40, num_classes=2)
    np.savez(
      self.folder / "two.npz", train_images=two.images, train_labels=two.labels,
    )  # fmt: skip
    found = config(self.folder)
    found.models.main.num_classes = 0
    found.data.E = recipes.data("npz", name="two", data_dir=str(self.folder))
    found.stages.other = recipes.train_stage(
      "main", "E", recipes.train(**found.stages.base.train), "E"
    )
    found.stages.student.teacher = "other"
    self.refused(found, "student.teacher: the teacher tells 2 classes .* has 3")
    found = config(self.folder)
    found.models.wide = recipes.model("mlp", width=7)
    found.stages.other = recipes.train_stage(
      "wide", "D", recipes.train(**found.stages.base.train)
    )
    found.stages.student.teacher = "other"
    found.stages.student.train.distil_target = "representation"
    self.refused(
      found, r"student.teacher: distil_target .* one size, got \(6,\) .* \(7,\)"
    )


if __name__ == "__main__":
  absltest.main()
