"""Stages that make a model or a data set, one function a kind."""

from typing import Any

from ml_collections import ConfigDict

from robust_features.recipes import sections
from robust_features.recipes.sections import make, own


def train_stage(architecture: str, data: str, recipe: Any,
                validation: str = "D", **changes: Any) -> Any:  # fmt: skip
  """Returns a stage that trains `models.<architecture>` on `data`.

  Args:
    architecture: Of the network.
    data: The training set.
    recipe: Of `train`.
    validation: The source whose held-out split is evaluated.
    **changes: `init_from`, the stage from whose model it begins, and
      `init_which` ("initial", "last" or "best"); `teacher`, with
      `distil_weight`, and `teacher_which`.
  """
  return make(
    {
      "kind": "train",
      "architecture": architecture,
      "data": data,
      "validation": validation,
      "init_from": "",
      "init_which": "initial",
      "teacher": "",
      "teacher_which": "last",
      "train": own(recipe),
    },
    changes,
  )


def imported_stage(checkpoint: str = "", data: str = "D",
                   dtype: str = "float32") -> Any:  # fmt: skip
  """Returns a stage that opens a model trained elsewhere.

  Args:
    checkpoint: What `import_checkpoint` wrote, or a train stage's folder.
    data: What it is to be shown.
    dtype: "float32" or "bfloat16", to compute in.
  """
  return ConfigDict(
    {
      "kind": "imported",
      "checkpoint": checkpoint,
      "data": data,
      "dtype": dtype,
    }
  )


def construct_stage(source: str, recipe: Any, **changes: Any) -> Any:
  """Returns a stage that makes a data set with a trained stage's model.

  Args:
    source: The train stage.
    recipe: Of `construction`, `inversion` or `targeted`.
    **changes: `data`, `split`, `which` ("last" or "best"); stages whose models
      are to stay unfooled, `repel`, whose predictions spare images,
      `spared_by`, or are aimed at, `teacher`.
  """
  return make(
    {
      "kind": "construct",
      "source": source,
      "which": "last",
      "repel": (),
      "spared_by": "",
      "teacher": "",
      "data": "D",
      "split": "train",
      "construct": own(recipe),
    },
    changes,
  )


def error_minimising_stage(architecture: str = "main", data: str = "D",
                           **changes: Any) -> Any:  # fmt: skip
  """Returns a stage that makes error-minimising noise, arXiv:2101.04898's.

  linf 8/255, 20 steps of eps/10 between ten steps of the network, until it is
  wrong on 1% of the images. The paper does not state the network's recipe:
  here it is the rate, momentum and decay of `train`.

  Args:
    architecture: Of `config.models`.
    data: The source.
    **changes: `error_minimising` (the whole section).
  """
  eps = 8 / 255
  return make(
    {
      "kind": "error_minimising",
      "architecture": architecture,
      "data": data,
      "error_minimising": {
        "attack": sections.attack("linf", eps, eps / 10, 20, keep_best=False),
        "train_steps": 10,
        "train_batch_size": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "stop_error": 0.01,
        "max_rounds": 200,
        "pixels": "uint8",
        "batch_size": 500,
        "shard_size": 2500,
      },
    },
    changes,
  )


def class_perturbation_stage(
  source: str, attack: Any, target: str, data: str = "D", **changes: Any
) -> Any:
  """Returns a stage of which every class shares one perturbation.

  Args:
    source: The stage whose model is led.
    attack: Norm, radius, step size and count.
    target: "next", P3 of arXiv:2102.04716, or "own", P4.
    data: A source.
    **changes: `which`, `class_perturbation` (the whole section).
  """
  return make(
    {
      "kind": "class_perturbation",
      "source": source,
      "which": "last",
      "data": data,
      "class_perturbation": {
        "attack": make(attack.to_dict(), {"keep_best": False}),
        "target": target,
        "class_batch_size": 128,
        "pixels": "uint8",
        "batch_size": 500,
        "shard_size": 2500,
      },
    },
    changes,
  )


def select_stage(data: str, by: str, **changes: Any) -> Any:
  """Returns a stage that keeps some examples of a set.

  Args:
    data: The set.
    by: "right" or "wrong" by a `model`, its "margin" (with `fraction` and
      `end`), "classes" or "first" (with `num_examples`).
    **changes: Further fields, `judged` (the images that the model sees instead
      of the set's own) among them.
  """
  return make(
    {
      "kind": "select",
      "data": data,
      "split": "train",
      "by": by,
      "model": "",
      "which": "last",
      "judged": "",
      "fraction": 1.0,
      "end": "top",
      "classes": (),
      "num_examples": 0,
    },
    changes,
  )


def relabel_stage(model: str, data: str, **changes: Any) -> Any:
  """Returns a stage that labels a set with what a model sees in it."""
  return make(
    {
      "kind": "relabel",
      "model": model,
      "which": "last",
      "data": data,
      "split": "train",
    },
    changes,
  )


def transform_stage(data: str, transform: str, amount: float = 0.0,
                    split: str = "train") -> Any:  # fmt: skip
  """Returns a stage that changes a whole set.

  Args:
    data: The set.
    transform: "jpeg", "grey", "low_pass", "high_pass" or "shuffle_labels".
    amount: JPEG's quality, or a filter's radius in periods an image.
    split: Of a source.
  """
  return ConfigDict(
    {
      "kind": "transform",
      "data": data,
      "split": split,
      "transform": transform,
      "amount": float(amount),
    }
  )


def combine_stage(data: str, also: str, fraction: float, how: str = "replace",
                  split: str = "train") -> Any:  # fmt: skip
  """Returns a stage that mixes a share of one set into another.

  Args:
    data: The set.
    also: The other one.
    fraction: Share of the number of the former's examples.
    how: "replace", "append", or "changes", a poison's control: what the latter
      changed, dealt out at random among the former's images.
    split: Of a source.
  """
  return ConfigDict(
    {
      "kind": "combine",
      "data": data,
      "also": also,
      "split": split,
      "how": how,
      "fraction": float(fraction),
    }
  )
