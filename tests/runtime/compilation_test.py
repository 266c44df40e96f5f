"""Programs are counted once each, and only new ones."""

import jax
import jax.numpy as jnp
from absl.testing import absltest

from robust_features.runtime import compilation


class CompilationTest(absltest.TestCase):
  def test_counts_programs(self):
    compilation.listen()
    compilation.listen()  # Twice listens once.
    x = jnp.arange(3.0)
    double = jax.jit(lambda x: 2.0 * x)
    begin = compilation.mark()
    double(x)
    programs, seconds = compilation.since(begin)
    self.assertEqual(programs, 1)
    self.assertGreater(seconds, 0)
    double(x)
    self.assertEqual(compilation.since(begin)[0], 1)
    self.assertEqual(compilation.since(compilation.mark()), (0, 0))


if __name__ == "__main__":
  absltest.main()
