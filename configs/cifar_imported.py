"""Section 3 from models that others trained, such as the authors' own.

A standard and a robust network, imported from PyTorch, are measured with PGD
and AutoAttack and are the sources of D_R, D_NR, D_rand and D_det, on which
ResNet-50s are trained: no adversarial training here.

Command: python -m robust_features.pytorch.import_checkpoint --arch=resnet50 \\
    --checkpoint=cifar_l2_0_5.pt --out=robust
  (and cifar_nat.pt to `standard`), then
  python -m robust_features.main --config=configs/cifar_imported.py \\
    --config.data.D.data_dir=DIR --config.stages.robust.checkpoint=robust \\
    --config.stages.standard.checkpoint=standard
  A finished train stage's folder may be given as well.
Hardware: a GPU; four trainings and 2,200 gradients an image.
Time: not measured at full size.
Expect: the rows carry the paper's numbers beside ours. The authors' released
  networks are not those of the paper's tables.
Reference: arXiv:1905.02175, section 3, tables 1, 7 and 9.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny and wants checkpoints all the same."""
  config = recipes.study("cifar_imported")
  config.data.D = recipes.cifar10()
  config.models.main = recipes.model("resnet50")
  evaluation = recipes.evaluation()
  standard = recipes.train()
  on_rand = recipes.train(num_epochs=200, learning_rate=0.01)
  on_det = recipes.train(num_epochs=200, augment=recipes.no_augmentation())
  for name, title in (
    ("standard", "standard training, imported"),
    ("robust", "adversarial training, imported"),
  ):
    config.stages[name] = recipes.imported_stage()
    recipes.add_row(config, name, title, evaluation, paper=name)
  for kind, source, recipe, symbol, printed in (
    ("robust", "robust", standard, "D_R", "robust_image"),
    ("nonrobust", "standard", standard, "D_NR", "nonrobust_image"),
    ("rand", "standard", on_rand, "D_rand", "rand_standard"),
    ("det", "standard", on_det, "D_det", "det_standard"),
  ):
    if kind in ("rand", "det"):
      construct = recipes.targeted(kind)
    else:
      construct = recipes.inversion(kind)
    recipes.add_data_set(config, f"d_{kind}", source, construct, recipe)
    model, title = f"on_d_{kind}", f"on {symbol}"
    recipes.add_row(config, model, title, evaluation, paper=printed)
  for name in ("standard", "robust"):
    config.stages[f"autoattack_{name}"] = recipes.autoattack_stage(
      name, "l2", (0.25, 0.5)
    )
  return recipes.variant(config, variant)
