"""Checks and draws sections 2 and 4: the experiment of configs/gaussian.py.

Reference: arXiv:1905.02175, sections 2, 4, D.10 and E.
"""

import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_features import attacks, models, usefulness
from robust_features.data import sources
from robust_features.runtime import files
from robust_features.study import settings
from robust_features.study.report import figures, theory_figures
from robust_features.theory import (
  alignment,
  checks,
  gaussian,
  linear,
  mle,
  robust,
)
from robust_features.theory.checks import rows as row_lib


class ChecksFailedError(ValueError):
  """Some statement does not hold; everything was written all the same."""


def run(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Runs every check, draws every figure, prints and writes the table.

  Writes `results.json`, `results.md` and `figures/` under `workdir`.

  Args:
    config: As of configs/gaussian.py.
    workdir: Made if need be; files of an earlier run are replaced.

  Returns:
    {"rows": [...], "figures": [names], "passed": True}.

  Raises:
    ChecksFailedError: If a row fails, after everything has been written.
    ValueError: If the config is wrong.
  """
  workdir = pathlib.Path(workdir)
  rows = checks.run(
    _make_maximize,
    seed=config.seed,
    num_samples=config.checks.num_samples,
    num_draws=config.checks.num_draws,
  )
  drawn: dict[str, Any] = {"figure4": _metrics(config)}
  drawn |= _paths(config.path, np.asarray(config.metrics.mean))
  for name, draw in (
    ("figure14", _two_features),
    ("gap", _gap),
    ("usefulness", _usefulness),
  ):
    drawn[name], more = draw(config)
    rows += more
  for name, figure in drawn.items():
    figures.save(figure, workdir / "figures", name)
  return _report(rows, sorted(drawn), workdir)


def _report(rows, drawn, workdir: pathlib.Path) -> dict[str, Any]:
  """Writes and prints the table."""
  failed = [row for row in rows if not row.passed]
  results = {
    "rows": [_plain(row) for row in rows],
    "figures": drawn,
    "passed": not failed,
  }
  files.write_json(workdir / "results.json", results)
  summary = f"\n{len(rows) - len(failed)} of {len(rows)} checks passed.\n"
  text = row_lib.table(rows) + summary
  files.write_text(workdir / "results.md", text)
  sys.stdout.write(text)
  if failed:
    names = "; ".join(f"{row.name}: {row.statement}" for row in failed)
    raise ChecksFailedError(f"{len(failed)} checks failed: {names}")
  return results


def _plain(row: row_lib.Row) -> dict[str, Any]:
  """Returns a row for JSON, which has no NaN and no infinity."""
  values = row._asdict()
  for name, value in values.items():
    if isinstance(value, float) and not np.isfinite(value):
      values[name] = str(value)
  return values


def _make_maximize(norm: str, eps: float):
  """Returns an attack strong enough to be exact on linear features."""
  cfg = attacks.AttackConfig(norm=norm, eps=eps, step_size=eps, num_steps=20)

  def maximize(objective_fn, x):
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
    return attacks.maximize(objective_fn, x, keys, cfg).x_adv

  return maximize


def _metrics(config) -> Any:
  """Draws figure 4."""
  cfg = config.metrics
  truth = gaussian.GaussianModel(cfg.mean, cfg.cov)
  x, y = truth.sample(jax.random.key(config.seed), cfg.num_samples)
  panels = []
  for eps in cfg.eps:
    mean, cov, _ = robust.robust_parameters(truth.mean, truth.cov, eps)
    cosine = float(alignment.alignment(mean, cov))
    panels.append(
      {"eps": eps, "mean": mean, "cov": cov, "cosine": cosine}
    )  # fmt: skip
  return theory_figures.metrics(np.asarray(x), np.asarray(y), panels)


def _paths(cfg, mean: np.ndarray) -> dict[str, Any]:
  """Draws what changes with eps: eigenvalues, multiplier, alignment."""
  spectrum = np.asarray(cfg.spectrum)
  eps = np.geomspace(cfg.least_eps, cfg.most_eps, cfg.num_eps)
  given = np.resize(mean, spectrum.shape)

  def at(e):
    learned = robust.robust_parameters(given, spectrum, e)
    worst = alignment.worst_case_alignment(learned.cov).cosine
    cosine = alignment.alignment(given, learned.cov)
    return learned, robust.lambda_bounds(spectrum, e), worst, cosine

  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(at))(jnp.asarray(eps))
    learned, bounds, worst, cosine = jax.tree.map(np.asarray, found)
  return {
    "eigenvalues": theory_figures.eigenvalues(eps, learned.cov, spectrum),
    "lambda": theory_figures.multiplier(eps, learned.lam, bounds),
    "alignment": theory_figures.alignments(eps, worst, cosine, given),
  }


def _two_features(config) -> tuple[Any, list[row_lib.Row]]:
  """Draws figure 14 and checks what it shows."""
  cfg = config.two_features
  rng = np.random.default_rng(config.seed)
  noise = rng.normal(size=(8 * cfg.num_samples, 2))
  noise = noise[(np.abs(noise) < cfg.cut).all(axis=1)][: cfg.num_samples]
  y = rng.choice([-1, 1], size=len(noise))
  x = y[:, None] * np.asarray(cfg.mean) + noise * np.asarray(cfg.deviation)
  fits = []
  for name, eps in (("ERM", 0.0), ("robust training", cfg.eps)):
    fit = linear.fit_linear(x, y, eps)
    margins = linear.margins(fit, x, y)
    fits.append(
      {
        "name": name,
        "weights": fit.weights,
        "bias": fit.bias,
        "accuracy": (margins > 0).mean(),
        "robust_accuracy": (margins > cfg.eps).mean(),
      }
    )
  claim = row_lib.Claim("Figure 14", "", "fit_linear")._replace
  design = np.column_stack([x, np.ones(len(x))])
  solution = np.linalg.lstsq(design, y.astype(float), rcond=None)[0]
  rows = [
    claim(statement="ERM is accurate, robust training both").equals(
      [fits[0]["accuracy"], fits[1]["accuracy"], fits[1]["robust_accuracy"]],
      np.ones(3),
      0.0,
    ),
    claim(statement="ERM is robust on less than half").at_least(
      0.5, fits[0]["robust_accuracy"], 0.0
    ),
    claim(statement="eps = 0 is least squares").equals(
      np.append(fits[0]["weights"], fits[0]["bias"]), solution, 1e-6
    ),
  ]
  return theory_figures.two_features(x, y, fits, cfg.eps), rows


def _gap(config) -> tuple[Any, list[row_lib.Row]]:
  """Draws the distance of (13) from (20) against d and checks its fall."""
  cfg = config.gap
  curves = {
    rf"$\varepsilon = {ratio:g}\sqrt{{d}}$": np.array(
      [_gap_at(cfg, config.seed, dim, ratio) for dim in cfg.dims]
    )
    for ratio in cfg.eps_per_root_dim
  }
  shrink = cfg.dims[-1] / cfg.dims[0]
  rows = [
    row_lib.Claim(
      "(13) and (20)",
      f"the gap falls at least as d^-1/2 from d = {cfg.dims[0]} to "
      f"{cfg.dims[-1]}",
      "adversarial_mle",
    ).at_least(values[0] / np.sqrt(shrink), values[-1])
    for values in curves.values()
  ]
  return theory_figures.gaps(cfg.dims, curves), rows


def _gap_at(cfg, seed: int, dim: int, ratio: float) -> float:
  """Returns the relative distance of the two learned covariances."""
  rng = np.random.default_rng(seed)
  spread = np.sqrt(np.resize(np.asarray(cfg.variances), dim))
  x = rng.normal(size=(cfg.num_samples // 2, dim)) * spread
  # With every sample's mirror image the learned mean is 0 for both, and the
  # difference is that of the problems and not of the sample.
  x = np.concatenate([x, -x])
  eps = ratio * np.sqrt(dim)
  fit = mle.adversarial_mle(x, eps, adversary="sample", tolerance=1e-6)
  closed = robust.robust_parameters(x.mean(axis=0), x.var(axis=0), eps)
  gap = np.linalg.norm(fit.cov - closed.cov) / np.linalg.norm(closed.cov)
  return float(gap)


def _usefulness(config) -> tuple[Any, list[row_lib.Row]]:
  """Draws gamma against rho for features of images, and compares networks."""
  cfg = config.usefulness
  train = sources.load(
    settings.build(sources.DataConfig, cfg.data, "data")
  ).train
  attack = settings.build(attacks.AttackConfig, cfg.attack, "usefulness.attack")
  images, labels = train.images, train.labels
  tables = {
    "singular vectors": usefulness.linear_usefulness(
      images, labels, cfg.attack.eps, cfg.attack.norm
    )
  }
  for name, is_robust in (
    ("standard network", False),
    ("robust network", True),
  ):
    apply_fn = _fit_network(train, cfg, config.seed, is_robust)
    tables[name] = usefulness.representation_usefulness(
      apply_fn, images, labels, cfg=attack
    )
  reach = rf"($\ell_2$, $\varepsilon = {cfg.attack.eps:g}$)"
  kept = [
    np.asarray(t.gamma.value).mean() / np.asarray(t.rho.value).mean()
    for t in list(tables.values())[1:]
  ]
  rows = [
    row_lib.Claim(
      "Section 2",
      "adversarial training keeps more of its features' usefulness",
      "representation_usefulness",
    ).at_least(kept[1], kept[0], 0.0),
    *(
      row_lib.Claim(
        "Section 2", f"gamma <= rho, {name}", "robust_usefulness"
      ).at_least(table.rho.value, table.gamma.value, 1e-5)
      for name, table in tables.items()
    ),
  ]
  return theory_figures.features(tables, reach), rows


def _fit_network(train, cfg, seed: int, is_robust: bool):
  """Returns the representation of an MLP trained on all images at once."""
  model = models.make_model(
    models.ModelConfig("mlp", num_classes=train.num_classes, width=cfg.width)
  )
  x = usefulness.ds.to_float(train.images)
  y = jnp.asarray(train.labels)
  key = jax.random.key(seed)
  variables = models.init_variables(model, key, train.image_shape)
  attack = settings.build(
    attacks.AttackConfig, cfg.train_attack, "usefulness.train_attack"
  )
  keys = attacks.example_keys(jax.random.key(seed + 1), jnp.arange(len(x)))
  tx = optax.sgd(cfg.learning_rate, momentum=0.9)

  def losses(variables, x):
    logits = models.apply(model, variables, x).logits
    return attacks.losses.cross_entropy(logits, y)

  @jax.jit
  def step(variables, state):
    z = x
    if is_robust:
      z = attacks.maximize(
        lambda z: losses(variables, z), x, keys, attack
      ).x_adv
    grad = jax.grad(lambda v: losses(v, z).mean())(variables)
    updates, state = tx.update(grad, state)
    return optax.apply_updates(variables, updates), state

  state = tx.init(variables)
  for _ in range(cfg.num_steps):
    variables, state = step(variables, state)
  return lambda x: models.apply(model, variables, x).representation
