"""How far a study is, what it will cost, how long it has still to go."""

import pathlib
import re
import shutil
import tempfile
from unittest import mock

import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.runtime import logs
from robust_features.study import graph, outlook, run
from robust_features.study.parse import parse


class OutlookTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    toy_study.write_npz(cls.folder)
    cls.plan = parse(toy_study.config(cls.folder))
    cls.whole = cls.folder / "whole"
    with mock.patch.object(logs, "say") as say:
      run.complete(graph.Study(cls.plan, cls.whole))
    cls.said = [call.args[0] for call in say.call_args_list]

  def study(self, workdir="nowhere"):
    return graph.Study(self.plan, self.folder / workdir)

  def test_order(self):
    found = outlook.order(self.plan)
    self.assertEqual(found, ["base", "eval_base", "d_rand", "on_d_rand",
                             "eval_on_d_rand", "sweep"])  # fmt: skip
    self.assertEqual(outlook.order(self.plan, "on_d_rand"),
                     ["base", "d_rand", "on_d_rand"])  # fmt: skip

  def test_a_run_tells_where_it_is_and_what_is_left(self):
    self.assertEqual(self.said[0], "stage 1 of 6: base (train)")
    self.assertRegex(self.said[1], r"^base: \d+ s; about \d+ \w+ left$")
    self.assertEqual(self.said[10], "stage 6 of 6: sweep (step_sweep)")
    self.assertRegex(self.said[11], r"^sweep: \d+ s$")

  def test_what_is_skipped_and_what_goes_on(self):
    workdir = toys.folder(self) / "run"
    shutil.copytree(self.whole, workdir)
    (workdir / "on_d_rand" / "result.json").unlink()
    with mock.patch.object(logs, "say") as say:
      run.complete(graph.Study(self.plan, workdir))
    said = [call.args[0] for call in say.call_args_list]
    self.assertIn("stage 1 of 6: base (train), done before", said)
    self.assertIn("stage 4 of 6: on_d_rand (train), goes on at step 8", said)

  def test_only_one_stage_and_what_it_needs(self):
    workdir = toys.folder(self) / "run"
    found = run.complete(graph.Study(self.plan, workdir), "d_rand")
    self.assertIn("sha256", found)
    done = sorted(p.parent.name for p in workdir.glob("*/result.json"))
    self.assertEqual(done, ["base", "d_rand"])
    self.assertFalse((workdir / "results.json").exists())

  def test_work_by_hand(self):
    study = self.study()
    found = outlook.work(study, "base")
    # Two epochs of 32 images and two validations of 8.
    self.assertEqual(found, (64 + 16, 64, 3 * 64 + 16))
    config = toy_study.config(self.folder)
    recipe, attack = config.stages.base.train, recipes.adversary()
    recipe.adversary, recipe.adversary.start = attack, "random"
    recipe.trades_beta, recipe.awp_gamma = 6.0, 0.01
    other = graph.Study(parse(config), self.folder / "nowhere")
    found = outlook.work(other, "base")
    # Clean and attacked, before and after the weights are moved.
    self.assertEqual(found.gradients, 64 * (7 + 4) + 16 * 7)
    self.assertEqual(found.passes, 64 * (15 + 1 + 12) + 16 * (1 + 15 + 1))
    config = toy_study.config(self.folder)
    config.stages.on_d_rand.teacher = "base"
    config.stages.on_d_rand.train.distil_weight = 0.5
    other = graph.Study(parse(config), self.folder / "nowhere")
    found = outlook.work(other, "on_d_rand")
    self.assertEqual(found.passes, 64 * (3 + 1) + 16)
    found = outlook.work(study, "d_rand")
    self.assertEqual(found, (32, 32 * 2, 32 * (2 * 2 + 6)))
    found = outlook.work(study, "on_d_rand")
    self.assertEqual(found.gradients, 64)
    found = outlook.work(study, "eval_base")
    self.assertEqual(found, (30, 30 * 2 * 3, 30 * (1 + 2 * (2 * 3 + 2))))

  def test_numbers_of_images_are_at_most_what_there_is(self):
    attack = recipes.attack("l2", 0.5, 0.1, 2)
    for stage in (
      recipes.transfer_stage("base", ("base",), (), attack, num_examples=999),
      recipes.autoattack_stage("base", "l2", (0.5,), num_examples=999),
      recipes.usefulness_stage(("base",), attack, num_examples=999),
      recipes.select_stage("d_rand", "first", num_examples=999),
    ):
      config = toy_study.config(self.folder)
      config.stages.more = stage
      study = graph.Study(parse(config), self.folder / "nowhere")
      self.assertLessEqual(outlook.work(study, "more").images, 32, stage.kind)

  def test_costs_are_passes_times_a_pass(self):
    study = self.study()
    each = mock.Mock(return_value=10.0)
    found = outlook.costs(study, ["base", "eval_base"], each)
    self.assertEqual(found, {"base": 2080.0, "eval_base": 5100.0})
    each.assert_called_once_with(self.plan.models["main"], (8, 8, 3))

  def test_flops_of_a_network(self):
    flops = outlook.forward_flops(self.plan.models["main"], (8, 8, 3))
    layers = 2 * (192 * 6 + 6 * 6 + 6 * 3)  # Two hidden layers, and logits.
    self.assertBetween(flops, layers, 2 * layers)

  def test_seconds_of_a_pass(self):
    """The least of three gradients, after one that compiles, by the image."""
    clock = [0.0, 100.0, 100.0, 103.0, 103.0, 105.0, 105.0, 109.0]
    with mock.patch.object(outlook.time, "perf_counter", side_effect=clock):
      found = outlook.seconds_a_pass(self.plan.models["main"], (8, 8, 3))
    self.assertAlmostEqual(found * 2 * outlook._BATCH["cpu"], 2.0)

  def test_a_dry_run_counts_and_writes_nothing(self):
    found = outlook.dry_run(self.study())
    self.assertFalse((self.folder / "nowhere").exists())
    row = (
      r"\| base +\| train +\| not begun \| +80 \| +64 \| \d.*e\+05 \| .* s \|"
    )
    self.assertRegex(found, row)
    self.assertRegex(found, r"\nabout \d+ s left at most, and compiling")

  def test_only_a_stage_and_what_it_needs_is_told(self):
    told = outlook.status(self.study(), "d_rand")
    self.assertIn("0 of 2 stages done", told)
    for text in (told, outlook.dry_run(self.study(), "d_rand")):
      self.assertEqual(
        re.findall(r"(?m)^\| (\w+) ", text)[1:], ["base", "d_rand"]
      )
    for tell in (outlook.status, outlook.dry_run):
      for name in ("bas", ""):
        with self.assertRaisesRegex(
          ValueError, f"--only must be .*, got '{name}'"
        ):
          tell(self.study(), name)

  def test_what_is_done_is_not_left(self):
    before = sorted(self.whole.rglob("*"))
    with mock.patch.object(outlook, "seconds_a_pass", return_value=9.0):
      found = outlook.dry_run(self.study("whole"))
      self.assertNotIn("about 0 s left", outlook.dry_run(self.study()))
    self.assertIn("about 0 s left", found)
    self.assertEqual(sorted(self.whole.rglob("*")), before)

  def test_status(self):
    self.assertIn("0 of 6 stages done", outlook.status(self.study()))
    begun = self.folder / "begun" / "base" / "config.json"
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    found = outlook.status(self.study("begun"))
    self.assertRegex(found, r"\| base +\| train +\| begun +\| +- \|")
    found = outlook.status(self.study("whole"))
    self.assertIn("6 of 6 stages done", found)
    self.assertRegex(found, r"\| base +\| train +\| done +\| +\d+ \|")

  def test_an_imported_model_and_what_evaluates_none(self):
    config = recipes.study("s")
    config.data.D = recipes.data("digits")
    config.stages.theirs = recipes.imported_stage(
      str(toys.write_checkpoint(toys.folder(self) / "cnn"))
    )
    config.stages.theory = recipes.statements_stage()
    plan = parse(config)
    found = outlook.network(plan, "theirs")
    self.assertEqual((found.name, found.width), ("cnn", 4))
    self.assertIsNone(outlook.network(plan, "theory"))


class TimeLeftTest(parameterized.TestCase):
  @parameterized.parameters(
    (0, "0 s"), (0.4, "1 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"),
    (5400, "1.5 h"), (86400, "24.0 h"),
  )  # fmt: skip
  def test_duration(self, seconds, want):
    self.assertEqual(outlook.duration(seconds), want)

  def test_by_what_was_run_from_its_beginning(self):
    left = outlook.TimeLeft({"a": 10.0, "b": 5.0, "c": 30.0, "d": 0.0})
    self.assertEqual(left.text(), "")
    left.finish("b", 0.0)  # It went on from a checkpoint.
    self.assertEqual(left.text(), "")
    left.finish("a", 20.0)
    self.assertEqual(left.text(), "; about 60 s left")
    left.finish("d", 100.0)  # It costs what nobody counts.
    self.assertEqual(left.text(), "; about 60 s left")
    left.finish("c", 50.0)
    self.assertEqual(left.text(), "")


if __name__ == "__main__":
  absltest.main()
