"""Compares projected gradient ascent with Foolbox's, step by step.

  python -m benchmarks.pgd_parity [--record]

runs Foolbox's L2PGD and LinfPGD (pip install foolbox; its JAX front end) and
`attacks.maximize` from the images themselves on the network and images of
tests/golden/autoattack_reference.npz, and prints the largest difference of the
perturbations after 1, 2, 3, 5, 10 and 20 steps. `--record` writes what Foolbox
found to tests/golden/pgd_foolbox.npz: losses, and the perturbations' products
with 16 fixed directions.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import parity_nets
from robust_features.attacks import AttackConfig, example_keys, losses, maximize

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"
STEPS = (1, 2, 3, 5, 10, 20)
EPS = {"l2": 0.5, "linf": 8 / 255}
RELATIVE_STEP = 0.2


def load():
  """Returns the network, 100 images and labels of the tests."""
  prefix = "robust/net:"
  with np.load(GOLDEN / "autoattack_reference.npz", allow_pickle=False) as a:
    arrays = dict(a)
  net = {
    name.removeprefix(prefix): value
    for name, value in arrays.items()
    if name.startswith(prefix)
  }
  x = arrays["x"].astype(np.float32) / 255
  return parity_nets.as_partial(net), jnp.asarray(x), jnp.asarray(arrays["y"])


def run_foolbox(logits_fn, x, y, norm: str, steps: int) -> jax.Array:
  """Returns Foolbox's perturbed images."""
  import foolbox

  attack = {
    "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
    "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
  }[norm](rel_stepsize=RELATIVE_STEP, steps=steps, random_start=False)
  model = foolbox.JAXModel(jax.jit(logits_fn), bounds=(0, 1))
  criterion = foolbox.criteria.Misclassification(y)
  return attack.run(model, x, criterion, epsilon=EPS[norm])


def run_ours(logits_fn, x, y, norm: str, steps: int) -> jax.Array:
  """Returns our perturbed images."""
  eps = EPS[norm]
  cfg = AttackConfig(norm, eps, RELATIVE_STEP * eps, steps, keep_best=False)
  keys = example_keys(jax.random.key(0), jnp.arange(len(x)))

  @jax.jit
  def attack(x, cfg):
    def objective(z):
      return losses.cross_entropy(logits_fn(z), y)

    return maximize(objective, x, keys, cfg).x_adv

  return attack(x, cfg)


def directions(num_features: int) -> np.ndarray:
  """Returns 16 directions `[D, 16]` to describe a perturbation by."""
  return np.random.default_rng(0).normal(size=(num_features, 16))


def main():
  """Prints the differences, and records Foolbox's numbers if asked to."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--record", action="store_true")
  args = parser.parse_args()
  logits_fn, x, y = load()
  found = {}
  # Where the model is sure, 1 - p is what float32's rounding leaves of it, and
  # so is the direction of its gradient, in either library.
  unsure = np.asarray(losses.cross_entropy(logits_fn(x), y)) > 0.01
  print(f"{unsure.sum()} of {len(x)} images have a loss above 0.01")
  print("| norm | steps | largest difference, those | all | median | of |")
  print("| --- | --- | --- | --- | --- | --- |")
  for norm in EPS:
    for steps in STEPS:
      theirs = run_foolbox(logits_fn, x, y, norm, steps)
      ours = run_ours(logits_fn, x, y, norm, steps)
      delta = np.asarray(theirs - x).reshape(len(x), -1)
      found[f"{norm}:{steps}:products"] = delta @ directions(delta.shape[1])
      loss = losses.cross_entropy(logits_fn(theirs), y)
      found[f"{norm}:{steps}:loss"] = np.asarray(loss)
      worst = np.abs(theirs - ours).max(axis=(1, 2, 3))
      numbers = (worst[unsure].max(), worst.max(), np.median(worst))
      cells = [f"{value:.1e}" for value in (*numbers, np.abs(delta).max())]
      print(f"| {norm} | {steps} | " + " | ".join(cells) + " |")
  if args.record:
    small = {name: value.astype(np.float32) for name, value in found.items()}
    np.savez_compressed(GOLDEN / "pgd_foolbox.npz", **small)


if __name__ == "__main__":
  main()
