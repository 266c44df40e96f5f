"""Which weights, splits and labels kinds ask for, without a network."""

import pathlib
from unittest import mock

import numpy as np
import toys
from absl.testing import absltest, parameterized
from kind_stages import stage, study

from robust_features import (
  evaluate,
  recipes,
  ridge,
)
from robust_features.data import dataset as ds
from robust_features.study import folder, settings
from robust_features.study.kinds import KINDS, derived, resident


class Asked(Exception):
  """A model was asked for."""


class AskedTest(parameterized.TestCase):
  @parameterized.parameters(
    (recipes.evaluate_stage("m", "t", recipes.evaluation()),),
    (recipes.relabel_stage("m", "D"),),
    (recipes.select_stage("D", "right", model="m"),),
    (recipes.select_stage("D", "right", model="m", judged="J"),),
    (recipes.spatial_stage(("m",)),),
    (recipes.fourier_map_stage(("m",)),),
    (recipes.pictures_stage(("m",)),),
    (recipes.probe_stage("m", "D"),),
  )
  def test_weights_and_splits_are_those_that_are_named(self, made):
    made = made.copy_and_resolve_references()
    made.which, made.split = "best", "validation"
    if made.kind == "pictures":
      made.pictures.images_per_class = 1
    data = toys.dataset(9)
    asked = study(D=data, J=data)
    asked.plan.config.seed = 0
    asked.model.side_effect = Asked
    with self.assertRaises(Asked):
      KINDS[made.kind].run(asked, "s", stage(made), toys.folder(self))
    asked.model.assert_called_once_with("m", "best")
    splits = [call.args for call in asked.dataset.call_args_list]
    want = [("D", "validation")]
    if made.kind == "probe":
      want.append(("D", "test"))
    if made.kind == "select" and made.judged:
      want += 2 * [("J", "validation")]
    self.assertEqual(splits, want)

  def test_a_probes_splits_and_strength(self):
    data = toys.dataset(12)
    asked = study(d=data, o=data, t=data)
    made = stage(recipes.probe_stage(
      "", "d", originals="o", test="t", split="train", strength=7.0,
      test_split="validation", label_shifts=(1,),
    ))  # fmt: skip
    with mock.patch.object(ridge, "fit", wraps=ridge.fit) as fit:
      found = KINDS["probe"].run(asked, "s", made, "folder")
    self.assertEqual(
      [call.args for call in asked.dataset.call_args_list],
      [("d", "train"), ("t", "validation"), ("o", "train")],
    )
    self.assertEqual(fit.call_args.args[2:], (3, 7.0))
    self.assertEqual(found["originals"], "o")

  def test_an_accuracy_for_each_shift_of_the_tests_labels(self):
    """Ridge is asked of the labels by three, wherever the last is."""
    data, test = toys.dataset(12), toys.dataset(9, seed=1)
    made = stage(recipes.probe_stage("", "d", label_shifts=(0, 2, -1)))
    with mock.patch.object(ridge, "accuracy", return_value=0.5) as told:
      KINDS["probe"].run(study(d=data, D=test), "s", made, "folder")
    *shifted, own = (call.args for call in told.call_args_list)
    for shift, (_, x, labels) in zip((0, 2, -1), shifted, strict=True):
      self.assertLen(x, 9)
      np.testing.assert_array_equal(labels, (test.labels + shift) % 3)
    np.testing.assert_array_equal(own[2], data.labels)


LOGITS = np.eye(3)[[0, 1, 2, 0, 1, 2]] * np.arange(1, 7)[:, None]


class DerivedTest(absltest.TestCase):
  """Of six images the first three are right."""

  def run_kind(self, section, labels=(0, 1, 2, 1, 2, 0), **sets):
    images = toys.dataset(6).images
    data = ds.make(images, np.array(labels), ("a", "b", "c"))
    with (
      mock.patch.object(evaluate, "predict", return_value=LOGITS) as seen,
      mock.patch.object(derived, "save", return_value={}) as save,
    ):
      result = KINDS[section.kind].run(
        study(d=data, **sets), "s", stage(section), "folder"
      )
    ((where, kept), _) = save.call_args
    self.assertEqual(where, "folder")
    return data, kept, result, seen.call_args.args

  def test_relabel(self):
    data, kept, result, asked = self.run_kind(
      recipes.relabel_stage("m", "d"), (0, 1, 0, 1, 2, 2)
    )
    np.testing.assert_array_equal(kept.labels, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(kept.images, data.images)
    self.assertEqual(kept.class_names, ("a", "b", "c"))
    self.assertEqual(result, {"agreement": 0.5})
    self.assertEqual(asked[:2], ("net", "weights"))

  def test_select(self):
    judged = toys.dataset(6, seed=5)
    for changed, rows in (
      ({"by": "right"}, [0, 1, 2]), ({"by": "wrong"}, [3, 4, 5]),
      ({"by": "margin", "fraction": 1 / 3}, [1, 2]),
      ({"by": "margin", "fraction": 1 / 3, "end": "bottom"}, [4, 5]),
    ):  # fmt: skip
      data, kept, result, asked = self.run_kind(
        recipes.select_stage("d", model="m", judged="J", **changed), J=judged
      )
      np.testing.assert_array_equal(kept.images, data.images[rows])
      np.testing.assert_array_equal(kept.labels, data.labels[rows])
      np.testing.assert_array_equal(asked[2], judged.images)
      self.assertEqual(result, {"of": 6})

  def test_a_model_of_other_classes(self):
    """Of too few none can be right; what it sees beyond the set is none."""
    for section, num, message in (
      (recipes.select_stage("d", "wrong", model="m"), 2,
       "^stages.s.model tells 2 classes, but d has 3;"),
      (recipes.select_stage("d", "margin", model="m", fraction=0.5), 2,
       "^stages.s.model tells 2 classes, but d has 3;"),
      (recipes.relabel_stage("m", "d"), 4,
       r"^stages.s: what m sees in d: labels must lie in \[0, 3\), got"),
    ):  # fmt: skip
      logits = np.eye(num)[[0, 1, 0, 1, 0, num - 1]]
      with (
        mock.patch.object(evaluate, "predict", return_value=logits),
        self.assertRaisesRegex(ValueError, message),
      ):
        KINDS[section.kind].run(
          study(d=toys.dataset(6)), "s", stage(section), "folder"
        )

  def test_what_lies_in_memory(self):
    asked = mock.Mock()
    asked.streamed.return_value = False
    resident.preflight(asked, "s", "D")
    asked.dataset.assert_called_once_with("D", "train")
    asked.dataset.side_effect = ValueError("data.D has no train images")
    with self.assertRaisesRegex(ValueError, "no train images"):
      resident.preflight(asked, "s", "D")
    asked = mock.Mock(workdir=pathlib.Path("run"))
    with (
      mock.patch.object(resident.constructed, "load", return_value=7) as load,
      mock.patch.object(folder, "remade") as remade,
    ):
      self.assertEqual(resident.load(asked, "s", None), 7)
    load.assert_called_once_with(pathlib.Path("run/s/data"))
    remade.assert_called_once_with(pathlib.Path("run/s"))
    with mock.patch.object(
      resident.provenance, "git_commit", return_value="c0ffee"
    ):
      found = resident.origin(mock.MagicMock(), "s", "D")
    self.assertEqual(found["git_commit"], "c0ffee")


class WorkTest(absltest.TestCase):
  def work(self, section):
    fields = dict(section.items())
    kind = KINDS[fields.pop("kind")]
    made = settings.build(kind.stage, fields, "stages.s")
    sizes = {("D", "train"): 1000, ("T", "train"): 200, ("T", "test"): 100}
    return kind.work(made, lambda data, split: sizes[data, split])

  def test_each_part_of_its_own_set(self):
    clean = recipes.evaluation(eps=())
    made = recipes.evaluate_stage("m", "t", clean, data="T", split="train")
    self.assertEqual(self.work(made), (200, 0, 200))
    made = recipes.probe_stage(
      "m", "D", split="train", test="T", test_split="test"
    )
    self.assertEqual(self.work(made), (1100, 0, 1100))
    for made in (
      recipes.select_stage("T", "right", model="m", split="test"),
      recipes.relabel_stage("m", "T", split="test"),
    ):
      self.assertEqual(self.work(made), (100, 0, 100))

  def test_pictures_of_two_models_and_an_odd_class(self):
    """Of three classes two lines; every model looks at the whole set."""
    made = recipes.pictures_stage(("a", "b"), data="T")
    made.pictures.num_classes, made.pictures.images_per_class = 3, 5
    made.pictures.num_points = 4
    for of, steps, every in (("inversion", 6, 4), ("features", 10, 5)):
      made.pictures[of].num_steps = steps
      made.pictures[of].frame_every_steps = every
    # Two starts of three classes: frames at 0, 4, 6 and at 0, 5, 10.
    gradients = 2 * ((30 + 8) * 6 + 6 * 10)
    frames = 2 * ((30 + 8) * 3 + 6 * 3)
    want = 200, gradients, 200 + 2 * gradients + frames
    self.assertEqual(self.work(made), want)


if __name__ == "__main__":
  absltest.main()
