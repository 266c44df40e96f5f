"""What is refused, what is warned of, and exactly from where on."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks.autoattack import checks


def linear(x):
  return x.reshape(len(x), -1)[:, :3]


class RequireTest(absltest.TestCase):
  def test_the_least_that_is_taken(self):
    x, y = np.zeros((1, 2, 2, 3), np.float32), np.zeros(1, np.int64)
    checks.require_images(x, y)
    checks.require_logits(np.array([[0.0, 1.0]]), x, y)
    checks.require_logits(np.array([[0.0, 1.0]]), x, y + 1)
    for bad_x, bad_y in ((x[:0], y[:0]), (x[0], y), (x, y[None])):
      with self.assertRaises(ValueError):
        checks.require_images(bad_x, bad_y)

  def test_logits(self):
    x = np.linspace(0, 1, 2 * 12, dtype=np.float32).reshape(2, 2, 2, 3)
    y, good = np.array([0, 1]), np.array([[0.0, 1.0], [2.0, 1.0]])
    checks.require_logits(good, x, y)
    bad = good.copy()
    bad[1, 0] = np.inf
    for logits, labels, message in (
      (good[:1], y, "after the batch axis"),
      (good[:, :1], y, "K >= 2"),
      (good[..., None], y, "K >= 2"),
      (bad, y, "NaN or inf on 1 images"),
      (bad * np.nan, y, "NaN or inf on 2 images"),
      (good, y + 1, r"\[0, 2\), got 2"),
      (good, y - 1, r"\[0, 2\), got -1"),
      (good[[0, 0]], y, "the same for every image"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        checks.require_logits(logits, x, labels)

  def test_the_same_logits_of_the_same_images(self):
    """They may be equal, but not all the same: that is a constant."""
    x, y = np.full((2, 2, 2, 3), 0.5, np.float32), np.array([0, 1])
    checks.require_logits(np.array([[0.0, 1.0]] * 2), x, y)
    with self.assertRaisesRegex(ValueError, "must depend on x"):
      checks.require_logits(np.ones((2, 2)), x, y)


class WarningTest(parameterized.TestCase):
  @parameterized.parameters(
    ([[0.25, 0.75], [1.0, 0.0]], True),
    ([[0.25, 0.75], [1.0, 0.1]], False),  # One row of two does.
    ([[-0.25, 1.25]], False), ([[-1.0, 2.0], [0.5, 0.5]], False),
    ([[2.0, -1.0]], False), ([[0.5, 0.6]], False),
  )  # fmt: skip
  def test_probabilities(self, logits, warned):
    found = checks.probability_warning(np.array(logits))
    self.assertEqual(found is not None, warned)

  def test_a_random_generator_is_found_as_it_is_and_compiled(self):
    rng, x = (
      np.random.default_rng(0),
      jnp.linspace(0, 1, 24).reshape(2, 2, 2, 3),
    )

    def by_callback(x):
      shape = jax.ShapeDtypeStruct((len(x), 3), jnp.float32)
      draw = lambda x: np.float32(1 + 0.1 * rng.random((len(x), 3)))  # noqa: E731
      return linear(x) * jax.pure_callback(draw, shape, x)

    def eagerly(x):
      return linear(x) * jnp.float32(1 + 0.1 * rng.random((len(x), 3)))

    def rounded(x):
      noise = jnp.float32(1 + 1e-6 * rng.random((len(x), 3)))
      return linear(x) * noise

    for fn, warned in (
      (by_callback, True), (eagerly, True), (rounded, False), (linear, False),
    ):  # fmt: skip
      found = checks.randomness_warning(jax.tree_util.Partial(fn), x)
      self.assertEqual(found is not None, warned, fn)

  def test_square_may_gain_two_in_a_thousand(self):
    self.assertIsNone(checks.square_warning(0.002, 0.0))
    self.assertIn("by 0.21% beyond", checks.square_warning(0.0021, 0.0) or "")
    self.assertIsNone(checks.square_warning(0.5, 0.6))

  @parameterized.parameters(
    (10, ("apgd-ce", "apgd-t", "fab-t", "square"), 9, ""),
    (9, ("apgd-t",), 9, "with 9 classes: 8 targets instead of 9"),
    (9, ("fab-t",), 9, "with 9 classes: 8 targets instead of 9"),
    (9, ("square", "apgd-dlr"), 9, ""),
    (4, ("apgd-t",), 3, ""),
    (3, ("apgd-t",), 2, "with 3 classes: apgd-t climbs the margin instead of "
     "the targeted DLR loss"),
    (3, ("apgd-dlr", "fab-t"), 2, ""),
    (2, ("apgd-t", "apgd-dlr"), 9, "with 2 classes: 1 targets instead of 9; "
     "apgd-t climbs the margin instead of the targeted DLR loss; apgd-dlr "
     "climbs the margin instead of the DLR loss"),
  )  # fmt: skip
  def test_few_classes(self, num_classes, names, num_targets, want):
    found = checks.class_warning(num_classes, names, num_targets)
    self.assertEqual(found or "", want)

  def test_counts_and_passes(self):
    for warning, text in (
      (checks.zero_gradient_warning, "exactly zero"),
      (checks.nonfinite_gradient_warning, "not finite"),
    ):
      self.assertIsNone(warning("fab-t", 0))
      self.assertRegex(warning("fab-t", 1) or "", f"^fab-t: 1 examples.*{text}")
    self.assertIsNone(checks.second_pass_warning(0.25, 0.25))
    self.assertRegex(
      checks.second_pass_warning(0.25, 0.5) or "",
      "images give 50.00% and the attacks counted 25.00%",
    )


if __name__ == "__main__":
  absltest.main()
