"""How robust is a model trained on D_R? Every question that was asked of it.

Its accuracy under AutoAttack, in the other norm, under rotations and shifts
and by frequency, beside the model trained on D; and of sets of which a share
alpha is from D_R. The control of a mixture is the same share from D_NR, made
with the standard model by the same steps: only what exceeds it is owed to
robust features. The control of everything else is the model trained on D.

A share here is one of the set's images, each in its place, and not one of every
batch as in arXiv:2004.01903.

Command: python -m robust_features.main --config=configs/how_robust.py \\
  --config.data.D.data_dir=DIR
  `how_robust.py:small` does the same with 10,000 images, for two CPU cores.
Hardware: a GPU; `:small` two CPU cores.
Time: not measured, at either size.
Expect: ResNet-50 on the released D_R (arXiv:2004.01903, read from its figures,
  +-.2): alpha 0, .1, .5, .9, 1: clean 94.9 94.5 92.9 90.0 85.1, l2 .25 6.7 16.9
  26.7 38.3 46.1, l2 .5 .1 .7 2.7 7.1 14.7, linf 8/255 0 .1 .2 .4 1.4. The worst
  of 775 rotations and shifts 15.3 on D and 9.9 on D_R: it does not help there.
Reference: arXiv:1905.02175, section 3.1, table 7; arXiv:2004.01903;
  arXiv:2003.01690 (AutoAttack), arXiv:1712.02779 (rotations and shifts),
  arXiv:1906.08988 (frequencies).
"""

from robust_features import recipes

SHARES = {"": (0.1, 0.5, 0.9), "small": (0.1, 0.5, 0.9), "smoke": (0.5,)}
LINF = tuple(eps / 255 for eps in (1, 2, 4, 8))


def get_config(variant: str = ""):
  """Returns the study; `:small` fits a CPU, `:smoke` shows nothing."""
  small = variant in ("small", "smoke")
  cifar = recipes.cifar_study("how_robust", small)
  config = cifar.config
  for name, recipe, title in (
    ("standard", cifar.standard, "on D"),
    ("robust", cifar.robust, "on D, adversarial training"),
  ):
    config.stages[name] = recipes.train_stage("main", "D", recipe)
    recipes.add_row(config, name, title, cifar.evaluation)
  for name, kind, source, title in (
    ("d_robust", "robust", "robust", "on D_R"),
    ("d_nonrobust", "nonrobust", "standard", "on D_NR"),
  ):
    construct = recipes.inversion(kind, **cifar.inversion)
    recipes.add_data_set(config, name, source, construct, cifar.standard)
    recipes.add_row(config, f"on_{name}", title, cifar.evaluation)
  for share in SHARES.get(variant, SHARES[""]):
    _mixtures(cifar, share)
  _measures(cifar)
  return recipes.cifar_variant(config, variant)


def _mixtures(cifar, share: float) -> None:
  """Adds D with a share of D_R, and with the same share of D_NR."""
  percent = f"{100 * share:.0f}"
  for name, symbol in (("robust", "D_R"), ("nonrobust", "D_NR")):
    made = f"mix_{name}_{percent}"
    cifar.config.stages[made] = recipes.combine_stage("D", f"d_{name}", share)
    cifar.config.stages[f"on_{made}"] = recipes.train_stage(
      "main", made, cifar.standard
    )
    control = f"eval_on_mix_robust_{percent}" if name == "nonrobust" else ""
    recipes.add_row(
      cifar.config, f"on_{made}", f"{percent}% {symbol}", cifar.evaluation,
      control_of=control,
    )  # fmt: skip


def _measures(cifar) -> None:
  """Adds the other norm, AutoAttack, rotations and shifts, frequencies."""
  stages, number = cifar.config.stages, cifar.num_attacked
  other = recipes.evaluation(**cifar.evaluation)
  other.norm, other.eps = "linf", LINF
  for model, title in (("on_d_robust", "on D_R"), ("standard", "on D")):
    recipes.add_row(
      cifar.config, model, f"{title}, linf", other, suffix="_linf"
    )
  for model in ("on_d_robust", "standard"):
    for norm, radii in (("l2", (0.25, 0.5)), ("linf", LINF)):
      stages[f"autoattack_{norm}_{model}"] = recipes.autoattack_stage(
        model, norm, radii, num_examples=number
      )
  models = ("on_d_robust", "standard")
  stages.moved = recipes.spatial_stage(models, num_examples=number)
  stages.waves = recipes.fourier_map_stage(
    (*models, "robust"), num_examples=number
  )
