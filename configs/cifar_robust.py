"""D_R and D_NR at full size: figure 2, tables 7 and 8, figure 8, AutoAttack.

The paper's hyper-parameters to the letter: ResNet-50, 7 steps of eps/5 in
l2 0.5, inversion by 1,000 normalised steps of 0.1 from another training image
or 10,000 from noise, table 3's training.

Command: python -m robust_features.main --config=configs/cifar_robust.py \\
  --config.data.D.data_dir=DIR
  `cifar_robust.py:images` leaves out whatever starts from noise, nine tenths of
  the work; the whole study goes on from its workdir. In pieces of minutes:
  launch/piece.py. bfloat16 with --config.models.main.dtype=bfloat16.
Hardware: GPUs; the inversions alone are 22,000 gradients an image.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: table 7, which the rows carry beside ours. One replication reached
  86.8 / 49.9 / 19.2 on D_R and 84.4 / 0.0 / 0.0 on D_NR, both from images.
Reference: arXiv:1905.02175, section 3.1, appendices C.3, C.4, D.1 to D.3.
"""

from robust_features import recipes

STEPS = (0, 20, 40, 80, 160, 320, 640, 1280, 2560)


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny, `:images` has nothing from noise."""
  config = recipes.study("cifar_robust")
  config.data.D = recipes.cifar10()
  config.models.main = recipes.model("resnet50")
  stages = config.stages
  standard = recipes.train()
  robust = recipes.train(adversary=recipes.adversary(0.5))
  evaluation = recipes.evaluation()
  stages.standard = recipes.train_stage("main", "D", standard)
  stages.robust = recipes.train_stage("main", "D", robust)

  def row(model, title, paper, **changes):
    recipes.add_row(config, model, title, evaluation, paper=paper, **changes)

  row("standard", "standard training", "standard")
  row("robust", "adversarial training", "robust")
  for kind, source in (("nonrobust", "standard"), ("robust", "robust")):
    from_image = recipes.inversion(kind)
    from_noise = recipes.inversion(kind, init="noise")
    from_noise.attack.num_steps = 10_000  # Footnote 16.
    # Ten times the work an image: short shards, so that little is lost where
    # the machine is lent for minutes.
    from_noise.batch_size = from_noise.shard_size = 250
    symbol = {"nonrobust": "D_NR", "robust": "D_R"}[kind]
    constructs = {"image": from_image, "noise": from_noise}
    if variant == "images":
      del constructs["noise"]
    for init, construct in constructs.items():
      name = f"d_{kind}_{init}"
      recipes.add_data_set(config, name, source, construct, standard)
      row(f"on_{name}", f"on {symbol} from {init}s", f"{kind}_{init}")
  for name in ("robust", "on_d_robust_image"):
    stages[f"autoattack_{name}"] = recipes.autoattack_stage(
      name, "l2", (0.25, 0.5)
    )
  if variant == "images":
    return config
  model, construct = "on_d_robust_noise", stages.d_robust_noise.construct
  stages.d_robust_test = recipes.construct_stage(
    "robust", construct, split="test"
  )
  row(model, "on D_R from noise: its training set", "robust_train_set",
      suffix="_train_set", data="d_robust_noise")  # fmt: skip
  row(model, "on D_R from noise: robustified test set", "robust_test_set",
      suffix="_test_set", data="d_robust_test")  # fmt: skip
  stages.step_sweep = recipes.step_sweep_stage(
    model, recipes.evaluation(eps=(0.25,)), STEPS, (1.0, 2.5, 10.0)
  )
  stages.carlini_wagner = recipes.carlini_wagner_stage(model, evaluation)
  return recipes.variant(config, variant)


def sweep():
  """Returns appendix C.2's grid for the model trained on D_R from images."""
  return recipes.grid("on_d_robust_image")
