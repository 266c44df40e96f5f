"""Runs the published AutoAttack (github.com/fra31/auto-attack) on PyTorch.

It is not installed: give the directory of a checkout. Nothing of it is part of
this project.
"""

import re
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_LINE = re.compile(
  r"robust accuracy after ([A-Z-]+): ([\d.]+)% \(total time ([\d.]+) s\)"
)
NORMS = {"l2": "L2", "linf": "Linf"}


class ReferenceResult(NamedTuple):
  """What the reference found.

  Attributes:
    robust: `[N]` bool.
    accuracy: After each attack, fractions in [0, 1].
    seconds: Of each attack.
    x_adv: `[N, H, W, C]`.
  """

  robust: np.ndarray
  accuracy: dict[str, float]
  seconds: dict[str, float]
  x_adv: np.ndarray


def run(
  directory: str,
  logits: Callable,
  x: np.ndarray,
  y: np.ndarray,
  *,
  norm: str,
  eps: float,
  batch_size: int,
  attacks: tuple[str, ...] | None = None,
  seed: int = 0,
) -> ReferenceResult:
  """Runs the reference.

  Args:
    directory: Checkout of the reference.
    logits: PyTorch function from `[B, C, H, W]` to logits.
    x: `[N, H, W, C]` float32 images.
    y: `[N]` labels.
    norm: "l2" or "linf".
    eps: Radius in [0, 1] units.
    batch_size: Images at once.
    attacks: Names, or None for the standard version.
    seed: Its seed.
  """
  import torch

  evaluator = make(directory, logits, norm, eps, seed)
  if attacks is not None:
    evaluator.attacks_to_run = list(attacks)
  lines: list[str] = []
  evaluator.logger.log = lines.append
  images, labels = to_torch(x), torch.from_numpy(np.asarray(y)).long()
  x_adv, labels_adv = evaluator.run_standard_evaluation(
    images, labels, bs=batch_size, return_labels=True
  )
  found = [match.groups() for match in map(_LINE.search, lines) if match]
  accuracy = {name.lower(): float(value) / 100 for name, value, _ in found}
  ends = [0.0, *(float(end) for _, _, end in found)]
  seconds = dict(zip(accuracy, np.diff(ends).tolist(), strict=True))
  robust = labels_adv.numpy() == np.asarray(y)
  return ReferenceResult(robust, accuracy, seconds, from_torch(x_adv))


def make(directory: str, logits, norm: str, eps: float, seed: int = 0):
  """Returns the reference's evaluator, standard version, on the CPU."""
  sys.path.insert(0, directory)
  try:
    import autoattack
  finally:
    sys.path.remove(directory)
  evaluator = autoattack.AutoAttack(
    logits,
    norm=NORMS[norm],
    eps=eps,
    seed=seed,
    device="cpu",
    verbose=False,
    version="standard",
  )
  evaluator.verbose = True  # Its lines hold the numbers.
  return evaluator


def to_torch(x: np.ndarray):
  """Returns images `[N, H, W, C]` as a tensor `[N, C, H, W]`."""
  import torch

  x = np.asarray(x, np.float32).transpose(0, 3, 1, 2)
  return torch.from_numpy(np.ascontiguousarray(x))


def from_torch(x) -> np.ndarray:
  """Returns a tensor `[N, C, H, W]` as images `[N, H, W, C]`."""
  return x.detach().numpy().transpose(0, 2, 3, 1)
