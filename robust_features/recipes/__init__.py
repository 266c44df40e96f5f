"""What config files are composed of, with the paper's values as defaults.

Every field exists, nothing is derived, and any of them can be overridden:
`--config.stages.standard.train.num_epochs=3`.

Reference: arXiv:1905.02175, appendix C, tables 3 to 6.
"""

from robust_features.recipes.answers import Answers
from robust_features.recipes.cifar import cifar_study, cifar_variant
from robust_features.recipes.imagenet import (
  imagenet_evaluation,
  imagenet_study,
  imagenet_train,
  imagenet_variant,
)
from robust_features.recipes.measurements import (
  autoattack_stage,
  carlini_wagner_stage,
  curve_stage,
  evaluate_stage,
  fourier_map_stage,
  pictures_stage,
  probe_stage,
  spatial_stage,
  statements_stage,
  step_sweep_stage,
  transfer_stage,
  usefulness_stage,
)
from robust_features.recipes.planted import (
  planted_robust_train,
  planted_study,
  planted_train,
)
from robust_features.recipes.sections import (
  adversary,
  attack,
  augmentation,
  cifar10,
  construction,
  data,
  evaluation,
  imagenet_augmentation,
  inversion,
  model,
  no_adversary,
  no_augmentation,
  restricted_imagenet,
  targeted,
  train,
)
from robust_features.recipes.stages import (
  class_perturbation_stage,
  combine_stage,
  construct_stage,
  error_minimising_stage,
  imported_stage,
  relabel_stage,
  select_stage,
  train_stage,
  transform_stage,
)
from robust_features.recipes.studies import (
  add_controls,
  add_data_set,
  add_row,
  grid,
  paper_study,
  study,
  transfer_study,
)
from robust_features.recipes.variants import variant

__all__ = [
  "Answers",
  "add_controls",
  "add_data_set",
  "add_row",
  "adversary",
  "attack",
  "augmentation",
  "autoattack_stage",
  "carlini_wagner_stage",
  "cifar10",
  "cifar_study",
  "cifar_variant",
  "class_perturbation_stage",
  "combine_stage",
  "construct_stage",
  "construction",
  "curve_stage",
  "data",
  "error_minimising_stage",
  "evaluate_stage",
  "evaluation",
  "fourier_map_stage",
  "grid",
  "imagenet_augmentation",
  "imagenet_evaluation",
  "imagenet_study",
  "imagenet_train",
  "imagenet_variant",
  "imported_stage",
  "inversion",
  "model",
  "no_adversary",
  "no_augmentation",
  "paper_study",
  "pictures_stage",
  "planted_robust_train",
  "planted_study",
  "planted_train",
  "probe_stage",
  "relabel_stage",
  "restricted_imagenet",
  "select_stage",
  "spatial_stage",
  "statements_stage",
  "step_sweep_stage",
  "study",
  "targeted",
  "train",
  "train_stage",
  "transfer_stage",
  "transfer_study",
  "transform_stage",
  "usefulness_stage",
  "variant",
]
