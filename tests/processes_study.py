"""Config of a study that has every kind of stage but two, on toy images.

Run by `processes_test` through `main`, with `--config.data.D.data_dir`.
"""

import toy_study

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; "all" runs all of AutoAttack's attacks."""
  config = toy_study.config("")
  config.models.main = recipes.model(
    "cnn", num_classes=3, width=4, mean=(0.5,), std=(0.25,)
  )
  stages = config.stages
  recipe = recipes.train(**stages.base.train)
  # An odd batch and an odd number of images, on however many devices.
  recipe.batch_size, recipe.num_epochs = 7, 2
  stages.base.train = stages.on_d_rand.train = recipe
  robust = recipes.train(**recipe)
  robust.adversary = recipes.attack("l2", 0.25, 0.1, 2)
  stages.robust = recipes.train_stage("main", "D", robust)
  inversion = recipes.inversion("robust")
  inversion.attack.num_steps, inversion.batch_size = 3, 16
  inversion.shard_size = 20
  stages.d_robust = recipes.construct_stage("robust", inversion)
  attack = recipes.evaluation(num_steps=3, batch_size=30)
  stages.eval_robust = recipes.evaluate_stage("robust", "robust", attack)
  stages.aa = recipes.autoattack_stage("robust", "l2", (0.25,), num_examples=0)
  budget = {"num_steps": 6, "num_targets": 2, "num_queries": 20}
  stages.aa.autoattack.budget.update(budget)
  stages.aa.autoattack.batch_size = 12
  if variant != "all":
    stages.aa.autoattack.attacks = ("apgd-ce",)
  stages.cw = recipes.carlini_wagner_stage("base", attack)
  stages.cw.attack.num_steps, stages.cw.attack.num_searches = 5, 2
  det = recipes.targeted("det")
  det.attack.num_steps, det.batch_size, det.shard_size = 2, 16, 20
  stages.d_det = recipes.construct_stage("base", det)
  stages.on_d_det = recipes.train_stage("main", "d_det", recipe)
  stages.transfer = recipes.transfer_stage(
    "base", ("robust",), ("on_d_det",), recipes.attack("l2", 0.5, 0.1, 2),
    paper="",
  )  # fmt: skip
  return config
