"""Every statement of sections 2, 4 and E as rows of one table."""

from collections.abc import Callable

import jax

from robust_features.theory.checks import (
  adversary,
  alignment,
  features,
  learning,
)
from robust_features.theory.checks.rows import Row
from robust_features.theory.usefulness import MaximizeFn


def run(
  make_maximize: Callable[[str, float], MaximizeFn],
  *,
  seed: int,
  num_samples: int,
  num_draws: int,
) -> list[Row]:
  """Runs all checks, in float64 but for the attack's.

  Args:
    make_maximize: (norm, eps) -> the attack to hold section 2's exact robust
      usefulness against.
    seed: Of every random number.
    num_samples: Samples of each expectation.
    num_draws: Random matrices or means of each inequality.
  """
  keys = jax.random.split(jax.random.key(seed), 3)
  rows = features.check_attack(make_maximize, keys[2], 64)
  with jax.enable_x64(True):
    return [
      *features.check_usefulness(keys[0], num_samples),
      *rows,
      *features.check_accuracy(keys[1], num_samples),
      *adversary.check_lemma_1(seed),
      *adversary.check_lemma_2(seed, num_samples),
      *learning.check_lemma_3(seed),
      *learning.check_lemma_4(seed),
      *learning.check_danskin(seed),
      *adversary.check_theorem_1(seed, num_samples),
      *learning.check_bounds(seed, num_draws),
      *alignment.check_condition_numbers(seed, num_draws),
      *alignment.check_alignment(seed, num_draws),
    ]
