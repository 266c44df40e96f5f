"""What an AutoAttack evaluation returns."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AutoAttackResult:
  """What an evaluation found.

  Attributes:
    norm: "l2" or "linf".
    eps: Radius in pixel units of [0, 1].
    x_adv: `[N, H, W, C]` float32: adversarial examples where one was found,
      the images themselves elsewhere.
    robust: `[N]` bool, classified correctly whatever was tried.
    broken_by: `[N]` int32, which attack (its place in `accuracy` after
      "clean") broke the image; -1 for none, or misclassified to begin with.
    accuracy: "clean" and then the worst case so far after each attack, as
      fractions in [0, 1].
    second_pass_accuracy: Accuracy on `x_adv`, evaluated again at the end.
    max_perturbation: Largest norm of `x_adv - x`, in float64.
    queries: Forward evaluations of each attack, over all images.
    gradients: Gradient evaluations of each attack.
    zero_gradients: Images of each attack that met a gradient of exactly zero.
    nonfinite_gradients: Images of each attack that met one not finite.
    seconds: Wall time of each attack, compilation included.
    warnings: What makes the numbers suspicious, one line each.
  """

  norm: str
  eps: float
  x_adv: np.ndarray
  robust: np.ndarray
  broken_by: np.ndarray
  accuracy: dict[str, float]
  second_pass_accuracy: float
  max_perturbation: float
  queries: dict[str, int]
  gradients: dict[str, int]
  zero_gradients: dict[str, int]
  nonfinite_gradients: dict[str, int]
  seconds: dict[str, float]
  warnings: tuple[str, ...]

  @property
  def robust_accuracy(self) -> float:
    """Share of the images that are robust, in [0, 1]."""
    return float(self.robust.mean())

  def summary(self) -> str:
    """Returns a table with both passes and the warnings."""
    lines = [
      f"AutoAttack {self.norm}, eps {self.eps:g}, {len(self.robust)} images"
    ]
    for name, accuracy in self.accuracy.items():
      line = f"  {name:<9}{accuracy:8.2%}"
      if name in self.queries:
        line += (
          f"  {self.queries[name]:>11,} queries"
          f"  {self.gradients[name]:>10,} gradients"
          f"  {self.seconds[name]:8.1f} s"
        )
      lines.append(line)
    lines.append(f"  evaluated again: {self.second_pass_accuracy:.2%}")
    lines.append(f"  largest perturbation: {self.max_perturbation:.6g}")
    return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])
