"""D_R on Restricted ImageNet: figure 12.

The paper's hyper-parameters to the letter: 7 steps of eps/5 in l2 3, inversion
by 2,000 normalised steps of 1 from another training image, table 3's training.

Command: python -m robust_features.main \\
  --config=configs/restricted_imagenet_robust.py --config.data.D.data_dir=DIR
  DIR and variants are those of restricted_imagenet_standard.
Hardware: a TPU slice or many GPUs: 2,000 gradients for each of some 250,000
  images, and 8 a step of adversarial training.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: figure 12, which the rows carry beside ours.
Reference: arXiv:1905.02175, section 3.1, tables 3 to 5, figure 12.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny, `:balanced` has classes of a size."""
  config = recipes.imagenet_study("restricted_imagenet_robust")
  robust = recipes.imagenet_train(adversary=recipes.adversary(3.0))
  config.stages.robust = recipes.train_stage("main", "D", robust)
  inversion = recipes.inversion("robust", batch_size=256, shard_size=1024)
  inversion.attack.step_size, inversion.attack.num_steps = 1.0, 2000
  on_robust = recipes.imagenet_train(
    learning_rate=0.01, batch_size=128, schedule="constant", weight_decay=5e-4
  )
  recipes.add_data_set(config, "d_robust", "robust", inversion, on_robust)
  for model, title, paper in (
    ("standard", "standard training", "imagenet_standard"),
    ("robust", "adversarial training", "imagenet_robust"),
    ("on_d_robust", "on D_R", "imagenet_robust_image"),
  ):
    recipes.add_row(
      config, model, title, recipes.imagenet_evaluation(), paper=paper
    )
  return recipes.imagenet_variant(config, variant)
