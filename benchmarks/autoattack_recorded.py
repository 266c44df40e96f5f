"""Compares AutoAttack with what the published one found when it was recorded.

  python -m benchmarks.autoattack_recorded

Each attack alone and the standard version, l2 and linf, on the two networks
and 100 images of `tests/golden/autoattack_reference.npz`; some minutes on two
cores. Prints images left robust, theirs and ours, and ends with status 1 where
they differ by more than the tolerance.
"""

import importlib
import pathlib
import sys

import jax
import numpy as np

from robust_features.attacks import autoattack

# Images of 100. The reference shares a window of Square among a batch.
TOLERANCE = {"square": 3}


def main():
  """Prints a line for every network, norm and attack."""
  # The tests' reader of the file.
  sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
  recorded = importlib.import_module("autoattack_golden")
  golden, far = recorded.load(), []
  x, y = recorded.images(golden)
  for name in ("standard", "robust"):
    for norm, eps in recorded.EPS.items():
      for attack in ("standard", *autoattack.ATTACKS):
        names = autoattack.STANDARD if attack == "standard" else (attack,)
        found = autoattack.run(
          recorded.net(golden, name), x, y, norm=norm, eps=eps,
          key=jax.random.key(0), batch_size=100, attacks=names,
        ).robust  # fmt: skip
        wanted = golden[f"{name}/{norm}:{attack}"].astype(bool)
        differ = int(np.abs(found.sum() - wanted.sum()))
        if attack == "standard":
          differ = int((found != wanted).sum())
        print(
          f"{name:<9}{norm:<5}{attack:<9}theirs {wanted.sum():3}  "
          f"ours {found.sum():3}",
          flush=True,
        )
        if differ > TOLERANCE.get(attack, 1):
          far.append((name, norm, attack))
  if far:
    sys.exit(f"beyond the tolerance: {far}")


if __name__ == "__main__":
  main()
