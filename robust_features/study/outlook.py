"""What a study has still to do: how far it is, what it will cost, how long."""

import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from robust_features import attacks, models
from robust_features.study import settings
from robust_features.study.graph import Plan, Study, Work
from robust_features.study.report import tables

_BATCH = {"cpu": 16}  # Images of the calibration; elsewhere:
_LARGE_BATCH = 128


def order(plan: Plan, only: str | None = None) -> list[str]:
  """Returns stages as they run: rows of the table first, parents before.

  Args:
    plan: The study.
    only: A stage, `--only`; by default all of them.

  Raises:
    ValueError: If there is no such stage.
  """
  if only is not None:
    settings.require_one_of("--only", only, tuple(plan.nodes))
  found: dict[str, None] = {}  # A set that keeps its order.

  def visit(name: str) -> None:
    for parent in plan.nodes[name].parents:
      visit(parent)
    found[name] = None

  for name in (
    (only,) if only is not None else (*plan.config.table, *plan.nodes)
  ):
    visit(name)
  return list(found)


def network(plan: Plan, name: str) -> models.ModelConfig | None:
  """Returns the architecture that a stage evaluates, if it does so."""
  node = plan.nodes[name]
  if node.kind.network:
    return node.kind.network(plan, node.stage)
  for parent in node.parents:
    if plan.nodes[parent].kind.makes() == "model":
      return network(plan, parent)
  return None


def work(study: Study, name: str) -> Work:
  """Returns what a stage computes at most; loads the data for their sizes."""
  node = study.plan.nodes[name]
  return node.kind.work(node.stage, study.num_images)


def _model(cfg: models.ModelConfig) -> models.Model:
  """Returns the network; what the data would tell costs nothing."""
  return models.make_model(
    models.fitted(cfg, cfg.num_classes or 10, (0.5,), (0.25,))
  )


def _variables(cfg: models.ModelConfig, shape: tuple[int, ...]):
  model = _model(cfg)
  return model, models.init_variables(model, jax.random.key(0), shape)


def forward_flops(cfg: models.ModelConfig, shape: tuple[int, ...]) -> float:
  """Returns XLA's count of the operations of one image's forward pass."""
  model = _model(cfg)
  variables = jax.eval_shape(lambda: _variables(cfg, shape)[1])
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  forward = jax.jit(lambda v, x: models.apply(model, v, x).logits)
  lowered = forward.lower(variables, x)
  analysis = lowered.cost_analysis()  # None where a backend has none.
  return float(analysis["flops"]) if analysis else 0.0


def seconds_a_pass(cfg: models.ModelConfig, shape: tuple[int, ...]) -> float:
  """Returns the measured seconds of one image's forward pass, here and now.

  A gradient in a small batch, which is two passes; the best of three.
  """
  batch = _BATCH.get(jax.default_backend(), _LARGE_BATCH)
  model, variables = _variables(cfg, shape)
  x = jnp.full((batch, *shape), 0.5)
  y = jnp.zeros(batch, jnp.int32)

  @jax.jit
  def gradient(variables, x):
    def loss(x):
      logits = models.apply(model, variables, x).logits
      return attacks.losses.cross_entropy(logits, y).sum()

    return jax.grad(loss)(x)

  seconds = []
  for _ in range(4):  # The first one compiles.
    start = time.perf_counter()
    gradient(variables, x).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return min(seconds[1:]) / (2 * batch)


def costs(
  study: Study,
  names: list[str],
  each: Callable[[models.ModelConfig, tuple[int, ...]], float] = forward_flops,
) -> dict[str, float]:
  """Returns what stages cost, in units of `each` pass; 0 if not counted.

  Args:
    study: Its data are loaded.
    names: The stages.
    each: The cost of one image's forward pass.
  """
  known: dict[tuple, float] = {}
  found = {}
  for name in names:
    passes, cfg = work(study, name).passes, network(study.plan, name)
    if not passes or cfg is None:
      found[name] = 0.0
      continue
    key = (cfg, study.image_shape(name))
    if key not in known:
      known[key] = each(*key)
    found[name] = passes * known[key]
  return found


def duration(seconds: float) -> str:
  """Returns seconds as one reads them: "40 s", "12 min", "3.4 h"."""
  if seconds < 90:
    return f"{seconds if seconds >= 1 else math.ceil(seconds):.0f} s"
  if seconds < 90 * 60:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"


class TimeLeft:
  """Time left for a whole run, from what its stages cost and took so far."""

  def __init__(self, left: dict[str, float]):
    """Begins with what the stages that are to run cost, in any unit."""
    self._left = dict(left)
    self._cost = self._seconds = 0.0

  def finish(self, name: str, seconds: float) -> None:
    """Counts a stage that is done; no seconds if they are not all of it."""
    cost = self._left.pop(name)
    if cost and seconds:
      self._cost += cost
      self._seconds += seconds

  def text(self) -> str:
    """Returns "; about 12 min left", empty while nothing is known."""
    left = sum(self._left.values())
    if not left or not self._cost:
      return ""
    return f"; about {duration(left / self._cost * self._seconds)} left"


# Tables for the command line.


def status(study: Study, only: str | None = None) -> str:
  """Returns how far stages are, as a table; those of `order`."""
  rows = [["stage", "kind", "state", "seconds"]]
  for name in order(study.plan, only):
    row = _head(study, name)
    result = study.read(name) if row[-1] == "done" else {}
    has_time = "seconds" in result
    rows.append([*row, f"{result['seconds']:.0f}" if has_time else "-"])
  done = sum(row[2] == "done" for row in rows)
  table = tables.aligned(rows, num_words=3)
  return f"{study.workdir}: {done} of {len(rows) - 1} stages done\n\n{table}"


def dry_run(study: Study, only: str | None = None) -> str:
  """Returns what stages would cost, those of `order`; writes nothing.

  Raises:
    ValueError: Whatever a run would raise before its first stage.
  """
  names = order(study.plan, only)
  study.preflight(names)
  flops, seconds = costs(study, names), costs(study, names, seconds_a_pass)
  rows = [["stage", "kind", "state", "images", "gradients", "FLOP", "time"]]
  for name in names:
    row, done = _head(study, name), work(study, name)
    if seconds[name]:
      row += [f"{done.images:,.0f}", f"{done.gradients:,.0f}"]
      row += [f"{flops[name]:.1e}", duration(seconds[name])]
    else:
      row += ["-", "-", "-", "not counted"]
    rows.append(row)
  left = sum(seconds[name] for name in names if study.state(name) != "done")
  devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  return (
    f"{study.plan.config.name} in {study.workdir}, on {devices}\n\n"
    f"{tables.aligned(rows, num_words=3)}\n\n"
    f"about {duration(left)} left at most, and compiling: by gradients of a "
    "few images that were timed now, as if no example broke before the last "
    "step"
  )


def _head(study: Study, name: str) -> list[str]:
  kind = study.plan.config.stages[name].kind
  begun = (study.workdir / name / "config.json").exists()
  state = study.state(name) or ("begun" if begun else "not begun")
  return [name, kind, state]
