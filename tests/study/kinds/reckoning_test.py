"""What kinds of stages cost, take and report, by hand and without a network."""

from unittest import mock

import numpy as np
import toys
from absl.testing import absltest, parameterized
from kind_stages import stage

from robust_features import recipes, strong_attacks
from robust_features.study.kinds import (
  KINDS,
  carlini_wagner,
  construct,
  resident,
)
from robust_features.study.kinds.subject import num_sampled
from robust_features.study.parse import parse


def work(section):
  found = KINDS[section.kind].work(stage(section), lambda data, split: 100)
  return found.images, found.gradients, found.passes


class WorkTest(parameterized.TestCase):
  def test_autoattack(self):
    made = recipes.autoattack_stage("m", "l2", (0.25, 0.5), num_examples=30)
    budget = made.autoattack.budget
    budget.num_steps, budget.num_targets, budget.num_queries = 7, 3, 11
    budget.num_restarts = 2
    for attacks, gradients, queries in (
      (("apgd-ce",), 7, 0), (("apgd-dlr",), 7, 0), (("apgd-t",), 21, 0),
      (("fab-t",), 21, 0), (("square",), 0, 11),
      (("apgd-ce", "apgd-t", "fab-t", "square"), 49, 11),
    ):  # fmt: skip
      made.autoattack.attacks = attacks
      times = 30 * 2 * 2  # Images, radii, restarts.
      want = 30, times * gradients, times * (2.0 * gradients + queries)
      self.assertEqual(work(made), want, attacks)
    for num, want in ((0, 100), (100, 100), (101, 100), (99, 99)):
      self.assertEqual(num_sampled(num, 100), want)
      made.num_examples = num
      self.assertEqual(work(made)[0], want)

  def test_what_reads_and_selects(self):
    probe = recipes.probe_stage("m", "d")
    self.assertEqual(work(probe), (200, 0, 200))
    probe.model = ""
    self.assertEqual(work(probe), (200, 0, 0))
    self.assertEqual(work(recipes.relabel_stage("m", "d")), (100, 0, 100))
    for changes, want in (
      ({"by": "first", "num_examples": 30}, (30, 0, 0)),
      ({"by": "first", "num_examples": 300}, (100, 0, 0)),
      ({"by": "classes", "classes": (1,)}, (100, 0, 0)),
      ({"by": "wrong", "model": "m"}, (100, 0, 100)),
      ({"by": "margin", "model": "m", "fraction": 0.245}, (24, 0, 100)),
    ):
      self.assertEqual(work(recipes.select_stage("d", **changes)), want)

  def test_construct(self):
    """Of 100 images: copies of each, models beside the source, six passes."""
    for fields, repel, images, gradients in (
      ({}, (), 100, 700), ({"examples_per_image": 3}, (), 300, 2100),
      ({"transform_copies": 1}, (), 100, 700),
      ({"transform_copies": 4}, (), 100, 2800),
      ({}, ("a", "b"), 100, 2100),
      ({"transform_copies": 2}, ("a",), 100, 2800),
    ):  # fmt: skip
      made = recipes.targeted("rand", **fields)
      made.attack.num_steps = 7
      made = recipes.construct_stage("m", made, repel=repel)
      want = images, gradients, 2.0 * gradients + 6.0 * images
      self.assertEqual(work(made), want, fields)

  def test_carlini_wagner(self):
    made = recipes.carlini_wagner_stage("m", recipes.evaluation())
    made.attack.num_steps, made.attack.num_searches = 7, 3
    self.assertEqual(work(made), (100, 2100, 4200))

  def test_evaluate(self):
    evaluation = recipes.evaluation(num_steps=3, eps=(0.25, 0.5))
    made = recipes.evaluate_stage("m", "t", evaluation)
    self.assertEqual(work(made), (100, 600, 100 * (1 + 2 * (2 * 3 + 2))))


class HowFarTest(absltest.TestCase):
  def test_what_lies_there(self):
    folder = toys.folder(self)
    for kind, names, text in (
      ("construct", ("data/00000-images.npy", "data/00001-images.npy",
                     "data/00001-labels.npy"), "with 2 shards"),
      ("autoattack", ("eps_0.5/progress.npz",), "begun"),
    ):  # fmt: skip
      self.assertEqual(KINDS[kind].how_far(folder), "")
      for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
      self.assertEqual(KINDS[kind].how_far(folder), text)


class EdgesTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"by": "first"}, "num_examples must be given by 'first', got 0"),
    ({"by": "classes"}, r"classes must be given by 'classes', got \(\)"),
    ({"by": "right"}, "model must be given by 'right', got ''"),
    ({"by": "first", "num_examples": 1, "model": "m"}, "model must be ''"),
    ({"by": "right", "model": "m", "classes": (1,)}, r"classes must be \(\)"),
    ({"by": "first", "num_examples": 1, "judged": "D"}, "judged needs a model"),
    ({"by": "margin", "model": "m", "fraction": 0.0}, r"in \(0, 1\], got 0.0"),
    ({"by": "margin", "model": "m", "fraction": 1.1}, r"in \(0, 1\], got 1.1"),
  )
  def test_select(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      stage(recipes.select_stage("d", **changes))

  def test_a_fraction_that_would_be_ignored(self):
    made = recipes.select_stage("d", "right", model="m", fraction=0.5)
    with self.assertRaisesRegex(ValueError, "s.fraction must be 1 by 'right'"):
      KINDS["select"].check(None, "s", stage(made))
    made = recipes.select_stage("d", "margin", model="m", fraction=0.5)
    KINDS["select"].check(None, "s", stage(made))

  def test_probe(self):
    for changes, message in (
      ({"strength": 0.0}, "strength must be a finite number above 0, got 0.0"),
      ({"originals": "D"}, "originals is for images alone; model must be ''"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        stage(recipes.probe_stage("m", "d", **changes))
    stage(recipes.probe_stage("", "d", originals="D"))

  @parameterized.parameters((), (-0.5,))
  def test_step_sweep(self, *ratios):
    for steps, given in (((1,), ratios), (ratios, (1.0,))):
      made = recipes.step_sweep_stage("m", recipes.evaluation(), steps, given)
      with self.assertRaises(ValueError):
        stage(made)
    stage(recipes.step_sweep_stage("m", recipes.evaluation(), (0,), (0.0,)))


class RunTest(absltest.TestCase):
  def study(self, **sets):
    study = mock.Mock()
    study.dataset = lambda name, split: sets[name]
    return study

  def test_the_first_in_their_order_and_of_how_many(self):
    data = toys.dataset(9)
    for num in (4, 9, 20):
      made = stage(recipes.select_stage("d", "first", num_examples=num))
      with mock.patch.object(
        KINDS["select"].run.__globals__["derived"], "save", return_value={}
      ) as save:
        found = KINDS["select"].run(self.study(d=data), "s", made, "folder")
      self.assertEqual(found, {"of": 9})
      ((_, kept), _) = save.call_args
      np.testing.assert_array_equal(kept.images, data.images[:num])

  def test_nearest_errors_in_numbers(self):
    """Zero is an error already; where none was found none is counted."""
    made = stage(recipes.carlini_wagner_stage("m", recipes.evaluation()))
    data = toys.dataset(4)
    for distances, accuracy, robust, median in (
      ([0.0, 0.25, 0.5, np.inf], 0.75, [0.5, 0.25], 0.375),
      ([0.0, 0.0, np.inf, np.inf], 0.5, [0.5, 0.5], None),
    ):
      with (
        mock.patch.object(
          carlini_wagner, "subject", return_value=("net", "weights", data)
        ),
        mock.patch.object(
          strong_attacks, "nearest_errors",
          return_value=(np.array(distances), 0.125),
        ) as nearest,
      ):  # fmt: skip
        found = KINDS["carlini_wagner"].run(
          mock.Mock(), "s", made, toys.folder(self)
        )
      self.assertEqual(nearest.call_args.args[4], made.evaluate.batch_size)
      self.assertEqual(found["accuracy"], accuracy)
      self.assertEqual(
        found["robust_accuracy"],
        dict(zip(("0.25", "0.5"), robust, strict=True)),
      )
      self.assertEqual(found["median_distance"], median)
      self.assertEqual(found["attack"]["nonfinite_gradient_fraction"], 0.125)

  def test_nothing_is_kept(self):
    data = toys.dataset(9)
    made = stage(recipes.select_stage("d", "classes", classes=(7,)))
    with self.assertRaisesRegex(ValueError, "stages.s keeps none of the 9 ima"):
      KINDS["select"].run(self.study(d=data), "s", made, "folder")

  def test_sets_of_other_originals(self):
    study = self.study(d=toys.dataset(9), D=toys.dataset(8))
    made = stage(recipes.select_stage("d", "right", model="m", judged="D"))
    with self.assertRaisesRegex(ValueError, "s.judged has 8 images for 9 of d"):
      KINDS["select"].run(study, "s", made, "folder")
    made = stage(recipes.probe_stage("", "d", originals="D"))
    with self.assertRaisesRegex(ValueError, "s.originals has 8 images for 9 "):
      KINDS["probe"].run(study, "s", made, "folder")

  def test_a_probe_of_pixels_and_of_changes(self):
    """What one class's images have in common is read off them."""
    data, test = toys.dataset(60), toys.dataset(30, seed=1)
    for of in (data, test):
      of.images[:, 0, 0, 0] = 120 * of.labels
    other = toys.dataset(60, seed=2)
    other.images[:] = data.images
    other.images[:, 0, 0, 0] = 0
    study = self.study(d=data, D=test, o=other)
    made = stage(recipes.probe_stage("", "d", strength=1e-6))
    found = KINDS["probe"].run(study, "s", made, "folder")
    self.assertEqual(found["num_examples"], 60)
    self.assertEqual(found["fitted"], 1.0)
    self.assertGreater(found["accuracy"]["0"], 0.8)
    self.assertLess(found["accuracy"]["1"] + found["accuracy"]["-1"], 0.2)
    self.assertEqual((found["data"], found["test"], found["model"]),
                     ("d", "D", ""))  # fmt: skip


class OriginTest(absltest.TestCase):
  def test_what_the_images_are_called(self):
    """A set of tfds by its name there, others by their source."""
    config = recipes.planted_study("toy")
    config.data.C = recipes.cifar10(name="cifar10:3.*.*")
    config.stages.base = recipes.train_stage("main", "D", recipes.train())
    for name, data in (("d", "C"), ("dd", "d"), ("p", "D")):
      made = recipes.targeted("rand")
      config.stages[name] = recipes.construct_stage("base", made, data=data)
    study = mock.Mock(plan=parse(config))
    study.resolved = lambda name: {"of": name}
    originals = construct._originals
    self.assertEqual(
      [originals(study, name) for name in ("C", "d", "dd", "D", "p")],
      3 * ["cifar10:3.*.*"] + 2 * ["planted"],
    )
    for data, want in (("C", "cifar10:3.*.*"), ("D", "planted")):
      found = resident.origin(study, "s", data)
      self.assertEqual(found["originals"], want)
      self.assertEqual(found["config"], {"of": "s"})

  def test_what_must_lie_in_memory(self):
    study = mock.Mock()
    study.streamed.return_value = True
    with self.assertRaisesRegex(ValueError, "s.data must .* data.D.streamed"):
      resident.preflight(study, "s", "D")
    study.streamed.return_value = False
    resident.preflight(study, "s", "D")
    study.streamed.assert_called_with("D")


class ReportTest(absltest.TestCase):
  def lines(self, kind, found):
    ((title, lines),) = KINDS[kind].report(found)
    return title, "\n".join(lines).splitlines()

  def test_probes(self):
    one = {"model": "m", "data": "d", "originals": "", "test": "D",
           "fitted": 0.5, "accuracy": {"0": 0.25, "1": 0.125}}  # fmt: skip
    found = {
      "a": one, "b": one | {"model": "", "originals": "o"},
      "c": one | {"model": "", "accuracy": {"-1": 0.75, "0": 1.0}},
    }  # fmt: skip
    title, lines = self.lines("probe", found)
    cells = [[c.strip() for c in x.strip("|").split("|")] for x in lines]
    self.assertEqual(title, "Linear probes")
    self.assertEqual(
      [cells[0], *cells[2:]],
      [["probe", "reads", "fitted on", "its own", "tested on", "y-1", "y",
        "y+1"],
       ["a", "representation of m", "d", "50.00", "D", "-", "25.00", "12.50"],
       ["b", "changes", "d", "50.00", "D", "-", "25.00", "12.50"],
       ["c", "pixels", "d", "50.00", "D", "75.00", "100.00", "-"]],
    )  # fmt: skip
    self.assertEmpty(KINDS["probe"].report({}))

  def test_imported(self):
    found = {
      "theirs": {"model": {"name": "resnet50"}, "num_params": 1234,
                 "origin": {"source": "a.pt", "source_sha256": "f00d"}},
      "ours": {"model": {"name": "cnn"}, "num_params": 5, "origin": {}},
    }  # fmt: skip
    _, lines = self.lines("imported", found)
    self.assertRegex(
      lines[2], r"theirs \| +resnet50 \| +1,234 \| +a.pt .* f00d"
    )
    self.assertRegex(lines[3], r"ours +\| +cnn \| +5 \| trained here \| +- \|")
    self.assertEmpty(KINDS["imported"].report({}))

  def test_derived(self):
    title, lines = self.lines("combine", {"a": {"num_examples": 12345}})
    self.assertEqual(title, "Combined sets")
    self.assertRegex(lines[2], r"a +\| +12345 \|")
    self.assertEmpty(KINDS["combine"].report({}))


if __name__ == "__main__":
  absltest.main()
