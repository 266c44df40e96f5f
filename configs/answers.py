"""The field's answers to the paper, each with a control, on planted data.

Every set here could refute the claim that adversarial examples are features,
or what is usually read into it. Planted data has a robust cue, a shape, and a
non-robust one, a texture, so that the table also tells which of them was
learnt. docs/answers.md says what each row claims, and beside which published
number it stands.

Command: python -m robust_features.main --config=configs/answers.py
Time: less than 6 minutes on two CPU cores; docs/answers.md.
Reference: arXiv:1905.02175, section 3.2; arXiv:2102.04716 (poisons); Goh,
  Nakkiran and Wallace in "A Discussion of 'Adversarial Examples Are Not Bugs,
  They Are Features'", Distill 2019; arXiv:2204.10779 (perturbations alone).
"""

import functools

from robust_features import recipes

EPS = 0.5
NUM_REPELLED = 4


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.planted_study("answers")
  standard = recipes.planted_train(eval_every_epochs=6)
  robust = recipes.planted_robust_train(EPS, eval_every_epochs=6)
  _models(config, standard, robust)
  _poisons(config, standard, robust)
  _leakage(config, standard)
  _bugs(config, standard)
  _mistakes(config, standard)
  _perturbations(config, standard)
  for name, data in (
    ("d", "D"), ("d_rand", "d_rand"), ("d_det", "d_det"),
    ("leaked_rand", "leaked_rand"), ("leaked_det", "leaked_det"),
  ):  # fmt: skip
    config.stages[f"probe_{name}"] = recipes.probe_stage("robust", data)
  config.stages.probe_standard = recipes.probe_stage("standard", "d_det")
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds, of data and training alike."""
  return [{"seed": seed, "data.D.seed": seed} for seed in range(3)]


def _row(config, model: str, title: str, **changes) -> None:
  clean = recipes.evaluation(eps=(), batch_size=250)
  recipes.add_row(config, model, title, clean, label_shifts=(1, -1), **changes)


def _climbed(name: str, **changes):
  """Returns the construction of a set of adversarial examples."""
  attack = recipes.attack("l2", EPS, EPS / 5, 20)
  return recipes.construction(name, attack, **changes)


def _unclimbed(name: str, **changes):
  """Returns the construction of a set without any adversarial example."""
  attack = recipes.attack("l2", EPS, 0.0, 0)
  return recipes.construction(name, attack, objective="none", **changes)


def _add(config, name: str, title: str, construct, recipe, control_of="",
         **changes) -> None:  # fmt: skip
  """Adds a set made with the standard model, a training on it and its row."""
  config.stages[name] = recipes.construct_stage(
    "standard", construct, **changes
  )
  config.stages[f"on_{name}"] = recipes.train_stage("main", name, recipe)
  _row(config, f"on_{name}", title, control_of=control_of)


def _models(config, standard, robust) -> None:
  weak = recipes.train(**standard)
  weak.num_epochs = 2
  for name, title, recipe in (
    ("standard", "standard training", standard),
    ("robust", "adversarial training", robust),
    ("weak", "two epochs", weak),
  ):
    config.stages[name] = recipes.train_stage("main", "D", recipe)
    _row(config, name, title)


def _poisons(config, standard, robust) -> None:
  """The images of D_det with the labels left alone, and the cure."""
  add = functools.partial(_add, config, recipe=standard)
  add("d_det", "D_det", construct=_climbed("det"))
  add("d_poison", "D_det's images, labels y",
      construct=_climbed("poison", label="own"))  # fmt: skip
  config.stages.cured = recipes.train_stage("main", "d_poison", robust)
  _row(config, "cured", "the same, adversarial training")
  add("d_own", "led to y, labels y",
      construct=_climbed("own", target="own", label="own"))  # fmt: skip


def _leakage(config, standard) -> None:
  """Sets without adversarial examples that leak a few readable images."""
  add = functools.partial(_add, config, recipe=standard)
  add("d_rand", "D_rand", construct=_climbed("rand", target="uniform"))
  leak = {"fixed_noise": "class_of_label"}
  judged = leak | {"spare": "predicted"}
  add("leaked_rand", "D_rand, leakage alone", control_of="eval_on_d_rand",
      construct=_unclimbed("leaked_rand", target="uniform",
                           spare="label_is_own", **leak))  # fmt: skip
  add("leaked_det", "D_det, leakage alone", spared_by="weak",
      control_of="eval_on_d_det",
      construct=_unclimbed("leaked_det", **judged))  # fmt: skip
  add("d_other", "D_other", construct=_climbed("other", target="other"))
  add("leaked_other", "D_other, leakage alone", spared_by="weak",
      control_of="eval_on_d_other",
      construct=_unclimbed("leaked_other", target="other",
                           **judged))  # fmt: skip


def _bugs(config, standard) -> None:
  """Examples that four other networks do not fall for."""
  others = tuple(f"other_{i}" for i in range(1, NUM_REPELLED + 1))
  for name in (*others, "fresh"):
    config.stages[name] = recipes.train_stage("main", "D", standard)
  # In so small a ball it takes the difference of gradients: towards t for the
  # source, away from t for the others.
  construct = _climbed("bugs", repel_label="target", repel_weight=0.25)
  construct.attack.num_steps = 40
  _add(config, "d_bugs", f"D_det, repelled by {NUM_REPELLED}", construct,
       standard, control_of="eval_on_d_det", repel=others)  # fmt: skip
  for name, title in (("d_det", "D_det"), ("d_bugs", "repelled D_det")):
    _row(config, "fresh", f"fresh network on {title}: fooled", data=name,
         split="train", suffix=f"_{name}")  # fmt: skip


def _mistakes(config, standard) -> None:
  """A weak network's errors as a training set."""
  recipe = recipes.train(**standard)
  recipe.num_epochs = 60  # Of about 700 images.
  recipe.eval_every_epochs = 20
  stages = config.stages
  stages.errors = recipes.select_stage("D", "wrong", model="weak")
  stages.mistakes = recipes.relabel_stage("weak", "errors")
  stages.shuffled = recipes.transform_stage("mistakes", "shuffle_labels")
  for name, title, claim in (
    ("mistakes", "the errors of two epochs, as it labels them", ""),
    ("shuffled", "the same, labels shuffled", "eval_on_mistakes"),
  ):
    stages[f"on_{name}"] = recipes.train_stage("main", name, recipe)
    _row(config, f"on_{name}", title, control_of=claim)


def _perturbations(config, standard) -> None:
  """Perturbations of noise, beside noise alone."""
  add = functools.partial(_add, config, recipe=standard)
  noise = {"base": "uniform", "target": "uniform"}
  add("d_noise", "noise, perturbed", construct=_climbed("noise", **noise))
  add("d_nothing", "noise, not perturbed", control_of="eval_on_d_noise",
      construct=_unclimbed("nothing", **noise))  # fmt: skip
