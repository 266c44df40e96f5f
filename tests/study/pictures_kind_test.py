"""The kind `pictures`: what it draws is what the climbs find, and its table."""

import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toy_study
from absl.testing import absltest, parameterized

from robust_features import (
  attacks,
  evaluate,
  models,
  objectives,
  pictures,
  recipes,
)
from robust_features.data import dataset as ds
from robust_features.study import graph, run, settings
from robust_features.study.kinds import KINDS
from robust_features.study.kinds import pictures as pictures_kind
from robust_features.study.parse import parse
from robust_features.study.report import picture_figures, picture_tables


def config(folder):
  """Returns the toy study with pictures of its model alone."""
  found = toy_study.config(folder)
  for name in list(found.stages):
    if name != "base":
      del found.stages[name]
  found.table = ()
  stage = recipes.pictures_stage(("base",))
  recipes.variant(found, "smoke")
  stage.pictures.images_per_class, stage.pictures.num_points = 2, 3
  for name in ("inversion", "features"):
    stage.pictures[name].num_steps = 6
    stage.pictures[name].frame_every_steps = 3
  found.stages.look = stage
  return found


class PicturesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = pathlib.Path(folder)
    toy_study.write_npz(cls.folder)
    cls.workdir = cls.folder / "run"
    cls.found = run.run(config(cls.folder), cls.workdir)["pictures"]["look"]
    cls.study = graph.Study(parse(config(cls.folder)), cls.workdir)
    cls.data = cls.study.dataset("D", "test")
    with np.load(cls.workdir / "look" / "pictures.npz") as arrays:
      cls.drawn = dict(arrays)

  def test_shown_are_the_first_images_of_each_class(self):
    first = [np.flatnonzero(self.data.labels == i)[0] for i in range(3)]
    want = self.data.images[first]
    np.testing.assert_array_equal(self.drawn["original"], want)
    np.testing.assert_array_equal(
      self.drawn["start-image"], np.roll(want, -1, axis=0)
    )
    self.assertEqual(self.found["inversion"]["frame_steps"], [0, 3, 6])

  def test_inversion_and_interpolation_are_those_of_the_verbs(self):
    opened = self.study.model("base")
    cfg = self.study.plan.nodes["look"].stage.pictures
    x, start = (
      ds.to_float(self.drawn[name]) for name in ("original", "start-image")
    )
    frames, values = pictures.invert(*opened, x, start, cfg.inversion)
    np.testing.assert_allclose(
      self.drawn["base-frames-image"] / 255, frames, atol=0.003
    )
    both = self.found["models"]["base"]["inversion"]["image"]
    self.assertLen(both["pixels_l2_end"], 6)  # Two images of each class.
    self.assertLess(
      both["relative_distance"]["mean"][-1],
      both["relative_distance"]["mean"][0],
    )
    self.assertTrue((values[-1] > values[0]).all())
    begin, end = picture_figures.pairs(3)
    frames, _ = pictures.interpolate(
      *opened, x[begin], x[end], 3, cfg.inversion
    )
    for name, frame in (("pixels", 0), ("interpolation", -1)):
      want = frames[frame].reshape(3, 2, *x.shape[1:])
      np.testing.assert_allclose(
        self.drawn[f"base-{name}"] / 255, want, atol=0.003
      )

  def test_features(self):
    """In deviations of the entry over the set, and as the model sees them."""
    model, variables = self.study.model("base")
    found = self.found["models"]["base"]["features"]
    seen = models.represent(
      model, variables, jnp.asarray(ds.to_float(self.data.images))
    )
    entries = found["entries"]
    values = np.asarray(seen)[:, entries]
    np.testing.assert_array_equal(
      self.drawn["base-highest"], self.data.images[values.argmax(axis=0)]
    )
    start = ds.to_float(self.drawn["start-image"])
    begin = np.asarray(models.represent(model, variables, start))
    begin = begin[np.arange(3), entries]
    want = ((begin - values.mean(0)) / values.std(0)).mean()
    mean = found["image"]["deviations"]["mean"]
    self.assertAlmostEqual(mean[0], want, delta=1e-3)
    self.assertGreater(mean[1], mean[0])
    end = ds.to_float(self.drawn["base-feature-image"])
    seen = models.apply(model, variables, end).logits.argmax(axis=1)
    want = float((np.asarray(seen) == np.arange(3)).mean())
    self.assertAlmostEqual(found["image"]["seen_as_its_class"], want)

  def test_a_damaged_file_is_made_again(self):
    found = {"look": self.found}
    folder = self.folder / "damaged"
    for content, what in ((b"", "damaged"), (None, "missing")):
      path = folder / "look" / "pictures.npz"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.unlink(missing_ok=True)
      if content is not None:
        path.write_bytes(content)
      with self.assertRaisesRegex(
        ValueError,
        f"pictures.npz is {what}; delete the folder {path.parent} and",
      ):
        KINDS["pictures"].draw(found, folder)

  def test_figures(self):
    names = ("inversion", "interpolation", "features", "frames_noise",
             "frames_image")  # fmt: skip
    for name in names:
      for suffix in ("png", "pdf"):
        path = self.workdir / "figures" / f"look_{name}.{suffix}"
        self.assertGreater(path.stat().st_size, 1000, path)

  @parameterized.parameters(
    ("models", ("base", "base"), "look.models must name .* each once"),
    ("pictures.images_per_class", 20, "pictures.images_per_class is 20"),
    ("pictures.num_classes", 1, "num_classes must be at least 2, got 1"),
    ("pictures.features.step_size", 0.0, "step_size must be a positive"),
  )
  def test_refusals(self, field, value, message):
    """Before any work is done: the workdir is not even there."""
    made = config(self.folder)
    made.stages.look.update_from_flattened_dict({field: value})
    with self.assertRaisesRegex(ValueError, message):
      run.run(made, self.folder / "refused")
    self.assertFalse((self.folder / "refused").exists())

  def test_work(self):
    """Of ten classes, at most; a gradient is two passes, a frame one."""
    stage = self.study.plan.nodes["look"].stage
    work = KINDS["pictures"].work(stage, lambda data, split: 30)
    # Two starts of two images each, five lines of three points; two features.
    climbs = 10 * 2 * 2 + 5 * 3 + 10 * 2
    gradients, frames = 6 * climbs, 3 * climbs
    self.assertEqual(work.images, 30)
    self.assertEqual(work.gradients, gradients)
    self.assertEqual(work.passes, 30 + 2 * gradients + frames)


class NumbersTest(absltest.TestCase):
  def test_the_first_images_of_classes_that_have_enough(self):
    labels = np.array([3, 1, 0, 1, 3, 1, 3, 2, 2, 2])
    data = ds.make(np.zeros((10, 2, 2, 1), np.uint8), labels, 4)
    cfg = pictures_kind.PicturesConfig
    for number, most, want in (
      (2, 9, [[1, 3], [7, 8], [0, 4]]), (2, 2, [[1, 3], [7, 8]]),
      (1, 3, [[2], [1], [7]]), (3, 3, [[1, 3, 5], [7, 8, 9], [0, 4, 6]]),
    ):  # fmt: skip
      made = cfg(most, number, 2, mock.Mock(), mock.Mock(), 1)
      np.testing.assert_array_equal(pictures_kind._chosen(data, made), want)
    one = ds.make(data.images[:4], np.array([0, 1, 1, 2]), 3)
    with self.assertRaisesRegex(ValueError, "images_per_class is 2, but fewer"):
      pictures_kind._chosen(one, cfg(2, 2, 2, mock.Mock(), mock.Mock(), 1))
    for changed in (
      {"num_classes": 1}, {"images_per_class": 0}, {"num_points": 1},
      {"batch_size": 0},
    ):  # fmt: skip
      fields = dict.fromkeys(("inversion", "features"))
      fields |= {"num_classes": 2, "images_per_class": 1, "num_points": 2,
                 "batch_size": 1}  # fmt: skip
      with self.assertRaisesRegex(ValueError, f"{next(iter(changed))} must be"):
        cfg(**(fields | changed))

  def test_inversions_in_numbers(self):
    """Two classes of two images of four ones, three frames."""
    x = np.ones((2, 2, 1, 2, 2), np.float32)
    frames = np.ones((3, 4, 1, 2, 2), np.float32)
    frames[0] = 0.0
    frames[2] += np.arange(4).reshape(4, 1, 1, 1)
    values = -np.array([[4, 4, 4, 4], [3, 2, 3, 2], [1, 1, 1, 3]], np.float32)
    cfg = mock.Mock()
    with mock.patch.object(
      pictures, "invert", return_value=(frames, values)
    ) as invert:
      numbers, drawn = pictures_kind._inversions(
        "net", "weights", x, {"noise": 0 * x}, cfg
      )
    _, _, target, begin, climb = invert.call_args.args
    np.testing.assert_array_equal(target, np.ones((4, 1, 2, 2)))
    np.testing.assert_array_equal(begin, np.zeros((4, 1, 2, 2)))
    self.assertIs(climb, cfg.inversion)
    found = numbers["noise"]
    self.assertEqual(found["relative_distance"]["mean"], [4.0, 2.5, 1.5])
    self.assertEqual(found["pixels_l2"]["mean"], [2.0, 0.0, 3.0])
    self.assertEqual(found["pixels_l2_end"], [0.0, 2.0, 4.0, 6.0])
    np.testing.assert_array_equal(
      drawn["frames-noise"], frames.reshape(3, 2, 2, 1, 2, 2)[:, :, 0]
    )

  def test_features_in_numbers(self):
    """Entry 1 tells of class 0, entry 2 of class 1; entry 0 of neither."""
    labels = np.array([0, 1, 0, 1])
    data = ds.make(np.zeros((4, 1, 2, 2), np.float32), labels, 2)
    values = np.array([[1, 5, 0], [2, 1, 3], [2, 7, 0], [1, 3, 1]], np.float32)
    start = np.zeros((2, 2, 1, 2, 2), np.float32)
    start[:, 0] = 1.0
    ends = np.stack([start[:, 0], 3 + start[:, 0], 2 + start[:, 0]])
    reached = np.array([[4.0, 1.0], [90.0, 90.0], [6.0, 3.0]])
    cfg = mock.Mock(batch_size=9)
    with (
      mock.patch.object(evaluate, "represent", return_value=values),
      mock.patch.object(
        pictures, "maximize_features", return_value=(ends, reached)
      ) as climbed,
      mock.patch.object(
        evaluate, "predict", return_value=np.array([[2, 1], [2, 1]])
      ) as seen,
    ):
      numbers, drawn = pictures_kind._features(
        "net", "weights", data, np.array([[0, 2], [1, 3]]), {"image": start},
        cfg,
      )  # fmt: skip
    self.assertEqual(numbers["entries"], [1, 2])
    mean, spread = values.mean(axis=0)[1:], values.std(axis=0)[1:]
    away = (reached[[0, 2]] - mean) / spread
    np.testing.assert_allclose(
      numbers["image"]["deviations"]["mean"], away.mean(axis=1), rtol=1e-6
    )
    self.assertEqual(numbers["image"]["seen_as_its_class"], 0.5)
    np.testing.assert_array_equal(climbed.call_args.args[3], start[:, 0])
    self.assertIs(climbed.call_args.args[4], cfg.features)
    np.testing.assert_array_equal(seen.call_args.args[2], ends[-1])
    np.testing.assert_array_equal(drawn["feature-image"], ends[-1])
    np.testing.assert_array_equal(drawn["highest"], data.images[[2, 1]])

  def test_what_is_begun_from_and_kept(self):
    """Noise is of an image's own place in the set; the rest is as it is."""
    labels = np.array([2, 1, 1, 2, 2, 0])
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3)
    data = ds.make(images, labels, ("a", "b", "c"))
    section = recipes.pictures_stage(("m",), split="validation")
    section.pictures.images_per_class = 2
    section.pictures.inversion.num_steps = 7
    fields = dict(section.items())
    made = settings.build(KINDS[fields.pop("kind")].stage, fields, "stages.s")
    study = mock.Mock()
    study.dataset.return_value, study.model.return_value = data, ("n", "w")
    study.key = lambda name: jax.random.key(len(name))
    nothing = {}
    with (
      mock.patch.object(
        pictures_kind, "_inversions", return_value=({"i": 1}, nothing)
      ) as begun,
      mock.patch.object(
        pictures_kind, "_features", return_value=({"f": 2}, nothing)
      ),
      mock.patch.object(pictures_kind, "_interpolations", return_value=nothing),
      mock.patch.object(pictures_kind.files, "write_npz"),
    ):
      found = KINDS["pictures"].run(study, "four", made, pathlib.Path("f"))
    chosen = [1, 2, 0, 3]
    starts = begun.call_args.args[3]
    keys = attacks.example_keys(jax.random.key(4), jnp.asarray(chosen))
    x = ds.to_float(images[chosen])
    want = objectives.starting_points("noise", x, None, keys)
    np.testing.assert_array_equal(starts["noise"].reshape(x.shape), want)
    np.testing.assert_array_equal(
      starts["image"].reshape(x.shape), x[np.array([2, 3, 0, 1])]
    )
    both = {"inversion": {"i": 1}, "features": {"f": 2}}
    self.assertEqual(found["models"], {"m": both})
    self.assertEqual(found["classes"], ["b", "c"])
    self.assertEqual(found["images_per_class"], 2)
    self.assertEqual(found["split"], "validation")
    for name in ("inversion", "features"):
      cfg = getattr(made.pictures, name)
      self.assertEqual(found[name]["num_steps"], cfg.num_steps)
      self.assertEqual(found[name]["frame_steps"], list(cfg.frame_steps))

  def test_a_representation_that_never_varies(self):
    data = ds.make(np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1]), 2)
    start, ones = np.zeros((2, 1, 1, 2, 2)), np.ones((2, 3), np.float32)
    ends = np.zeros((2, 2, 1, 2, 2)), np.array([[1.0, 1.0], [3.0, 5.0]])
    with (
      mock.patch.object(evaluate, "represent", return_value=ones),
      mock.patch.object(pictures, "maximize_features", return_value=ends),
      mock.patch.object(evaluate, "predict", return_value=np.eye(2)),
    ):
      numbers, _ = pictures_kind._features(
        "n", "w", data, np.array([[0], [1]]), {"image": start}, mock.Mock()
      )
    self.assertEqual(numbers["image"]["deviations"]["mean"], [0.0, 3.0])

  def test_a_set_of_another_stage_is_not_made_to_be_looked_at(self):
    asked = mock.Mock()
    asked.plan.data = {}
    made = mock.Mock(data="set")
    KINDS["pictures"].preflight(asked, "s", made)
    asked.dataset.assert_not_called()


class TablesTest(absltest.TestCase):
  def test_a_control_is_compared_image_by_image(self):
    found = picture_tables.mean_and_error([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    np.testing.assert_allclose(found["mean"], [2, 4])
    np.testing.assert_allclose(found["standard_error"], [1 / 3**0.5, 0])
    self.assertEqual(picture_tables.mean_and_error([5.0])["standard_error"], 0)

    def model(ends):
      part = {"mean": [9.0, 1.5], "standard_error": [0.5, 0.25]}
      one = {"relative_distance": part, "pixels_l2": part,
             "pixels_l2_end": ends}  # fmt: skip
      feature = {"deviations": part, "seen_as_its_class": 0.75}
      starts = picture_figures.STARTS
      return {"inversion": dict.fromkeys(starts, one),
              "features": dict.fromkeys(starts, feature)}  # fmt: skip

    climb = {"num_steps": 6, "step_size": 0.1, "fake_relu": True}
    result = {
      "models": {"ours": model([1.0, 2.0]), "theirs": model([3.0, 6.0])},
      "classes": ["a", "b"], "images_per_class": 1, "split": "test",
      "inversion": climb, "features": climb | {"fake_relu": False},
    }  # fmt: skip
    ((title, lines),) = picture_tables.sections({"look": result})
    self.assertIn("look", title)
    self.assertIn("by 3.000 ± 1.000 (l2 in pixels, paired)", lines[2])
    self.assertIn("of theirs by", lines[2])
    self.assertLen(lines[0].rows, 5)
    self.assertEqual(lines[0].rows[1][2:4], ["9.000 ± 0.500", "1.500 ± 0.250"])
    self.assertEqual(lines[-1].rows[1][-1], "75.00")
    text = "\n".join(lines)
    self.assertIn("6 of 0.1 through closed ReLUs, features 6 of 0.1\n", text)
    self.assertIn("- 2 test images of 2 classes", text)


if __name__ == "__main__":
  absltest.main()
