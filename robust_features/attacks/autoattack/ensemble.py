"""AutoAttack: four complementary attacks, each on what the last left robust.

The standard version is Auto-PGD on cross-entropy, Auto-PGD on the targeted
difference of logits ratio, FAB towards one class after another, and Square.
An image counts as robust if none of them changes its prediction inside the
ball. Every image's randomness comes from one key and its own index, so neither
the batch size nor the number of devices changes a result, and an attack finds
the same alone as in the ensemble.

Reference: arXiv:2003.01690, sections 5 and 6 (standard version).
"""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.attacks import geometry
from robust_features.attacks.autoattack import (
  apgd,
  checks,
  fab,
  machine,
  pool,
  square,
)
from robust_features.attacks.autoattack.progress import FILE, Progress, identity
from robust_features.attacks.autoattack.result import AutoAttackResult
from robust_features.runtime import paths, processes
from robust_features.runtime.sharding import fetch, place

__all__ = [
  "ATTACKS",
  "STANDARD",
  "AutoAttackResult",
  "Budget",
  "check_settings",
  "run",
]

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")

# Fixed numbers, so that an attack's randomness does not depend on its place.
_STREAMS = {
  "apgd-ce": 0,
  "apgd-t": 1,
  "fab-t": 2,
  "square": 3,
  "apgd-dlr": 4,
}
ATTACKS = tuple(_STREAMS)
_SQUARE_STEPS, _GRADIENT_STEPS = 50, 10  # Between two looks at what is done.


@dataclasses.dataclass(frozen=True)
class Budget:
  """How hard to try; the defaults are the standard version's.

  Attributes:
    num_steps: Steps of every Auto-PGD and FAB run.
    num_targets: Classes aimed at, at most one less than there are.
    num_queries: Windows that Square tries.
    num_restarts: Random starts of every Auto-PGD run.
  """

  num_steps: int = 100
  num_targets: int = 9
  num_queries: int = 5000
  num_restarts: int = 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not isinstance(value, int) or value < 1:
        raise ValueError(f"{field.name} must be an int >= 1, got {value!r}")


class _Step(NamedTuple):
  attack: machine.Attack
  cfg: apgd.ApgdConfig | fab.FabConfig | square.SquareConfig
  num_steps: int


def _configured(name, norm, eps, budget: Budget, num_classes: int) -> _Step:
  """Returns an attack with its settings for a model of `num_classes`."""
  targets = min(budget.num_targets, num_classes - 1)
  if name == "square":
    cfg = square.SquareConfig(norm, eps, budget.num_queries)
    return _Step(square.ATTACK, cfg, _SQUARE_STEPS)
  if name == "fab-t":
    cfg = fab.FabConfig(norm, eps, budget.num_steps, targets)
    return _Step(fab.ATTACK, cfg, _GRADIENT_STEPS)
  loss = {
    "apgd-ce": "cross_entropy",
    "apgd-dlr": "dlr" if num_classes > 2 else "cw_margin",
    "apgd-t": "dlr_targeted" if num_classes > 3 else "cw_margin_targeted",
  }[name]
  cfg = apgd.ApgdConfig(
    norm, eps, loss, budget.num_steps, budget.num_restarts, targets
  )
  return _Step(apgd.ATTACK, cfg, _GRADIENT_STEPS)


def run(
  logits_fn: machine.LogitsFn,
  x: np.ndarray,
  y: np.ndarray,
  *,
  norm: str,
  eps: float,
  key: jax.Array,
  batch_size: int = 250,
  attacks: tuple[str, ...] = STANDARD,
  budget: Budget = Budget(),
  sharding: jax.sharding.Sharding | None = None,
  workdir: str | pathlib.Path | None = None,
  save_every_s: float = 30.0,
  save_now: Callable[[], bool] | None = None,
  progress: Callable[[str], None] | None = None,
) -> AutoAttackResult:
  """Evaluates a model's robustness.

  Args:
    logits_fn: Maps images `[B, H, W, C]` in [0, 1] to logits `[B, K]`, or to
      something that has them as its field `logits`. Give a
      `jax.tree_util.Partial(fn, variables)` rather than a closure where the
      model is large or changes: its weights are then arguments of the
      compiled attack instead of constants in it.
    x: `[N, H, W, C]` images in [0, 1].
    y: `[N]` integer labels.
    norm: "l2" or "linf".
    eps: Radius in pixel units of [0, 1], e.g. 0.5 for l2 or 8 / 255 for linf.
    key: The one PRNG key of the evaluation.
    batch_size: Images under attack at once.
    attacks: Any of `ATTACKS`, in the order they run.
    budget: Steps, targets, queries.
    sharding: How to lay out an array with a leading batch axis; its devices
      divide the batch. By default everything is on one device.
    workdir: Where to keep progress, from which an interrupted evaluation
      goes on with the same bits; None keeps nothing.
    save_every_s: Seconds between two saves and two lines of progress.
    save_now: Asked every few steps; True saves without waiting, on all
      processes if it is so on one.
    progress: Called with a line of text after every save. It may raise to end
      the run, whose progress is then on disk.

  Returns:
    Accuracies, adversarial examples, counts and warnings.

  Raises:
    ValueError: If images, labels, logits or settings are out of range, or if
      `workdir` holds the progress of another evaluation.
  """
  x, y = np.asarray(x, np.float32), np.asarray(y)
  checks.require_images(x, y)
  check_settings(norm, eps, attacks, batch_size, x.shape[1:])
  model = logits_fn
  if not isinstance(model, jax.tree_util.Partial):
    model = jax.tree_util.Partial(model)
  logits_fn = jax.tree_util.Partial(_logits_of, model)
  victim = _Victim(logits_fn, x, y.astype(np.int32), key, batch_size, sharding)
  names = tuple(attacks)
  who = identity(
    (model.args, model.keywords), x, victim.y, key, norm=norm,
    eps=float(eps), attacks=list(names), **dataclasses.asdict(budget),
  )  # fmt: skip
  path = None if workdir is None else paths.folder(workdir, "workdir") / FILE
  report = progress or (lambda line: None)
  saved = Progress.begin(
    who, victim.logits, x, victim.y, len(names), path=path,
    every_s=save_every_s,
  )  # fmt: skip
  if saved.load():
    report(f"goes on from {path}, {saved.num_done} attacks done")
  for number, name in enumerate(names):
    stage = _configured(name, norm, float(eps), budget, victim.num_classes)
    if number >= saved.num_done:
      _attack(number, name, stage, victim, saved, report, save_now)
  return _result(norm, float(eps), names, budget, victim, saved)


def check_settings(
  norm: str,
  eps: float,
  attacks: tuple[str, ...],
  batch_size: int,
  image_shape: tuple[int, ...] = (),
) -> None:
  """Checks what can be checked of `run`'s settings without a model.

  Raises:
    ValueError: Naming the setting; for a radius larger than the box, if the
      images' shape (H, W, C) is given.
  """
  if norm not in geometry.NORMS:
    raise ValueError(f"norm must be one of {geometry.NORMS}, got {norm!r}")
  if isinstance(eps, str) or not 0 < eps < math.inf:
    raise ValueError(f"eps must be a finite number > 0, got {eps!r}")
  if image_shape or norm == "linf":  # Whose largest radius is 1 in any shape.
    geometry.check_radius("eps", eps, norm, image_shape)
  unknown = [name for name in attacks if name not in ATTACKS]
  if unknown or not attacks or len(set(attacks)) < len(attacks):
    raise ValueError(
      f"attacks must be distinct names of {ATTACKS}, got {tuple(attacks)!r}"
    )
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")


def _logits_of(model_fn, x: jax.Array) -> jax.Array:
  """Returns a model's logits `[B, K]` float32, which `Outputs` may hold."""
  outputs = model_fn(x)
  logits = getattr(outputs, "logits", outputs)
  if not isinstance(logits, (jax.Array, np.ndarray)):
    kind = type(logits).__name__
    raise ValueError(
      f"logits_fn must return an array [B, K], or something with a field "
      f"`logits`, got a {kind}; give a function that picks the logits of it"
    )
  return jnp.asarray(logits).astype(jnp.float32)


@jax.jit
def _logits(logits_fn, x):
  return logits_fn(x)


class _Victim:
  """The model and the data under attack, and where they are laid out."""

  def __init__(self, logits_fn, x, y, key, batch_size, sharding):
    self.logits_fn, self.x, self.y, self.key = logits_fn, x, y, key
    self.sharding = sharding
    self.batch_size = min(batch_size, len(x))
    self.devices = 1 if sharding is None else sharding.num_devices
    self.logits = self.predict(x)
    checks.require_logits(self.logits, x, y)
    self.num_classes = self.logits.shape[1]
    others = self.logits.copy()
    others[np.arange(len(y)), y] = -np.inf
    # All classes but the label, the likeliest first.
    self.targets = np.argsort(-others, axis=1, kind="stable")[:, :-1]

  def _place(self, tree):
    if self.sharding is None:
      return tree
    return place(tree, self.sharding)

  def examples(self, stream: int, index: np.ndarray) -> machine.Batch:
    """Returns what the attack of a random stream needs of images `index`."""
    key = jax.random.fold_in(self.key, stream)
    batch = machine.make_batch(
      jnp.asarray(self.x[index]),
      jnp.asarray(self.y[index]),
      jnp.asarray(self.targets[index], jnp.int32),
      geometry.example_keys(key, jnp.asarray(index, jnp.uint32)),
    )
    return self._place(batch)

  def predict(self, x: np.ndarray) -> np.ndarray:
    """Returns logits `[N, K]`, batch by batch; the last one is padded."""
    size, parts = pool.round_up(self.batch_size, self.devices), []
    for start in range(0, len(x), size):
      batch = x[start : start + size]
      rows = np.minimum(np.arange(size), len(batch) - 1)
      padded = self._place(jnp.asarray(batch[rows]))
      logits = fetch(_logits(self.logits_fn, padded))
      if logits.ndim != 2 or len(logits) != size:
        raise ValueError(
          f"logits_fn must return [B, K], got {logits.shape} for B = {size}"
        )
      parts.append(logits[: len(batch)])
    return np.concatenate(parts)


def _attack(number, name, stage, victim, saved, report, save_now) -> None:
  """Runs one attack on what is robust so far, saving now and then."""
  work = pool.Pool(
    stage.attack,
    stage.cfg,
    victim.logits_fn,
    functools.partial(victim.examples, _STREAMS[name]),
    np.flatnonzero(saved.robust),
    batch_size=victim.batch_size,
    multiple=victim.devices,
    num_steps=stage.num_steps,
  )
  saved.restore_pool(work)
  while True:
    begun = time.monotonic()
    finished = work.step()
    if finished is None:
      break
    saved.record(number, finished, begun)
    due = saved.is_due() or (save_now is not None and save_now())
    if processes.agree(due):
      saved.save(work.arrays())
      report(
        f"{name}: {work.num_left} images left, robust accuracy at most "
        f"{saved.robust.mean():.2%}"
      )
  saved.finish_attack(number)
  report(f"{name}: robust accuracy {saved.robust.mean():.2%}")


def _result(norm, eps, names, budget, victim, saved) -> AutoAttackResult:
  """Evaluates the adversarial examples once more, and gathers the numbers."""
  predicted = victim.predict(saved.x_adv).argmax(axis=1)
  second = float((predicted == victim.y).mean())
  accuracy = {"clean": float(saved.correct.mean())}
  accuracy |= dict(zip(names, saved.accuracy.tolist(), strict=True))
  order = {"l2": 2, "linf": np.inf}[norm]
  # Row by row: no further copy of all images.
  moved = max(
    np.linalg.norm((there.astype(np.float64) - here).ravel(), order)
    for there, here in zip(saved.x_adv, victim.x, strict=True)
  )

  def by_attack(values):
    return dict(zip(names, values.tolist(), strict=True))

  return AutoAttackResult(
    norm=norm,
    eps=eps,
    x_adv=saved.x_adv,
    robust=saved.robust,
    broken_by=saved.broken_by,
    accuracy=accuracy,
    second_pass_accuracy=second,
    max_perturbation=float(moved),
    queries=by_attack(saved.queries),
    gradients=by_attack(saved.gradients),
    zero_gradients=by_attack(saved.zero_gradients),
    nonfinite_gradients=by_attack(saved.nonfinite_gradients),
    seconds=by_attack(saved.seconds),
    warnings=_warnings(names, budget, victim, saved, second),
  )


def _warnings(names, budget, victim, saved, second) -> tuple[str, ...]:
  few = jnp.asarray(victim.x[:8])
  found = [
    checks.probability_warning(victim.logits),
    checks.randomness_warning(victim.logits_fn, few),
    checks.class_warning(victim.num_classes, names, budget.num_targets),
  ]
  found += [
    checks.zero_gradient_warning(name, int(count))
    for name, count in zip(names, saved.zero_gradients, strict=True)
  ]
  found += [
    checks.nonfinite_gradient_warning(name, int(count))
    for name, count in zip(names, saved.nonfinite_gradients, strict=True)
  ]
  before = saved.correct.mean()
  for number, name in enumerate(names):
    after = saved.accuracy[number]
    if name == "square" and number > 0:
      found.append(checks.square_warning(before, after))
    before = after
  found.append(checks.second_pass_warning(float(saved.robust.mean()), second))
  return tuple(text for text in found if text)
