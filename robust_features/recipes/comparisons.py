"""Stages that measure several models on the same images, one a kind."""

from typing import Any

from robust_features.recipes.sections import make


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
