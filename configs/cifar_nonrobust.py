"""D_rand and D_det at full size, from both source models.

The paper's hyper-parameters to the letter: ResNet-50, 100 normalised steps of
0.1 in l2 0.5; D_rand trained with learning rate 0.01, D_det without
augmentation. Training on D_rand stays at chance for some 30 epochs: that is
no failure.

Command: python -m robust_features.main --config=configs/cifar_nonrobust.py \\
  --config.data.D.data_dir=DIR
  With CIFAR-10.1's two npy files in DIR2: `cifar_nonrobust.py:cifar10_1` and
  --config.data.cifar10_1.data_dir=DIR2.
Hardware: GPUs. The folders `standard` and `robust` of a finished cifar_robust
  may be copied into the workdir: they are the same stages.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: tables 1, 9 and 10, which the rows carry beside ours. Residual networks
  of other depths differ widely here; ResNet-50 is what the paper used.
Reference: arXiv:1905.02175, section 3.2, appendices C.5, D.4 to D.7.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny, `:cifar10_1` adds that test set."""
  config = recipes.study("cifar_nonrobust")
  config.data.D = recipes.cifar10()
  config.models.main = recipes.model("resnet50")
  stages = config.stages
  stages.standard = recipes.train_stage("main", "D", recipes.train())
  stages.robust = recipes.train_stage(
    "main", "D", recipes.train(adversary=recipes.adversary(0.5))
  )
  evaluation = recipes.evaluation()
  on_rand = recipes.train(num_epochs=200, learning_rate=0.01)
  on_det = recipes.train(num_epochs=200, augment=recipes.no_augmentation())

  def row(model, title, paper, **changes):
    recipes.add_row(config, model, title, evaluation, paper=paper, **changes)

  row("standard", "standard training", "standard")
  for source in ("standard", "robust"):
    for kind, recipe in (("rand", on_rand), ("det", on_det)):
      name, printed = f"d_{kind}_{source}", f"{kind}_{source}"
      construct = recipes.targeted(kind)
      recipes.add_data_set(config, name, source, construct, recipe)
      title = f"on D_{kind}, {source} source"
      row(f"on_{name}", title, printed)
      if kind == "det":
        row(f"on_{name}", f"{title}, labels y+1", f"{printed}_relabelled",
            suffix="_relabelled", label_shift=1)  # fmt: skip
  if variant == "cifar10_1":
    config.data.cifar10_1 = recipes.data("npz", name="cifar10.1_v6")
    for kind in ("rand", "det"):
      row(
        f"on_d_{kind}_standard",
        f"on D_{kind}: CIFAR-10.1",
        f"{kind}_cifar10_1",
        suffix="_cifar10_1",
        data="cifar10_1",
      )
    return config
  return recipes.variant(config, variant)


def sweep():
  """Returns appendix C.2's grid for both models from the standard source."""
  return recipes.grid("on_d_rand_standard") + recipes.grid("on_d_det_standard")
