"""D_rand and D_det on Restricted ImageNet: table 1.

The paper's hyper-parameters to the letter: 100 normalised steps of 0.1 in
l2 3, table 3's training, without augmentation.

Command: python -m robust_features.main \\
  --config=configs/restricted_imagenet_nonrobust.py \\
  --config.data.D.data_dir=DIR
  DIR and variants are those of restricted_imagenet_standard; the folder
  `standard` of a finished one may be copied into the workdir.
Hardware: several GPUs or a TPU slice; images are streamed.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: table 1, which the rows carry beside ours. Its 64.4% on D_det must be
  read beside the 58.1% that a model has which takes everything for a dog.
Reference: arXiv:1905.02175, section 3.2, tables 1, 3 and 6.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny, `:balanced` has classes of a size."""
  config = recipes.imagenet_study("restricted_imagenet_nonrobust")
  attack = recipes.attack("l2", 3.0, 0.1, 100)
  rows = [("standard", "standard training", "imagenet_standard_table")]
  for kind, learning_rate in (("rand", 0.01), ("det", 0.05)):
    construct = recipes.targeted(
      kind, attack=attack, batch_size=256, shard_size=1024
    )
    recipe = recipes.imagenet_train(
      learning_rate=learning_rate,
      schedule="constant",
      weight_decay=5e-4,
      augment=recipes.no_augmentation(),
    )
    recipes.add_data_set(config, f"d_{kind}", "standard", construct, recipe)
    rows.append((f"on_d_{kind}", f"on D_{kind}", f"imagenet_{kind}"))
  for model, title, paper in rows:
    recipes.add_row(
      config, model, title, recipes.imagenet_evaluation(), paper=paper
    )
  return recipes.imagenet_variant(config, variant)
