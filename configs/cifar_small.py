"""The paper's tables on real CIFAR-10, cut to the size of a CPU.

10,000 images and a network of four convolutions: the numbers lie below the
paper's, the pattern is the same (docs/results/cifar_small.md). Prepare the data
once with
`python -m robust_features.data.prepare --dataset=cifar10 --data_dir=DIR`.

Command: python -m robust_features.main --config=configs/cifar_small.py \\
  --config.data.D.data_dir=DIR
Time: 11 to 13 minutes on two CPU cores.
Expect, three seeds, percent clean / 0.25 / 0.5: standard 64.9/36.8/13.6,
  adversarial 55.0/48.8/41.7, on D_R 53.2/38.3/26.4, on D_NR 51.2/21.9/7.3, on
  D_rand 35.8 (leakage alone 41.3), on D_det 21.1 (32.6), on D_other 39.0 (2.8).
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  cifar = recipes.cifar_study("cifar_small", small=True)
  recipes.paper_study(
    cifar.config,
    standard=cifar.standard,
    robust=cifar.robust,
    on_robust=cifar.standard,
    on_nonrobust=cifar.standard,
    on_rand=cifar.plain,
    on_det=cifar.plain,
    inversion=cifar.inversion,
    targeted=cifar.targeted,
    evaluation=cifar.evaluation,
  )
  return recipes.variant(cifar.config, variant)
