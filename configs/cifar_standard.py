"""The standard ResNet-50 on CIFAR-10, and how far it stands an attack.

Command: python -m robust_features.main --config=configs/cifar_standard.py \\
  --config.data.D.data_dir=DIR
Hardware: one GPU; not for a CPU. bfloat16 with
  --config.models.main.dtype=bfloat16.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: the paper's 95.25% and, at l2 0.25, anything from 4.5 to 11.3% by the
  attack's strength (7.34% for the released model under PGD-100).
Reference: arXiv:1905.02175, table 7, first row; appendix C.2.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.study("cifar_standard")
  config.data.D = recipes.cifar10()
  config.models.main = recipes.model("resnet50")
  evaluation = recipes.evaluation()
  config.stages.standard = recipes.train_stage("main", "D", recipes.train())
  recipes.add_row(
    config, "standard", "standard training", evaluation, paper="standard"
  )
  return recipes.variant(config, variant)


def sweep():
  """Returns appendix C.2's grid: rate, batch, drop, augmentation."""
  return recipes.grid("standard")
