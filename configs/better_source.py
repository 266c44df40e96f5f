"""Does a more robust source make a better D_R? One D_R a source, one learner.

The paper's model trained on D_R keeps 31% of its source's accuracy at 0.5. If
inversion is what costs the rest, a better source changes nothing; if it is the
source, D_R's robustness follows the source's. Sources differ in the radius that
they were trained for, in what they are kept at (the last epoch, the best, an
average of the weights) and in how they are trained (TRADES, adversarial
weights). The control is radius 0: its D_R is D_NR, whose model must not be
robust. A second control inverts the same source a tenth as long: where its
D_R is as good, inversion is not the limit.

No paper was found that measures this curve.

Command: python -m robust_features.main --config=configs/better_source.py \\
  --config.data.D.data_dir=DIR
  `better_source.py:small` does the same with 10,000 images, for two CPU cores;
  `better_source.py:imported` adds a source from elsewhere, say a Wide-ResNet of
  RobustBench that `pytorch.import_checkpoint` opened:
  --config.stages.imported.checkpoint=FOLDER.
Hardware: a GPU; `:small` two CPU cores.
Time: not measured, at any size.
Expect: no published curve. Sources' accuracy under AutoAttack at l2 0.5, of
  others: 67.7 (PreActResNet-18, best epoch), 68.2 against 71.6 under PGD-10 at
  its last epoch, 70.3 with adversarial weights, 83.7 with 50 million generated
  images (WRN-28-10). Released D_R: 85.2, at 0.25 49.8, at 0.5 18.7 (ResNet-18,
  arXiv:2004.01903's figures).
Reference: arXiv:1905.02175, section 3.1; arXiv:2004.05884 (adversarial
  weights), arXiv:1901.08573 (TRADES), arXiv:2010.03593 (averaged weights).
"""

from robust_features import recipes

RADII = (0.0, 0.1, 0.25, 0.5, 1.0)


def get_config(variant: str = ""):
  """Returns the study; `:small` fits a CPU, `:smoke` shows nothing."""
  small = variant in ("small", "smoke")
  cifar = recipes.cifar_study("better_source", small)
  config = cifar.config
  smoke = variant == "smoke"
  for eps in (0.0, 0.5) if smoke else RADII:
    recipe = _for_radius(cifar, eps)
    _add(cifar, f"eps_{eps:g}".replace(".", "_"), f"radius {eps:g}", recipe)
  _shorter(cifar, "eps_0_5")
  if not smoke:  # Each compiles a training of its own.
    _better(cifar)
  if variant == "imported":
    config.name = "better_source-imported"
    config.stages.imported = recipes.imported_stage()
    _measure(cifar, "imported", "imported")
    return config
  return recipes.cifar_variant(config, variant)


def _better(cifar) -> None:
  """Adds sources that are kept or trained in other ways, for radius 0.5."""
  best = recipes.train(**cifar.robust)
  best.eval_every_epochs = 1
  cifar.config.stages.early = recipes.train_stage("main", "D", best)
  _measure(cifar, "early", "radius 0.5, best epoch", which="best")
  trades = recipes.train(**cifar.robust)
  trades.trades_beta, trades.adversary.start = 5.0, "random"
  _add(cifar, "trades", "TRADES", trades)
  weights = recipes.train(**cifar.robust)
  weights.awp_gamma = 0.01
  _add(cifar, "awp", "adversarial weights", weights)
  averaged = recipes.train(**cifar.robust)
  averaged.ema_decay = 0.995
  _add(cifar, "ema", "averaged weights", averaged)


def _for_radius(cifar, eps: float):
  """Returns adversarial training for a radius; standard training for 0."""
  recipe = recipes.train(**(cifar.robust if eps else cifar.standard))
  own = cifar.robust.adversary
  if eps:
    recipe.adversary.eps = eps
    recipe.adversary.step_size = own.step_size * eps / own.eps
  return recipe


def _add(cifar, name: str, title: str, recipe) -> None:
  cifar.config.stages[name] = recipes.train_stage("main", "D", recipe)
  _measure(cifar, name, title)


def _measure(cifar, name: str, title: str, which: str = "last") -> None:
  """Adds a source's D_R, its learner, the rows and AutoAttack of both."""
  inversion = recipes.inversion("robust", **cifar.inversion)
  made = f"d_{name}"
  cifar.config.stages[made] = recipes.construct_stage(
    name, inversion, which=which
  )
  _learn(cifar, made, f"on D_R of {title}")
  recipes.add_row(cifar.config, name, title, cifar.evaluation, which=which)
  _attack(cifar, name, which)


def _learn(cifar, made: str, title: str) -> None:
  learner = f"on_{made}"
  cifar.config.stages[learner] = recipes.train_stage(
    "main", made, cifar.standard
  )
  recipes.add_row(cifar.config, learner, title, cifar.evaluation)
  _attack(cifar, learner)


def _attack(cifar, model: str, which: str = "last") -> None:
  cifar.config.stages[f"autoattack_{model}"] = recipes.autoattack_stage(
    model, "l2", (0.25, 0.5), num_examples=cifar.num_attacked, which=which
  )


def _shorter(cifar, name: str) -> None:
  """Adds D_R of a tenth of the steps."""
  inversion = recipes.inversion("robust", **cifar.inversion)
  inversion.attack.num_steps //= 10
  cifar.config.stages.d_short = recipes.construct_stage(name, inversion)
  _learn(cifar, "d_short", "on D_R of radius 0.5, a tenth of the steps")
