"""Stages that measure, one function a kind."""

from typing import Any

from ml_collections import ConfigDict

from robust_features.recipes.sections import make, own


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
  """Returns standard AutoAttack on 1,000 images of the test set.

  Every class has its share of them.

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


def spatial_stage(models: tuple[str, ...], **changes: Any) -> Any:
  """Returns the worst of a grid of rotations and shifts: 775 points.

  3 pixels and 30 degrees, arXiv:1712.02779's grid for CIFAR-10.

  Args:
    models: The stages whose models are measured; those after the first are its
      controls.
    **changes: `which`, `data`, `split`, `num_examples` (0 for all), `spatial`
      (the whole section).
  """
  return make(
    {
      "kind": "spatial",
      "models": models,
      "which": "last",
      "data": "D",
      "split": "test",
      "num_examples": 0,
      "spatial": {
        "max_shift": 3.0,
        "num_shifts": 5,
        "max_angle": 30.0,
        "num_angles": 31,
        "batch_size": 500,
      },
    },
    changes,
  )


def fourier_map_stage(models: tuple[str, ...], **changes: Any) -> Any:
  """Returns the error under waves of every frequency, of norm 4.

  1,000 images, arXiv:1906.08988's map for CIFAR-10.

  Args:
    models: The stages whose models are measured; those after the first are its
      controls.
    **changes: `which`, `data`, `split`, `num_examples` (0 for all), `fourier`
      (the whole section).
  """
  return make(
    {
      "kind": "fourier_map",
      "models": models,
      "which": "last",
      "data": "D",
      "split": "test",
      "num_examples": 1000,
      "fourier": {
        "eps": 4.0,
        "max_frequency": 16,
        "num_white": 10,
        "batch_size": 500,
      },
    },
    changes,
  )


def curve_stage(models: tuple[str, ...],
                label_shifts: tuple[int, ...] = (0,)) -> Any:  # fmt: skip
  """Returns accuracies by several labels over training, peak and end.

  Args:
    models: Train stages; those after the first are its controls.
    label_shifts: Added to every label.
  """
  return make(
    {"kind": "curve", "models": models, "label_shifts": label_shifts}, {}
  )
