"""Architectures that learn more from D_det fall to more transferred attacks.

A standard ResNet-50 is the source. Each of five architectures is trained
twice: on D, to be shown the source's adversarial examples, untargeted and
targeted; and on D_det, made of the source's perturbations, to see what it
learns from them. The ResNet-50 among the five is not the source but another,
trained from other initial weights. The study ends with the scatter of figures
3 and 13, the paper's points beside ours, and the rank correlation.

The paper states neither the attack nor how success is counted nor which
DenseNet: here it is the attack that made D_det (l2 0.5, 100 steps of 0.1), the
counts of `robust_features.transfer`, DenseNet-121. Training is table 3's on D,
and on D_det that of cifar_nonrobust.

Command: python -m robust_features.main --config=configs/cifar_transfer.py \\
  --config.data.D.data_dir=DIR
  `cifar_transfer.py:small` does the same with 10,000 images and five networks
  of the size of a CPU, one of them the source's; `:smoke` takes three tiny
  ones, since the deep ones alone would compile for minutes.
Hardware: a GPU; eleven trainings. The folders `standard`, `d_det_standard` and
  `on_d_det_standard` of a finished cifar_nonrobust may be copied into the
  workdir: they are the same stages.
Time: not measured at full size; `:small` 13 minutes on two CPU
  cores (docs/results/cifar_transfer.md).
Expect: figures 3 and 13, drawn beside ours; both have rank correlation 1 over
  five points of one seed.
Reference: arXiv:1905.02175, section 3.3, appendix D.9, figures 3 and 13.
"""

from robust_features import recipes

# The first is the source's; `width` as the models take it, 0 for their own.
PAPER = {
  "resnet50": 0, "vgg16": 0, "inception_v3": 0, "resnet18": 0, "densenet121": 0,
}  # fmt: skip
SMALL = {
  "cnn4": 0, "small_resnet": 12, "vgg16": 8, "plain_cnn": 0, "mlp": 0,
}  # fmt: skip
SMOKE = {"cnn": 0, "plain_cnn": 0, "mlp": 0}
# Without BatchNorm: a fifth of the rate of the others.
PLAIN = ("plain_cnn", "mlp")


def _paper(config):
  """Fills in the study at full size."""
  config.data.D = recipes.cifar10()
  construct = recipes.targeted("det")
  return {
    "standard": recipes.train(),
    "on_det": recipes.train(num_epochs=200, augment=recipes.no_augmentation()),
    "construct": construct,
    "attack": construct.attack,
  }


def _small(config):
  """Fills in cifar_small's data and recipes."""
  config.data.D = recipes.cifar10(
    num_train=10_000, num_test=1_000, num_validation=500
  )
  crop_and_flip = recipes.augmentation()
  crop_and_flip.jitter, crop_and_flip.rotate = 0.0, 0.0
  standard = recipes.train(
    num_epochs=8,
    batch_size=100,
    schedule="cosine",
    warmup_epochs=1.0,
    augment=crop_and_flip,
    eval_every_epochs=2,
  )
  on_det = recipes.train(**standard)
  on_det.augment = recipes.no_augmentation()
  construct = recipes.targeted("det")
  # Twice the paper's radius: of so small a source's D_det at 0.5 the same
  # network learns less than chance (9.1%; 20.7% at 1.0, one seed).
  construct.attack.eps, construct.attack.step_size = 1.0, 0.2
  construct.attack.num_steps = 20
  return {
    "standard": standard,
    "on_det": on_det,
    "construct": construct,
    "attack": construct.attack,
  }


def get_config(variant: str = ""):
  """Returns the study; `:small` fits a CPU, `:smoke` shows nothing."""
  config = recipes.study("cifar_transfer")
  small = variant in ("small", "smoke")
  widths = {"small": SMALL, "smoke": SMOKE}.get(variant, PAPER)
  sections = _small(config) if small else _paper(config)
  recipes.transfer_study(config, widths, **sections)
  for name in PLAIN:
    for stage in config.stages.values():
      if stage.get("architecture") == name:
        stage.train.learning_rate = 0.02
  if variant == "small":
    config.name = "cifar_transfer-small"
    return config
  return recipes.variant(config, variant)
