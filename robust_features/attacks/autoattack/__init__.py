"""AutoAttack: an ensemble of attacks, one file each, and what runs them.

`ensemble` is the evaluation; `apgd`, `fab` and `square` are state machines of
`machine`, stepped together in the slots of `pool`; `progress` keeps what is
done on disk, `checks` warns of models that mislead, `result` is what comes out.
"""

from robust_features.attacks.autoattack.ensemble import (
  ATTACKS,
  STANDARD,
  AutoAttackResult,
  Budget,
  check_settings,
  run,
)

__all__ = [
  "ATTACKS",
  "STANDARD",
  "AutoAttackResult",
  "Budget",
  "check_settings",
  "run",
]
