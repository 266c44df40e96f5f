"""The paper's whole pattern in minutes on a laptop, on data whose truth is known.

A procedural image set is planted with two features: a large shape, robust but
right only 85% of the time, and a faint texture, always right but smaller than
the adversary's radius. The study trains a standard and a robust model, makes
D_R, D_NR, D_rand and D_det from them, trains on each, and tells for every
model how often it follows the shape and how often the texture where the two
disagree.

Command: python -m robust_features.main --config=configs/quickstart.py
Time: under three minutes on two CPU cores.
Reference: arXiv:1905.02175, section 3, tables 1, 7, 9 and 10.
"""

from robust_features import recipes

EPS = 0.5


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.study("quickstart")
  config.data.D = recipes.data(
    "planted", num_train=4000, num_test=1000, num_validation=200
  )
  config.models.main = recipes.model(
    "cnn", width=32, mean=(0.3,) * 3, std=(0.2,) * 3
  )
  recipe = dict(
    num_epochs=20,
    batch_size=100,
    learning_rate=0.1,
    schedule="cosine",
    warmup_epochs=1.0,
    augment=recipes.no_augmentation(),
    eval_every_epochs=2,
  )
  standard = recipes.train(**recipe)
  robust = recipes.train(**recipe)
  robust.num_epochs = 30
  robust.adversary = recipes.adversary(EPS)
  robust.eps_ramp_epochs = 10.0
  stages = config.stages
  stages.standard = recipes.train_stage("main", "D", standard)
  stages.robust = recipes.train_stage("main", "D", robust)
  evaluation = recipes.evaluation(
    eps=(EPS / 2, EPS), num_steps=50, batch_size=250
  )

  def build(name: str, kind: str, source: str, title: str):
    """Adds a constructed data set and a standard training run on it."""
    if kind in ("robust", "nonrobust"):
      construct = recipes.inversion(kind)
      construct.attack.num_steps = 200
    else:
      construct = recipes.targeted(kind)
      construct.attack.num_steps = 50
    stages[name] = recipes.construct_stage(source, construct)
    stages[f"on_{name}"] = recipes.train_stage("main", name, standard)
    add_row(f"on_{name}", title)

  table = []

  def add_row(model: str, title: str, **changes):
    """Adds a row of the table."""
    name = f"eval_{model}{'_relabelled' if changes else ''}"
    stages[name] = recipes.evaluate_stage(model, title, evaluation, **changes)
    table.append(name)

  add_row("standard", "standard training")
  add_row("robust", "adversarial training")
  build("d_robust", "robust", "robust", "on D_R")
  build("d_nonrobust", "nonrobust", "standard", "on D_NR")
  build("d_rand", "rand", "standard", "on D_rand")
  build("d_det", "det", "standard", "on D_det")
  build("d_det_robust", "det", "robust", "on D_det, robust source")
  add_row(
    "on_d_det_robust", "the same, labels y+1", label_shift=1
  )
  config.table = tuple(table)
  if variant == "smoke":
    recipes.shrink(config)
  elif variant:
    raise ValueError(f"unknown variant {variant!r}; there is 'smoke'")
  return config
