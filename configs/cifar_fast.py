"""Section 3 whole on CIFAR-10 in ten minutes of one GPU: a shortened plan.

ResNet-18 in bfloat16 instead of ResNet-50, batches of 512, twenty epochs of a
rate that climbs and falls linearly instead of 150 of steps, inversions of 100
longer steps instead of 1,000, targeted perturbations of 25 steps instead of
100. Radii, the adversary's 7 steps of eps/5, momentum and weight decay are the
paper's. D_rand and D_det are trained on without augmentation and, as the paper
found, D_rand at a tenth of the rate.

Command: python -m robust_features.main --config=configs/cifar_fast.py \\
  --config.data.D.data_dir=DIR
Hardware: one H100 or larger.
Time: planned, not measured: `python -m benchmarks.cost` counts its operations;
  at 40% of 700 TFLOP/s they take about five of the ten minutes, which leaves
  the rest to compiling, reading and checkpoints.
Expect: the pattern of the paper's tables, not its numbers; residual networks
  smaller than ResNet-50 differ most on D_rand and D_det.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.study("cifar_fast")
  config.data.D = recipes.cifar10()
  config.models.main = recipes.model("resnet18", dtype="bfloat16")
  # An epoch has 95 steps: one call each, and no host in between.
  config.run.chunk_steps = 100
  crop_and_flip = recipes.augmentation()
  crop_and_flip.jitter, crop_and_flip.rotate = 0.0, 0.0
  standard = recipes.train(
    num_epochs=20,
    batch_size=512,
    learning_rate=0.4,
    schedule="linear",
    warmup_epochs=4.0,
    augment=crop_and_flip,
    eval_every_epochs=5,
  )
  robust = recipes.train(**standard)
  robust.adversary = recipes.adversary(0.5)
  on_det = recipes.train(**standard)
  on_det.augment = recipes.no_augmentation()
  on_rand = recipes.train(**on_det)
  on_rand.learning_rate = 0.04
  inversion = {
    "attack": recipes.attack("l2", float("inf"), 0.2, 100, keep_best=False),
    "batch_size": 1000,
    "shard_size": 7000,
  }
  targeted = {
    "attack": recipes.attack("l2", 0.5, 0.1, 25),
    "batch_size": 1000,
    "shard_size": 7000,
  }
  recipes.paper_study(
    config,
    standard=standard,
    robust=robust,
    on_robust=standard,
    on_nonrobust=standard,
    on_rand=on_rand,
    on_det=on_det,
    inversion=inversion,
    targeted=targeted,
    controls=False,  # cifar_answers has them.
    # Of the paper's own models, 20 steps lie within a point of 2,560.
    evaluation=recipes.evaluation(num_steps=20, batch_size=1000),
  )
  return recipes.variant(config, variant)


def sweep():
  """Returns three seeds."""
  return [{"seed": seed} for seed in range(3)]
