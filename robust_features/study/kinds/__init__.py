"""Kinds of stage, one file each; to add one, write a file and name it here.

The order is that of the sections of `results.md`.
"""

from robust_features.study.graph import Kind
from robust_features.study.kinds import (
  autoattack,
  carlini_wagner,
  construct,
  evaluate,
  imported,
  statements,
  step_sweep,
  train,
  transfer,
  usefulness,
)

KINDS: dict[str, Kind] = {
  "construct": construct.KIND,
  "train": train.KIND,
  "imported": imported.KIND,
  "evaluate": evaluate.KIND,
  "step_sweep": step_sweep.KIND,
  "carlini_wagner": carlini_wagner.KIND,
  "autoattack": autoattack.KIND,
  "transfer": transfer.KIND,
  "usefulness": usefulness.KIND,
  "statements": statements.KIND,
}
