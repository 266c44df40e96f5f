"""Kinds of stage, one file each; to add one, write a file and name it here.

The order is that of the sections of `results.md`.
"""

from robust_features.study.graph import Kind
from robust_features.study.kinds import (
  autoattack,
  carlini_wagner,
  class_perturbation,
  combine,
  construct,
  curve,
  error_minimising,
  evaluate,
  fourier_map,
  imported,
  pictures,
  probe,
  relabel,
  select,
  spatial,
  statements,
  step_sweep,
  train,
  transfer,
  transform,
  usefulness,
)

KINDS: dict[str, Kind] = {
  "construct": construct.KIND,
  "class_perturbation": class_perturbation.KIND,
  "error_minimising": error_minimising.KIND,
  "select": select.KIND,
  "relabel": relabel.KIND,
  "transform": transform.KIND,
  "combine": combine.KIND,
  "train": train.KIND,
  "curve": curve.KIND,
  "imported": imported.KIND,
  "evaluate": evaluate.KIND,
  "step_sweep": step_sweep.KIND,
  "carlini_wagner": carlini_wagner.KIND,
  "autoattack": autoattack.KIND,
  "spatial": spatial.KIND,
  "fourier_map": fourier_map.KIND,
  "transfer": transfer.KIND,
  "pictures": pictures.KIND,
  "probe": probe.KIND,
  "usefulness": usefulness.KIND,
  "statements": statements.KIND,
}
