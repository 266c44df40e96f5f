"""What each kind of stage does: training, construction, measurements.

A kind is a function of the study that runs it, the stage's name and the
stage's folder; it returns what goes into the stage's `result.json`.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np

from robust_features import (
  attacks,
  construct,
  evaluate,
  models,
  strong_attacks,
  train,
  trained,
  transfer,
)
from robust_features.data import dataset as ds
from robust_features.data import planted
from robust_features.runtime import checkpoint
from robust_features.runtime.parts import Parts
from robust_features.study import provenance, settings


class Context(Protocol):
  """What a stage asks of its study; see `study.Study`."""

  config: Any
  run_config: train.RunConfig

  def resolved(self, name: str) -> dict[str, Any]:
    """Returns every config field that a stage's result depends on."""
    ...

  def key(self, name: str) -> jax.Array:
    """Returns a stage's PRNG key."""
    ...

  def require(self, name: str) -> dict[str, Any]:
    """Returns a stage's result."""
    ...

  def splits(self, name: str) -> ds.Splits:
    """Returns a source's splits."""
    ...

  def dataset(self, name: str, split: str) -> ds.Dataset:
    """Returns a split of a source, or a constructed set."""
    ...

  def model_config(self, name: str) -> models.ModelConfig:
    """Returns the architecture of a train stage or an import."""
    ...

  def architecture(self, name: str) -> nn.Module:
    """Returns the network of a train stage or an import."""
    ...

  def variables(self, name: str, which: str = "last") -> dict[str, Any]:
    """Returns the variables of a train stage or an import."""
    ...


def _train(
  study: Context, name: str, directory: pathlib.Path
) -> dict[str, Any]:
  stage = study.config.stages[name]
  cfg = settings.build(train.TrainConfig, stage.train, f"stages.{name}.train")
  data = study.dataset(stage.data, "train")
  found = train.train(
    cfg,
    study.run_config,
    study.architecture(name),
    data,
    study.splits(stage.validation).validation,
    directory,
    study.key(name),
    name,
  )
  return {
    "model": dataclasses.asdict(study.model_config(name)),
    "digest": found.digest,
    "history": found.history,
    "num_examples": data.num_examples,
    "image_shape": list(data.image_shape),
    "num_params": models.num_params(found.variables["params"]),
    "seconds": found.seconds,
  }


def _imported(study: Context, name: str, directory: pathlib.Path):
  del directory
  stage = study.config.stages[name]
  found = trained.load(stage.checkpoint)
  data = study.dataset(stage.data, "test")
  model = found.config
  there = model.num_classes, len(model.mean)
  wanted = data.num_classes, data.image_shape[-1]
  if there[0] != wanted[0] or there[1] not in (1, wanted[1]):
    raise ValueError(
      f"stages.{name}.checkpoint is a model of {there[0]} classes and "
      f"{there[1]} colours, but data.{stage.data} has {wanted[0]} and "
      f"{wanted[1]}"
    )
  return {
    "model": dataclasses.asdict(model) | {"dtype": stage.dtype},
    "digest": checkpoint.digest(found.variables),
    "origin": found.origin,
    "num_params": models.num_params(found.variables["params"]),
    "seconds": 0.0,
  }


def _construct(study: Context, name: str, directory: pathlib.Path):
  stage = study.config.stages[name]
  where = f"stages.{name}.construct"
  cfg = settings.build(construct.ConstructConfig, stage.construct, where)
  origin = {
    "source": stage.source,
    "source_digest": study.require(stage.source)["digest"],
    "git_commit": provenance.git_commit(),
    "config": study.resolved(name),
  }
  manifest = construct.construct(
    cfg,
    study.architecture(stage.source),
    study.variables(stage.source),
    study.dataset(stage.data, stage.split),
    study.dataset(stage.data, "train"),
    directory / "data",
    study.key(name),
    origin,
    name,
  )
  return {
    "sha256": manifest["sha256"],
    "mean": manifest["mean"],
    "num_examples": manifest["num_examples"],
    "seconds": manifest["seconds"],
  }


def subject(study: Context, name: str):
  """Returns (model, variables, data set) that a stage measures."""
  stage = study.config.stages[name]
  data = study.dataset(stage.data, stage.split)
  if stage.label_shift:
    labels = (data.labels + stage.label_shift) % data.num_classes
    data = dataclasses.replace(data, labels=labels)
  model = study.architecture(stage.model)
  return model, study.variables(stage.model, stage.which), data


def _evaluate_config(study: Context, name: str) -> evaluate.EvaluateConfig:
  section = study.config.stages[name].evaluate
  where = f"stages.{name}.evaluate"
  return settings.build(evaluate.EvaluateConfig, section, where)


def _first(data: ds.Dataset, num_examples: int) -> ds.Dataset:
  """Returns the first examples of a set, or all of it for 0."""
  num_examples = min(num_examples or data.num_examples, data.num_examples)
  return ds.take(data, np.arange(num_examples))


def _evaluate(study: Context, name: str, directory: pathlib.Path):
  model, variables, data = subject(study, name)
  cfg = _evaluate_config(study, name)
  found = evaluate.evaluate(
    model, variables, data, cfg, study.key(name), name,
    parts=Parts(directory / "parts"),
  )  # fmt: skip
  result = {
    "accuracy": found.accuracy,
    "robust_accuracy": {str(k): v for k, v in found.robust_accuracy.items()},
    "class_robust_accuracy": {
      str(k): v for k, v in found.class_robust_accuracy.items()
    },
    "attack": found.attack,
    "num_examples": found.num_examples,
    "seconds": found.seconds,
  }
  source = study.config.data.get(study.config.stages[name].data)
  if source and source.source == "planted":
    conflict = planted.conflict(2000, source.seed + 1)
    result["cues"] = evaluate.cue_shares(
      model, variables, conflict, cfg.batch_size
    )
  return result


def _step_sweep(study: Context, name: str, directory: pathlib.Path):
  start = time.monotonic()
  stage = study.config.stages[name]
  model, variables, data = subject(study, name)
  cfg = _evaluate_config(study, name)
  rows = evaluate.step_sweep(
    model, variables, data, cfg, study.key(name), stage.steps,
    stage.step_ratios, Parts(directory / "parts"),
  )  # fmt: skip
  return {
    "eps": cfg.eps[0],
    "norm": cfg.norm,
    "num_examples": data.num_examples,
    "rows": rows,
    "seconds": time.monotonic() - start,
  }


def _carlini_wagner(study: Context, name: str, directory: pathlib.Path):
  start = time.monotonic()
  stage = study.config.stages[name]
  model, variables, data = subject(study, name)
  cfg = _evaluate_config(study, name)
  attack = settings.build(
    attacks.CarliniWagnerConfig, stage.attack, f"stages.{name}.attack"
  )
  distances = strong_attacks.nearest_errors(
    model, variables, data, attack, cfg.batch_size, Parts(directory / "parts")
  )
  finite = distances[np.isfinite(distances) & (distances > 0)]
  return {
    "accuracy": float((distances > 0).mean()),
    "robust_accuracy": {
      str(eps): float((distances > eps).mean()) for eps in cfg.eps
    },
    "median_distance": float(np.median(finite)) if finite.size else None,
    "attack": {"name": "carlini_wagner_l2", **dataclasses.asdict(attack)},
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _autoattack(study: Context, name: str, directory: pathlib.Path):
  stage = study.config.stages[name]
  where = f"stages.{name}.autoattack"
  cfg = settings.build(strong_attacks.AutoAttackConfig, stage.autoattack, where)
  model, variables, data = subject(study, name)
  data = _first(data, stage.num_examples)
  rows = strong_attacks.auto_attack(
    model, variables, data, cfg, study.key(name), directory, name
  )
  return {
    "model": stage.model,
    "norm": cfg.norm,
    "attacks": list(cfg.attacks),
    "budget": dataclasses.asdict(cfg.budget),
    "num_examples": data.num_examples,
    "seed": study.config.seed,
    "rows": rows,
    "seconds": sum(sum(row["seconds"].values()) for row in rows),
  }


def _transfer(study: Context, name: str, directory: pathlib.Path):
  del directory
  start = time.monotonic()
  stage = study.config.stages[name]
  where = f"stages.{name}.transfer"
  cfg = settings.build(transfer.TransferConfig, stage.transfer, where)
  whole = study.dataset(stage.data, stage.split)
  data = _first(whole, stage.num_examples)
  source = study.architecture(stage.source), study.variables(stage.source)
  examples = transfer.make_examples(*source, data, cfg, study.key(name))
  rows = []
  for target, learner in zip(stage.targets, stage.learners, strict=True):
    model = study.architecture(target)
    accuracy = evaluate.accuracy(
      model, study.variables(learner), whole, cfg.batch_size
    )
    rows.append(
      {
        "target": target,
        "architecture": study.model_config(target).name,
        "learner": learner,
        "learner_accuracy": accuracy,
        **transfer.rates(
          model, study.variables(target), data, examples, cfg.batch_size
        ),
      }
    )
  return {
    "source": stage.source,
    "source_architecture": study.model_config(stage.source).name,
    "source_rates": transfer.rates(*source, data, examples, cfg.batch_size),
    "attack": dataclasses.asdict(cfg.attack),
    "target": cfg.target,
    "zero_gradient_fraction": examples.zero_gradient_fraction,
    "num_examples": data.num_examples,
    "rows": rows,
    "rank_correlation": transfer.correlations(rows),
    "seconds": time.monotonic() - start,
  }


KINDS: dict[str, Callable[[Context, str, pathlib.Path], dict[str, Any]]] = {
  "train": _train,
  "imported": _imported,
  "construct": _construct,
  "evaluate": _evaluate,
  "step_sweep": _step_sweep,
  "carlini_wagner": _carlini_wagner,
  "autoattack": _autoattack,
  "transfer": _transfer,
}

# Where `results.json` keeps a kind's results.
RESULTS = {
  "train": "models",
  "imported": "imported",
  "construct": "data_sets",
  "step_sweep": "step_sweeps",
  "carlini_wagner": "carlini_wagner",
  "autoattack": "autoattack",
  "transfer": "transfer",
}


# The sections of a stage's config, by kind: (field, dataclass).
SECTIONS = {
  "train": (("train", train.TrainConfig),),
  "imported": (),
  "construct": (("construct", construct.ConstructConfig),),
  "evaluate": (("evaluate", evaluate.EvaluateConfig),),
  "step_sweep": (("evaluate", evaluate.EvaluateConfig),),
  "carlini_wagner": (
    ("evaluate", evaluate.EvaluateConfig),
    ("attack", attacks.CarliniWagnerConfig),
  ),
  "autoattack": (("autoattack", strong_attacks.AutoAttackConfig),),
  "transfer": (("transfer", transfer.TransferConfig),),
}
