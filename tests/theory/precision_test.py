"""Functions in float64: checked, compiled, and nothing global changed."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from robust_features.theory import precision, validation


def _check_third(x, sign):
  del sign
  validation.check_radius("x", x)


@precision.float64(_check_third, static=("sign",))
def _third(x, sign="plus"):
  return x / 3 if sign == "plus" else -x / 3


class PrecisionTest(absltest.TestCase):
  def test_float64_for_the_call_only(self):
    out = _third(1.0)
    self.assertIsInstance(out, np.ndarray)
    self.assertEqual(float(out), 1 / 3)
    self.assertEqual(jnp.ones(1).dtype, jnp.float32)
    with jax.enable_x64(True):
      self.assertIsInstance(_third(1.0), jax.Array)

  def test_a_trace_keeps_its_precision(self):
    self.assertEqual(jax.jit(_third)(2.0).dtype, jnp.float32)

  def test_arguments_are_checked_as_given(self):
    with self.assertRaisesRegex(ValueError, "x must be >= 0, got -1"):
      _third(x=-1)

  def test_static_arguments_are_no_arrays(self):
    self.assertEqual(float(_third(1, sign="minus")), -1 / 3)


if __name__ == "__main__":
  absltest.main()
