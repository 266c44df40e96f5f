"""Sections of a study's config, with the paper's values as defaults.

Reference: arXiv:1905.02175, appendix C, tables 3 to 6.
"""

import math
from typing import Any

from ml_collections import ConfigDict


def make(defaults: dict[str, Any], changes: dict[str, Any]) -> Any:
  """Returns the defaults with changes.

  Raises:
    ValueError: If a change names a field that is not there.
  """
  section = ConfigDict(defaults)
  for name, value in changes.items():
    if name not in section:
      raise ValueError(f"{name} is not one of {', '.join(section)}")
    section[name] = own(value)
  return section


def own(value: Any) -> Any:
  """Returns a copy of a section, so that no two stages share one."""
  return ConfigDict(value.to_dict()) if isinstance(value, ConfigDict) else value


def data(source: str, **changes: Any) -> Any:
  """Returns a data source."""
  return make(
    {
      "source": source,
      "name": "",
      "data_dir": "",
      "num_train": 0,
      "num_test": 0,
      "num_validation": 0,
      "seed": 0,
      "image_size": 0,
      "test_fraction": 0.0,
      "skip_unreadable": False,
      "balanced": False,
      "short_side": 0,
      "streamed": False,
    },
    changes,
  )


def cifar10(**changes: Any) -> Any:
  """Returns CIFAR-10 from tfds, 1,000 training images held out."""
  return data("tfds", **{"name": "cifar10", "num_validation": 1000} | changes)


def restricted_imagenet(**changes: Any) -> Any:
  """Returns Restricted ImageNet from `data_dir`, streamed, 5,000 held out."""
  return data(
    "restricted_imagenet",
    **{"image_size": 224, "short_side": 256, "num_validation": 5000,
       "streamed": True} | changes,
  )  # fmt: skip


def model(name: str, **changes: Any) -> Any:
  """Returns an architecture; width 0 is its own.

  Classes and normalisation are the data's unless set; for CIFAR-10 those are
  the constants of the paper's library. The name of one's own network is
  "package.module:factory", called with `kwargs`.
  """
  return make(
    {
      "name": name,
      "num_classes": 0,
      "width": 0,
      "dtype": "float32",
      "mean": (),
      "std": (),
      "kwargs": {},
      "remat": False,
      "norm": "own",
    },
    changes,
  )


def attack(norm: str, eps: float, step_size: float, num_steps: int,
           **changes: Any) -> Any:  # fmt: skip
  """Returns an attack from the image itself that keeps the best iterate."""
  return make(
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
  return make(
    no_augmentation(), {"pad": 4, "flip": True, "jitter": 0.25, "rotate": 2.0}
  )


def imagenet_augmentation() -> Any:
  """Returns the library's for ImageNet; needs a streamed data set."""
  return make(
    no_augmentation(),
    {"flip": True, "jitter": 0.1, "resized_crop": 0.08, "lighting": 0.05},
  )


def no_augmentation() -> Any:
  """Returns none."""
  return ConfigDict(
    {
      "pad": 0,
      "flip": False,
      "jitter": 0.0,
      "rotate": 0.0,
      "resized_crop": 0.0,
      "lighting": 0.0,
    }
  )


def train(**changes: Any) -> Any:
  """Returns the paper's recipe on CIFAR-10: drops at epochs 50 and 100."""
  return make(
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
      "nesterov": False,
      "label_smoothing": 0.0,
      "trades_beta": 0.0,
      "awp_gamma": 0.0,
      "ema_decay": 0.0,
      "distil_weight": 0.0,
      "distil_target": "logits",
      "distil_temperature": 1.0,
      "accumulate_steps": 1,
    },
    changes,
  )


def construction(kind: str, attack: Any, **changes: Any) -> Any:
  """Returns how a data set is made; by default as D_det is.

  Args:
    kind: The set's name, D_<kind>.
    attack: Norm, radius, step size and count.
    **changes: Fields of `robust_features.construct.ConstructConfig`.
  """
  return make(
    {
      "kind": kind,
      "objective": "target",
      "target": "next",
      "label": "target",
      "repel_weight": 1.0,
      "repel_label": "own",
      "init": "self",
      "base": "image",
      "fixed_noise": "none",
      "spare": "none",
      "transform_copies": 0,
      "examples_per_image": 1,
      "attack": own(attack),
      "fake_relu": False,
      "pixels": "uint8",
      "batch_size": 500,
      "shard_size": 2500,
    },
    changes,
  )


def inversion(kind: str, **changes: Any) -> Any:
  """Returns D_R's or D_NR's construction: table 5, 1,000 steps of 0.1."""
  section = construction(
    kind, attack("l2", math.inf, 0.1, 1000, keep_best=False),
    objective="representation", target="none", label="own", init="image",
    fake_relu=True,
  )  # fmt: skip
  return make(section.to_dict(), changes)


def targeted(kind: str, **changes: Any) -> Any:
  """Returns D_rand's or D_det's construction: table 6, 100 steps in 0.5."""
  target = "uniform" if kind == "rand" else "next"
  section = construction(kind, attack("l2", 0.5, 0.1, 100), target=target)
  return make(section.to_dict(), changes)


def evaluation(**changes: Any) -> Any:
  """Returns the paper's radii under PGD-100 in steps of 2.5 eps / 100."""
  return make(
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
