"""The paper's whole pattern in minutes, on data whose truth is known.

A procedural image set is planted with two features: a large shape, robust but
right only 85% of the time, and a faint texture, always right but smaller than
the adversary's radius. The study trains a standard and a robust model, makes
D_R, D_NR, D_rand and D_det from them, trains on each, and tells for every
model how often it follows the shape and how often the texture where the two
disagree.

Command: python -m robust_features.main --config=configs/quickstart.py
Time: 85 seconds on two CPU cores, cold; docs/results/quickstart.md.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes

EPS = 0.5


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.planted_study("quickstart")
  standard = recipes.planted_train()
  robust = recipes.planted_robust_train(EPS)
  inversion = {"attack": recipes.inversion("robust").attack}
  inversion["attack"].num_steps = 100
  targeted = {"attack": recipes.targeted("rand").attack}
  targeted["attack"].num_steps = 20
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
    controls=False,  # answers has them, on the same data.
    evaluation=recipes.evaluation(
      eps=(EPS / 2, EPS), num_steps=40, batch_size=250
    ),
  )
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds, of data and training alike."""
  return [{"seed": seed, "data.D.seed": seed} for seed in range(3)]
