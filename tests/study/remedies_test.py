"""Advice, followed to the letter, leads out: to the results of before."""

import json
import pathlib
import re
import shutil
import tempfile
from unittest import mock

import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features.study import run
from robust_features.study.report import figures

_DELETE = re.compile(r"delete (?:the folder )?(\S+)")


def cut(path):
  path.write_bytes(path.read_bytes()[:-20])


def rewrite(path, text="{}"):
  path.write_text(text)


def edit(path):
  """Changes a number by hand."""
  result = json.loads(path.read_text())
  result["accuracy"] = 0.99
  rewrite(path, json.dumps(result))


def cut_all(path):
  for part in path.rglob("d/*"):
    cut(part)


def other_model(path):
  shutil.rmtree(path)
  shutil.copytree(path.parents[1] / "on_d_rand" / "checkpoints", path)


# What is damaged and how; what has to be made again and so needs it.
DAMAGES = (
  ("d_rand/data/00001-images.npy", pathlib.Path.unlink, "on_d_rand"),
  ("d_rand/data/00001-images.npy", cut, "on_d_rand"),
  ("d_rand/data/00000-labels.npy", pathlib.Path.unlink, "on_d_rand"),
  ("d_rand/data/manifest.json", pathlib.Path.unlink, "on_d_rand"),
  ("d_rand/data/manifest.json", cut, "on_d_rand"),
  ("d_rand/data/manifest.json", rewrite, "on_d_rand"),
  ("d_rand/data", shutil.rmtree, "on_d_rand"),
  ("base/checkpoints", shutil.rmtree, "eval_base"),
  ("base/checkpoints", cut_all, "eval_base"),
  ("base/checkpoints", other_model, "eval_base"),
  ("base/config.json", cut, ""),
  ("base/config.json", pathlib.Path.unlink, ""),
  ("base/config.json", lambda path: rewrite(path, "[]"), ""),
  ("base/inputs.json", cut, ""),
  ("base/inputs.json", pathlib.Path.unlink, ""),
  ("base/provenance.json", pathlib.Path.unlink, ""),
  ("base/result.json", cut, ""),
  ("base/result.json", rewrite, ""),
  ("eval_base/result.json", rewrite, ""),
  ("eval_base/result.json", edit, ""),
  ("d_rand/examples.npz", cut, ""),
  ("data/D.json", cut, ""),
  ("data/D.json", rewrite, ""),
  ("study.json", cut, ""),
  ("study.json", rewrite, ""),
)


def _drawn_before(figure, folder, name):
  del figure
  return folder / f"{name}.png"


class RemediesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    toy_study.write_npz(cls.folder)
    cls.whole = cls.folder / "whole"
    cls.config = toy_study.config(cls.folder)
    cls.found = cls.numbers(run.run(cls.config, cls.whole))

  @staticmethod
  def numbers(results):
    """Returns what must not depend on what happened to the folder."""
    rows = [(row["name"], row["robust_accuracy"]) for row in results["rows"]]
    models = [found["digest"] for found in results["models"].values()]
    sets = [found["sha256"] for found in results["data_sets"].values()]
    return rows, models, sets

  @parameterized.parameters(*DAMAGES)
  def test_what_is_damaged_is_made_again(self, name, damage, needed_by):
    workdir = toys.folder(self) / "run"
    shutil.copytree(self.whole, workdir)
    damage(workdir / name)
    if needed_by:
      shutil.rmtree(workdir / needed_by)
    with self.assertRaises(ValueError) as caught:
      run.run(self.config, workdir)
    message = str(caught.exception)
    self.assertNotIn("\n", message)
    path = pathlib.Path(_DELETE.search(message)[1])
    self.assertTrue(path.is_relative_to(workdir), message)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    # The figures are those of the copy: to draw them takes half of the time.
    with mock.patch.object(figures, "save", _drawn_before):
      self.assertEqual(self.numbers(run.run(self.config, workdir)), self.found)

  def test_a_lost_picture_stops_nothing(self):
    workdir = toys.folder(self) / "run"
    shutil.copytree(self.whole, workdir)
    (workdir / "d_rand" / "data" / "grid.png").unlink()
    self.assertEqual(self.numbers(run.run(self.config, workdir)), self.found)


if __name__ == "__main__":
  absltest.main()
