"""The same images, labels kept: availability poisons, and what cures them.

If perturbations carry features of class t, images of y that carry them and are
labelled y teach that t looks like y. D_det's own images are then a poison;
stronger ones are made in the same way, or by noise that leaves nothing to
learn. Each is trained on plainly, after JPEG, without colour and adversarially;
and each has a control, its changes dealt out among the images: as large, as
many, but telling no class, so that harm done by these is damage and no feature.
Harm may come late, so the peak over the epochs is given beside the last.

P1 to P5 are arXiv:2102.04716's; P3 and P4 climb one perturbation for a whole
class. TAP is D_det's map with crop and flip inside
the climb. CIFAR-10 as prepared from JPEG files has been compressed once before.
Test images are in colour and not compressed, whatever the cure.

Command: python -m robust_features.main --config=configs/poisons.py \\
  --config.data.D.data_dir=DIR
  `poisons.py:small` does the same with 10,000 images, l2 1.0 and fewer steps,
  for two CPU cores.
Hardware: a GPU; `:small` two CPU cores.
Time: not measured, at either size.
Expect: of others, percent of clean images: P1 37.9, and 86.6 under adversarial
  training; P2 74.2 and 89.5; P3 15.1 and 88.1; P4 23.7 and 88.2; P5 11.8 and
  88.1 (Tao et al., VGG-16, l2 0.5); TAP 8.2, grey 9.1, JPEG 83.9;
  error-minimising 21.1, grey 93.0, JPEG 81.5 (ISS, ResNet-18, linf 8/255).
Reference: arXiv:1905.02175, section 3.2; arXiv:2102.04716 (P1 to P5), Fowl et
  al., NeurIPS 2021 (TAP), arXiv:2101.04898 (error-minimising noise),
  arXiv:2204.08615 (the peak).
"""

from robust_features import recipes

JPEG_QUALITY = 10
EPS = 8 / 255  # linf.


def get_config(variant: str = ""):
  """Returns the study; `:small` fits a CPU, `:smoke` shows nothing."""
  small = variant in ("small", "smoke")
  cifar = recipes.cifar_study("poisons", small)
  config = cifar.config
  # Every epoch, so that the peak is known.
  standard = recipes.train(**cifar.standard)
  standard.eval_every_epochs = 1
  study = recipes.Answers(
    config, standard, cifar.robust, standard, _attack(cifar, small),
    cifar.evaluation.batch_size,
  )  # fmt: skip
  for name, title, recipe in (
    ("standard", "D", standard), ("robust", "D, adversarially", cifar.robust),
  ):  # fmt: skip
    config.stages[name] = recipes.train_stage("main", "D", recipe)
    study.row(name, title)
  study.add("p1", "P1: led to y+1", study.climbed("p1", label="own"))
  _shared(study, "p3", "next", "P3: the class led to y+1", small)
  study.unlearnable("noise", "error-minimising", _error_minimising(small))
  _cures(study, "noise", "error-minimising")
  if variant != "smoke":  # The others are constructed as these are.
    _more(study, small)
  poisoned = [name for name in ("on_p1", "on_tap", "on_noise")
              if name in config.stages]  # fmt: skip
  config.stages.peaks = recipes.curve_stage((*poisoned, "standard"), (0, -1))
  return recipes.cifar_variant(config, variant)


def _more(study, small: bool) -> None:
  """Adds P2 to P5 and TAP, the cures and controls of TAP and P1."""
  study.add("p2", "P2: led to y",
            study.climbed("p2", target="own", label="own"))  # fmt: skip
  _shared(study, "p4", "own", "P4: the class led to y", small)
  study.add("p5", "P5: noise of the class",
            study.unclimbed("p5", label="own", target="none",
                            fixed_noise="class_of_label"))  # fmt: skip
  study.add("tap", "TAP", _tap(small))
  for name, title in (("p1", "P1"), ("tap", "TAP")):
    study.deal_out(name, f"{title}, its changes dealt out")
    _cures(study, name, title)


def _shared(study, name: str, target: str, title: str, small: bool) -> None:
  """Adds a set whose classes share a perturbation each, climbed 500 steps."""
  attack = recipes.attack(**study.attack)
  attack.num_steps = 100 if small else 500
  study.config.stages[name] = recipes.class_perturbation_stage(
    "standard", attack, target
  )
  study.train_on(name, title)


def _attack(cifar, small: bool):
  """Returns the attack of P1 and P2: 100 steps of eps/5, or the small one."""
  if small:
    return cifar.targeted["attack"]
  return recipes.attack("l2", 0.5, 0.1, 100)


def _tap(small: bool):
  """Returns TAP's construction, by one random start."""
  steps = 25 if small else 250
  attack = recipes.attack("linf", EPS, 12.5 * EPS / steps, steps)
  attack.start = "random"
  return recipes.construction("tap", attack, label="own", transform_copies=1)


def _error_minimising(small: bool):
  """Returns Huang et al.'s noise; fewer steps and rounds on a CPU."""
  stage = recipes.error_minimising_stage()
  if small:
    own = stage.error_minimising
    own.attack.num_steps, own.max_rounds = 10, 30
  return stage


def _cures(study, name: str, title: str) -> None:
  """Adds what gives the accuracy back."""
  stages = study.config.stages
  for cure, stage, what in (
    ("jpeg", recipes.transform_stage(name, "jpeg", JPEG_QUALITY),
     f"JPEG {JPEG_QUALITY}"),
    ("grey", recipes.transform_stage(name, "grey"), "grey"),
  ):  # fmt: skip
    stages[f"{name}_{cure}"] = stage
    study.train_on(f"{name}_{cure}", f"{title}, {what}")
  stages[f"cured_{name}"] = recipes.train_stage("main", name, study.robust)
  study.row(f"cured_{name}", f"{title}, adversarially")
