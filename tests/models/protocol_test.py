"""How everything here calls a network, and what it refuses to call."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized
from flax import linen as nn

from robust_features import models
from robust_features.models import protocol
from robust_features.models.layers import Outputs


class Told:
  """A model that keeps what it was called with."""

  def init(self, key, x):
    del key
    return {"params": {"w": jnp.ones((2, 3))}, "stats": {"n": x.sum()}}

  def apply(self, variables, x, **how):
    del variables
    self.how = how
    found = Outputs(jnp.zeros((x.shape[0], 3)), jnp.ones((x.shape[0], 2)))
    return (found, {"stats": 1}) if how.get("mutable") else found


class CallTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.model, self.x = Told(), jnp.full((2, 6, 5, 3), 0.5)
    self.variables = {"params": {}, "stats": {}, "more": {}}

  def test_running_asks_for_nothing_to_change(self):
    found = protocol.apply(self.model, self.variables, self.x)
    self.assertEqual(self.model.how, {"bn_mode": "running", "fake_relu": False})
    self.assertEqual(found.logits.shape, (2, 3))

  def test_other_modes_drop_what_changes(self):
    for mode in ("batch", "train"):
      found = protocol.apply(
        self.model, self.variables, self.x, mode, fake_relu=True
      )
      self.assertIsInstance(found, Outputs)
      self.assertEqual(
        self.model.how,
        {"bn_mode": mode, "fake_relu": True, "mutable": ["stats", "more"]},
      )

  def test_training_returns_what_changes(self):
    key = jax.random.key(0)
    for given, rngs in ((None, None), (key, {"params": key})):
      _, new = protocol.apply_in_training(
        self.model, self.variables, self.x, given
      )
      self.assertEqual(new, {"stats": 1})
      self.assertEqual(
        self.model.how,
        {"bn_mode": "train", "rngs": rngs, "mutable": ["stats", "more"]},
      )

  def test_represent(self):
    found = protocol.represent(
      self.model, self.variables, self.x, fake_relu=True
    )
    self.assertEqual(found.shape, (2, 2))
    self.assertTrue(self.model.how["fake_relu"])

  @parameterized.parameters(
    ((6, 5, 3), np.float32, r"must be \[B, H, W, C\], got shape \(6, 5, 3\)"),
    ((2, 3, 6, 5), np.float32, "looks like .B, C, H, W.; transpose"),
    ((2, 1, 6, 5), np.float32, "looks like .B, C, H, W.; transpose"),
    ((2, 6, 5, 3), np.uint8, "floats in .0, 1., got uint8; divide by 255"),
  )
  def test_images_that_are_none(self, shape, dtype, message):
    with self.assertRaisesRegex(ValueError, message):
      protocol.apply(self.model, self.variables, jnp.zeros(shape, dtype))

  def test_images_at_the_edges_of_what_is_taken(self):
    for shape in ((2, 3, 6, 4), (2, 2, 6, 5), (1, 3, 3, 3), (2, 1, 9, 1)):
      found = protocol.apply(self.model, self.variables, jnp.zeros(shape))
      self.assertLen(found.logits, shape[0])
    half = jnp.zeros((1, 4, 4, 3), jnp.bfloat16)
    found = protocol.apply(self.model, self.variables, half)
    self.assertEqual(found.logits.shape, (1, 3))

  def test_what_is_no_model(self):
    class Bare(nn.Module):
      @nn.compact
      def __call__(self, x):
        return x

    for model, message in (
      (mock.Mock(spec=["init"]), "Mock has no init and apply; wrap it"),
      (mock.Mock(spec=["apply"]), "Mock has no init and apply; wrap it"),
      (print, "builtin_function_or_method has no init and apply; wrap it"),
      (Bare(), "Bare does not take bn_mode; wrap it with models.from_linen"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        protocol.apply(model, {}, self.x)


def _first(params, x):
  return x[:, 0, 0] + params[None, :3]


def _uniform(key, x):
  del x
  return jax.random.uniform(key, (4,))


class ShapesTest(absltest.TestCase):
  def test_by_shapes_alone(self):
    model, shape = toys.Linear(3), (8, 8, 3)
    protocol.check(model, shape, 3)
    for other in (2, 4):
      with self.assertRaisesRegex(
        ValueError, f"gives 3 logits, .* have {other} class"
      ):
        protocol.check(model, shape, other)
    variables = protocol.variable_shapes(model, shape)
    self.assertEqual(protocol.num_logits(model, variables, shape), 3)
    found = protocol.output_shapes(model, shape)
    self.assertEqual(found.logits.shape, (2, 3))
    kernel = variables["params"]["kernel"]
    self.assertEqual((kernel.shape, kernel.dtype), ((192, 3), jnp.float32))
    made = models.init_variables(model, jax.random.key(0), shape)
    self.assertEqual(
      jax.tree.structure(made), jax.tree.structure(dict(variables))
    )


class InitTest(absltest.TestCase):
  def test_which_numbers_are_drawn(self):
    """Half of the key for all of our layers, half for any other."""
    ours, theirs = jax.random.split(jax.random.key(3))
    model = models.make_model(models.ModelConfig("mlp", 2, width=2))
    found = models.init_variables(model, jax.random.key(3), (1, 1, 3))["params"]
    draws = jax.random.uniform(ours, (3 * 2 + 2 + 2 * 2 + 2 + 2 * 2 + 2,),
                               minval=-1.0)  # fmt: skip
    np.testing.assert_allclose(
      np.ravel(found["hidden1"]["kernel"]), draws[:6] / 3**0.5, rtol=1e-6
    )
    np.testing.assert_allclose(
      found["linear"]["bias"], draws[-2:] / 2**0.5, rtol=1e-6
    )
    own = models.from_function(_first, _uniform)
    found = models.init_variables(own, jax.random.key(3), (1, 1, 3))["params"]
    np.testing.assert_array_equal(found, jax.random.uniform(theirs, (4,)))

  def test_draws_are_between_minus_one_and_one(self):
    """Of a layer of one input; each entry has a number of its own."""
    model = models.make_model(models.ModelConfig("mlp", 4, width=50))
    found = models.init_variables(model, jax.random.key(0), (1, 1, 3))
    values = np.concatenate(
      [np.ravel(found["params"][f"hidden{i}"]["kernel"]) * n**0.5
       for i, n in ((1, 3), (2, 50))]
    )  # fmt: skip
    self.assertBetween(values.min(), -1.0, -0.99)
    self.assertBetween(values.max(), 0.99, 1.0)
    self.assertLess(abs(values.mean()), 4 / np.sqrt(3 * values.size))
    self.assertGreater(len(np.unique(values)), 0.99 * values.size)


if __name__ == "__main__":
  absltest.main()
