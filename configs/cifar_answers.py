"""The field's answers to the paper, each with a control, on CIFAR-10.

What configs/answers.py shows on planted data, whose truth is known, here where
it was published: poisons, leakage, adversarial examples that are bugs, a
model's mistakes, perturbations of noise, robust features that leaked. Planted
data passes controls that CIFAR-10 does not, so that only these rows tell how
much of D_rand's and D_det's accuracy non-robust features explain.

Command: python -m robust_features.main --config=configs/cifar_answers.py \\
  --config.data.D.data_dir=DIR
  `cifar_answers.py:small` does the same with 10,000 images, cifar_small's
  network and its radius of 1.0, for two CPU cores; it goes on after any
  interruption.
Hardware: a GPU; `:small` two CPU cores.
Time: not measured, at either size.
Expect: published beside other networks, in percent of clean images: D_rand 83.9
  and its leakage alone 79.5, D_det 19.8 and 32.3, D_other 67.3 and 50.1
  (KellerJordan, ResNet-9); D_det's images labelled y 37.9, and 86.6 under
  adversarial training (Tao et al., VGG-16); D_det 33.2 and repelled by ten
  networks 2.8, on labels y+1 70.8, l2 2.5 (Nakkiran); a model of 63.1, trained
  on its errors alone 49.7 (Wallace, ResNet-18); noise perturbed towards other
  classes 10.0, so it teaches nothing (Kumano et al.).
Reference: arXiv:1905.02175, section 3.2; arXiv:2102.04716 (poisons);
  KellerJordan, cifar10-zoo (leakage); Goh, Nakkiran and Wallace in "A
  Discussion of 'Adversarial Examples Are Not Bugs, They Are Features'", Distill
  2019; arXiv:2204.10779 (perturbations alone).
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:small` fits a CPU, `:smoke` shows nothing."""
  small = variant in ("small", "smoke")
  cifar = recipes.cifar_study("cifar_answers", small)
  config, attack = cifar.config, cifar.targeted["attack"]
  study = recipes.Answers(
    config, cifar.standard, cifar.robust, cifar.plain, attack,
    cifar.evaluation.batch_size,
  )  # fmt: skip
  study.models()
  study.poisons()
  study.curves("on_d_det", "on_d_poison", "standard")
  study.mistakes(num_epochs=24 if small else 50)
  if variant == "smoke":  # The rest is that of answers.py and cifar_small.py.
    return recipes.cifar_variant(config, variant)
  study.add("d_rand", "D_rand", study.climbed("rand", target="uniform"))
  recipes.add_controls(
    config, standard=cifar.standard, on_rand=cifar.plain, on_det=cifar.plain,
    on_other=cifar.standard, attack=attack, evaluation=cifar.evaluation,
  )  # fmt: skip
  study.bugs(4 if small else 10, _bugs(study, small))
  study.perturbations()
  study.probes()
  return recipes.cifar_variant(config, variant)


def _bugs(study, small: bool):
  """Returns the construction of examples that are the source's alone."""
  if not small:  # Nakkiran's own.
    attack = recipes.attack("l2", 2.5, 0.5, 10)
    return recipes.construction("bugs", attack)
  # In a smaller ball it takes the difference of gradients; see answers.py.
  found = study.climbed("bugs", repel_label="target", repel_weight=0.25)
  found.attack.num_steps = 40
  return found


def sweep():
  """Returns three seeds."""
  return [{"seed": seed} for seed in range(3)]
