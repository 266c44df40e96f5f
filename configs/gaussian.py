"""Section 4 as numbers: every lemma and theorem checked, every figure drawn.

Closed forms against automatic differentiation, sampling and their limits, one
row each; figures 4 and 14; how the eigenvalues, the multiplier and the
alignment move with eps; how fast problem (13) turns into (20); and, for section
2, the usefulness rho and robust usefulness gamma of real features: those of
scikit-learn's digits (singular vectors, and the representation of a small
network trained with and without an adversary).

Command: python -m robust_features.main --config=configs/gaussian.py
Time: about a minute on two CPU cores, of which much is compiling.
Expect: every row passing, over any seed (sampled rows allow 4 standard errors).
Reference: arXiv:1905.02175, sections 2, 4, D.10 and E.
"""

from ml_collections import ConfigDict

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the experiment; `:smoke` does the same on less."""
  if variant not in ("", "smoke"):
    raise ValueError(f"variant must be smoke or none, got {variant!r}")
  smoke = variant == "smoke"
  return ConfigDict(
    {
      "experiment": "gaussian",
      "name": "gaussian",
      "seed": 0,
      # Samples of an expectation; random draws of an inequality.
      "checks": {
        "num_samples": 2000 if smoke else 20000,
        "num_draws": 50 if smoke else 500,
      },
      # Figure 4: two axes; the panels' eps.
      "metrics": {
        "mean": (-10.0, 1.0),
        "cov": (25.0, 0.5),
        "eps": (0.0, 1.0, 10.0),
        "num_samples": 150,
      },
      # Eigenvalues, multiplier and alignment against eps.
      "path": {
        "spectrum": (25.0, 5.0, 2.0, 0.5, 0.1),
        "least_eps": 1e-2,
        "most_eps": 1e3,
        "num_eps": 20 if smoke else 100,
      },
      # Figure 14: deviations of the two features, cut off at `cut` of them.
      "two_features": {
        "mean": (6.0, 1.0),
        "deviation": (1.2, 0.2),
        "cut": 2.5,
        "eps": 3.0,
        "num_samples": 600,
      },
      # (13) against (20): half the axes of each variance, eps^2 per axis.
      "gap": {
        "variances": (25.0, 0.5),
        "eps_per_root_dim": (0.3, 1.0),
        "dims": (2, 8) if smoke else (2, 8, 32, 128),
        "num_samples": 100 if smoke else 1000,
      },
      # Section 2 on images; radii in pixel units of [0, 1].
      "usefulness": {
        "data": recipes.data("digits", num_train=200 if smoke else 1500),
        "attack": recipes.attack("l2", 0.25, 0.05, 10),
        "width": 16 if smoke else 64,
        "num_steps": 20 if smoke else 150,
        "learning_rate": 0.1,
        "train_attack": recipes.attack("l2", 0.5, 0.2, 5),
      },
    }
  )
