"""The paper's printed numbers, to stand beside ours; fractions in [0, 1].

They stand there where the data are the paper's, and nowhere else.

Reference: arXiv:1905.02175v4, tables 1, 7, 8, 9 and 10, figures 3, 12 and
13.
"""

from typing import Any

from robust_features.data.sources import DataConfig
from robust_features.study.graph import Plan

# (source, name) of the data that the numbers are of.
_DATA = (("tfds", "cifar10"), ("npz", "cifar10.1_v6"))


def _row(source: str, accuracy: float, **robust: float) -> dict[str, Any]:
  """`eps_0_25=0.5` is the accuracy at eps = 0.25."""
  return {
    "source": source,
    "accuracy": accuracy,
    "robust_accuracy": {
      name.removeprefix("eps_").replace("_", "."): value
      for name, value in robust.items()
    },
  }


ROWS = {
  "standard": _row("Table 7", 0.9525, eps_0_25=0.0449, eps_0_5=0.0),
  "robust": _row("Table 7", 0.9083, eps_0_25=0.8248, eps_0_5=0.7090),
  "nonrobust_image": _row("Table 7", 0.8768, eps_0_25=0.0082, eps_0_5=0.0),
  "nonrobust_noise": _row("Table 7", 0.4560, eps_0_25=0.0150, eps_0_5=0.0),
  "robust_image": _row("Table 7", 0.8540, eps_0_25=0.4820, eps_0_5=0.2185),
  "robust_noise": _row("Table 7", 0.8410, eps_0_25=0.4827, eps_0_5=0.2940),
  # Of Table 8, robust accuracies alone are printed, at eps 0.25, of the model
  # trained on the D_R that starts from noise.
  "robust_train_set": {
    "source": "Table 8",
    "accuracy": None,
    "robust_accuracy": {"0.25": 0.7733},
  },
  "robust_test_set": {
    "source": "Table 8",
    "accuracy": None,
    "robust_accuracy": {"0.25": 0.6249},
  },
  "rand_standard": _row("Tables 1, 9", 0.633),
  "det_standard": _row("Tables 1, 9, 10", 0.437),
  "rand_robust": _row("Table 9", 0.252),
  "det_robust": _row("Tables 9, 10", 0.058),
  "det_standard_relabelled": _row("Table 10", 0.162),
  "det_robust_relabelled": _row("Table 10", 0.655),
  "rand_cifar10_1": _row("D.7", 0.55),
  "det_cifar10_1": _row("D.7", 0.44),
  # Restricted ImageNet; figure 12's bars, read off its vector graphics, differ
  # from table 1 in what is standard training's.
  "imagenet_standard": _row("Figure 12", 0.980, eps_0_5=0.185),
  "imagenet_robust": _row("Figure 12", 0.957, eps_0_5=0.928),
  "imagenet_robust_image": _row("Figure 12", 0.868, eps_0_5=0.706),
  "imagenet_standard_table": _row("Table 1", 0.966),
  "imagenet_rand": _row("Table 1", 0.879),
  "imagenet_det": _row("Table 1", 0.644),
}


def _point(architecture, accuracy, untargeted, targeted) -> dict[str, Any]:
  return {
    "architecture": architecture,
    "learner_accuracy": accuracy,
    "untargeted": untargeted,
    "targeted": targeted,
  }


# Figures 3 and 13, read off their vector graphics: test accuracy of an
# architecture trained on D_det of a ResNet-50, and how often examples of the
# ResNet-50 fool it. The ResNet-50's 44.7 is not table 1's 43.7.
TRANSFER = {
  "transfer": (
    _point("VGG-16", 0.2794, 0.6567, 0.0915),
    _point("Inception-v3", 0.3939, 0.8275, 0.230),
    _point("ResNet-18", 0.4084, 0.9212, 0.324),
    _point("DenseNet", 0.4170, 0.9272, 0.365),
    _point("ResNet-50", 0.4470, 0.9870, 0.716),
  ),
}


def applies(plan: Plan, name: str) -> bool:
  """Returns whether a stage, and all that it needs, is of the paper's data."""
  node = plan.nodes[name]
  own = [plan.data[source] for source in node.sources]
  return all(map(_is_papers, own)) and all(
    applies(plan, parent) for parent in node.parents
  )


def _is_papers(cfg: DataConfig) -> bool:
  """Returns whether a source is one of the paper's, in the paper's size."""
  if cfg.source == "restricted_imagenet":
    return cfg.image_size == 224 and not cfg.balanced
  return (cfg.source, cfg.name) in _DATA
