"""The table and what a reader must be told beside it."""

import contextlib
import io
import json

import numpy as np
import toys
from absl.testing import absltest
from PIL import Image

from robust_features.runtime import files
from robust_features.study import paper, publish, report
from robust_features.study.kinds import KINDS
from robust_features.study.report import tables


def autoattack():
  row = {
    "eps": 8 / 255, "max_perturbation": 0.03125,
    "queries": {"square": 12345, "apgd-ce": 678},
    "accuracy": {"clean": 0.9, "apgd-ce": 0.5, "square": 0.475},
    "second_pass_accuracy": 0.475, "seconds": {"apgd-ce": 2.0, "square": 3.0},
    "warnings": ["square lowered it"],
  }  # fmt: skip
  return {"model": "base", "norm": "linf", "budget": {"num_steps": 100},
          "attacks": ["apgd-ce", "square"], "num_examples": 40, "seed": 4,
          "rows": [row]}  # fmt: skip


def transfer():
  row = {
    "architecture": "cnn4", "learner_accuracy": 0.4, "untargeted": 0.75,
    "targeted": 0.25, "accuracy": 0.8, "untargeted_of_all": 0.7,
    "targeted_of_all": 0.3,
  }  # fmt: skip
  other = row | {"architecture": "mlp", "learner_accuracy": 0.2}
  return {
    "source": "standard", "source_architecture": "cnn",
    "source_rates": {"untargeted": 1.0, "targeted": 0.875},
    "attack": {"norm": "l2", "eps": 0.5, "num_steps": 7}, "num_test": 1000,
    "num_classes": 10, "target": "next",
    "zero_gradient_fraction": 0.125, "num_examples": 500,
    "rows": [row, other], "paper": list(paper.TRANSFER["transfer"]),
    "rank_correlation": {"untargeted": 0.5, "targeted": None},
  }  # fmt: skip


def results():
  attack = {
    "name": "pgd", "norm": "l2", "num_steps": 100, "step_size": "2.5 eps/100",
    "zero_gradient_fraction": 0.01,
  }  # fmt: skip
  printed = {"source": "Table 7", "accuracy": 0.9525,
             "robust_accuracy": {"0.25": 0.0449}}  # fmt: skip
  rows = [
    {"name": "a", "study": "toy", "class_names": ["cat", "dog"],
     "class_robust_accuracy": {"0.5": [0.0, None]}, "title": "standard",
     "accuracy": 0.9, "paper": printed,
     "robust_accuracy": {"0.25": 0.05, "0.5": 0.0}, "attack": attack,
     "shifted_accuracy": {}, "control_of": "",
     "confusion": [[450, 50], [50, 450]],
     "num_examples": 1000, "seed": 4, "seconds": 1.0},
    {"name": "b", "study": "toy", "class_names": ["cat", "dog"],
     "class_robust_accuracy": {"1.0": [0.25, 0.35]}, "title": "robust model",
     "accuracy": 0.8512, "paper": None,
     "robust_accuracy": {"1.0": 0.3, "0.25": 0.75}, "num_examples": 1000,
     "shifted_accuracy": {}, "control_of": "a",
     "confusion": [[440, 60], [89, 411]],
     "attack": attack | {"zero_gradient_fraction": 0.2}, "seed": 4,
     "seconds": 1.0},
  ]  # fmt: skip
  history = [
    {"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5,
     "validation_accuracy": 0.4},
    {"epoch": 2, "train_loss": 1.0, "train_accuracy": 0.75,
     "validation_accuracy": 0.625},
  ]  # fmt: skip
  mean = {
    "moved_from_original": 1.2345,
    "success": 0.5,
    "success_before_rounding": 0.625,
    "success_augmented": 0.25,
  }
  nothing = {kind.section: {} for kind in publish.KINDS.values()}
  found = {
    **nothing,
    "study": "toy", "seed": 4, "rows": rows, "commit": "abc",
    "devices": "2 x cpu", "versions": {"jax": "1.2.3"}, "cores": 4,
    "xla_flags": "--a=1", "compile_seconds": 3.25,
    "models": {"base": {"history": history, "num_params": 12345,
                        "seconds": 61.0, "title": "standard",
                        "attacked": True, "num_validation": 8,
                        "model": {"num_classes": 2}}},
    "imported": {"theirs": {"model": {"name": "resnet50"}, "num_params": 67890,
      "origin": {"source": "a.pt", "source_sha256": "f00d"}}},
    "data_sets": {"d_rand": {"num_examples": 32, "mean": mean, "seconds": 2.0,
      "num_spared": 7, "separability": 0.875,
      "class_names": ["cat", "dog"]}},
    "step_sweeps": {"sweep": {"norm": "l2", "eps": 0.5, "num_classes": 2,
      "num_examples": 50, "rows": [
      {"num_steps": 0, "robust_accuracy": 0.9, "step_ratio": 1.0},
      {"num_steps": 100, "robust_accuracy": 0.1, "step_ratio": 2.5}]}},
    "carlini_wagner": {"nearest": {"robust_accuracy": {"0.25": 0.0625},
      "median_distance": 0.123, "attack": "1000 steps"}},
    "autoattack": {"strong": autoattack()},
    "transfer": {"figure_3": transfer()},
    "stages": [{"name": "base", "kind": "train", "parents": [],
                "seconds": 61.0, "date": "2026-01-01T10:11:12+00:00",
                "commit": "abc"},
               {"name": "a", "kind": "evaluate", "parents": ["base"],
                "seconds": 1.5, "date": "2026-01-02T10:11:12+00:00",
                "commit": "0123456789abcdef"}],
    "data": {"D": {"test": {"sha256": "beef", "num_examples": 1000}}},
    "python": "3.11", "config": "the = 'config'  # <b>",
    "command": "python -m a --config=b<c> --config.seed=4 '--config.x=1, 2'",
    "date": "2026-01-02T10:11:12+00:00",
  }  # fmt: skip
  for kind in publish.KINDS.values():
    if not kind.is_row:
      for result in found[kind.section].values():
        result |= {"study": "toy", "seed": 4}
  return found


def write_stages(workdir):
  """Writes what a report reads of stages: examples of `d_rand`, settings."""
  for name in ("base", "theirs", "d_rand", "sweep", "nearest", "strong",
               "figure_3", "a", "b"):  # fmt: skip
    files.write_json(workdir / name / "config.json", {"seed": 4})
  images = np.linspace(0, 0.5, 2 * 48, dtype=np.float32).reshape(2, 4, 4, 3)
  np.savez(
    workdir / "d_rand" / "examples.npz", original=images, start=images,
    constructed=images + 0.1, old=np.array([0, 1]), new=np.array([1, 1]),
  )  # fmt: skip


TABLE = """\
| model        | accuracy | eps=0.25 | eps=0.5 | eps=1.0 | paper | paper eps=0.25 | paper eps=0.5 | paper eps=1.0 |
| ------------ | -------: | -------: | ------: | ------: | ----: | -------------: | ------------: | ------------: |
| standard     |    90.00 |     5.00 |    0.00 |       - | 95.25 |           4.49 |             - |             - |
| robust model |    85.12 |    75.00 |       - |   30.00 |     - |              - |             - |             - |"""  # noqa: E501


class TableTest(absltest.TestCase):
  def test_golden(self):
    self.assertEqual(tables.table(results()), TABLE)

  def test_cues_and_no_paper(self):
    found = results()
    for row in found["rows"]:
      row["paper"] = None
    found["rows"][0]["cues"] = {"shape": 0.125, "texture": 0.5}
    found["rows"][0]["num_conflicts"] = 2000
    lines = tables.table(found).splitlines()
    self.assertNotIn("paper", lines[0])
    self.assertEndsWith(lines[0], "| follows shape | follows texture |")
    self.assertEndsWith(lines[2], "|         12.50 |           50.00 |")
    self.assertEndsWith(lines[3], "|             - |               - |")

  def test_radii_are_sorted_as_numbers(self):
    found = results()
    found["rows"][0]["robust_accuracy"]["10.0"] = 0.0
    header = tables.table(found).splitlines()[0]
    self.assertLess(header.index("eps=1.0"), header.index("eps=10.0"))

  def test_classes_that_differ_in_size_are_told(self):
    found = results()
    row, other = found["rows"]
    row["confusion"] = [[90, 10, 0], [5, 5, 0], [0, 0, 0]]
    for each in (row, other):
      each["class_names"] = ["dog", "cat", "crab"]
      each["class_robust_accuracy"] = {"0.5": [0.25, 0.0, None]}
    other["confusion"] = [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    header, _, line, second = tables.table(found).splitlines()
    self.assertIn("| accuracy | largest class | mean of classes |", header)
    cells = [cell.strip() for cell in line.split("|")]
    self.assertEqual(cells[3:5], ["90.91", "70.00"])
    self.assertIn("33.33", second)
    # What else a model may see is no class: 5 logits of 2 even classes.
    even = row | {"class_names": ["dog", "cat"]}
    even["confusion"] = [[5, 0, 0, 0, 5], [0, 9, 0, 0, 1]] + [[0] * 5] * 3
    self.assertFalse(tables.is_uneven(even))
    self.assertEqual(tables.class_accuracies(even), [0.5, 0.9])
    title, lines = KINDS["evaluate"].report(found["rows"])[0]
    self.assertEqual(title, "Accuracy of each class")
    self.assertIn("| standard          | 90.00 | 50.00 |    - |", lines[0])


class NotesTest(absltest.TestCase):
  def test_the_attack_stands_beside_the_numbers(self):
    first, last, error = tables.notes(results())  # One attack, once.
    for text in ("name pgd", "norm l2", "num_steps 100", "2.5 eps/100",
                 "zero gradient: at most 20.00%"):  # fmt: skip
      self.assertIn(text, first)
    self.assertEqual(last, "percent correct of 1000 test images; seed 4")
    # Of 0.3, the nearest to one half: sqrt(0.3 * 0.7 / 1000).
    self.assertEqual(error, "standard error of a number: at most 1.45")

  def test_every_other_attack_gets_its_line(self):
    found = results()
    found["rows"][0]["attack"] = found["rows"][0]["attack"] | {"num_steps": 7}
    self.assertLen(tables.notes(found), 4)


def markdown(found):
  made, measured = publish.sections(found)
  return report.markdown(found, [*made, *measured])


class MarkdownTest(absltest.TestCase):
  def test_everything_is_in_it(self):
    text = markdown(results())
    for part in (
      "# toy", TABLE, "d_rand", "1.234", "62.50", "12,345", "75.00", "sweep",
      "nearest", "eps=0.25: 6.25%", "0.123", "1000 steps",
      "l2, eps=0.5", "10.00", "commit `abc`", "2 x cpu, 4 cores", "jax 1.2.3",
      "3.2 s of compiling",
      "XLA_FLAGS: --a=1",
      "resnet50", "67,890", "a.pt", "f00d",
    ):  # fmt: skip
      self.assertIn(part, text)

  def test_of_a_model_the_last_epoch_is_told(self):
    (models,) = [
      lines for title, lines in publish.sections(results())[0]
      if title == "Models"
    ]  # fmt: skip
    row = [part.strip() for part in models[0].splitlines()[-1].split("|")]
    self.assertEqual(row[1:-1], ["base", "12,345", "75.00", "62.50", "61"])


AUTOATTACK = """\
| eps     | clean | apgd-ce | square | second pass | largest move | seconds |
| ------- | ----: | ------: | -----: | ----------: | -----------: | ------: |
| 0.03137 | 90.00 |   50.00 |  47.50 |       47.50 |      0.03125 |       5 |"""
TRANSFER = """\
| architecture             | trained on D_det | untargeted | targeted | trained on D | of all: untargeted | targeted |
| ------------------------ | ---------------: | ---------: | -------: | -----------: | -----------------: | -------: |
| cnn4                     |            40.00 |      75.00 |    25.00 |        80.00 |              70.00 |    30.00 |
| mlp                      |            20.00 |      75.00 |    25.00 |        80.00 |              70.00 |    30.00 |
| the paper's VGG-16       |            27.94 |      65.67 |     9.15 |            - |                  - |        - |"""  # noqa: E501


class MeasurementsTest(absltest.TestCase):
  def test_autoattack(self):
    found = dict(publish.sections(results())[1])
    lines = found["strong: AutoAttack on base, linf"]
    self.assertEqual(lines[0], AUTOATTACK)
    text = "\n".join(lines[1:])
    # Of 47.5%, the nearest to one half, over 40 images.
    for part in ("40 test images", "at most 7.91", "seed 4", "num_steps 100",
                 "apgd-ce 678, square 12,345",
                 "eps=0.03137: warning: square lowered it"):  # fmt: skip
      self.assertIn(part, text)

  def test_transfer(self):
    found = dict(publish.sections(results())[1])
    lines = found["figure_3: examples of standard (cnn)"]
    self.assertStartsWith(lines[0], TRANSFER)
    self.assertLen(lines[0].splitlines(), 9)
    text = "\n".join(lines[1:])
    for part in ("over 2 architectures: untargeted 0.50, targeted -",
                 "itself: untargeted 100.00, targeted 87.50", "500 test images",
                 "next class", "norm l2, eps 0.5", "12.50%"):  # fmt: skip
      self.assertIn(part, text)

  def test_a_study_without_a_table(self):
    workdir, found = toys.folder(self), results() | {"rows": []}
    write_stages(workdir)
    found |= {"models": {}, "imported": {}, "data_sets": {}}
    publish.publish(found, workdir)
    text = (workdir / "results.md").read_text()
    self.assertNotIn("| model", text)
    self.assertIn(AUTOATTACK, text)
    drawn = {path.stem for path in (workdir / "figures").glob("*.png")}
    self.assertEqual(drawn, {"sweep", "figure_3"})


class WriteTest(absltest.TestCase):
  def test_files(self):
    workdir = toys.folder(self)
    write_stages(workdir)
    publish.publish(results(), workdir)
    read = json.loads((workdir / "results.json").read_text())
    self.assertEqual(read, results())
    self.assertIn(TABLE, (workdir / "results.md").read_text())
    for name in ("accuracies", "curves", "sweep", "figure_3", "d_rand"):
      with Image.open(workdir / "figures" / f"{name}.png") as image:
        self.assertGreater(min(image.size), 100)
        self.assertGreater(len(set(image.convert("L").tobytes())), 2)
      pdf = (workdir / "figures" / f"{name}.pdf").read_bytes()
      self.assertStartsWith(pdf[:5].decode(), "%PDF-")

  def test_what_is_printed(self):
    """The table, what was measured beside it, and where all of it lies."""
    workdir, printed = toys.folder(self), io.StringIO()
    with contextlib.redirect_stdout(printed):
      report.write(
        results(), [("made", ["of this"])], [("seen", ["by that", "too"])],
        workdir, [workdir / "a.png", workdir / "b.png"],
      )  # fmt: skip
    text = printed.getvalue()
    self.assertIn(TABLE, text)
    self.assertIn("\n\nseen\n\nby that\ntoo\n", text)
    self.assertNotIn("of this", text)
    self.assertEndsWith(
      text, f"\nresults: {workdir}/results.json and results.md\n"
      f"figures: {workdir}/a.png, {workdir}/b.png\n",
    )  # fmt: skip


if __name__ == "__main__":
  absltest.main()
