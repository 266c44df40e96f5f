"""The paper's whole pattern in minutes, on data whose truth is known.

A procedural image set is planted with two features: a large shape, robust but
right only 85% of the time, and a faint texture, always right but smaller than
the adversary's radius. The study trains a standard and a robust model, makes
D_R, D_NR, D_rand and D_det from them, trains on each, and tells for every
model how often it follows the shape and how often the texture where the two
disagree.

Command: python -m robust_features.main --config=configs/quickstart.py
Time: 71 seconds on two CPU cores; docs/results/quickstart.md.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes

EPS = 0.5


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.study("quickstart")
  config.data.D = recipes.data(
    "planted", num_train=4000, num_test=1000, num_validation=200
  )
  config.models.main = recipes.model(
    "plain_strided_cnn", width=16, mean=(0.3,) * 3, std=(0.2,) * 3
  )
  standard = recipes.train(
    num_epochs=18,
    batch_size=100,
    schedule="cosine",
    warmup_epochs=1.0,
    # What training on D_R leaves unused must fade, or it reads the faint
    # texture that inversion carries over.
    weight_decay=3e-3,
    augment=recipes.no_augmentation(),
    eval_every_epochs=2,
  )
  robust = recipes.train(**standard)
  robust.num_epochs = 20
  robust.learning_rate = 0.05
  robust.adversary = recipes.adversary(EPS)
  # At the full radius from the start it would stay at chance.
  robust.eps_ramp_epochs = 8.0
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
    evaluation=recipes.evaluation(
      eps=(EPS / 2, EPS), num_steps=40, batch_size=250
    ),
  )
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds, of data and training alike."""
  return [{"seed": seed, "data.D.seed": seed} for seed in range(3)]
