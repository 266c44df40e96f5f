"""Sections 2 and 4 as numbers: every statement checked, every figure drawn.

Closed forms against automatic differentiation, sampling and their limits, one
row each; figures 4 and 14; how the eigenvalues, the multiplier and the
alignment move with eps; how fast problem (13) turns into (20); and, for section
2, the usefulness rho and robust usefulness gamma of features of scikit-learn's
digits: singular vectors, and the representations of a small network trained
with and without an adversary.

Command: python -m robust_features.main --config=configs/gaussian.py
Time: about a minute on two CPU cores, of which much is compiling.
Expect: every row passing (sampled ones allow 4 standard errors), over any seed;
  the robust network's, over seeds 0 to 5.
Reference: arXiv:1905.02175, sections 2, 4, D.10 and E.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` does the same on less."""
  config = recipes.study("gaussian")
  config.data.D = recipes.data("digits", num_validation=100)
  config.models.main = recipes.model("mlp", width=64, mean=(0.5,), std=(0.5,))
  standard = recipes.train(
    num_epochs=40,
    batch_size=100,
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=0.0,
    augment=recipes.no_augmentation(),
  )
  robust = recipes.train(**standard)
  robust.adversary = recipes.adversary(0.5)
  config.stages.standard = recipes.train_stage("main", "D", standard)
  config.stages.robust = recipes.train_stage("main", "D", robust)
  config.stages.usefulness = recipes.usefulness_stage(
    ("standard", "robust"),
    recipes.attack("l2", 0.25, 0.05, 10),
    ascending=True,
  )
  config.stages.theory = recipes.statements_stage()
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds."""
  return [{"seed": seed} for seed in range(3)]
