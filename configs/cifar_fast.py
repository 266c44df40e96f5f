"""Section 3 whole on CIFAR-10 in ten minutes of one GPU: a shortened plan.

ResNet-18 in bfloat16 instead of ResNet-50, batches of 512, twenty epochs of a
rate that climbs and falls linearly instead of 150 of steps, inversions of 100
longer steps instead of 1,000, targeted perturbations of 25 steps instead of
100. Radii, the adversary's 7 steps of eps/5, momentum and weight decay are the
paper's. D_rand and D_det are trained on without augmentation and, as the paper
found, D_rand at a tenth of the rate.

Command: python -m robust_features.main --config=configs/cifar_fast.py \\
  --config.data.D.data_dir=DIR
Hardware: one H100 or larger.
Time: planned, not measured: `python -m benchmarks.cost` counts its operations;
  at 40% of 700 TFLOP/s they take about five of the ten minutes, which leaves
  the rest to compiling, reading and checkpoints.
Expect: the pattern of the paper's tables, not its numbers; residual networks
  smaller than ResNet-50 differ most on D_rand and D_det.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  cifar = recipes.cifar_study("cifar_fast", small=False)
  on_rand = recipes.train(**cifar.plain)
  on_rand.learning_rate = 0.04
  recipes.paper_study(
    cifar.config,
    standard=cifar.standard,
    robust=cifar.robust,
    on_robust=cifar.standard,
    on_nonrobust=cifar.standard,
    on_rand=on_rand,
    on_det=cifar.plain,
    inversion=cifar.inversion,
    targeted=cifar.targeted,
    evaluation=cifar.evaluation,
    controls=False,  # cifar_answers has them.
  )
  return recipes.variant(cifar.config, variant)


def sweep():
  """Returns three seeds."""
  return [{"seed": seed} for seed in range(3)]
