"""Times our AutoAttack beside the published one, in one run.

  python -m benchmarks.autoattack_speed --reference=DIR_OF_auto-attack \\
    --images=cifar10_test.npz [--network=l2] [--norm=l2] [--num_images=64]

Same weights, images, machine and settings. Each attack runs alone on all
images that are classified correctly, then the standard version on all. Ours
runs twice: the first run's excess is compilation. Wall time suffers from other
programs on the machine, so it is left out where they took more than a tenth of
a core; CPU time (of all threads) suffers hardly. With `taskset -c 0` in front
both use one core. Prints a table in Markdown.

`--network=wide` has ResNet-18's widths (64, 128, 256, 512) and random weights;
its own predictions are the labels and the radius is a thousandth of the usual
one, so that no image breaks and both sides take every step.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import autoattack_parity, common, parity_nets, reference
from robust_features.attacks import autoattack

WIDE = "wide"  # A name of no stored network.


def timed(run: Callable[[], Any]) -> tuple[Any, np.ndarray]:
  """Returns a result, and its wall and CPU seconds.

  Wall seconds are not a number if other programs were at work.
  """
  foreign = common.Foreign()
  begun = time.monotonic(), time.process_time()
  result = run()
  wall, cpu = np.subtract((time.monotonic(), time.process_time()), begun)
  if foreign.cores() > common.MOST_FOREIGN:
    wall = np.nan
  return result, np.array([wall, cpu])


def load_problem(args) -> tuple[dict[str, Any], np.ndarray, np.ndarray, float]:
  """Returns a network, images, labels and the radius."""
  x, y = autoattack_parity.load_images(args)
  eps = autoattack_parity.EPS[args.norm]
  if args.network != WIDE:
    return parity_nets.load()[args.network], x, y, eps
  net = parity_nets.init((64, 128, 256, 512), x.shape[1], jax.random.key(0))
  net = jax.tree.map(np.asarray, net)
  logits = parity_nets.jax_logits(
    jax.tree.map(jnp.asarray, net), jnp.asarray(x)
  )
  return net, x, np.argmax(logits, 1).astype(np.int32), eps / 1000


def compare(net, x, y, eps, attacks, args) -> str:
  """Returns a line of the table."""
  sizes = {"norm": args.norm, "eps": eps, "batch_size": args.batch_size}
  ours = parity_nets.as_partial(net)

  def run_ours():
    return autoattack.run(
      ours, x, y, key=jax.random.key(0), attacks=attacks, **sizes
    )

  def run_reference():
    logits = parity_nets.torch_logits(net)
    return reference.run(args.reference, logits, x, y, attacks=attacks, **sizes)

  _, first = timed(run_ours)
  mine, second = timed(run_ours)
  theirs, other = timed(run_reference)
  name = attacks[0] if len(attacks) == 1 else "standard"
  wall, cpu = other / second
  return (
    f"| {name} | {mine.robust.mean():.1%} | {theirs.robust.mean():.1%} |"
    f" {second[0]:.1f} | {other[0]:.1f} | {wall:.2f}x |"
    f" {second[1]:.1f} | {other[1]:.1f} | {cpu:.2f}x |"
    f" {first[0] - second[0]:.1f} |"
  )


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--reference", required=True)
  parser.add_argument("--images")
  parser.add_argument("--tfds_dir")
  parser.add_argument("--network", default="l2")
  parser.add_argument("--norm", default="l2")
  parser.add_argument("--num_images", type=int, default=64)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--attacks", default=",".join(autoattack.STANDARD))
  args = parser.parse_args()
  net, x, y, eps = load_problem(args)
  print(f"network {args.network}, {args.norm}, {len(x)} images; seconds")
  print(
    "| attack | ours left | reference left | wall, ours | reference | speed |"
    " CPU, ours | reference | speed | compilation |"
  )
  print("|" + " --- |" * 10)
  chosen = tuple(args.attacks.split(","))
  for name in chosen:
    print(compare(net, x, y, eps, (name,), args), flush=True)
  if chosen == autoattack.STANDARD:
    print(compare(net, x, y, eps, chosen, args), flush=True)


if __name__ == "__main__":
  main()
