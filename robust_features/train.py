"""Standard and adversarial training: the resumable driver of `train_step`.

Many steps run in one call, so the host is not in the loop; `streaming` brings
their images, all before the first step or chunk by chunk. Everything random
is a function of (key, step, example index); nothing random is stored, and a
resumed run ends in the same bits as an undisturbed one.

Reference: arXiv:1905.02175, appendix C.2 and C.3.
"""

import dataclasses
import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robust_features import attacks, evaluate, models
from robust_features.data import augment, lazy, streaming
from robust_features.data import dataset as ds
from robust_features.runtime import paths, preemption, processes, sharding
from robust_features.runtime.checkpoint import (
  Checkpoints,
  digest,
)
from robust_features.runtime.logs import (
  Logger,
  Stopwatch,
  describe,
  grid,
  progress,
)
from robust_features.train_config import TrainConfig, check_fit, check_teacher
from robust_features.train_step import (
  Sums,
  TrainState,
  adversary_at,
  init_state,
  make_optimizer,
  no_sums,
  train_step,
)

_INIT, _ORDER, _STEP, _EVAL, _MODEL, _CROP = range(6)  # Streams of a run's key.


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """Cadences and how to compile; no result depends on them but in rounding.

  Attributes:
    chunk_steps: Steps run in one call, between looks at signals and logs.
    checkpoint_every_seconds: Least time between two checkpoints.
    eval_batch_size: Held-out images evaluated at a time.
    optimize: Whether XLA optimises all that it compiles. Without, it compiles
      in less than half of the time what then runs several times slower.
  """

  chunk_steps: int = 50
  checkpoint_every_seconds: float = 60.0
  eval_batch_size: int = 250
  optimize: bool = True

  def __post_init__(self):
    for name in ("chunk_steps", "eval_batch_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if not self.checkpoint_every_seconds >= 0:
      raise ValueError(
        "checkpoint_every_seconds must be a number >= 0, got "
        f"{self.checkpoint_every_seconds}"
      )


class TrainResult(NamedTuple):
  """A trained model.

  Attributes:
    variables: Those of the last step, which the paper's tables use; their
      average where `ema_decay` is set.
    best_variables: Those of the best validation accuracy (robust accuracy for
      adversarial training); the last ones where nothing is held out.
    history: One record an evaluated epoch: epoch, train_loss, train_accuracy,
      validation_accuracy, validation_shifted (the same were every label so
      many classes further, `[K]`) and, for adversarial training,
      validation_robust_accuracy.
    digest: SHA-256 of `variables`.
    best_digest: SHA-256 of `best_variables`.
    seconds: Wall time over all sittings.
    input_seconds: Of these, spent waiting for images.
  """

  variables: dict[str, Any]
  best_variables: dict[str, Any]
  history: list[dict[str, Any]]
  digest: str
  best_digest: str
  seconds: float
  input_seconds: float


@functools.partial(
  jax.jit,
  static_argnames=("model", "cfg", "steps_per_epoch", "teacher"),
  donate_argnames=("state",),
)
def _train_chunk(
  state, batches, keys, num_steps, taught=None, *, model, cfg, steps_per_epoch,
  teacher=None,
):  # fmt: skip
  """Takes `num_steps` steps of one epoch, whose `batches` are given."""
  tx = make_optimizer(cfg, steps_per_epoch)

  def body(_, state):
    images, labels, indices = batches.at(state.step, cfg.batch_size)
    step_key, model_key = (jax.random.fold_in(k, state.step) for k in keys)
    augment_keys, attack_keys = jax.vmap(
      lambda key: tuple(jax.random.split(key))
    )(attacks.example_keys(step_key, indices))
    x = ds.to_float(images)
    x = augment.augment(x, augment_keys, cfg.augment)
    adversary = None
    if cfg.adversary.eps > 0:
      adversary = adversary_at(cfg, state.step, steps_per_epoch)
    return train_step(
      state, x, labels, attack_keys, model=model, tx=tx,
      cfg=cfg, adversary=adversary, model_key=model_key,
      teacher=None if teacher is None else (teacher, taught),
    )  # fmt: skip

  state = jax.lax.fori_loop(0, num_steps, body, state)
  return state, state.sums


# One program each instead of one a tensor.
_init_state = jax.jit(init_state, static_argnums=(0, 1, 2, 3))
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _shaping(cfg: TrainConfig) -> TrainConfig:
  """Returns a config with nothing but what the first state depends on."""
  return TrainConfig(momentum=cfg.momentum, ema_decay=cfg.ema_decay)


@functools.partial(jax.jit, static_argnames="num_examples")
def _epoch_order(key, epoch, num_examples):
  return jax.random.permutation(
    jax.random.fold_in(key, epoch), num_examples
  ).astype(jnp.int32)


def train(
  cfg: TrainConfig,
  run: RunConfig,
  model: models.Model,
  train_set: ds.Dataset,
  validation_set: ds.Dataset,
  workdir: str | pathlib.Path,
  key: jax.Array,
  name: str = "train",
  *,
  initial: Any = None,
  teacher: tuple[models.Model, Any] | None = None,
) -> TrainResult:
  """Trains a model, going on from the newest checkpoint in `workdir`.

  Args:
    cfg: The recipe.
    run: Cadences.
    model: The architecture.
    train_set: What it is trained on.
    validation_set: Held out; evaluated every `eval_every_epochs`.
    workdir: Holds `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
    key: Of everything random in this run.
    name: For the progress bar.
    initial: The variables that it begins from; by default fresh ones.
    teacher: A network and its variables, which `distil_weight` needs.

  Raises:
    ValueError: If the data do not fit the recipe, or the loss is not finite
      (the last good checkpoint stays).
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  workdir = paths.folder(workdir, "workdir")
  ds.check(train_set, where="training set")
  if validation_set.num_examples:
    ds.check(validation_set, where="validation set")
  models.check(model, train_set.image_shape, train_set.num_classes)
  check_fit(
    cfg, train_set.num_examples, train_set.image_shape,
    isinstance(train_set.images, lazy.Images),
  )  # fmt: skip
  check_teacher(
    cfg, model, teacher and teacher[0], train_set.image_shape,
    train_set.num_classes,
  )  # fmt: skip
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    driver = _Driver(
      cfg, run, model, train_set, validation_set, key, checkpoints, initial,
      teacher,
    )  # fmt: skip
    logger = Logger(workdir, int(driver.state.step))
    total = cfg.num_epochs * driver.steps_per_epoch
    logger.images(0, "train/images", grid([train_set.images[:10]]))
    with progress(total, name, int(driver.state.step), "step") as bar:
      try:
        while int(driver.state.step) < total:
          driver.epoch(logger, bar)
      finally:
        logger.close()
    driver.save()
  variables = driver.state.evaluated
  return TrainResult(
    variables=variables,
    best_variables=driver.best["variables"],
    history=driver.history,
    digest=digest(variables),
    best_digest=digest(driver.best["variables"]),
    seconds=driver.watch.seconds(),
    input_seconds=driver.feed.watch.seconds,
  )


def _saved(state: TrainState, best: dict[str, Any]) -> dict[str, Any]:
  """What a checkpoint holds: the state and the best variables so far."""
  fields = {k: v for k, v in state._asdict().items() if v is not None}
  return {"state": fields, "best": best}


def initial_variables(
  model: models.Model, image_shape: tuple[int, ...], key: jax.Array
) -> Any:
  """Returns the fresh variables that a run with a key begins from."""
  key = jax.random.fold_in(key, _INIT)
  return models.init_variables(model, key, tuple(image_shape))


class _Driver:
  """The effects around `_train_chunk`: checkpoints, evaluation, logs."""

  def __init__(
    self, cfg, run, model, train_set, validation, key, checkpoints, initial,
    teacher,
  ):  # fmt: skip
    self.cfg, self.run, self.model = cfg, run, model
    self.teacher, self.taught = teacher or (None, None)
    self.validation, self.checkpoints = validation, checkpoints
    self.num_examples = train_set.num_examples
    self.steps_per_epoch = train_set.num_examples // cfg.batch_size
    self.keys = [jax.random.fold_in(key, stream) for stream in range(6)]
    state = _init_state(
      model, _shaping(cfg), self.steps_per_epoch, train_set.image_shape,
      self.keys[_INIT], initial,
    )  # fmt: skip
    begun = _saved(state, state.evaluated)
    saved, metadata = checkpoints.restore(begun) or (begun, {})
    self.state = TrainState(**sharding.replicate(saved["state"]))
    self.best = {
      # A copy: the state's own buffers are donated to the next chunk.
      "variables": _copy(sharding.replicate(saved["best"])),
      "score": metadata.get("best_score", -1.0),
    }
    self.history = metadata.get("history", [])
    self.watch = Stopwatch(metadata.get("seconds", 0.0))
    self.saved_at = time.monotonic()
    self.feed = streaming.TrainFeed(
      train_set.images, train_set.labels, cfg.batch_size, run.chunk_steps,
      cfg.augment.resized_crop, streaming.seed_of(self.keys[_CROP]),
      streaming.Watch(metadata.get("input_seconds", 0.0)),
    )  # fmt: skip

  def epoch(self, logger: Logger, bar) -> None:
    """Runs to the end of the current epoch, then evaluates."""
    epoch = int(self.state.step) // self.steps_per_epoch
    order = _epoch_order(self.keys[_ORDER], epoch, self.num_examples)
    end = (epoch + 1) * self.steps_per_epoch
    step, pending = int(self.state.step), None
    if step % self.steps_per_epoch == 0:
      self.state = self.state._replace(sums=sharding.replicate(no_sums()))
    first = epoch * self.steps_per_epoch
    for count, batches in self.feed.chunks(order, first, step, end):
      self.state, sums = _train_chunk(
        self.state, batches, (self.keys[_STEP], self.keys[_MODEL]), count,
        self.taught, model=self.model, cfg=self.cfg,
        steps_per_epoch=self.steps_per_epoch, teacher=self.teacher,
      )  # fmt: skip
      step += count
      # The metrics of the chunk before are read while this one runs.
      self._log(logger, bar, pending)
      pending = (step, count, sums)
      if step < end and self._save_is_due():
        self._log(logger, bar, pending)
        pending = None
        self.save()
        preemption.check()
    self._log(logger, bar, pending)
    if (epoch + 1) % self.cfg.eval_every_epochs == 0 or (
      epoch + 1 == self.cfg.num_epochs
    ):
      self._evaluate(epoch + 1, logger)
    # Only now: a checkpoint of an epoch's end must know its evaluation.
    if self._save_is_due():
      self.save()
      preemption.check()

  def _log(self, logger: Logger, bar, pending) -> None:
    if pending is None:
      return
    step, count, sums = pending
    metrics = self._metrics(step, sums)
    logger.scalars(
      step, metrics | {"train/input_seconds": self.feed.watch.seconds}
    )
    bar.update(count)
    bar.set_postfix_str(describe(metrics))

  def _metrics(self, step: int, sums: Sums) -> dict[str, float]:
    loss, correct, count = (float(v) for v in sharding.fetch(sums))
    if not math.isfinite(loss):
      kept = self.checkpoints.latest_step()
      raise ValueError(
        f"the training loss is not finite at step {step}; "
        + (f"the checkpoint of step {kept} is kept; " if kept else "")
        + "lower learning_rate or raise warmup_epochs (images, labels and the "
        "number of logits were checked: it is not they)"
      )
    return {
      "train/loss": loss / count,
      "train/accuracy": correct / count,
    }

  def _evaluate(self, epoch: int, logger: Logger) -> None:
    step = int(self.state.step)
    metrics = self._metrics(step, self.state.sums)
    record = {
      "epoch": epoch,
      "train_loss": metrics["train/loss"],
      "train_accuracy": metrics["train/accuracy"],
    }
    record |= self._validate()
    self.history.append(record)
    logger.scalars(
      step,
      {
        f"epoch/{k}": v
        for k, v in record.items()
        if k not in ("epoch", "validation_shifted")
      },
    )
    score = record.get(
      "validation_robust_accuracy", record.get("validation_accuracy")
    )
    # Without a criterion the best is the last.
    if score is None or score > self.best["score"]:
      variables = _copy(self.state.evaluated)
      self.best = {"variables": variables, "score": score or 0.0}

  def _validate(self) -> dict[str, Any]:
    if not self.validation.num_examples:
      return {}
    adversary = self.cfg.adversary
    found = evaluate.evaluate(
      self.model,
      self.state.evaluated,
      self.validation,
      evaluate.EvaluateConfig(
        norm=adversary.norm,
        eps=(adversary.eps,) if adversary.eps > 0 else (),
        num_steps=adversary.num_steps,
        step_ratio=_step_ratio(adversary),
        num_restarts=1,
        loss="cross_entropy",
        bn_mode="running",
        batch_size=max(self.cfg.batch_size, self.run.eval_batch_size),
      ),
      self.keys[_EVAL],
      "validate",
      interruptible=False,
    )
    metrics: dict[str, Any] = {"validation_accuracy": found.accuracy}
    for value in found.robust_accuracy.values():
      metrics["validation_robust_accuracy"] = value
    classes = self.validation.num_classes
    metrics["validation_shifted"] = [
      evaluate.on_shifted_labels(found.confusion, classes, shift)
      for shift in range(classes)
    ]
    return metrics

  def _save_is_due(self) -> bool:
    """Asks this process's clock and signals, and those of all the others."""
    elapsed = time.monotonic() - self.saved_at
    due = elapsed >= self.run.checkpoint_every_seconds
    return bool(processes.agree(due or preemption.pending()))

  def save(self) -> None:
    """Saves now, in the background."""
    self._metrics(int(self.state.step), self.state.sums)
    metadata = {
      "best_score": self.best["score"],
      "history": self.history,
      "seconds": self.watch.seconds(),
      "input_seconds": self.feed.watch.seconds,
      "config": dataclasses.asdict(self.cfg),
    }
    content = _saved(self.state, self.best["variables"])
    self.checkpoints.save(int(self.state.step), content, metadata)
    self.saved_at = time.monotonic()


def _step_ratio(adversary: attacks.AttackConfig) -> float:
  """Returns the step size in units of eps / num_steps."""
  if adversary.eps <= 0:
    return 1.0
  return adversary.step_size * adversary.num_steps / adversary.eps
