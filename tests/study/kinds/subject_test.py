"""Stages that measure one model: which weights, images, labels, and the report.

Without a network: what is measured, and by whom, is made up.
"""

import dataclasses
import pathlib
from unittest import mock

import numpy as np
import toys
from absl.testing import absltest, parameterized
from kind_stages import stage

from robust_features import evaluate, recipes, strong_attacks
from robust_features.study.kinds import KINDS, autoattack, step_sweep, subject
from tests.study.kinds.reckoning_test import work


def sweep(**changes):
  """Returns a step sweep whose first radius is not the smallest."""
  attack = recipes.evaluation(eps=(0.5, 0.25), num_steps=3, num_restarts=2)
  made = recipes.step_sweep_stage("m", attack, (0, 7), (1.0, 2.5, 4.0))
  made.update(changes)
  return made


def cells(table):
  return [[c.strip() for c in row] for row in table.rows]


class SubjectTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, -1, 4)
  def test_weights_images_and_labels(self, shift):
    data, study = toys.dataset(9), mock.Mock()
    given = data.labels.copy()
    study.dataset.return_value = data
    study.model.return_value = ("net", "weights")
    made = stage(sweep(which="best", data="d", split="train",
                       label_shift=shift))  # fmt: skip
    *model, found = subject.subject(study, made)
    self.assertEqual(model, ["net", "weights"])
    study.model.assert_called_once_with("m", "best")
    study.dataset.assert_called_once_with("d", "train")
    np.testing.assert_array_equal(found.labels, (given + shift) % 3)
    self.assertEqual(found.labels.dtype, np.int32)
    self.assertIs(found.images, data.images)
    np.testing.assert_array_equal(data.labels, given)
    sizes = {("d", "train"): 7}
    self.assertEqual(made.num_images(lambda *which: sizes[which]), 7)

  def test_a_sample_is_the_seeds(self):
    study = mock.Mock()
    study.plan.config.seed = 5
    with mock.patch.object(subject.ds, "sample") as sample:
      subject.sampled(study, "images", 3)
    sample.assert_called_once_with("images", 3, 5)


class StepSweepTest(absltest.TestCase):
  def test_what_is_swept_and_kept(self):
    study, data, made = mock.Mock(), toys.dataset(9), stage(sweep())
    with (
      mock.patch.object(step_sweep, "subject",
                        return_value=("net", "weights", data)),
      mock.patch.object(evaluate, "step_sweep", return_value="rows") as swept,
      mock.patch.object(step_sweep.time, "monotonic", side_effect=(5.0, 7.5)),
    ):  # fmt: skip
      found = KINDS["step_sweep"].run(study, "s", made, pathlib.Path("at"))
    *args, measured = swept.call_args.args
    self.assertEqual(
      args,
      ["net", "weights", data, made.evaluate, study.key.return_value, (0, 7),
       (1.0, 2.5, 4.0)],
    )  # fmt: skip
    study.key.assert_called_once_with("s")
    self.assertEqual(measured.directory, pathlib.Path("at/parts"))
    self.assertEqual(
      found,
      {"eps": 0.5, "norm": "l2", "num_examples": 9, "rows": "rows",
       "seconds": 2.5},
    )  # fmt: skip

  def test_chance_is_that_of_its_own_classes(self):
    study = mock.Mock()
    study.require.return_value = {"rows": "rows"}
    study.num_classes = {"d": 3}.get
    found = KINDS["step_sweep"].present(study, "s", stage(sweep(data="d")))
    self.assertEqual(found, {"rows": "rows", "num_classes": 3})

  def test_work(self):
    """Three step sizes, two restarts; two looks beside each climb."""
    self.assertEqual(
      work(sweep()),
      (100, 300 * 2 * 7, 300 * ((2 * 1 + 2) + (2 * 15 + 2))),
    )

  def test_the_report(self):
    row = {"num_steps": 7, "robust_accuracy": 0.125, "step_ratio": 2.5}
    found = {"norm": "linf", "eps": 0.5, "rows": [row | {"num_steps": 0}, row]}
    ((title, (table,)),) = KINDS["step_sweep"].report({"s": found})
    self.assertEqual(title, "s: linf, eps=0.5")
    self.assertEqual(
      cells(table),
      [["steps", "robust accuracy", "step (eps / steps)"],
       ["0", "12.50", "2.5"], ["7", "12.50", "2.5"]],
    )  # fmt: skip

  def test_refused(self):
    made = sweep()
    made.evaluate.eps = ()
    with self.assertRaisesRegex(ValueError, "evaluate.eps must hold a radius"):
      stage(made)
    for field in ("steps", "step_ratios"):
      for values in ((), (float("inf"),), (float("nan"),), (1, -1)):
        with self.assertRaises(ValueError):
          stage(sweep(**{field: values}))


class AutoAttackTest(absltest.TestCase):
  def test_what_is_attacked_and_kept(self):
    rows = [{"seconds": {"a": 1.0, "b": 2.0}}, {"seconds": {"a": 4.0}}]
    made = recipes.autoattack_stage("m", "l2", (0.5,), num_examples=6)
    made.autoattack.attacks = ("square", "apgd-ce")
    made, study = stage(made), mock.Mock()
    study.plan.config.seed = 3
    for whole, num in ((toys.dataset(9), 6), (toys.dataset(4), 4)):
      with (
        mock.patch.object(autoattack, "subject",
                          return_value=("net", "weights", whole)),
        mock.patch.object(strong_attacks, "auto_attack",
                          return_value=rows) as attack,
      ):  # fmt: skip
        found = KINDS["autoattack"].run(study, "s", made, "folder")
      net, weights, data, *rest = attack.call_args.args
      self.assertEqual((net, weights, data.num_examples),
                       ("net", "weights", num))  # fmt: skip
      self.assertEqual(
        rest, [made.autoattack, study.key.return_value, "folder", "s"]
      )
      study.key.assert_called_with("s")
      self.assertEqual(found["num_examples"], num)
    self.assertEqual(found["seconds"], 7.0)
    self.assertEqual((found["seed"], found["norm"]), (3, "l2"))
    # In the order in which they ran: each sees what the last left.
    self.assertEqual(found["attacks"], ["square", "apgd-ce"])

  def test_the_report(self):
    """A number's error is the largest of all radii and attacks."""
    row = {
      "eps": 0.25, "max_perturbation": 0.2468135,
      "accuracy": {"clean": 0.9, "square": 0.75, "apgd-ce": 0.5},
      "second_pass_accuracy": 0.25, "seconds": {"square": 3.0, "apgd-ce": 1.0},
      "queries": {"clean": 5, "apgd-ce": 1000, "square": 20},
      "warnings": ["one", "two"],
    }  # fmt: skip
    other = row | {"eps": 0.5, "warnings": []}
    other["accuracy"] = {"clean": 0.9, "square": 0.0, "apgd-ce": 0.0}
    found = {"model": "m", "norm": "l2", "attacks": ["square", "apgd-ce"],
             "budget": {"num_steps": 7}, "num_examples": 100, "seed": 4,
             "rows": [row, other]}  # fmt: skip
    report = KINDS["autoattack"].report
    ((title, (table, _, of, *lines)),) = report({"s": found})
    self.assertEqual(title, "s: AutoAttack on m, l2")
    self.assertEqual(
      cells(table),
      [["eps", "clean", "square", "apgd-ce", "second pass", "largest move",
        "seconds"],
       ["0.25", "90.00", "75.00", "50.00", "25.00", "0.2468", "4"],
       ["0.5", "90.00", "0.00", "0.00", "25.00", "0.2468", "4"]],
    )  # fmt: skip
    self.assertRegex(of, "percent of 100 .* at most 5.00; seed 4$")
    self.assertEqual(
      lines,
      ["- eps=0.25: forward evaluations square 20, apgd-ce 1,000",
       "- eps=0.25: warning: one", "- eps=0.25: warning: two",
       "- eps=0.5: forward evaluations square 20, apgd-ce 1,000",
       "- num_steps 7"],
    )  # fmt: skip

  def test_what_it_goes_on_from(self):
    folder = toys.folder(self)
    (folder / "eps_0.5").mkdir()
    self.assertEqual(KINDS["autoattack"].how_far(folder), "")
    (folder / "eps_0.5" / "progress.npz").touch()
    self.assertEqual(KINDS["autoattack"].how_far(folder), "begun")


class RadiiTest(absltest.TestCase):
  def test_every_attack_is_held_against_the_box(self):
    attack = recipes.attack("l2", 0.5, 0.1, 7)
    for made, field in (
      (sweep(), "evaluate"),
      (recipes.autoattack_stage("m", "l2", (0.5,)), "autoattack"),
      (recipes.transfer_stage("m", ("m",), (), attack), "transfer.attack"),
      (recipes.usefulness_stage(("m",), attack), "attack"),
      (recipes.train_stage("a", "D", recipes.train()), "train.adversary"),
    ):
      made, kind = stage(made), KINDS[made.kind]
      ((where, cfg),) = kind.radii(made)
      self.assertEqual(where, field)
      for part in field.split("."):
        made = getattr(made, part)
      self.assertIs(cfg, made)


class TransferTest(absltest.TestCase):
  def test_work(self):
    """Both kinds of 30 examples, of 100 images that all learners see."""
    attack = recipes.attack("l2", 0.5, 0.1, 7)
    made = recipes.transfer_stage(
      "m", ("a", "b"), ("c", "d"), attack, num_examples=30
    )
    self.assertEqual(
      work(made), (30, 30 * 2 * 7, 30 * (2 * 15 + 3 * 3) + 2 * 100)
    )


class TransformTest(parameterized.TestCase):
  def run_on(self, data, made):
    study = mock.Mock()
    study.dataset.return_value = data
    study.key.return_value = toys.keys(1)[0]
    run = KINDS["transform"].run
    with mock.patch.object(run.__globals__["derived"], "save") as save:
      run(study, "s", stage(made), "folder")
    ((folder, found), _) = save.call_args
    self.assertEqual(folder, "folder")
    return study, found

  def test_which_set_by_how_much(self):
    data, made = toys.dataset(9), recipes.transform_stage("d", "jpeg", 20)
    made.split = "test"
    with mock.patch.object(
      KINDS["transform"].run.__globals__["transform"], "apply"
    ) as applied:
      study, found = self.run_on(data, made)
    study.dataset.assert_called_once_with("d", "test")
    applied.assert_called_once_with("jpeg", data, 20.0)
    self.assertIs(found, applied.return_value)
    size = KINDS["transform"].work(
      stage(made), lambda *which: {("d", "test"): 7}[which]
    )
    self.assertEqual(size, (7, 0, 0))

  def test_shuffled_by_the_stages_own_name(self):
    names = ("a", "b", "c")
    data = dataclasses.replace(toys.dataset(40), class_names=names)
    study, found = self.run_on(
      data, recipes.transform_stage("d", "shuffle_labels")
    )
    study.key.assert_called_once_with("s")
    self.assertEqual(found.class_names, names)

  @parameterized.parameters(
    ("jpeg", (1, 95), (0.5, 96)), ("grey", (0,), (1,)),
    ("low_pass", (0, 0.5, 1e9), (-1,)), ("high_pass", (0, 0.5, 1e9), (-1,)),
    ("shuffle_labels", (0,), (1,)),
  )  # fmt: skip
  def test_amounts(self, transform, good, bad):
    for amount in good:
      stage(recipes.transform_stage("d", transform, amount))
    for amount in bad:
      with self.assertRaisesRegex(ValueError, "amount must be in"):
        stage(recipes.transform_stage("d", transform, amount))


if __name__ == "__main__":
  absltest.main()
