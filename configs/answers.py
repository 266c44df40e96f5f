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
  They Are Features'", Distill 2019; arXiv:2204.10779 (perturbations alone);
  arXiv:2101.04898 (error-minimising noise); arXiv:1906.08988 (frequencies).
"""

from robust_features import recipes

EPS = 0.5
NUM_REPELLED = 4


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.planted_study("answers")
  standard = recipes.planted_train(eval_every_epochs=6)
  robust = recipes.planted_robust_train(EPS, eval_every_epochs=6)
  attack = recipes.attack("l2", EPS, EPS / 5, 20)
  study = recipes.Answers(config, standard, robust, standard, attack, 250)
  study.models()
  study.poisons()
  study.leakage()
  # In so small a ball it takes the difference of gradients: towards t for the
  # source, away from t for the others.
  construct = study.climbed("bugs", repel_label="target", repel_weight=0.25)
  construct.attack.num_steps = 40
  study.bugs(NUM_REPELLED, construct)
  study.mistakes(num_epochs=60)  # Of about 700 images.
  study.perturbations()
  study.probes()
  study.unlearnable(
    "d_unlearnable", "error-minimising noise",
    recipes.error_minimising_stage(),
  )  # fmt: skip
  waves = recipes.fourier_map_stage(("standard", "robust"))
  waves.fourier.eps = 1.0  # CIFAR's 4 would hide images of half its size.
  config.stages.waves = waves
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds, of data and training alike."""
  return [{"seed": seed, "data.D.seed": seed} for seed in range(3)]
