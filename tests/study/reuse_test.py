"""Stages that do not differ are taken from other runs, whole ones only."""

import pathlib
import shutil

import toy_study
import toys
from absl.testing import absltest

from robust_features.study import graph, run
from robust_features.study.parse import parse


class ReuseTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    toy_study.write_npz(self.folder)
    self.runs = self.folder / "runs"
    self.first = self.complete("first")

  def complete(self, name, reuse=None, **overrides):
    """Runs a model and its row."""
    config = toy_study.config(self.folder, **overrides)
    for stage in set(config.stages) - {"base", "eval_base"}:
      del config.stages[stage]
    config.table = ("eval_base",)
    study = graph.Study(parse(config), self.runs / name)
    return run.complete(study, reuse=reuse)

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

  def test_a_folder_that_is_not_there(self):
    with self.assertRaisesRegex(ValueError, "--reuse=.*nowhere is no folder"):
      self.complete("second", pathlib.Path("nowhere"))


if __name__ == "__main__":
  absltest.main()
