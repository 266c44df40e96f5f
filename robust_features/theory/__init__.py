"""Sections 2 and 4 of the paper as functions: features and Gaussians.

- `usefulness`: useful, robust and non-robust features (section 2).
- `gaussian`: the model of section 4, and all of its statements by name.
- `adversary`: the best perturbation and operator (Lemmas 1 and 2).
- `lagrangian`: the adversary that pays for its perturbation (Theorem 1).
- `robust`: the robustly learned parameters (Lemmas 4 and 5, Theorem 2).
- `alignment`: gradient and mean (Lemmas 6 to 8, Theorem 3).
- `mle`: adversarial training by gradient descent (Lemma 3, Danskin).
- `linear`: a linear classifier trained with an adversary (figure 14).
- `checks`: every statement against autodiff, sampling and its limits.

Nothing here knows of the rest of the code base.
"""

from robust_features.theory.gaussian import GaussianModel

__all__ = ["GaussianModel"]
