"""Sections of a study's config, with the paper's values as defaults.

A config file composes these; every field exists, nothing is derived, and any
of them can be overridden: `--config.stages.standard.train.num_epochs=3`.

Reference: arXiv:1905.02175, appendix C, tables 3 to 6.
"""

import functools
import itertools
import math
from typing import Any

from ml_collections import ConfigDict

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)


def _section(defaults: dict[str, Any], changes: dict[str, Any]) -> Any:
  """Returns the defaults with changes, which must name existing fields."""
  section = ConfigDict(defaults)
  for name, value in changes.items():
    if name not in section:
      raise ValueError(f"{name} is not one of {', '.join(section)}")
    section[name] = _own(value)
  return section


def _own(value: Any) -> Any:
  """Returns a copy of a section, so that no two stages share one."""
  return ConfigDict(value.to_dict()) if isinstance(value, ConfigDict) else value


def study(name: str, *, seed: int = 0) -> Any:
  """Returns an empty study: data, models, stages and table to be filled."""
  return ConfigDict(
    {
      "experiment": "study",
      "name": name,
      "seed": seed,
      "data": {},
      "models": {},
      "stages": {},
      "table": (),
      "run": {"chunk_steps": 50, "checkpoint_every_seconds": 60.0},
    }
  )


def data(source: str, **changes: Any) -> Any:
  """Returns a data source."""
  return _section(
    {
      "source": source,
      "name": "",
      "data_dir": "",
      "num_train": 0,
      "num_test": 0,
      "num_validation": 0,
      "seed": 0,
      "image_size": 0,
    },
    changes,
  )


def cifar10(**changes: Any) -> Any:
  """Returns CIFAR-10 from tfds, 1,000 training images held out."""
  return data("tfds", **{"name": "cifar10", "num_validation": 1000} | changes)


def model(name: str, **changes: Any) -> Any:
  """Returns an architecture; width 0 is its own."""
  return _section(
    {
      "name": name,
      "num_classes": 10,
      "width": 0,
      "dtype": "float32",
      "mean": CIFAR_MEAN,
      "std": CIFAR_STD,
    },
    changes,
  )


def attack(norm: str, eps: float, step_size: float, num_steps: int,
           **changes: Any) -> Any:  # fmt: skip
  """Returns an attack from the image itself that keeps the best iterate."""
  return _section(
    {
      "norm": norm,
      "eps": eps,
      "step_size": step_size,
      "num_steps": num_steps,
      "num_restarts": 1,
      "start": "x",
      "keep_best": True,
    },
    changes,
  )


def no_adversary() -> Any:
  """Returns the adversary of standard training."""
  return attack("l2", 0.0, 0.0, 0)


def adversary(eps: float = 0.5) -> Any:
  """Returns appendix C.3's: 7 normalised l2 steps of eps/5 from the image."""
  return attack("l2", eps, eps / 5, 7)


def augmentation() -> Any:
  """Returns the library's CIFAR augmentation that the paper's code used."""
  return ConfigDict({"pad": 4, "flip": True, "jitter": 0.25, "rotate": 2.0})


def no_augmentation() -> Any:
  """Returns none."""
  return ConfigDict({"pad": 0, "flip": False, "jitter": 0.0, "rotate": 0.0})


def train(**changes: Any) -> Any:
  """Returns the paper's recipe on CIFAR-10: drops at epochs 50 and 100."""
  return _section(
    {
      "num_epochs": 150,
      "batch_size": 128,
      "learning_rate": 0.1,
      "schedule": "step",
      "drop_every_epochs": 50,
      "drop_factor": 0.1,
      "warmup_epochs": 0.0,
      "momentum": 0.9,
      "weight_decay": 5e-4,
      "augment": augmentation(),
      "adversary": no_adversary(),
      "eps_ramp_epochs": 0.0,
      "attack_bn_mode": "running",
      "eval_every_epochs": 5,
    },
    changes,
  )


def train_stage(architecture: str, data: str, recipe: Any,
                validation: str = "D") -> Any:  # fmt: skip
  """Returns a stage that trains `models.<architecture>` on `data`."""
  return ConfigDict(
    {
      "kind": "train",
      "architecture": architecture,
      "data": data,
      "validation": validation,
      "train": _own(recipe),
    }
  )


def make_inversion(kind: str, **changes: Any) -> Any:
  """Returns D_R's or D_NR's construction: table 5, 1,000 steps of 0.1."""
  return _section(
    {
      "kind": kind,
      "init": "image",
      "attack": attack("l2", math.inf, 0.1, 1000, keep_best=False),
      "fake_relu": True,
      "pixels": "uint8",
      "batch_size": 500,
      "shard_size": 2500,
    },
    changes,
  )


def make_targeted(kind: str, **changes: Any) -> Any:
  """Returns D_rand's or D_det's construction: table 6, 100 steps in 0.5."""
  return _section(
    {
      "kind": kind,
      "init": "self",
      "attack": attack("l2", 0.5, 0.1, 100),
      "fake_relu": False,
      "pixels": "uint8",
      "batch_size": 500,
      "shard_size": 2500,
    },
    changes,
  )


def construct_stage(source: str, recipe: Any, data: str = "D",
                    split: str = "train") -> Any:  # fmt: skip
  """Returns a stage that makes a data set with a trained stage's model."""
  return ConfigDict(
    {
      "kind": "construct",
      "source": source,
      "data": data,
      "split": split,
      "construct": _own(recipe),
    }
  )


def evaluation(**changes: Any) -> Any:
  """Returns the paper's radii under PGD-100 in steps of 2.5 eps / 100."""
  return _section(
    {
      "norm": "l2",
      "eps": (0.25, 0.5),
      "num_steps": 100,
      "step_ratio": 2.5,
      "num_restarts": 1,
      "loss": "cross_entropy",
      "bn_mode": "running",
      "batch_size": 500,
    },
    changes,
  )


def evaluate_stage(model: str, title: str, settings: Any,
                   **changes: Any) -> Any:  # fmt: skip
  """Returns a row of the table: a trained stage's model on a test set.

  Args:
    model: The train stage.
    title: The row's name in the table.
    settings: Of the attack.
    **changes: `data`, `split`, `which` ("last" or "best"), `label_shift` (added
      to every label), `paper` (a row of `robust_features.paper`).
  """
  return _section(
    {
      "kind": "evaluate",
      "model": model,
      "which": "last",
      "data": "D",
      "split": "test",
      "label_shift": 0,
      "title": title,
      "paper": "",
      "evaluate": _own(settings),
    },
    changes,
  )


def step_sweep_stage(model: str, settings: Any, steps: tuple[int, ...],
                     step_ratios: tuple[float, ...]) -> Any:  # fmt: skip
  """Returns figure 8: robust accuracy against the attack's steps."""
  return ConfigDict(
    {
      "kind": "step_sweep",
      "model": model,
      "which": "last",
      "data": "D",
      "split": "test",
      "label_shift": 0,
      "steps": steps,
      "step_ratios": step_ratios,
      "evaluate": _own(settings),
    }
  )


def carlini_wagner_stage(model: str, settings: Any) -> Any:
  """Returns appendix D.2's CW-l2 attack of 1,000 steps on the test set."""
  return ConfigDict(
    {
      "kind": "carlini_wagner",
      "model": model,
      "which": "last",
      "data": "D",
      "split": "test",
      "label_shift": 0,
      "evaluate": _own(settings),
      "attack": {
        "num_steps": 1000,
        "num_searches": 9,
        "learning_rate": 0.01,
        "initial_c": 0.01,
      },
    }
  )


def add_row(config: Any, model: str, title: str, settings: Any,
            suffix: str = "", **changes: Any) -> None:  # fmt: skip
  """Adds an evaluation of a trained stage, and its row of the table.

  Args:
    config: The study.
    model: The train stage.
    title: The row's name in the table.
    settings: Of the attack.
    suffix: Tells a second evaluation of one model from the first.
    **changes: As `evaluate_stage` takes them.
  """
  name = f"eval_{model}{suffix}"
  config.stages[name] = evaluate_stage(model, title, settings, **changes)
  config.table = (*config.table, name)


def add_data_set(config: Any, name: str, source: str,
                 construct: Any, recipe: Any) -> None:  # fmt: skip
  """Adds a constructed data set and a training run on it, `on_<name>`."""
  config.stages[name] = construct_stage(source, construct)
  config.stages[f"on_{name}"] = train_stage("main", name, recipe)


def paper_study(
  config: Any,
  *,
  standard: Any,
  robust: Any,
  on_robust: Any,
  on_nonrobust: Any,
  on_rand: Any,
  on_det: Any,
  inversion: dict[str, Any],
  targeted: dict[str, Any],
  evaluation: Any,
) -> None:
  """Adds section 3 whole: D_R, D_NR, D_rand, D_det from both sources.

  Args:
    config: A study with `data.D` and `models.main`.
    standard: Recipe of the standard model on D.
    robust: Recipe of the adversarially trained model on D.
    on_robust: Recipe of standard training on D_R, and so on.
    on_nonrobust: See `on_robust`.
    on_rand: See `on_robust`.
    on_det: See `on_robust`.
    inversion: Changes to `make_inversion`.
    targeted: Changes to `make_targeted`.
    evaluation: Of every row.
  """
  config.stages.standard = train_stage("main", "D", standard)
  config.stages.robust = train_stage("main", "D", robust)
  row = functools.partial(add_row, config, settings=evaluation)
  row("standard", "standard training", paper="standard")
  row("robust", "adversarial training", paper="robust")
  for name, kind, source, recipe, title, printed in (
    ("d_robust", "robust", "robust", on_robust, "on D_R", "robust_image"),
    ("d_nonrobust", "nonrobust", "standard", on_nonrobust, "on D_NR",
     "nonrobust_image"),
    ("d_rand", "rand", "standard", on_rand, "on D_rand", "rand_standard"),
    ("d_det", "det", "standard", on_det, "on D_det", "det_standard"),
    ("d_rand_robust", "rand", "robust", on_rand,
     "on D_rand, robust source", "rand_robust"),
    ("d_det_robust", "det", "robust", on_det, "on D_det, robust source",
     "det_robust"),
  ):  # fmt: skip
    if kind in ("rand", "det"):
      construct = make_targeted(kind, **targeted)
    else:
      construct = make_inversion(kind, **inversion)
    add_data_set(config, name, source, construct, recipe)
    row(f"on_{name}", title, paper=printed)
    if kind == "det":
      row(
        f"on_{name}", f"{title}, labels y+1", suffix="_relabelled",
        label_shift=1, paper=f"{printed}_relabelled",
      )  # fmt: skip


def grid(stage: str) -> list[dict[str, Any]]:
  """Returns appendix C.2's grid over a train stage, as `sweep()` wants it."""
  train = f"stages.{stage}.train"
  augmentations = ((4, True, 0.25, 2.0), (0, False, 0.0, 0.0))
  points = itertools.product(
    (0.1, 0.01, 0.05), (128, 256), ("step", "constant"), augmentations
  )
  return [
    {
      f"{train}.learning_rate": rate,
      f"{train}.batch_size": batch_size,
      f"{train}.schedule": schedule,
      f"{train}.augment.pad": pad,
      f"{train}.augment.flip": flip,
      f"{train}.augment.jitter": jitter,
      f"{train}.augment.rotate": rotate,
    }
    for rate, batch_size, schedule, (pad, flip, jitter, rotate) in points
  ]


def variant(config: Any, name: str) -> Any:
  """Returns the study as a config's variant: "" as it is, "smoke" tiny.

  Raises:
    ValueError: For any other name.
  """
  if name == "smoke":
    _shrink(config)
  elif name:
    raise ValueError(f"unknown variant {name!r}; there is 'smoke'")
  return config


def _shrink(config: Any) -> None:
  """Makes a study a matter of seconds: a few images, an epoch, two steps."""
  for source in config.data.values():
    source.num_train, source.num_test, source.num_validation = 64, 32, 16
  for section in config.models.values():
    section.width = 4
  for stage in config.stages.values():
    if "train" in stage:
      stage.train.num_epochs = 2
      stage.train.batch_size = 16
      stage.train.adversary.num_steps = min(2, stage.train.adversary.num_steps)
    if "construct" in stage:
      stage.construct.attack.num_steps = 2
      stage.construct.batch_size = 16
      stage.construct.shard_size = 32
    if stage.kind == "carlini_wagner":
      stage.attack.num_steps = stage.attack.num_searches = 2
    if "steps" in stage:
      stage.steps = (*stage.steps[:1], 2)
    if "evaluate" in stage:
      stage.evaluate.num_steps = 2
      stage.evaluate.batch_size = 32
