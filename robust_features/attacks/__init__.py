"""Attacks: projected gradient ascent and what is built beside it."""

from robust_features.attacks import autoattack, losses
from robust_features.attacks.carlini_wagner import CarliniWagnerConfig
from robust_features.attacks.geometry import (
  check_radius,
  example_keys,
  max_radius,
)
from robust_features.attacks.pgd import (
  AttackConfig,
  AttackResult,
  check_climbs,
  maximize,
)

__all__ = [
  "AttackConfig",
  "AttackResult",
  "CarliniWagnerConfig",
  "autoattack",
  "check_climbs",
  "check_radius",
  "example_keys",
  "losses",
  "max_radius",
  "maximize",
]
