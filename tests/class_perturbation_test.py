"""One perturbation for each class: by hand, in its ball, to the same bits."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, class_perturbation, evaluate
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.runtime import preemption

ATTACK = attacks.AttackConfig("l2", 0.5, 0.2, 4, keep_best=False)
CFG = class_perturbation.ClassPerturbationConfig(
  ATTACK, target="next", class_batch_size=3, pixels="uint8", batch_size=8,
  shard_size=10,
)  # fmt: skip


class ByHandTest(parameterized.TestCase):
  @parameterized.parameters("next", "own")
  def test_a_linear_network(self, target):
    """Unit steps up the mean over drawn images of the class, in its ball."""
    data = toys.dataset(20, num_classes=3, size=4, dtype=np.float32)
    # Nothing on a face of the box, where a clip has two derivatives.
    images = 0.02 + 0.96 * data.images
    data = dataclasses.replace(data, images=images.astype(np.float32))
    rng = np.random.default_rng(0)
    w = rng.normal(size=(48, 3))
    model, variables = toys.Linear(3), toys.linear_variables(w)
    cfg = dataclasses.replace(CFG, target=target)
    key = jax.random.key(7)
    found = class_perturbation.perturbations(cfg, model, variables, data, key)
    for label in range(3):
      own = np.flatnonzero(data.labels == label)
      wanted = (label + (target == "next")) % 3
      delta, of_class = np.zeros(48), jax.random.fold_in(key, label)
      for step in range(4):
        drawn = np.asarray(
          jax.random.randint(
            jax.random.fold_in(of_class, step), (3,), 0, len(own)
          )
        )
        x = data.images[own[drawn]].reshape(3, -1).astype(np.float64)
        z = np.clip(x + delta, 0, 1)
        logits = z @ w
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        grad = (np.eye(3)[wanted] - p) @ w.T  # Of minus the cross-entropy.
        grad = grad * ((x + delta > 0) & (x + delta < 1))
        grad = grad.mean(axis=0)
        delta = delta + 0.2 * grad / np.linalg.norm(grad)
        delta *= min(1, 0.5 / np.linalg.norm(delta))
      np.testing.assert_allclose(
        found[label].ravel(), delta, atol=2e-5, err_msg=f"class {label}"
      )


class SetTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.data = toys.dataset(24)
    kernel = np.random.default_rng(1).normal(size=(192, 3))
    self.source = toys.Linear(3), toys.linear_variables(kernel)

  def make(self, cfg=CFG, *, folder=None, data=None):
    folder = folder or toys.folder(self)
    manifest = class_perturbation.make(
      cfg, *self.source, data or self.data, folder, jax.random.key(0), {}
    )
    return manifest, constructed.load(folder / "data"), folder

  def test_every_image_of_a_class_has_its_perturbation(self):
    manifest, found, folder = self.make()
    delta = class_perturbation.perturbations(
      CFG, *self.source, self.data, jax.random.key(0)
    )
    self.assertGreater(np.abs(delta).max(axis=(1, 2, 3)).min(), 0.01)
    norms = np.sqrt(np.square(delta).sum(axis=(1, 2, 3)))
    self.assertLessEqual(norms.max(), 0.5 * (1 + 1e-6))
    x = np.asarray(ds.to_float(self.data.images))
    want = np.round(255 * np.clip(x + delta[self.data.labels], 0, 1))
    np.testing.assert_array_equal(found.images, want)
    np.testing.assert_array_equal(found.labels, self.data.labels)
    seen = evaluate.predict(*self.source, found.images, 24).argmax(1)
    led = (seen == (self.data.labels + 1) % 3).mean()
    self.assertAlmostEqual(manifest["mean"]["success"], led)
    before = evaluate.predict(*self.source, self.data.images, 24).argmax(1)
    self.assertGreater(led, (before == (self.data.labels + 1) % 3).mean())
    self.assertLen(list((folder / "classes").glob("*.npz")), 3)

  def test_a_stop_between_classes_changes_no_bit(self):
    want = self.make()[0]
    folder, calls = toys.folder(self), iter((None, None, "stop"))

    def check():
      if next(calls):
        raise preemption.Stopped("SIGTERM")

    with (
      mock.patch.object(class_perturbation.preemption, "check", check),
      self.assertRaises(preemption.Stopped),
    ):
      self.make(folder=folder)
    done = {p.name: p.stat().st_mtime_ns for p in folder.glob("classes/*")}
    self.assertLen(done, 2)
    found = self.make(folder=folder)[0]
    self.assertEqual(found["sha256"], want["sha256"])
    for name, time in done.items():  # Nothing was made again.
      self.assertEqual((folder / "classes" / name).stat().st_mtime_ns, time)

  def test_a_class_without_images(self):
    some = self.data.labels != 1
    data = dataclasses.replace(
      self.data, images=self.data.images[some], labels=self.data.labels[some]
    )
    delta = class_perturbation.perturbations(
      CFG, *self.source, data, jax.random.key(0)
    )
    self.assertEqual(np.abs(delta[1]).max(), 0)
    self.assertGreater(np.abs(delta[0]).max(), 0)

  def test_gradients_that_are_not_finite_count_as_zero(self):
    kernel = np.array(self.source[1]["params"]["kernel"])
    kernel[0] = np.inf
    delta = class_perturbation.climb(
      self.source[0], toys.linear_variables(kernel),
      jnp.asarray(self.data.images), jnp.arange(24), 24, 0, jax.random.key(0),
      ATTACK, batch_size=3,
    )  # fmt: skip
    self.assertTrue(np.isfinite(delta).all())

  @parameterized.parameters(
    ({"target": "uniform"}, "target must be one of .*got 'uniform'"),
    ({"class_batch_size": 0}, "class_batch_size must be at least 1, got 0"),
    ({"pixels": "int8"}, "pixels must be 'uint8' or 'float32', got 'int8'"),
    ({"attack": dataclasses.replace(ATTACK, eps=np.inf)}, "attack.eps must be"),
    ({"attack": dataclasses.replace(ATTACK, num_steps=0)},
     "attack.num_steps must be at least 1"),
    ({"attack": dataclasses.replace(ATTACK, start="random")},
     "attack.start must be 'x'"),
    ({"attack": dataclasses.replace(ATTACK, keep_best=True)},
     "attack.keep_best must be False"),
  )  # fmt: skip
  def test_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(CFG, **changes)

  def test_the_edges_of_what_is_taken(self):
    dataclasses.replace(
      CFG, class_batch_size=1, batch_size=1, shard_size=1, pixels="float32"
    )
    for changes in (
      {"batch_size": 0},
      {"shard_size": 0},
      {"attack": dataclasses.replace(ATTACK, eps=0.0)},
      {"attack": dataclasses.replace(ATTACK, num_restarts=2)},
    ):
      with self.assertRaisesRegex(ValueError, next(iter(changes))):
        dataclasses.replace(CFG, **changes)

  def test_a_radius_beyond_the_box(self):
    attack = dataclasses.replace(ATTACK, eps=100.0)
    with self.assertRaisesRegex(ValueError, "attack.eps is 100, larger than"):
      self.make(dataclasses.replace(CFG, attack=attack))

  def test_data_or_a_source_that_do_not_fit(self):
    wrong = dataclasses.replace(self.data, labels=self.data.labels + 1)
    with self.assertRaisesRegex(ValueError, r"labels must lie in \[0, 3\)"):
      self.make(data=wrong)
    self.source = toys.Linear(2), toys.linear_variables(np.zeros((192, 2)))
    with self.assertRaisesRegex(ValueError, "3 classes, .* 2 logits"):
      self.make()


if __name__ == "__main__":
  absltest.main()
