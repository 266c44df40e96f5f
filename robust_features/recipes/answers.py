"""The field's answers to the paper, family by family, each with a control.

docs/answers.md says what each row claims, and beside which published number it
stands.
"""

import dataclasses
from typing import Any

from robust_features.recipes import measurements, sections, stages, studies


@dataclasses.dataclass
class Answers:
  """Adds families of stages to a study.

  Attributes:
    config: A study with `data.D` and `models.main`.
    standard: Recipe of standard training on D.
    robust: Recipe of adversarial training.
    on_set: Recipe of training on a constructed set.
    attack: Of every set of adversarial examples; its radius is also the norm
      of the noise that takes their place in their controls.
    batch_size: Images at a time in the rows' evaluations.
  """

  config: Any
  standard: Any
  robust: Any
  on_set: Any
  attack: Any
  batch_size: int

  def row(self, model: str, title: str, **changes: Any) -> None:
    """Adds a row of clean accuracies, by the labels y, y+1 and y-1."""
    clean = sections.evaluation(eps=(), batch_size=self.batch_size)
    studies.add_row(
      self.config, model, title, clean, label_shifts=(1, -1), **changes
    )

  def climbed(self, name: str, **changes: Any) -> Any:
    """Returns the construction of a set of adversarial examples."""
    return sections.construction(name, self.attack, **changes)

  def unclimbed(self, name: str, **changes: Any) -> Any:
    """Returns the construction of a set without any adversarial example."""
    fields = {"step_size": 0.0, "num_steps": 0, "start": "x"}
    attack = sections.make(self.attack.to_dict(), fields)
    return sections.construction(name, attack, objective="none", **changes)

  def add(self, name: str, title: str, construct: Any, recipe: Any = None,
          control_of: str = "", **changes: Any) -> None:  # fmt: skip
    """Adds a set made with the standard model, a training on it and its row."""
    self.config.stages[name] = stages.construct_stage(
      "standard", construct, **changes
    )
    self.train_on(name, title, recipe, control_of)

  def train_on(self, name: str, title: str, recipe: Any = None,
               control_of: str = "") -> None:  # fmt: skip
    """Adds a training on a set and its row."""
    self.config.stages[f"on_{name}"] = stages.train_stage(
      "main", name, self.on_set if recipe is None else recipe
    )
    self.row(f"on_{name}", title, control_of=control_of)

  def models(self) -> None:
    """Adds the models that everything else is made of and measured by."""
    weak = sections.train(**self.standard)
    weak.num_epochs = 2
    for name, title, recipe in (
      ("standard", "standard training", self.standard),
      ("robust", "adversarial training", self.robust),
      ("weak", "two epochs", weak),
    ):
      self.config.stages[name] = stages.train_stage("main", "D", recipe)
      self.row(name, title)

  def poisons(self) -> None:
    """Adds the images of D_det with the labels left alone, and the cure."""
    self.add("d_det", "D_det", self.climbed("det"))
    self.add("d_poison", "D_det's images, labels y",
             self.climbed("poison", label="own"), self.standard)  # fmt: skip
    self.config.stages.cured = stages.train_stage(
      "main", "d_poison", self.robust
    )
    self.row("cured", "the same, adversarial training")
    self.add("d_own", "led to y, labels y",
             self.climbed("own", target="own", label="own"),
             self.standard)  # fmt: skip

  def unlearnable(self, name: str, title: str, noise: Any) -> None:
    """Adds error-minimising noise, and as its control the noise dealt out.

    Args:
      name: Of the set.
      title: Of its row.
      noise: The stage that makes it.
    """
    self.config.stages[name] = noise
    self.train_on(name, title, self.standard)
    self.deal_out(name, "the same noise, dealt out")

  def deal_out(self, name: str, title: str) -> None:
    """Adds a poison's control: its changes on images drawn at random."""
    self.config.stages[f"{name}_dealt"] = stages.combine_stage(
      "D", name, 1.0, how="changes"
    )
    self.train_on(f"{name}_dealt", title, self.standard)

  def leakage(self) -> None:
    """Adds sets without adversarial examples that leak readable images."""
    self.add("d_rand", "D_rand", self.climbed("rand", target="uniform"))
    leak = {"fixed_noise": "class_of_label"}
    judged = leak | {"spare": "predicted"}
    self.add("leaked_rand", "D_rand, leakage alone",
             self.unclimbed("leaked_rand", target="uniform",
                            spare="label_is_own", **leak),
             control_of="eval_on_d_rand")  # fmt: skip
    self.add("leaked_det", "D_det, leakage alone",
             self.unclimbed("leaked_det", **judged),
             control_of="eval_on_d_det", spared_by="weak")  # fmt: skip
    self.add("d_other", "D_other", self.climbed("other", target="other"))
    self.add("leaked_other", "D_other, leakage alone",
             self.unclimbed("leaked_other", target="other", **judged),
             control_of="eval_on_d_other", spared_by="weak")  # fmt: skip

  def bugs(self, number: int, construct: Any) -> None:
    """Adds examples that other networks do not fall for.

    Args:
      number: Of these networks; one more is shown the examples.
      construct: Of the set.
    """
    others = tuple(f"other_{i}" for i in range(1, number + 1))
    for name in (*others, "fresh"):
      self.config.stages[name] = stages.train_stage("main", "D", self.standard)
    self.add("d_bugs", f"D_det, repelled by {number}", construct,
             control_of="eval_on_d_det", repel=others)  # fmt: skip
    for name, title in (("d_det", "D_det"), ("d_bugs", "repelled D_det")):
      self.row("fresh", f"fresh network on {title}: fooled", data=name,
               split="train", suffix=f"_{name}")  # fmt: skip

  def mistakes(self, num_epochs: int) -> None:
    """Adds a weak network's errors as a training set.

    Args:
      num_epochs: Of so few images.
    """
    recipe = sections.train(**self.standard)
    recipe.num_epochs = num_epochs
    recipe.eval_every_epochs = max(1, num_epochs // 3)
    added = self.config.stages
    added.errors = stages.select_stage("D", "wrong", model="weak")
    added.mistakes = stages.relabel_stage("weak", "errors")
    added.shuffled = stages.transform_stage("mistakes", "shuffle_labels")
    for name, title, claim in (
      ("mistakes", "the errors of two epochs, as it labels them", ""),
      ("shuffled", "the same, labels shuffled", "eval_on_mistakes"),
    ):
      self.train_on(name, title, recipe, claim)

  def perturbations(self) -> None:
    """Adds perturbations of noise, beside noise alone."""
    noise = {"base": "uniform", "target": "uniform"}
    self.add("d_noise", "noise, perturbed", self.climbed("noise", **noise))
    self.add("d_nothing", "noise, not perturbed",
             self.unclimbed("nothing", **noise),
             control_of="eval_on_d_noise")  # fmt: skip

  def probes(self) -> None:
    """Adds linear heads on a robust representation, and the standard one's."""
    for name, data in (
      ("d", "D"), ("d_rand", "d_rand"), ("d_det", "d_det"),
      ("leaked_rand", "leaked_rand"), ("leaked_det", "leaked_det"),
    ):  # fmt: skip
      self.config.stages[f"probe_{name}"] = measurements.probe_stage(
        "robust", data
      )
    self.config.stages.probe_standard = measurements.probe_stage(
      "standard", "d_det"
    )

  def curves(self, *models: str) -> None:
    """Adds accuracies while they train, of the last as the others' control."""
    self.config.stages.curves = measurements.curve_stage(models, (0, 1, -1))
