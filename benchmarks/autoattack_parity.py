"""Compares our AutoAttack with the published one on the same weights.

  python -m benchmarks.autoattack_parity --reference=DIR_OF_auto-attack \\
    --images=cifar10_test.npz --out=parity.json

`--images` holds `x` uint8 [N, 32, 32, 3] and `y` [N]; `--tfds_dir` reads the
CIFAR-10 test set from a TFDS directory instead. The networks are those of
`nets_cifar.npz`; radii are l2 0.5 and linf 8/255, times `--fraction`.
Every result is kept in `--out` as soon as it is there, and not computed again.
Prints a table in Markdown.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np

from benchmarks import parity_nets, reference
from robust_features.attacks import autoattack

EPS = {"l2": 0.5, "linf": 8 / 255}


def load_images(args) -> tuple[np.ndarray, np.ndarray]:
  """Returns `num_images` images in [0, 1], evenly spread, and labels."""
  if args.images:
    with np.load(args.images, allow_pickle=False) as arrays:
      x, y = arrays["x"], arrays["y"]
  else:
    from robust_features.data import tfds_source

    _, test = tfds_source.load("cifar10", args.tfds_dir, 0)
    x, y = test.images, test.labels
  rows = np.linspace(0, len(x) - 1, args.num_images).astype(int)
  return x[rows].astype(np.float32) / 255, y[rows].astype(np.int32)


def run_ours(net, x, y, norm: str, eps: float, args) -> dict:
  """Returns our numbers."""
  begun = time.monotonic()
  result = autoattack.run(
    parity_nets.as_partial(net),
    x,
    y,
    norm=norm,
    eps=eps,
    key=jax.random.key(args.seed),
    batch_size=args.batch_size,
  )
  print(result.summary(), flush=True)
  return {
    "accuracy": result.accuracy,
    "robust": np.flatnonzero(result.robust).tolist(),
    "second_pass": result.second_pass_accuracy,
    "seconds": time.monotonic() - begun,
  }


def run_reference(net, x, y, norm: str, eps: float, args) -> dict:
  """Returns the published implementation's numbers."""
  begun = time.monotonic()
  result = reference.run(
    args.reference,
    parity_nets.torch_logits(net),
    x,
    y,
    norm=norm,
    eps=eps,
    batch_size=args.batch_size,
    seed=args.seed,
  )
  print(norm, result.accuracy, result.seconds, flush=True)
  return {
    "accuracy": result.accuracy,
    "robust": np.flatnonzero(result.robust).tolist(),
    "seconds": time.monotonic() - begun,
  }


def table(found: dict, num_images: int) -> str:
  """Returns the table, of percentages."""
  lines = [
    "| network | norm, eps | clean | ours | reference | difference |"
    " images that differ |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ]
  for case in dict.fromkeys(name.rsplit("/", 1)[0] for name in found):
    if f"{case}/ours" not in found or f"{case}/reference" not in found:
      continue
    ours, theirs = found[f"{case}/ours"], found[f"{case}/reference"]
    a, b = (100 * len(r["robust"]) / num_images for r in (ours, theirs))
    differ = len(set(ours["robust"]) ^ set(theirs["robust"]))
    network, norm, eps = case.split("/")
    clean = 100 * ours["accuracy"]["clean"]
    lines.append(
      f"| {network} | {norm}, {eps} | {clean:.1f} | {a:.1f} | {b:.1f} |"
      f" {a - b:+.1f} | {differ} of {num_images} |"
    )
  return "\n".join(lines)


def main():
  """Runs what is missing and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--reference", required=True)
  parser.add_argument("--images")
  parser.add_argument("--tfds_dir")
  parser.add_argument("--out", required=True, type=pathlib.Path)
  parser.add_argument("--num_images", type=int, default=500)
  parser.add_argument("--batch_size", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--nets", default="standard,l2")
  parser.add_argument("--norms", default="l2,linf")
  parser.add_argument("--fraction", type=float, default=1.0)
  args = parser.parse_args()
  x, y = load_images(args)
  found = json.loads(args.out.read_text()) if args.out.exists() else {}
  nets = parity_nets.load()
  for network in args.nets.split(","):
    for norm in args.norms.split(","):
      eps = args.fraction * EPS[norm]
      for who, run in (("ours", run_ours), ("reference", run_reference)):
        name = f"{network}/{norm}/{eps:.3g}/{who}"
        if name not in found:
          print(name, flush=True)
          found[name] = run(nets[network], x, y, norm, eps, args)
          args.out.write_text(json.dumps(found, indent=1))
  print(table(found, args.num_images))


if __name__ == "__main__":
  main()
