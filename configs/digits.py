"""The paper's tables on scikit-learn's 8x8 digits: real images, no download.

Command: python -m robust_features.main --config=configs/digits.py
Time: minutes on two CPU cores.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes

EPS = 1.0  # An eighth of the box's diameter; images have norms of about 4.


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.study("digits")
  config.data.D = recipes.data("digits", num_validation=100)
  config.models.main = recipes.model("mlp", mean=(0.3,), std=(0.38,))
  standard = recipes.train(
    num_epochs=40,
    batch_size=100,
    learning_rate=0.05,
    schedule="cosine",
    augment=recipes.no_augmentation(),
    eval_every_epochs=4,
  )
  robust = recipes.train(**standard)
  robust.adversary = recipes.adversary(EPS)
  inversion = {"attack": recipes.inversion("robust").attack}
  targeted = {"attack": recipes.attack("l2", EPS, 0.1, 100)}
  recipes.paper_study(
    config,
    standard=standard,
    robust=robust,
    on_robust=standard,
    on_nonrobust=standard,
    on_rand=standard,
    on_det=standard,
    inversion=inversion,
    targeted=targeted,
    controls=False,  # answers has them, on data whose truth is known.
    evaluation=recipes.evaluation(eps=(EPS / 2, EPS), num_steps=40),
  )
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds."""
  return [{"seed": seed} for seed in range(3)]
