"""Stages that derive sets from sets, and the linear probe."""

import math
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import construct, evaluate, recipes, ridge
from robust_features.data import dataset as ds
from robust_features.study import run
from robust_features.study.graph import Study
from robust_features.study.kinds import KINDS, combine
from robust_features.study.parse import parse


def config(folder):
  """Returns the toy study with one stage of every derived kind and more."""
  found = toy_study.config(folder)
  made = found.stages
  for name in ("sweep", "on_d_rand", "eval_on_d_rand"):
    del made[name]
  made.eval_base.label_shifts = (1, -1)
  recipes.add_row(
    found, "base", "its control", recipes.evaluation(eps=(), batch_size=30),
    suffix="_again", control_of="eval_base",
  )  # fmt: skip
  found.table = ("eval_base", "eval_base_again")
  made.wrong = recipes.select_stage("D", "wrong", model="base")
  made.right = recipes.select_stage("D", "right", model="base")
  made.top = recipes.select_stage(
    "D", "margin", model="base", judged="jpeg", fraction=0.25
  )
  made.two = recipes.select_stage("D", "classes", classes=(0, 2))
  made.few = recipes.select_stage("D", "first", num_examples=5)
  made.mistakes = recipes.relabel_stage("base", "wrong")
  made.shuffled = recipes.transform_stage("D", "shuffle_labels")
  made.jpeg = recipes.transform_stage("D", "jpeg", 10)
  made.mixed = recipes.combine_stage("D", "d_rand", 0.25)
  made.longer = recipes.combine_stage("D", "d_rand", 0.5, how="append")
  made.noise = recipes.error_minimising_stage()
  KINDS["error_minimising"].shrink(made.noise)
  made.shared = recipes.class_perturbation_stage(
    "base", recipes.attack("l2", 2.5, 0.5, 20), "next"
  )
  KINDS["class_perturbation"].shrink(made.shared)
  made.dealt = recipes.combine_stage("D", "d_rand", 0.5, how="changes")
  made.probe = recipes.probe_stage("base", "D")
  made.pixels = recipes.probe_stage("", "D", label_shifts=(0,))
  made.changes = recipes.probe_stage("", "d_rand", originals="D")
  transfer = recipes.transfer_stage(
    "base",
    ("base",),
    (),
    recipes.attack("l2", 0.5, 0.1, 2),
    paper="",
    which="best",
  )
  made.transfer = transfer
  return found


class DerivedTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = pathlib.Path(folder)
    toy_study.write_npz(cls.folder)
    cls.workdir = cls.folder / "run"
    key = mock.patch.object(Study, "key", autospec=True, side_effect=Study.key)
    with key as drawn:
      cls.results = run.run(config(cls.folder), cls.workdir)
    cls.drawn = {call.args[1] for call in drawn.call_args_list}
    cls.study = Study(parse(config(cls.folder)), cls.workdir)
    cls.data = cls.study.dataset("D", "train")
    logits = evaluate.predict(*cls.study.model("base"), cls.data.images, 32)
    cls.logits, cls.seen = logits, logits.argmax(1)

  def set(self, name):
    return self.study.dataset(name, "train")

  def test_right_and_wrong_part_the_set(self):
    wrong = np.flatnonzero(self.seen != self.data.labels)
    right = np.flatnonzero(self.seen == self.data.labels)
    for name, rows in (("wrong", wrong), ("right", right)):
      found = self.set(name)
      np.testing.assert_array_equal(found.images, self.data.images[rows])
      np.testing.assert_array_equal(found.labels, self.data.labels[rows])
      self.assertEqual(self.results["selections"][name]["of"], 32)

  def test_margin_of_the_sets_labels_on_the_judged_images(self):
    seen = self.set("jpeg").images
    logits = evaluate.predict(*self.study.model("base"), seen, 32)
    rows, labels = np.arange(32), self.data.labels
    own = logits[rows, labels].copy()
    logits[rows, labels] = -np.inf
    want = np.sort(np.argsort(logits.max(axis=1) - own, kind="stable")[:8])
    found = self.set("top")
    np.testing.assert_array_equal(found.images, self.data.images[want])

  def test_who_draws_draws_by_its_own_name(self):
    self.assertEqual(
      self.drawn,
      {"base", "d_rand", "eval_base", "eval_base_again", "shuffled", "mixed",
       "longer", "dealt", "noise", "shared", "transfer"},
    )  # fmt: skip

  def test_classes_and_first(self):
    self.assertEqual(set(self.set("two").labels), {0, 2})
    np.testing.assert_array_equal(self.set("few").labels, self.data.labels[:5])

  def test_mistakes_bear_the_models_labels(self):
    wrong = self.seen != self.data.labels
    np.testing.assert_array_equal(self.set("mistakes").labels, self.seen[wrong])
    self.assertEqual(self.results["relabelled"]["mistakes"]["agreement"], 0.0)

  def test_shuffled_labels_are_the_same_ones_elsewhere(self):
    found = self.set("shuffled")
    np.testing.assert_array_equal(found.images, self.data.images)
    self.assertTrue((found.labels != self.data.labels).any())
    np.testing.assert_array_equal(
      np.bincount(found.labels), np.bincount(self.data.labels)
    )

  def test_mixed(self):
    found, d_rand = self.set("mixed"), self.set("d_rand")
    images = (found.images != self.data.images).any(axis=(1, 2, 3))
    rows = np.flatnonzero(images)
    self.assertBetween(len(rows), 6, 8)
    np.testing.assert_array_equal(found.images[rows], d_rand.images[rows])
    np.testing.assert_array_equal(found.labels[rows], d_rand.labels[rows])
    longer = self.set("longer")
    self.assertEqual(longer.num_examples, 48)
    np.testing.assert_array_equal(longer.images[:32], self.data.images)

  def test_error_minimising_noise(self):
    found, made = self.results["error_minimising"]["noise"], self.set("noise")
    np.testing.assert_array_equal(made.labels, self.data.labels)
    away = np.abs(made.images.astype(int) - self.data.images.astype(int))
    self.assertBetween(away.max(), 1, 8)
    self.assertLen(found["history"], 2)
    self.assertBetween(found["clean_accuracy"], 0, 1)
    text = (self.workdir / "results.md").read_text()
    self.assertIn("## Error-minimising noise", text)
    warned = "warning: noise ended by max_rounds above a training error of 1.00"
    self.assertEqual(warned in text, not found["reached"])
    self.assertEqual(self.study.num_images("noise", "train"), 32)
    stage = self.study.plan.nodes["noise"].stage
    done = KINDS["error_minimising"].work(stage, self.study.num_images)
    self.assertEqual(done.gradients, 2 * 2 * 16 + 2 * 32 * 2)
    self.assertEqual(done.passes, 3 * 64 + 2 * 32 * (5 + 1))
    how_far = KINDS["error_minimising"].how_far(self.workdir / "noise")
    self.assertEqual(how_far, "after round 2")

  def test_one_perturbation_for_each_class(self):
    found = self.results["class_perturbations"]["shared"]
    made, labels = self.set("shared"), self.data.labels
    np.testing.assert_array_equal(made.labels, labels)
    moved = made.images.astype(int) - self.data.images.astype(int)
    free = (made.images > 0) & (made.images < 255)  # Not cut by the box.
    for label in set(labels):
      own = np.ma.array(moved, mask=~free)[labels == label]
      self.assertLessEqual(np.ma.ptp(own, axis=0).max(), 1)
    self.assertGreater(np.abs(moved).max(), 5)
    self.assertEqual(found["target"], "next")
    self.assertIn(
      "## One perturbation for each class",
      (self.workdir / "results.md").read_text(),
    )
    kind = KINDS["class_perturbation"]
    done = kind.work(
      self.study.plan.nodes["shared"].stage, self.study.num_images
    )
    self.assertEqual(done.gradients, 10 * 2 * 4)
    classes = len(set(labels))
    self.assertEqual(
      kind.how_far(self.workdir / "shared"), f"with {classes} classes"
    )

  @parameterized.parameters(
    ({"train_batch_size": 33}, "train_batch_size is 33, more than the 32 imag"),
    ({"attack.eps": 0.0}, "attack.eps must be above 0"),
  )
  def test_noise_refused(self, fields, message):
    changed = config(self.folder)
    for field, value in fields.items():
      section, _, last = field.rpartition(".")
      own = changed.stages.noise.error_minimising
      (own[section] if section else own)[last] = value
    with self.assertRaisesRegex(
      ValueError, f"stages.noise.error_minimising.{message}"
    ):
      run.run(changed, toys.folder(self) / "new")

  def test_changes_dealt_out(self):
    """The same changes, each once, on images drawn anew; labels stay."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.4, 0.6, (40, 4, 4, 3)).astype(np.float32)
    added = rng.uniform(-0.1, 0.1, x.shape).astype(np.float32)
    labels = rng.integers(3, size=40)
    data = ds.make(x, labels, 3)
    also = ds.make(x + added, (labels + 1) % 3, 3)
    found = combine.mix(data, also, "changes", 0.5, jax.random.key(0))
    np.testing.assert_array_equal(found.labels, labels)
    given = found.images - x
    moved = np.flatnonzero(given.any(axis=(1, 2, 3)))
    self.assertLen(moved, 20)
    away = np.abs(given[moved][:, None] - added[None]).max(axis=(2, 3, 4))
    self.assertLess(away.min(axis=1).max(), 1e-6)
    donors = away.argmin(axis=1)
    self.assertCountEqual(donors, moved)
    self.assertLess((donors == moved).sum(), 5)
    bytes_ = [ds.make(np.round(255 * d.images).astype(np.uint8), labels, 3)
              for d in (data, also)]  # fmt: skip
    rounded = combine.mix(*bytes_, "changes", 0.5, jax.random.key(0))
    np.testing.assert_allclose(rounded.images / 255, found.images, atol=6e-3)
    self.assertEqual(self.results["combined"]["dealt"]["num_examples"], 32)

  def test_more_than_there_is_may_be_appended(self):
    few = ds.take(self.data, np.arange(10))
    found = combine.mix(few, self.data, "append", 7 / 3, jax.random.key(0))
    self.assertEqual(found.num_examples, 10 + 23)
    self.assertLen({image.tobytes() for image in found.images[10:]}, 23)
    for how in ("replace", "changes"):
      with self.assertRaisesRegex(ValueError, "fraction must be in .*2.5"):
        combine.Stage("D", "D", "train", how, 2.5)

  def test_transfer_takes_the_weights_it_is_told_to(self):
    stage = self.study.plan.nodes["transfer"].stage
    opened = mock.Mock(wraps=self.study.open)
    with mock.patch.object(self.study, "open", opened):
      KINDS["transfer"].run(self.study, "transfer", stage, self.folder)
    self.assertEqual(opened.call_args_list[0].args, ("base", "best"))

  def test_mixing_types(self):
    data, also = (toys.dataset(8, s, dtype=d)
                  for s, d in ((0, np.uint8), (1, np.float32)))  # fmt: skip
    found = combine.mix(data, also, "replace", 1.0, jax.random.key(0))
    np.testing.assert_array_equal(found.images, also.images)
    np.testing.assert_array_equal(found.labels, also.labels)

  def test_probes(self):
    probes, test = self.results["probes"], self.study.dataset("D", "test")
    self.assertCountEqual(probes["probe"]["accuracy"], ["0", "1", "-1"])
    x, z = (np.asarray(ds.to_float(d.images)).reshape(d.num_examples, -1)
            for d in (self.data, test))  # fmt: skip
    fitted = ridge.fit(x, self.data.labels, 3)
    want = ridge.accuracy(fitted, z, test.labels)
    self.assertEqual(probes["pixels"]["accuracy"], {"0": want})
    model, variables = self.study.model("base")
    x, z = (evaluate.represent(model, variables, d.images, 500)
            for d in (self.data, test))  # fmt: skip
    fitted = ridge.fit(x, self.data.labels, 3)
    want = ridge.accuracy(fitted, z, (test.labels - 1) % 3)
    self.assertAlmostEqual(probes["probe"]["accuracy"]["-1"], want)
    d_rand = self.set("d_rand")
    delta = np.asarray(ds.to_float(d_rand.images)) - np.asarray(
      ds.to_float(self.data.images)
    )
    delta = delta.reshape(32, -1)
    fitted = ridge.fit(delta, d_rand.labels, 3)
    z = np.asarray(ds.to_float(test.images)).reshape(30, -1)
    for shift in (0, 1, -1):
      want = ridge.accuracy(fitted, z, (test.labels + shift) % 3)
      found = probes["changes"]["accuracy"][str(shift)]
      self.assertAlmostEqual(found, want)

  def test_the_table_shows_shifted_labels(self):
    row, test = self.results["rows"][0], self.study.dataset("D", "test")
    seen = evaluate.predict(*self.study.model("base"), test.images, 30)
    for shift in (1, -1):
      want = (seen.argmax(1) == (test.labels + shift) % 3).mean()
      self.assertAlmostEqual(row["shifted_accuracy"][str(shift)], want)
    text = (self.workdir / "results.md").read_text()
    self.assertRegex(text, r"\| accuracy +\| +y\+1 +\| +y-1 +\|")

  def test_a_claim_does_not_stand_clear_of_itself(self):
    text = (self.workdir / "results.md").read_text()
    accuracy = self.results["rows"][0]["accuracy"]
    error = 100 * np.sqrt(2 * accuracy * (1 - accuracy) / 30)
    self.assertRegex(
      text.partition("## Claims and controls")[2].partition("##")[0],
      rf"\| standard +\|[^|]*\| +its control \|[^|]*\| +0.00 \| +{error:.2f}"
      r" \| +no \|",
    )

  def test_a_control_of_no_row(self):
    changed = config(self.folder)
    changed.stages.eval_base_again.control_of = "eval_nobody"
    with self.assertRaisesRegex(
      ValueError, "eval_base_again.control_of must be a row .*'eval_nobody'"
    ):
      parse(changed)

  def test_transfer_without_learners(self):
    found = self.results["transfer"]["transfer"]
    self.assertIsNone(found["rows"][0]["learner_accuracy"])
    text = (self.workdir / "results.md").read_text()
    self.assertNotIn("Spearman", text)

  def test_a_construction_gets_the_models_it_names(self):
    changed = config(self.folder)
    attack = recipes.attack("l2", 0.5, 0.1, 2)
    made = recipes.construction(
      "more", attack, target="teacher", spare="predicted"
    )
    changed.stages.more = recipes.construct_stage(
      "base", made, which="best", repel=("eval", "eval"), spared_by="weak",
      teacher="taught",
    )  # fmt: skip
    for name in ("eval", "weak", "taught"):
      changed.stages[name] = recipes.train_stage(
        "main", "D", changed.stages.base.train
      )
    study = Study(parse(changed), self.workdir)
    named = mock.patch.object(
      study, "model", side_effect=lambda name, which="last": (name, which)
    )
    manifest = dict.fromkeys(("sha256", "mean", "num_examples", "num_spared",
                              "separability", "seconds"), 0)  # fmt: skip
    with (
      named,
      mock.patch.object(
        construct, "construct", return_value=manifest
      ) as called,
      mock.patch.object(study, "require"),
    ):
      node = study.plan.nodes["more"]
      node.kind.run(study, "more", node.stage, self.folder)
    self.assertEqual(called.call_args.args[1:3], ("base", "best"))
    self.assertEqual(
      called.call_args.kwargs,
      {"repel": (("eval", "last"),) * 2, "spared_by": ("weak", "last"),
       "teacher": ("taught", "last")},
    )  # fmt: skip

  def test_a_damaged_set_is_named(self):
    folder = self.folder / "damaged"
    shutil.copytree(self.workdir, folder)
    few = self.data.images[:5].copy()
    few[0] += 1
    np.savez(folder / "few" / "set.npz", images=few,
             labels=self.data.labels[:5])  # fmt: skip
    study = Study(parse(config(self.folder)), folder)
    path = folder / "few" / "set.npz"

    def refused(message):
      with self.assertRaisesRegex(
        ValueError, f"set.npz {message}; delete the folder {path.parent} and"
      ):
        study.dataset("few", "train")

    refused("does not match its checksum")
    whole = path.read_bytes()
    for content in (whole[:-20], whole[:50], b"", b"no archive"):
      path.write_bytes(content)
      refused("is damaged")
    np.savez(path, images=few)
    refused("does not match its checksum")
    path.unlink()
    refused("is missing")

  def test_an_empty_selection_is_one_line(self):
    changed = config(self.folder)
    changed.stages.none = recipes.select_stage("wrong", "right", model="base")
    study = Study(parse(changed), self.workdir)
    with self.assertRaisesRegex(
      ValueError, "stages.none keeps none of the .* images of wrong"
    ):
      study.require("none")

  def test_sets_of_other_sizes(self):
    changed = config(self.folder)
    changed.stages.mixed_few = recipes.combine_stage("D", "few", 1.0)
    changed.stages.judged_few = recipes.select_stage(
      "D", "right", model="base", judged="few"
    )
    study = Study(parse(changed), self.workdir)
    with self.assertRaisesRegex(ValueError, "mixed_few.also has 5 images of"):
      study.require("mixed_few")
    with self.assertRaisesRegex(ValueError, "judged_few.judged has 5 images"):
      study.require("judged_few")

  @parameterized.parameters(
    ("wrong", {"model": ""}, "wrong.model must be given by 'wrong'"),
    ("two", {"model": "base"}, "two.model must be '' by 'classes', got 'base'"),
    ("two", {"classes": ()}, "two.classes must be given by 'classes'"),
    ("few", {"num_examples": 0}, "few.num_examples must be given by 'first'"),
    ("few", {"judged": "D"}, "few.judged needs a model, got 'D'"),
    ("top", {"fraction": 0.0}, r"top.fraction must be in \(0, 1\], got 0.0"),
    ("wrong", {"fraction": 0.5}, "wrong.fraction must be 1 by 'wrong'"),
    ("jpeg", {"amount": 99.0}, r"jpeg.amount must be in \[1, 95\] for 'jpeg'"),
    ("jpeg", {"transform": "blur"}, "jpeg.transform must be one of 'jpeg'"),
    ("shuffled", {"amount": 1.0}, r"shuffled.amount must be in \[0, 0\]"),
    ("mixed", {"fraction": 1.5}, r"mixed.fraction must be in \(0, 1\]"),
    ("probe", {"strength": 0.0}, "probe.strength must be a finite number abo"),
    ("probe", {"strength": math.inf}, "probe.strength must be .*got inf"),
    ("few", {"num_examples": -1}, "few.num_examples must be at least 0"),
    ("two", {"classes": (0, -1)}, "two.classes must be at least 0, got -1"),
    ("transfer", {"num_examples": -1}, "transfer.num_examples must be at lea"),
    ("probe", {"originals": "D"}, "probe.originals is for images alone"),
    ("transfer", {"targets": ()}, "transfer.targets must name at least one"),
    ("transfer", {"learners": ("base", "base")}, "transfer.learners must name"),
  )  # fmt: skip
  def test_refused(self, name, changes, message):
    changed = config(self.folder)
    for field, value in changes.items():
      changed.stages[name][field] = value
    with self.assertRaisesRegex(ValueError, f"^stages.{message}"):
      parse(changed)


if __name__ == "__main__":
  absltest.main()
