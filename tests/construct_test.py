"""Constructed data sets: labels, distances, resumption, closed forms."""

import dataclasses
import json
import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized
from PIL import Image

from robust_features import (
  construct,
  construct_config,
  evaluate,
  models,
  objectives,
)
from robust_features.attacks import AttackConfig, geometry
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.runtime import preemption

INVERT = AttackConfig("l2", float("inf"), 0.1, 60, keep_best=False)
PERTURB = AttackConfig("l2", 0.5, 0.1, 10)


def config(kind="set", **changes):
  """Returns a preset, or for another name D_det's kin."""
  inverts = kind in ("robust", "nonrobust")
  attack = changes.pop("attack", INVERT if inverts else PERTURB)
  fields = {"batch_size": 8, "shard_size": 10} | changes
  if kind in construct_config.KINDS:
    return construct.preset(kind, attack, **fields)
  return construct.ConstructConfig(kind, attack, **fields)


def cnn():
  """Returns a network and its variables."""
  model = toys.small_cnn()
  return model, models.init_variables(model, jax.random.key(0), (8, 8, 3))


def linear(num_classes=3):
  """Returns a linear model; its representation is the image itself."""
  model = toys.Linear(num_classes)
  return model, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def run(test, cfg, source, *, data=None, folder=None, seed=0, origin=None,
        **models):  # fmt: skip
  """Constructs in a folder; returns (manifest, data set, folder)."""
  data = data or toys.dataset(24)
  folder = folder or toys.folder(test)
  manifest = construct.construct(
    cfg, *source, data, toys.dataset(40, seed=9), folder,
    jax.random.key(seed), origin or {"source": "toy"}, **models,
  )  # fmt: skip
  return manifest, constructed.load(folder), folder


def contents(folder):
  """Returns the bytes of every array file, by name."""
  return {p.name: p.read_bytes() for p in sorted(folder.glob("*.npy"))}


def floats(images):
  return np.asarray(ds.to_float(images), np.float64)


def distances(a, b):
  flat = (floats(a) - floats(b)).reshape(len(a), -1)
  return np.linalg.norm(flat, axis=1)


class LabelsTest(parameterized.TestCase):
  def test_the_data_sets_carry_them(self):
    source, data = linear(), toys.dataset(24)
    det = run(self, config("det"), source)[1]
    np.testing.assert_array_equal(det.labels, (data.labels + 1) % 3)
    np.testing.assert_array_equal(det.extras["original_labels"], data.labels)
    robust = run(self, config("robust"), source)[1]
    np.testing.assert_array_equal(robust.labels, data.labels)
    rand = run(self, config("rand"), source)[1]
    agree = (rand.labels == data.labels).mean()
    self.assertBetween(agree, 0.01, 0.8)
    self.assertEqual(rand.class_names, data.class_names)


class ObjectiveTest(parameterized.TestCase):
  def test_fake_relu_reaches_the_models(self):
    found = [
      run(self, config("robust", fake_relu=fake, pixels="float32"), cnn())[1]
      for fake in (False, True)
    ]
    self.assertGreater(distances(*(f.images for f in found)).min(), 1e-3)


class InversionTest(parameterized.TestCase):
  @parameterized.product(kind=("robust", "nonrobust"), init=("image", "noise"))
  def test_of_a_linear_model_gives_the_image_back(self, kind, init):
    """Its representation is the image, so the climb ends within a step."""
    data = toys.dataset(24)
    cfg = config(kind, init=init, pixels="float32")
    manifest, found, _ = run(self, cfg, linear(), data=data)
    self.assertLess(distances(found.images, data.images).max(), 0.101)
    mean = manifest["mean"]
    self.assertGreater(mean["moved_from_start"], 1.0)
    self.assertLess(mean["moved_from_original"], 0.101)
    self.assertLess(mean["objective_start"], -0.1)
    self.assertGreater(mean["objective_end"], -0.01)

  def test_of_a_network_comes_nearer(self):
    mean = run(self, config("robust"), cnn())[0]["mean"]
    self.assertLess(mean["objective_start"], 0)
    self.assertGreater(mean["objective_end"], mean["objective_start"] / 3)
    self.assertGreater(mean["objective_stored"], mean["objective_start"] / 3)


class PerturbationTest(parameterized.TestCase):
  @parameterized.product(
    kind=("rand", "det"), pixels=("uint8", "float32"), norm=("l2", "linf")
  )
  def test_the_radius_holds_as_stored(self, kind, pixels, norm):
    """Rounding to 8 bits adds at most half a level on every pixel."""
    data = toys.dataset(24)
    eps = 0.5 if norm == "l2" else 0.05
    attack = dataclasses.replace(PERTURB, norm=norm, eps=eps, step_size=eps / 5)
    cfg = config(kind, attack=attack, pixels=pixels)
    _, found, _ = run(self, cfg, cnn(), data=data)
    self.assertEqual(found.images.dtype, np.dtype(pixels))
    delta = (floats(found.images) - floats(data.images)).reshape(24, -1)
    order = 2 if norm == "l2" else np.inf
    size = np.linalg.norm(delta, ord=order, axis=1)
    bound = eps + 1e-6
    if pixels == "uint8":
      bound += 0.5 / 255 * (np.sqrt(delta.shape[1]) if norm == "l2" else 1)
    self.assertLessEqual(size.max(), bound)
    self.assertGreater(size.min(), 0.8 * eps)

  def test_statistics_are_those_of_the_stored_images(self):
    source, data = cnn(), toys.dataset(24)
    manifest, found, _ = run(self, config("rand"), source, data=data)
    predicted = evaluate.predict(*source, found.images, 24).argmax(1)
    mean = manifest["mean"]
    self.assertAlmostEqual(mean["success"], (predicted == found.labels).mean())
    moved = distances(found.images, data.images).mean()
    self.assertAlmostEqual(mean["moved_from_original"], moved, places=5)
    self.assertEqual(mean["moved_from_start"], mean["moved_from_original"])
    self.assertGreater(mean["objective_end"], mean["objective_start"])
    self.assertEqual(mean["met_zero_gradient"], 0.0)

  def test_pixels_are_rounded_to_the_nearest_and_measured_so(self):
    source = linear()
    (mean, stored), (exact, whole) = (
      (manifest["mean"], found)
      for manifest, found, _ in (
        run(self, config("rand", pixels=pixels), source)
        for pixels in ("uint8", "float32")
      )
    )
    np.testing.assert_array_equal(
      stored.images, np.round(whole.images * np.float32(255))
    )
    np.testing.assert_array_equal(stored.labels, whole.labels)
    for found, images, key in (
      (mean, stored.images, "objective_stored"),
      (mean, whole.images, "objective_end"),
      (exact, whole.images, "objective_stored"),
      (mean, toys.dataset(24).images, "objective_start"),
    ):
      logits = evaluate.predict(*source, images, 24)
      log_p = np.asarray(jax.nn.log_softmax(logits))
      value = log_p[np.arange(24), stored.labels].mean()
      self.assertAlmostEqual(found[key], float(value), places=5)
    self.assertNotAlmostEqual(
      mean["objective_stored"], mean["objective_end"], places=5
    )

  def test_success_before_rounding_is_that_of_the_unrounded_image(self):
    """A change of less than half a level fools, and rounding undoes it."""
    data = toys.dataset(8)
    images = np.full_like(data.images, 128)
    data = dataclasses.replace(data, images=images)
    model = toys.Linear(3)
    # Of these images the logits are equal but for the bias.
    kernel = np.random.default_rng(0).normal(size=(192, 3)).astype(np.float32)
    kernel -= kernel.mean(axis=0)
    variables = toys.linear_variables(kernel, np.array([1e-3, 0.0, 0.0]))
    attack = AttackConfig("linf", 1e-3, 1e-3, 1)
    cfg = config("rand", attack=attack)
    manifest, found, _ = run(self, cfg, (model, variables), data=data)
    np.testing.assert_array_equal(found.images, images)
    mean = manifest["mean"]
    self.assertEqual(mean["success_before_rounding"], 1.0)
    self.assertEqual(mean["success"], (found.labels == 0).mean())
    self.assertLess(mean["success"], 1.0)

  def test_it_moves_towards_the_target(self):
    """Of a linear model along the target's logit, with all of the radius."""
    source, data = linear(2), toys.dataset(12, num_classes=2, noise=0.05)
    cfg = config("det", pixels="float32")
    _, found, _ = run(self, cfg, source, data=data)
    kernel = np.asarray(source[1]["params"]["kernel"], np.float64)
    for i in range(12):
      target = found.labels[i]
      direction = kernel[:, target] - kernel[:, 1 - target]
      delta = (floats(found.images[i]) - floats(data.images[i])).reshape(-1)
      cosine = delta @ direction / np.linalg.norm(delta)
      self.assertGreater(cosine / np.linalg.norm(direction), 0.99)


class StreamsTest(parameterized.TestCase):
  """After a step of next to nothing an image is where its climb began."""

  def keys(self, stream, num=24):
    """Returns a stream's key of each example's own key, from its index."""
    root = jax.random.key(0)
    return [
      jax.random.fold_in(jax.random.fold_in(root, i), stream)
      for i in range(num)
    ]

  @parameterized.parameters("image", "noise")
  def test_starts(self, init):
    """Of another image, or N(1/2, 1/20), clipped; `starts` tells the same."""
    attack = AttackConfig("l2", float("inf"), 1e-9, 1, keep_best=False)
    cfg = config("nonrobust", init=init, attack=attack, pixels="float32")
    data, pool = toys.dataset(24), toys.dataset(40, seed=9)
    found = run(self, cfg, linear(), data=data)[1]
    if init == "image":
      rows = [int(jax.random.randint(k, (), 0, 40)) for k in self.keys(0)]
      want = ds.to_float(pool.images[np.array(rows)])
      self.assertGreater(len(set(rows)), 10)
    else:
      noise = [jax.random.normal(k, (8, 8, 3)) for k in self.keys(1)]
      want = np.clip(0.5 + np.stack(noise) / 20, 0, 1)
    np.testing.assert_allclose(found.images, want, atol=1e-6)
    told = construct.starts(
      cfg, data, pool, jax.random.key(0), np.array([23, 2])
    )
    np.testing.assert_allclose(told, want[np.array([23, 2])], atol=1e-6)

  @jax.debug_key_reuse(False)  # It takes a stack of keys for used ones.
  def test_targets_and_random_starts(self):
    """Uniform over all classes, the own one too, by the example's index."""
    attack = AttackConfig("l2", 0.5, 1e-9, 1, start="random")
    cfg = config("rand", attack=attack, pixels="float32", examples_per_image=2)
    data = toys.dataset(12)
    found = run(self, cfg, linear(), data=data)[1]
    want = [int(jax.random.randint(k, (), 0, 3)) for k in self.keys(2)]
    np.testing.assert_array_equal(found.labels, want)
    self.assertTrue((found.labels == np.tile(data.labels, 2)).any())
    starts = jnp.stack([jax.random.fold_in(k, 0) for k in self.keys(3)])
    ball = geometry.random_in_ball(starts, (8, 8, 3), "l2", 0.5)
    images = np.tile(np.asarray(ds.to_float(data.images)), (2, 1, 1, 1))
    np.testing.assert_allclose(
      found.images, np.clip(images + ball, 0, 1), atol=1e-6
    )

  def test_noise_of_an_example(self):
    grey = ds.make(np.full((24, 8, 8, 3), 0.5, np.float32), [0, 1, 2] * 8, 3)
    cfg = config(
      "noise", objective="none", fixed_noise="example", pixels="float32",
      attack=AttackConfig("linf", 0.25, 0.0, 0),
    )  # fmt: skip
    found = run(self, cfg, linear(), data=grey)[1]
    want = [
      0.5 + 0.25 * jax.random.rademacher(k, (8, 8, 3), jnp.float32)
      for k in self.keys(5)
    ]
    np.testing.assert_array_equal(found.images, np.stack(want))


class RadiusTest(parameterized.TestCase):
  @parameterized.product(init=("image", "noise"), norm=("l2", "linf"))
  def test_of_an_inversion_lies_about_the_start(self, init, norm):
    """Asked for a small radius, it must not give the labelled image back."""
    eps = 0.5 if norm == "l2" else 0.02
    attack = AttackConfig(norm, eps, eps / 5, 20, keep_best=False)
    cfg = config("robust", init=init, attack=attack, pixels="float32")
    source, data = linear(), toys.dataset(24)
    mean = run(self, cfg, source, data=data)[0]["mean"]
    order = 1.0 if norm == "l2" else np.sqrt(8 * 8 * 3)
    self.assertBetween(mean["moved_from_start"], 0.5 * eps, eps * order + 1e-5)
    self.assertGreater(mean["moved_from_original"], 1.0)
    self.assertGreater(mean["objective_end"], mean["objective_start"])


class VariantsTest(parameterized.TestCase):
  """What the literature varies: targets, labels, spared images, noise."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.source, cls.data = linear(), toys.dataset(24)
    cls.seen = evaluate.predict(*cls.source, cls.data.images, 24).argmax(1)

  def test_a_poison_is_det_with_the_labels_left_alone(self):
    det = run(self, config("det"), self.source)[1]
    manifest, poison, _ = run(self, config("poison", label="own"), self.source)
    np.testing.assert_array_equal(det.images, poison.images)
    np.testing.assert_array_equal(poison.labels, self.data.labels)
    # Success is that the source sees the target, not the label.
    found = evaluate.predict(*self.source, poison.images, 24).argmax(1)
    self.assertAlmostEqual(
      manifest["mean"]["success"], (found == det.labels).mean()
    )

  def test_towards_the_own_label(self):
    cfg = config("p2", target="own", label="own", pixels="float32")
    mean = run(self, cfg, self.source)[0]["mean"]
    self.assertGreater(mean["objective_end"], mean["objective_start"])

  def test_untargeted(self):
    cfg = config("away", objective="untargeted", target="none", label="own")
    manifest, found, _ = run(self, cfg, self.source)
    predicted = evaluate.predict(*self.source, found.images, 24).argmax(1)
    mean = manifest["mean"]
    self.assertAlmostEqual(
      mean["success"], (predicted != self.data.labels).mean()
    )
    self.assertGreater(mean["objective_end"], mean["objective_start"])

  def test_other_is_never_the_own_label(self):
    found = run(self, config("other", target="other"), self.source)[1]
    self.assertTrue((found.labels != self.data.labels).all())
    self.assertLen(set((found.labels - self.data.labels) % 3), 2)

  def test_what_the_source_predicts(self):
    cfg = config("own", target="own", label="source")
    found = run(self, cfg, self.source)[1]
    np.testing.assert_array_equal(found.labels, self.seen)
    cfg = config("own", target="source")
    found = run(self, cfg, self.source)[1]
    np.testing.assert_array_equal(found.labels, self.seen)

  def test_a_model_that_predicts_other_classes(self):
    """What a wider model says need not be a class: it may only lend images."""
    wide = toys.Linear(4), toys.linear_variables(np.zeros((192, 4)))
    for field, target, given in (
      ("teacher", "teacher", (self.source, wide)),
      ("source", "source", (wide, None)),
    ):
      source, teacher = given
      with self.assertRaisesRegex(
        ValueError,
        f"^the {field} gives 4 logits, but the images have 3 classes",
      ):
        run(self, config("taught", target=target), source, teacher=teacher)
    mean = run(self, config("det"), wide)[0]["mean"]
    self.assertEqual(mean["met_zero_gradient"], 1.0)  # All logits are zero.

  def test_what_a_teacher_predicts(self):
    teacher = toys.Linear(3), toys.linear_variables(-np.asarray(
      self.source[1]["params"]["kernel"]))  # fmt: skip
    want = evaluate.predict(*teacher, self.data.images, 24).argmax(1)
    self.assertTrue((want != self.seen).any())
    cfg = config("taught", target="teacher")
    found = run(self, cfg, self.source, teacher=teacher)[1]
    np.testing.assert_array_equal(found.labels, want)

  def test_spared_images_are_as_they_were(self):
    manifest, found, _ = run(
      self, config("leak", target="uniform", spare="label_is_own"), self.source
    )
    spared = found.labels == self.data.labels
    self.assertEqual(manifest["num_spared"], spared.sum())
    self.assertAlmostEqual(manifest["mean"]["spared"], spared.mean())
    same = (found.images == self.data.images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, spared)

  def test_spared_by_another_model(self):
    weak = cnn()
    seen = evaluate.predict(*weak, self.data.images, 24).argmax(1)
    cfg = config("leak", spare="predicted")
    manifest, found, _ = run(self, cfg, self.source, spared_by=weak)
    spared = seen == (self.data.labels + 1) % 3
    self.assertBetween(spared.sum(), 1, 23)
    self.assertEqual(manifest["num_spared"], spared.sum())
    same = (found.images == self.data.images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, spared)

  @parameterized.product(
    rule=("class_of_label", "example"), norm=("l2", "linf")
  )
  def test_noise_has_the_norm_and_is_the_classs_or_the_examples(
    self, rule, norm
  ):
    grey = np.full((24, 8, 8, 3), 0.5, np.float32)
    data = ds.make(grey, self.data.labels, 3)
    attack = AttackConfig(norm, 0.4, 0.0, 0)
    cfg = config(
      "noise", objective="none", fixed_noise=rule, attack=attack,
      pixels="float32",
    )  # fmt: skip
    manifest, found, _ = run(self, cfg, self.source, data=data)
    delta = (floats(found.images) - 0.5).reshape(24, -1)
    size = np.linalg.norm(delta, ord=2 if norm == "l2" else np.inf, axis=1)
    np.testing.assert_allclose(size, 0.4, rtol=1e-5)
    np.testing.assert_array_equal(found.labels, (data.labels + 1) % 3)
    patterns = len({row.tobytes() for row in found.images})
    self.assertEqual(patterns, 3 if rule == "class_of_label" else 24)
    self.assertEqual(manifest["mean"]["objective_end"], 0.0)

  def test_noise_fixed_for_a_class_is_separable(self):
    """And noise of every example's own is not."""
    found = {}
    for rule in ("class_of_label", "example"):
      cfg = config(
        "noise", objective="none", fixed_noise=rule, pixels="float32",
        attack=AttackConfig("l2", 0.4, 0.0, 0), shard_size=50, batch_size=100,
      )  # fmt: skip
      data = toys.dataset(200)
      found[rule] = run(self, cfg, self.source, data=data)[0]["separability"]
    self.assertEqual(found["class_of_label"], 1.0)
    self.assertLess(found["example"], 0.6)

  @parameterized.parameters("uniform", "gaussian")
  def test_noise_in_the_images_place(self, base):
    cfg = config("noise", base=base, pixels="float32")
    manifest, found, _ = run(self, cfg, self.source)
    self.assertLess(manifest["mean"]["moved_from_original"], 0.5 + 1e-5)
    self.assertGreater(distances(found.images, self.data.images).min(), 1.0)
    deviation = 1 / np.sqrt(12) if base == "uniform" else 0.24
    self.assertAlmostEqual(found.images.std(), deviation, delta=0.01)

  def test_linear_separability_is_of_what_was_added_to_the_noise(self):
    """Nothing was: a classifier knows the most frequent class alone."""
    cfg = config(
      "nothing", objective="none", base="uniform", pixels="float32",
      attack=AttackConfig("l2", 0.4, 0.0, 0), shard_size=50, batch_size=100,
    )  # fmt: skip
    manifest = run(self, cfg, self.source, data=toys.dataset(200))[0]
    self.assertLess(manifest["separability"], 0.5)

  def test_several_examples_an_image(self):
    """The first ones are the set of one example an image."""
    one = run(self, config("rand"), self.source)[1]
    manifest, three, _ = run(
      self, config("rand", examples_per_image=3), self.source
    )
    self.assertEqual(manifest["num_examples"], 72)
    np.testing.assert_array_equal(three.images[:24], one.images)
    np.testing.assert_array_equal(three.labels[:24], one.labels)
    np.testing.assert_array_equal(
      three.extras["original_labels"], np.tile(self.data.labels, 3)
    )
    self.assertTrue((three.labels[:24] != three.labels[24:48]).any())

  def test_the_gradient_under_crops_and_flips(self):
    """It leads higher on the mean over crops and flips than the plain one."""
    attack = AttackConfig("l2", 1.0, 0.1, 20)
    target = (self.data.labels + 1) % 3
    objective = objectives.transformed_objective(
      objectives.target_objective(*self.source, jnp.asarray(target)),
      toys.keys(24, 5), 50,
    )  # fmt: skip
    means = []
    for copies in (0, 8):
      cfg = config(
        "det", attack=attack, transform_copies=copies, pixels="float32"
      )
      manifest, found, _ = run(self, cfg, self.source)
      self.assertLess(manifest["mean"]["moved_from_original"], 1.0 + 1e-5)
      means.append(np.mean(objective(jnp.asarray(found.images), 0)))
    self.assertGreater(means[1], means[0] + 0.02)

  def test_success_under_crop_and_flip_is_of_moved_images(self):
    """Of a model that sees the upper left pixel alone: a crop moves it."""
    kernel = np.zeros((8, 8, 3, 3))
    kernel[0, 0] = np.eye(3)
    source = toys.Linear(3), toys.linear_variables(kernel.reshape(-1, 3))
    attack = AttackConfig("l2", 1.0, 0.5, 20)
    mean = run(self, config("det", attack=attack), source)[0]["mean"]
    self.assertEqual(mean["success"], 1.0)
    self.assertLess(mean["success_augmented"], 0.9)


class RepelTest(absltest.TestCase):
  def test_the_others_see_the_label_still(self):
    source = linear()
    others = tuple(
      (toys.Linear(3), toys.Linear(3).init(
        jax.random.key(seed), jnp.zeros((1, 8, 8, 3))))
      for seed in (1, 2, 3)
    )  # fmt: skip
    data = toys.dataset(24)

    def climbed(repel, **changes):
      cfg = config("det", pixels="float32", **changes)
      return run(self, cfg, source, data=data, repel=repel)[1]

    def loss(found, labels):
      total = 0.0
      for model in others:
        logits = evaluate.predict(*model, found.images, 24)
        log_p = jax.nn.log_softmax(logits)
        total -= np.asarray(log_p)[np.arange(24), labels].mean()
      return total

    plain, repelled = climbed(()), climbed(others, repel_weight=4.0)
    self.assertLess(loss(repelled, data.labels), loss(plain, data.labels) - 0.1)
    driven = climbed(others, repel_weight=4.0, repel_label="target")
    target = (data.labels + 1) % 3
    self.assertGreater(loss(driven, target), loss(plain, target) + 0.1)


class ModelsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"spare": "predicted"}, {}, "spared_by must name a model for spare"),
    ({}, {"spared_by": 1}, "spared_by is for spare 'predicted' alone"),
    ({"target": "teacher"}, {}, "teacher must name a model for target"),
    ({}, {"teacher": 1}, "teacher is for target 'teacher' alone"),
    ({"kind": "robust"}, {"repel": 1}, "repel is for the objectives 'target'"),
  )
  def test_missing_or_idle(self, changes, given, message):
    cfg = config(**changes)
    source = linear()
    chosen = {k: (source,) if k == "repel" else source for k in given}
    with self.assertRaisesRegex(ValueError, message):
      run(self, cfg, source, **chosen)


class IndependenceTest(parameterized.TestCase):
  @parameterized.parameters(
    ("rand", {}),
    ("robust", {}),
    ("rand", {"transform_copies": 2}),
  )
  def test_of_the_batch_size(self, kind, changes):
    source = cnn()
    wholes = [
      run(self, config(kind, batch_size=size, **changes), source)[0]["sha256"]
      for size in (8, 100)
    ]
    self.assertLen(set(wholes), 1)

  def test_of_the_shard_size(self):
    source = cnn()
    found = [
      run(self, config("rand", shard_size=size), source)[1] for size in (10, 7)
    ]
    np.testing.assert_array_equal(found[0].images, found[1].images)
    np.testing.assert_array_equal(found[0].labels, found[1].labels)

  def test_the_key_decides(self):
    source = linear()
    whole = [run(self, config("rand"), source, seed=s)[0]["sha256"]
             for s in (0, 0, 1)]  # fmt: skip
    self.assertEqual(whole[0], whole[1])
    self.assertNotEqual(whole[0], whole[2])


class ResumeTest(parameterized.TestCase):
  """24 examples in shards of 10: three, the last one short."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.source, cls.cfg = cnn(), config("rand")
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.whole = pathlib.Path(folder) / "whole"
    cls.manifest, _, _ = run(cls, cls.cfg, cls.source, folder=cls.whole)

  def copy(self):
    folder = toys.folder(self) / "data"
    shutil.copytree(self.whole, folder)
    return folder

  def assert_same(self, folder):
    manifest = run(self, self.cfg, self.source, folder=folder)[0]
    self.assertEqual(contents(folder), contents(self.whole))
    self.assertEqual(manifest["sha256"], self.manifest["sha256"])
    self.assertEqual(manifest["mean"], self.manifest["mean"])

  def test_the_whole(self):
    self.assertLen(contents(self.whole), 9)
    sizes = [s["num_examples"] for s in self.manifest["shards"]]
    self.assertEqual(sizes, [10, 10, 4])

  def test_the_last_shard_was_not_written(self):
    folder = self.copy()
    for path in [*folder.glob("00002*"), folder / "manifest.json"]:
      path.unlink()
    kept = (folder / "00001-images.npy").stat().st_mtime_ns
    self.assert_same(folder)
    self.assertEqual((folder / "00001-images.npy").stat().st_mtime_ns, kept)

  def test_arrays_without_their_record_are_written_again(self):
    folder = self.copy()
    (folder / "00001.json").unlink()
    (folder / "manifest.json").unlink()
    path = folder / "00001-labels.npy"
    path.write_bytes(path.read_bytes()[:50])
    self.assert_same(folder)

  def test_a_request_to_stop(self):
    folder = toys.folder(self)
    self.addCleanup(preemption.reset)
    seen = []
    check = preemption.check

    def stop_in_the_second_shard():
      seen.append(1)
      if len(seen) == 3:
        preemption.request()
      check()

    with self.assertRaises(preemption.Stopped):
      preemption.check = stop_in_the_second_shard
      try:
        run(self, self.cfg, self.source, folder=folder)
      finally:
        preemption.check = check
    self.assertTrue((folder / "00000.json").exists())
    self.assertFalse((folder / "00001.json").exists())
    preemption.reset()
    self.assert_same(folder)

  @parameterized.parameters("images", "labels", "original_labels")
  def test_a_damaged_shard_is_named(self, array):
    folder = self.copy()
    path = folder / f"00001-{array}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with self.assertRaisesRegex(
      ds.DataError, f"00001-{array}.npy does not match its checksum; delete"
    ) as caught:
      run(self, self.cfg, self.source, folder=folder)
    self.assertNotIn("\n", str(caught.exception))


class RecordTest(parameterized.TestCase):
  def test_manifest_card_and_grid(self):
    origin = {"source": "toy", "source_digest": "abc", "config": {"seed": 3}}
    manifest, found, folder = run(
      self, config("robust", fake_relu=True), linear(), origin=origin
    )
    self.assertEqual(
      manifest, json.loads((folder / "manifest.json").read_text())
    )
    self.assertEqual(manifest["origin"], origin)
    self.assertEqual(manifest["num_examples"], 24)
    self.assertEqual(manifest["pixels"], "uint8")
    self.assertEqual(found.num_examples, 24)
    card = (folder / "card.md").read_text()
    for text in (
      "# D_robust", "24 training images", "uint8, 0 to 255", manifest["sha256"],
      f"{manifest['mean']['moved_from_original']:.4f}", "source_digest: `abc`",
      f"images as stored | {manifest['mean']['success']:.2%} |",
      f"crop and a flip | {manifest['mean']['success_augmented']:.2%} |",
      f"by their perturbations | {manifest['separability']:.2%} |",
      "left as they are: 0",
    ):  # fmt: skip
      self.assertIn(text, card)
    with Image.open(folder / "grid.png") as image:
      # Ten images of 8 + 1 pixels, two rows, four times enlarged.
      self.assertEqual(image.size, (4 * 90, 4 * 18))

  def test_a_radius_in_units_of_255(self):
    attack = AttackConfig("l2", 80.0, 1.0, 1)
    folder = toys.folder(self)
    with self.assertRaisesRegex(
      ValueError, r"attack.eps is 80, .*write 80/255\?"
    ):
      run(self, config("rand", attack=attack), linear(), folder=folder)
    self.assertEmpty(list(folder.iterdir()))


if __name__ == "__main__":
  absltest.main()
