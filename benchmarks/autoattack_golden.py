"""Records what the published AutoAttack finds on small networks, for the tests.

Trains two networks (one on clean images, one on l2 adversarial examples) on a
procedural data set, runs the reference on them and writes numbers only:

  python -m benchmarks.autoattack_golden --reference=DIR_OF_auto-attack

takes about five minutes on two cores and replaces
tests/golden/autoattack_reference.npz.
"""

import argparse
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import parity_nets, reference
from robust_features.attacks import AttackConfig, losses, maximize

SIZE, CLASSES, EVALUATED = 16, 10, 100
EPS = {"l2": 0.5, "linf": 8 / 255}
ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"


def make_images(rng: np.random.Generator, templates, count: int):
  """Returns 8-bit images `[N, H, W, C]` of noisy templates, and labels."""
  y = rng.integers(0, CLASSES, count)
  strength = rng.uniform(0.02, 0.09, (count, 1, 1, 1))
  x = (
    0.5
    + strength * templates[y]
    + 0.08 * rng.normal(size=(count, *templates.shape[1:]))
  )
  return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8), y.astype(np.int32)


def make_templates(rng: np.random.Generator) -> np.ndarray:
  """Returns one smooth pattern a class, `[K, H, W, C]`."""
  coarse = rng.normal(size=(CLASSES, 4, 4, 3))
  return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def init_net(key: jax.Array) -> dict[str, jax.Array]:
  """Returns the network's first weights."""
  shapes = {"conv0": (3, 3, 3, 8), "conv1": (3, 3, 8, 16)}
  shapes["dense"] = ((SIZE // 4) ** 2 * 16, CLASSES)
  net = {}
  for number, (name, shape) in enumerate(shapes.items()):
    scale = np.sqrt(2 / np.prod(shape[:-1]))
    noise = jax.random.normal(jax.random.fold_in(key, number), shape)
    net[name] = scale * noise
  return net | {
    "bias0": jnp.zeros(8),
    "bias1": jnp.zeros(16),
    "dense_bias": jnp.zeros(CLASSES),
  }


def train(x, y, eps: float, steps: int = 500) -> dict[str, np.ndarray]:
  """Returns a network trained on l2 adversarial examples of radius eps."""
  net = init_net(jax.random.key(0))
  tx = optax.adam(optax.cosine_decay_schedule(5e-3, steps))
  attack = AttackConfig("l2", eps, eps / 2, 3)

  def loss_fn(net, x, y):
    return losses.cross_entropy(parity_nets.jax_logits(net, x), y)

  @jax.jit
  def step(net, opt_state, key):
    rows = jax.random.randint(key, (128,), 0, len(x))
    xb, yb = x[rows], y[rows]
    keys = jnp.broadcast_to(key, (128,))
    x_adv = maximize(lambda z: loss_fn(net, z, yb), xb, keys, attack).x_adv
    grads = jax.grad(lambda net: loss_fn(net, x_adv, yb).mean())(net)
    updates, opt_state = tx.update(grads, opt_state)
    return optax.apply_updates(net, updates), opt_state

  opt_state = tx.init(net)
  for number in range(steps):
    key = jax.random.fold_in(jax.random.key(1), number)
    net, opt_state = step(net, opt_state, key)
  return jax.tree.map(np.asarray, net)


def record_runs(directory, logits, x, y) -> dict[str, np.ndarray]:
  """Returns the reference's robust images, ensemble and attack by attack."""
  found = {}
  for norm, eps in EPS.items():
    run = functools.partial(
      reference.run, directory, logits, x, y, norm=norm, eps=eps, batch_size=100
    )
    ensemble = run()
    print(norm, "standard", ensemble.accuracy)
    found[f"{norm}:standard"] = ensemble.robust
    for attack in ATTACKS:
      result = run(attacks=(attack,))
      print(norm, attack, result.accuracy)
      found[f"{norm}:{attack}"] = result.robust
  return found


def starting_points(x: np.ndarray) -> np.ndarray:
  """Returns the images with -1, 0, 1 levels added in turn."""
  pattern = (np.arange(x.size) % 3 - 1).reshape(x.shape) / 255
  return np.clip(x + pattern, 0, 1).astype(np.float32)


def record_details(directory, logits, x, y) -> dict[str, np.ndarray]:
  """Returns best losses from one start, and FAB's smallest distances."""
  import torch

  images, labels = reference.to_torch(x), torch.from_numpy(y).long()
  start = starting_points(x)
  found: dict[str, np.ndarray] = {}
  for norm, eps in EPS.items():
    # Radii small enough for most images to stay robust: their runs go to the
    # end, and can be compared to the end.
    aa = reference.make(directory, logits, norm, eps / 4)
    for loss, attack in (
      ("ce", aa.apgd),
      ("dlr", aa.apgd),
      ("dlr-targeted", aa.apgd_targeted),
    ):
      attack.init_hyperparam(images)
      attack.loss = loss
      if loss == "dlr-targeted":
        attack.y_target = logits(images).sort(dim=1)[1][:, -2]
      _, robust, best, _ = attack.attack_single_run(
        images, labels, x_init=reference.to_torch(start)
      )
      found[f"{norm}:{loss}:loss"] = best.detach().numpy()
      found[f"{norm}:{loss}:robust"] = robust.numpy()
    aa.fab.targeted, aa.fab.target_class = True, 2
    closest = aa.fab.attack_single_run(images, labels, is_targeted=True)
    delta = (closest - images).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    found[f"{norm}:fab:distance"] = size.numpy()
  return found


def record_projections(directory) -> dict[str, np.ndarray]:
  """Returns random hyperplanes and the reference's projections on them."""
  import torch

  reference.make(directory, lambda x: x, "l2", 1.0)  # Makes it importable.
  from autoattack import fab_projections

  rng = np.random.default_rng(7)
  points = rng.uniform(0, 1, (40, 48)).astype(np.float32)
  normals = rng.normal(size=points.shape).astype(np.float32)
  # From touching to out of the box's reach.
  offsets = rng.normal(size=40) * np.geomspace(0.01, 30, 40)
  b = ((normals * points).sum(1) + offsets).astype(np.float32)
  tensors = [torch.from_numpy(array) for array in (points, normals, b)]
  return {
    "points": points,
    "normals": normals,
    "b": b,
    "l2": fab_projections.projection_l2(*tensors).numpy(),
    "linf": fab_projections.projection_linf(*tensors).numpy(),
  }


def main():
  """Writes the golden file."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--reference", required=True)
  directory = parser.parse_args().reference
  import torch

  torch.set_num_threads(1)  # Small networks gain nothing from more.
  rng = np.random.default_rng(0)
  templates = make_templates(rng)
  x_train, y_train = make_images(rng, templates, 8000)
  x_test, y_test = make_images(rng, templates, EVALUATED)
  x = x_test.astype(np.float32) / 255
  arrays = {"x": x_test, "y": y_test}
  for name, eps in (("standard", 0.0), ("robust", 0.5)):
    net = train(
      jnp.asarray(x_train, jnp.float32) / 255, jnp.asarray(y_train), eps
    )
    logits = parity_nets.torch_logits(net)
    print(name, flush=True)
    arrays |= {f"{name}/net:{k}": v for k, v in net.items()}
    arrays[f"{name}/logits"] = logits(reference.to_torch(x)).numpy()
    arrays |= {
      f"{name}/{k}": v
      for k, v in record_runs(directory, logits, x, y_test).items()
    }
    if name == "robust":
      details = record_details(directory, logits, x, y_test)
      arrays |= {f"{name}/{k}": v for k, v in details.items()}
  arrays |= {f"plane/{k}": v for k, v in record_projections(directory).items()}
  GOLDEN.mkdir(exist_ok=True)
  np.savez_compressed(GOLDEN / "autoattack_reference.npz", **arrays)


if __name__ == "__main__":
  main()
