"""What a constructed data set is: `ConstructConfig` and the paper's presets."""

import dataclasses
import math
from typing import Any

from robust_features import attacks

# Kind of the paper: (objective, target, label).
KINDS = {
  "robust": ("representation", "none", "own"),
  "nonrobust": ("representation", "none", "own"),
  "rand": ("target", "uniform", "target"),
  "det": ("target", "next", "target"),
}
_CHOICES = {
  "objective": ("representation", "target", "untargeted", "none"),
  "target": (
    "none", "own", "next", "uniform", "other", "source", "teacher",
  ),
  "label": ("target", "own", "source"),
  "repel_label": ("own", "target"),
  "init": ("self", "image", "noise"),
  "base": ("image", "uniform", "gaussian"),
  "fixed_noise": ("none", "class_of_label", "example"),
  "spare": ("none", "label_is_own", "predicted"),
  "pixels": ("uint8", "float32"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ConstructConfig:
  """How a data set is made. The defaults are those of D_det.

  Attributes:
    kind: The set's name, D_<kind>. The paper's "robust", "nonrobust", "rand"
      and "det" stand for an objective, a target and a label; see `preset`.
    attack: Norm, radius, step size and count. The ball lies about the start:
      the image for targets, wherever `init` begins for representations; inf
      for the whole box.
    objective: What is climbed: "representation" (nearness to the image's),
      "target" (minus its cross-entropy), "untargeted" (the cross-entropy of
      the label) or "none".
    target: "own" label, "next" class, "uniform" over the classes, "other"
      (uniform without the own one), what the "source" or a "teacher" predicts;
      "none" where nothing has a target.
    label: What the examples are labelled with: the "target", their "own" label
      or what the "source" predicts.
    repel_weight: Of the models that are to stay unfooled, beside 1 for the
      source.
    repel_label: Where those are held: at the "own" label, or off the "target".
    init: Where the climb starts: "self" (the image itself), "image" (another
      training image) or "noise"; the latter two for representations.
    base: What is perturbed: the "image", or noise in its place that is
      "uniform" or "gaussian".
    fixed_noise: Added where nothing is climbed, of norm `attack.eps`: one
      pattern for each "class_of_label", one for each "example", or "none".
    spare: Which images stay as they are: "none", those whose "label_is_own",
      or those of which a model "predicted" the new label.
    transform_copies: Crops and flips, drawn anew at every step, over which the
      gradient is averaged; 0 for the image itself.
    examples_per_image: The set holds every image so often; the first ones are
      the set of one each.
    fake_relu: Lets the gradient through the last ReLU where it is closed.
    pixels: What is stored and trained on: "uint8" or "float32".
    batch_size: Images at a time.
    shard_size: Images in one file.
  """

  kind: str
  attack: attacks.AttackConfig
  objective: str = "target"
  target: str = "next"
  label: str = "target"
  repel_weight: float = 1.0
  repel_label: str = "own"
  init: str = "self"
  base: str = "image"
  fixed_noise: str = "none"
  spare: str = "none"
  transform_copies: int = 0
  examples_per_image: int = 1
  fake_relu: bool = False
  pixels: str = "uint8"
  batch_size: int = 500
  shard_size: int = 2500

  def __post_init__(self):
    for name, choices in _CHOICES.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f"{name} must be one of {choices}, got {getattr(self, name)!r}"
        )
    for name, least in (
      ("batch_size", 1),
      ("shard_size", 1),
      ("examples_per_image", 1),
      ("transform_copies", 0),
    ):
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}"
        )
    if not self.kind:
      raise ValueError("kind must name the set, got ''")
    if not math.isfinite(self.repel_weight):
      raise ValueError(f"repel_weight must be finite, got {self.repel_weight}")
    self._check_kind()
    self._check_target()
    self._check_objective()
    self._check_spare()

  def uses_target(self) -> bool:
    """Returns whether anything depends on the target."""
    return "target" in (self.objective, self.label)

  def _check_kind(self) -> None:
    """Raises where a set would bear the name of another."""
    if self.kind in KINDS:
      fields = ("objective", "target", "label", "base", "fixed_noise", "spare")
      wanted = (*KINDS[self.kind], "image", "none", "none")
      for name, want in zip(fields, wanted, strict=True):
        self._require(
          name,
          want,
          True,
          f"for kind {self.kind!r}; name another set otherwise",
        )

  def _check_target(self) -> None:
    needed = self.uses_target()
    if needed == (self.target == "none"):
      raise ValueError(
        "target must be a class where the objective or the label is the "
        f"target, and 'none' elsewhere, got {self.target!r} with objective "
        f"{self.objective!r} and label {self.label!r}"
      )
    self._require("repel_label", "own", not needed, "without a target")

  def _check_objective(self) -> None:
    inverts = self.objective == "representation"
    climbs = self.objective in ("target", "untargeted")
    where = f"for objective {self.objective!r}"
    self._require("init", "self", not inverts, where)
    self._require("fake_relu", False, not inverts, where)
    self._require("base", "image", inverts, where)
    self._require("transform_copies", 0, not climbs, where)
    self._require("fixed_noise", "none", self.objective != "none", where)
    if self.objective == "none" and self.attack.num_steps:
      raise ValueError(
        f"attack.num_steps must be 0 {where}, got {self.attack.num_steps}"
      )
    if self.objective != "none":
      if not self.attack.eps:
        raise ValueError(
          f"attack.eps must be above 0 {where}, got 0; a control without a "
          "perturbation has objective 'none'"
        )
      attacks.check_climbs("attack", self.attack)
    if self.fixed_noise != "none" and not 0 < self.attack.eps < math.inf:
      raise ValueError(
        "attack.eps is the norm of fixed_noise and must be above 0 and finite, "
        f"got {self.attack.eps}"
      )
    draws = (
      self.target in ("uniform", "other"), self.init != "self",
      self.base != "image", self.transform_copies > 0,
      self.attack.start == "random", self.fixed_noise == "example",
    )  # fmt: skip
    self._require(
      "examples_per_image", 1, not any(draws), "if nothing is drawn"
    )

  def _check_spare(self) -> None:
    own = self.label == "own"
    where = (
      "where every label is its own" if own else f"with base {self.base!r}"
    )
    self._require("spare", "none", own or self.base != "image", where)

  def _require(self, name: str, want: Any, when: bool, where: str) -> None:
    value = getattr(self, name)
    if when and value != want:
      raise ValueError(f"{name} must be {want!r} {where}, got {value!r}")


def preset(
  kind: str, attack: attacks.AttackConfig, **changes: Any
) -> ConstructConfig:
  """Returns the construction of one of the paper's data sets.

  Args:
    kind: "robust", "nonrobust", "rand" or "det".
    attack: Norm, radius, step size and count.
    **changes: Further fields of `ConstructConfig`.

  Raises:
    ValueError: If there is no such kind, or fields do not fit together.

  Reference: arXiv:1905.02175, tables 5 and 6.
  """
  if kind not in KINDS:
    raise ValueError(f"kind must be one of {tuple(KINDS)}, got {kind!r}")
  objective, target, label = KINDS[kind]
  fields: dict[str, Any] = {
    "objective": objective, "target": target, "label": label,
    "init": "image" if objective == "representation" else "self",
  }  # fmt: skip
  return ConstructConfig(kind, attack, **(fields | changes))
