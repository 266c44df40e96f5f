"""Projected gradient ascent takes Foolbox's steps, one by one.

`benchmarks/pgd_parity.py --record` recorded them (foolbox 3.3.4, its JAX front
end): losses, and the perturbations' products with 16 fixed directions.
"""

import pathlib

import autoattack_golden
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features.attacks import AttackConfig, example_keys, losses, maximize

_PATH = pathlib.Path(__file__).parents[1] / "golden" / "pgd_foolbox.npz"


@jax.jit
def _attack(logits_fn, x, y, keys, cfg):
  def objective(z):
    return losses.cross_entropy(logits_fn(z), y)

  return maximize(objective, x, keys, cfg).x_adv


class FoolboxTest(parameterized.TestCase):
  @parameterized.parameters("l2", "linf")
  def test_every_recorded_step(self, norm):
    golden = autoattack_golden.load()
    x, y = map(jnp.asarray, autoattack_golden.images(golden))
    logits_fn = autoattack_golden.net(golden, "robust")
    # Where the model is sure, float32 leaves nothing of 1 - p but rounding.
    unsure = np.asarray(losses.cross_entropy(logits_fn(x), y)) > 0.01
    self.assertGreater(unsure.sum(), 10)
    keys = example_keys(jax.random.key(0), jnp.arange(len(x)))
    eps = autoattack_golden.EPS[norm]
    directions = np.random.default_rng(0).normal(size=(x[0].size, 16))
    with np.load(_PATH, allow_pickle=False) as arrays:
      foolbox = dict(arrays)
    for steps in (1, 2, 3, 5, 10, 20):
      cfg = AttackConfig(norm, eps, 0.2 * eps, steps, keep_best=False)
      x_adv = _attack(logits_fn, x, y, keys, cfg)
      delta = np.asarray(x_adv - x, np.float64).reshape(len(x), -1)
      np.testing.assert_allclose(
        (delta @ directions)[unsure],
        foolbox[f"{norm}:{steps}:products"][unsure],
        atol=1e-4,
      )
      loss = losses.cross_entropy(logits_fn(x_adv), y)
      np.testing.assert_allclose(
        np.asarray(loss)[unsure],
        foolbox[f"{norm}:{steps}:loss"][unsure],
        rtol=1e-4,
      )
    # A perturbation's products are far larger than the tolerance.
    products = foolbox[f"{norm}:20:products"][unsure]
    self.assertGreater(np.abs(products).mean(), 0.1)


if __name__ == "__main__":
  absltest.main()
