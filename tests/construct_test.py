"""The four data sets: labels, distances, resumption, and closed forms."""

import dataclasses
import json
import pathlib
import shutil
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized
from PIL import Image

from robust_features import construct, evaluate, models
from robust_features.attacks import AttackConfig
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.models.layers import Outputs, relu
from robust_features.runtime import preemption

INVERT = AttackConfig("l2", float("inf"), 0.1, 60, keep_best=False)
PERTURB = AttackConfig("l2", 0.5, 0.1, 10)


def config(kind, **changes):
  is_target = construct.KINDS[kind][0] == "target"
  fields = {
    "kind": kind, "init": "self" if is_target else "image",
    "attack": PERTURB if is_target else INVERT, "fake_relu": False,
    "pixels": "uint8", "batch_size": 8, "shard_size": 10,
  }  # fmt: skip
  return construct.ConstructConfig(**(fields | changes))


def cnn():
  """Returns a network and its variables."""
  model = toys.small_cnn()
  return model, models.init_variables(model, jax.random.key(0), (8, 8, 3))


def linear(num_classes=3):
  """Returns a linear model; its representation is the image itself."""
  model = toys.Linear(num_classes)
  return model, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def run(test, cfg, source, *, data=None, folder=None, seed=0, origin=None):
  """Constructs in a folder; returns (manifest, data set, folder)."""
  data = data or toys.dataset(24)
  folder = folder or toys.folder(test)
  manifest = construct.construct(
    cfg, *source, data, toys.dataset(40, seed=9), folder,
    jax.random.key(seed), origin or {"source": "toy"},
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
  def test_original_and_next(self):
    y = jnp.array([0, 1, 2, 2], jnp.int32)
    for kind in ("robust", "nonrobust"):
      found = construct.new_labels(kind, y, toys.keys(4), 3)
      np.testing.assert_array_equal(found, y)
    found = construct.new_labels("det", y, toys.keys(4), 3)
    np.testing.assert_array_equal(found, [1, 2, 0, 0])
    self.assertEqual(found.dtype, jnp.int32)

  def test_rand_is_uniform_over_all_classes_whatever_the_label(self):
    num = 3000
    y = jnp.zeros(num, jnp.int32)
    found = construct.new_labels("rand", y, toys.keys(num), 3)
    self.assertEqual(found.dtype, jnp.int32)
    counts = np.bincount(found, minlength=3)
    # Four standard deviations of a binomial with p = 1/3.
    bound = 4 * np.sqrt(num * (1 / 3) * (2 / 3))
    np.testing.assert_allclose(counts, num / 3, atol=bound)

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
  def test_representation_distance(self):
    """Of a linear model: -||z - x|| / ||x||, and no NaN at the minimum."""
    source = linear()
    x = toys.dataset(4, dtype=np.float32).images
    z = toys.dataset(4, seed=1, dtype=np.float32).images
    objective = construct.representation_objective(
      *source, jnp.asarray(x), False
    )
    size = np.linalg.norm(x.astype(np.float64).reshape(4, -1), axis=1)
    np.testing.assert_allclose(
      objective(jnp.asarray(z)), -distances(z, x) / size, rtol=1e-5
    )
    grad = jax.grad(lambda z: objective(z).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(grad, np.zeros_like(x))

  def test_target(self):
    model, variables = linear()
    x = jnp.asarray(toys.dataset(4, dtype=np.float32).images)
    target = jnp.array([0, 1, 2, 0], jnp.int32)
    found = construct.target_objective(model, variables, target)(x)
    log_p = jax.nn.log_softmax(model.apply(variables, x).logits)
    want = np.asarray(log_p)[np.arange(4), np.asarray(target)]
    np.testing.assert_allclose(found, want, rtol=1e-5)

  def test_fake_relu_lets_closed_units_move(self):
    class Ramp(nn.Module):
      """The representation is relu(x - 1/2)."""

      @nn.compact
      def __call__(self, x, *, bn_mode="running", fake_relu=False):
        flat = x.reshape(x.shape[0], -1) - 0.5
        representation = relu(flat, fake_relu)
        return Outputs(representation[:, :2], representation)

    x = jnp.full((1, 2, 2, 1), 0.9, jnp.float32)
    z = jnp.full((1, 2, 2, 1), 0.1, jnp.float32)  # Every unit is closed.
    gradients = []
    for fake in (False, True):
      objective = construct.representation_objective(Ramp(), {}, x, fake)
      gradients.append(jax.grad(lambda z, f=objective: f(z).sum())(z))
      np.testing.assert_allclose(objective(z), [-1.0], rtol=1e-6)
    np.testing.assert_array_equal(gradients[0], np.zeros((1, 2, 2, 1)))
    self.assertTrue((gradients[1] > 0.1).all())

  def test_fake_relu_reaches_the_models(self):
    found = [
      run(self, config("robust", fake_relu=fake, pixels="float32"), cnn())[1]
      for fake in (False, True)
    ]
    self.assertGreater(distances(*(f.images for f in found)).min(), 1e-3)


class StartTest(parameterized.TestCase):
  def points(self, init, num=64, pool=None):
    x = jnp.zeros((num, 8, 8, 3), jnp.float32)
    pool = toys.dataset(5).images if pool is None else pool
    return np.asarray(
      construct.starting_points(
        init, x, jnp.asarray(pool), toys.keys(num), toys.keys(num, 1)
      )
    )

  def test_noise(self):
    found = self.points("noise")
    # 12,288 draws: four standard errors of a mean and of a deviation.
    self.assertAlmostEqual(found.mean(), 0.5, delta=4 * 0.05 / 110)
    self.assertAlmostEqual(found.std(), 0.05, delta=4 * 0.05 / 156)
    self.assertTrue((found[0] != found[1]).mean() > 0.9)

  def test_image_draws_from_the_whole_pool(self):
    pool = toys.dataset(5).images
    found = self.points("image", pool=pool)
    whole = (pool / np.float32(255)).reshape(5, -1)
    nearest = np.abs(found.reshape(64, 1, -1) - whole[None]).max(axis=2)
    self.assertLess(nearest.min(axis=1).max(), 1e-6)
    self.assertLen(set(nearest.argmin(axis=1)), 5)

  def test_self(self):
    self.assertEqual(np.abs(self.points("self")).max(), 0.0)


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


class IndependenceTest(parameterized.TestCase):
  @parameterized.parameters("rand", "robust")
  def test_of_the_batch_size(self, kind):
    source = cnn()
    wholes = [
      run(self, config(kind, batch_size=size), source)[0]["sha256"]
      for size in (8, 4, 100)
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
      "# D_robust", "24 examples", "uint8, 0 to 255", manifest["sha256"],
      f"{manifest['mean']['moved_from_original']:.4f}", "source_digest: `abc`",
      f"for {manifest['mean']['success']:.2%} of the",
    ):  # fmt: skip
      self.assertIn(text, card)
    with Image.open(folder / "grid.png") as image:
      # Ten images of 8 + 1 pixels, two rows, four times enlarged.
      self.assertEqual(image.size, (4 * 90, 4 * 18))

  @parameterized.parameters(
    ({"kind": "best"}, "kind must be one of .*got 'best'"),
    ({"init": "zero"}, "init must be one of .*got 'zero'"),
    ({"pixels": "int8"}, "pixels must be one of .*got 'int8'"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"shard_size": -1}, "shard_size must be at least 1, got -1"),
    ({"kind": "rand", "init": "noise"}, "init must be 'self' for 'rand'"),
  )
  def test_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(config("robust"), **changes)

  def test_a_radius_in_units_of_255(self):
    attack = AttackConfig("linf", 8.0, 1.0, 1)
    folder = toys.folder(self)
    with self.assertRaisesRegex(
      ValueError, r"attack.eps is 8, .*write 8/255\?"
    ):
      run(self, config("rand", attack=attack), linear(), folder=folder)
    self.assertEmpty(list(folder.iterdir()))


if __name__ == "__main__":
  absltest.main()
