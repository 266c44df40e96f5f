"""Stages of a study's config, one function a kind."""

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


def probe_stage(model: str, data: str, **changes: Any) -> Any:
  """Returns a linear classifier on a model's representation.

  Args:
    model: The train stage; empty to read the images themselves.
    data: What it is fitted on.
    **changes: `test` and `test_split`, what it is tested on; `label_shifts`;
      `originals`, to read the changes of the images that `data` was made of;
      `which`, `split`, `strength`.
  """
  return make(
    {
      "kind": "probe",
      "model": model,
      "which": "last",
      "data": data,
      "split": "train",
      "originals": "",
      "test": "D",
      "test_split": "test",
      "label_shifts": (0, 1, -1),
      "strength": 1e-3,
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
      to every label), `label_shifts` (further ones, shown beside the first),
      `control_of` (the row whose claim this one could refute), `paper` (a row
      of `robust_features.study.paper`).
  """
  return make(
    {
      "kind": "evaluate",
      "model": model,
      "which": "last",
      "data": "D",
      "split": "test",
      "label_shift": 0,
      "title": title,
      "paper": "",
      "control_of": "",
      "label_shifts": (),
      "evaluate": own(settings),
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
      "evaluate": own(settings),
    }
  )


def autoattack_stage(model: str, norm: str, eps: tuple[float, ...],
                     **changes: Any) -> Any:  # fmt: skip
  """Returns standard AutoAttack on the first images of the test set.

  Args:
    model: The train stage.
    norm: "l2" or "linf".
    eps: Radii, in units of [0, 1].
    **changes: `num_examples` (0 for all), `data`, `split`, `which`,
      `label_shift`.
  """
  return make(
    {
      "kind": "autoattack",
      "model": model,
      "which": "last",
      "data": "D",
      "split": "test",
      "label_shift": 0,
      "num_examples": 1000,
      "autoattack": {
        "norm": norm,
        "eps": eps,
        "attacks": ("apgd-ce", "apgd-t", "fab-t", "square"),
        "budget": {
          "num_steps": 100,
          "num_targets": 9,
          "num_queries": 5000,
          "num_restarts": 1,
        },
        "batch_size": 250,
      },
    },
    changes,
  )


def transfer_stage(source: str, targets: tuple[str, ...],
                   learners: tuple[str, ...], attack: Any,
                   **changes: Any) -> Any:  # fmt: skip
  """Returns figures 3 and 13: examples of one model shown to others.

  Args:
    source: The train stage whose examples they are.
    targets: Stages whose models, trained or imported, are to be fooled.
    learners: Train stages of the same architectures in the same order, on
      D_det of the source; none if only success is asked for.
    attack: Of both kinds of example.
    **changes: `which` ("last" or "best") of the source, `num_examples` (0 for
      all), `data`, `split`, `paper`.
  """
  return make(
    {
      "kind": "transfer",
      "source": source,
      "which": "last",
      "targets": targets,
      "learners": learners,
      "data": "D",
      "split": "test",
      "num_examples": 0,
      "paper": "transfer",
      "transfer": {
        "attack": own(attack),
        "target": "next",
        "batch_size": 500,
      },
    },
    changes,
  )


def usefulness_stage(models: tuple[str, ...], attack: Any,
                     **changes: Any) -> Any:  # fmt: skip
  """Returns section 2 on models: rho and gamma of their representations.

  Args:
    models: The stages whose models are measured.
    attack: Of every coordinate.
    **changes: `which`, `data`, `split`, `num_examples` (0 for all),
      `coordinates` (all if empty), `batch_size`, `ascending` (whether each
      model must keep more of its usefulness than the one before it).
  """
  return make(
    {
      "kind": "usefulness",
      "models": models,
      "which": "last",
      "data": "D",
      "split": "train",
      "num_examples": 0,
      "coordinates": (),
      "attack": own(attack),
      "batch_size": 250,
      "ascending": False,
    },
    changes,
  )


def statements_stage() -> Any:
  """Returns sections 2, 4 and E: every statement, and their figures."""
  return ConfigDict(
    {
      "kind": "statements",
      # Samples of an expectation; random draws of an inequality.
      "checks": {"num_samples": 20000, "num_draws": 500},
      # Figure 4: two axes; the panels' eps.
      "metrics": {
        "mean": (-10.0, 1.0),
        "cov": (25.0, 0.5),
        "eps": (0.0, 1.0, 10.0),
        "num_samples": 150,
      },
      # Eigenvalues, multiplier and alignment against eps.
      "path": {
        "mean": (-10.0, 1.0),
        "spectrum": (25.0, 5.0, 2.0, 0.5, 0.1),
        "least_eps": 1e-2,
        "most_eps": 1e3,
        "num_eps": 100,
      },
      # Figure 14: deviations of the two features, cut off at `cut` of them.
      "two_features": {
        "mean": (6.0, 1.0),
        "deviation": (1.2, 0.2),
        "cut": 2.5,
        "eps": 3.0,
        "num_samples": 600,
      },
      # (13) against (20): half the axes of each variance, eps^2 per axis.
      "gap": {
        "variances": (25.0, 0.5),
        "eps_per_root_dim": (0.3, 1.0),
        "dims": (2, 8, 32, 128),
        "num_samples": 1000,
      },
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
      "evaluate": own(settings),
      "attack": {
        "num_steps": 1000,
        "num_searches": 9,
        "learning_rate": 0.01,
        "initial_c": 0.01,
      },
    }
  )


def pictures_stage(models: tuple[str, ...], **changes: Any) -> Any:
  """Returns pictures of representations, with the settings of CIFAR-10's.

  Inversion by 10,000 steps of 0.1, features by 200 steps of 1, as in the
  notebooks of arXiv:1906.00945.

  Args:
    models: Train stages; those after the first are its controls.
    **changes: `which`, `data`, `split`, `pictures` (the whole section).
  """
  return make(
    {
      "kind": "pictures",
      "models": models,
      "which": "last",
      "data": "D",
      "split": "test",
      "pictures": {
        "num_classes": 10,
        "images_per_class": 4,
        "num_points": 10,
        "inversion": {
          "step_size": 0.1,
          "num_steps": 10_000,
          "frame_every_steps": 2500,
          "fake_relu": True,
        },
        "features": {
          "step_size": 1.0,
          "num_steps": 200,
          "frame_every_steps": 100,
          "fake_relu": True,
        },
        "batch_size": 500,
      },
    },
    changes,
  )
