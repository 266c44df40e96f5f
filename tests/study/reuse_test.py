"""Stages that do not differ are taken from other runs, whole ones only."""

import os
import pathlib
import shutil
from unittest import mock

import toy_study
import toys
from absl.testing import absltest

from robust_features.runtime import logs
from robust_features.study import graph, run
from robust_features.study.parse import parse


class ReuseTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = toys.class_folder(cls)
    toy_study.write_npz(cls.folder)
    cls.first = run.complete(cls.study(cls.folder / "whole"))

  def setUp(self):
    super().setUp()
    self.runs = toys.folder(self)
    shutil.copytree(self.folder / "whole", self.runs / "first")

  @classmethod
  def study(cls, workdir, **overrides):
    """Returns a study of a model and its row."""
    config = toy_study.config(cls.folder, **overrides)
    for stage in set(config.stages) - {"base", "eval_base"}:
      del config.stages[stage]
    config.table = ("eval_base",)
    return graph.Study(parse(config), workdir)

  def complete(self, name, reuse=None, **overrides):
    return run.complete(self.study(self.runs / name, **overrides), reuse=reuse)

  def linked(self, name):
    return sorted(
      p.name for p in (self.runs / name).iterdir() if p.is_symlink()
    )

  def test_what_differs_is_made_and_the_rest_linked(self):
    change = {"stages__eval_base__evaluate__num_steps": 2}
    found = self.complete("second", self.runs, **change)
    self.assertEqual(self.linked("second"), ["base"])
    self.assertEqual(found["models"], self.first["models"])
    self.assertEqual(found["rows"][0]["attack"]["num_steps"], 2)
    self.assertEqual(self.linked("first"), [])
    # Another seed has nothing in common with them.
    self.complete("third", self.runs, seed=4, **change)
    self.assertEqual(self.linked("third"), [])
    # The links outlive what they led to: the stage is made again, here.
    shutil.rmtree(self.runs / "first")
    again = self.complete("second", **change)
    self.assertEqual(self.linked("second"), [])
    for field in ("digest", "history"):
      self.assertEqual(again["models"]["base"][field],
                       self.first["models"]["base"][field])  # fmt: skip

  def test_a_whole_run_and_a_damaged_one(self):
    self.complete("second", self.runs / "first")
    self.assertEqual(self.linked("second"), ["base", "eval_base"])
    path = self.runs / "first" / "eval_base" / "result.json"
    path.write_text(path.read_text().replace("0.", "1."))
    with self.assertRaisesRegex(
      ValueError, f"not what the stage wrote; delete the folder {path.parent} "
    ):
      self.complete("second", self.runs / "first")
    self.complete("third", self.runs / "first")
    self.assertEqual(self.linked("third"), ["base"])

  def test_a_folder_without_work_gives_way(self):
    """Such as that of a run that was killed before it had anything."""
    folder = self.runs / "second"
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "config.json").write_text("{}")
    elsewhere = toys.folder(self)
    (folder / "eval_base").symlink_to(elsewhere)
    self.complete("second", self.runs)
    self.assertEqual(self.linked("second"), ["base", "eval_base"])
    self.assertTrue((folder / "eval_base" / "result.json").exists())
    self.assertEmpty(list(elsewhere.iterdir()))

  def test_what_is_no_stage_s_is_not_removed(self):
    photos = self.runs / "second" / "base"
    photos.mkdir(parents=True)
    (photos / "one.jpg").write_text("a photograph")
    self.complete("second", self.runs)
    self.assertEqual((photos / "one.jpg").read_text(), "a photograph")
    self.assertTrue((photos / "result.json").exists())
    (self.runs / "third" / "base").mkdir(parents=True)
    self.complete("third", self.runs)
    self.assertIn("base", self.linked("third"))

  def test_a_stage_that_another_run_makes_again_is_not_worked_on(self):
    self.complete("second", self.runs)
    there = self.runs / "first" / "base"
    (there / "result.json").unlink()  # Its checkpoints are left.
    self.complete("second")
    self.assertEqual(self.linked("second"), ["eval_base"])
    self.assertFalse((there / "result.json").exists())

  def test_own_work_stays(self):
    """What is done here, or begun."""
    shutil.copytree(self.runs / "first", self.runs / "second")
    (self.runs / "second" / "base" / "result.json").unlink()
    with mock.patch.object(logs, "say") as say:
      self.complete("second", self.runs)
    self.assertEqual(self.linked("second"), [])
    say.assert_any_call("stage 1 of 2: base (train), goes on at step 8")

  def test_to_take_runs_nothing(self):
    """Nobody knows yet that the model which is missing will be the same."""
    shutil.rmtree(self.runs / "first" / "base")
    self.complete("second", self.runs)
    self.assertEqual(self.linked("second"), [])

  def test_of_other_inputs(self):
    other = toys.folder(self)
    toy_study.write_npz(other, seed=5)
    self.complete("second", self.runs, data__D__data_dir=str(other))
    self.assertEqual(self.linked("second"), [])

  def test_links_lead_to_where_a_stage_lies(self):
    """Not to another link; nor from where a workdir seems to lie."""
    self.complete("second", self.runs / "first")
    (self.runs / "link").symlink_to(toys.folder(self))
    self.complete("link", self.runs / "second")
    for name in ("base", "eval_base"):
      path = self.runs / "link" / name
      self.assertEqual(path.resolve(), (self.runs / "first" / name).resolve())
      self.assertNotIn("second", os.readlink(path))

  def test_a_stage_on_another_disk_goes_on_there(self):
    disk = toys.folder(self) / "base"
    shutil.move(self.runs / "first" / "base", disk)
    (self.runs / "first" / "base").symlink_to(disk)
    (disk / "result.json").unlink()
    self.complete("first")
    self.assertEqual(self.linked("first"), ["base"])
    self.assertTrue((disk / "result.json").exists())

  def test_of_several_runs_the_first_and_links_that_can_be_moved(self):
    for name in ("a", "b"):
      shutil.copytree(self.runs / "first", self.runs / name)
    # This one is no run's.
    (self.runs / "a" / "study.json").unlink()
    with mock.patch.object(logs, "say") as say:
      self.complete("second", self.runs)
    found = (self.runs / "b" / "base").resolve()
    say.assert_any_call(f"base: taken from {found}")
    link = os.readlink(self.runs / "second" / "base")
    self.assertEqual(link, os.path.join("..", "b", "base"))

  def test_a_folder_that_is_not_there(self):
    with self.assertRaisesRegex(ValueError, "--reuse=.*nowhere is no folder"):
      self.complete("second", pathlib.Path("nowhere"))


if __name__ == "__main__":
  absltest.main()
