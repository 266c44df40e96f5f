"""What the studies of Restricted ImageNet share.

Reference: arXiv:1905.02175, appendix C, tables 2 to 6; for what has no row
there, the paper's library.
"""

from typing import Any

from robust_features.recipes import sections, stages, studies, variants


def imagenet_train(**changes: Any) -> Any:
  """Returns the library's recipe: batch 256, drops every 50 of 150 epochs."""
  return sections.train(
    **{
      "batch_size": 256,
      "weight_decay": 1e-4,
      "augment": sections.imagenet_augmentation(),
    }
    | changes
  )


def imagenet_evaluation() -> Any:
  """Returns figure 12's radius and table 4's."""
  return sections.evaluation(eps=(0.5, 3.0), batch_size=256)


def imagenet_study(name: str) -> Any:
  """Returns a study with D, its ResNet-50 and standard training."""
  config = studies.study(name)
  config.data.D = sections.restricted_imagenet()
  config.models.main = sections.model(
    "resnet50_imagenet",
    # The constants of the paper's library, of the training images' pixels.
    mean=(0.4717, 0.4499, 0.3837),
    std=(0.2600, 0.2516, 0.2575),
  )
  config.stages.standard = stages.train_stage("main", "D", imagenet_train())
  # A step is long, and its images are a hundred megabytes.
  config.run.chunk_steps = 1
  config.run.eval_batch_size = 256
  return config


def imagenet_variant(config: Any, variant: str) -> Any:
  """Returns a study of `imagenet_study` as a variant.

  Args:
    config: The study.
    variant: "" as it is, "balanced" with three wnids of every super-class,
      "smoke" tiny.
  """
  if variant == "balanced":
    config.name = f"{config.name}-balanced"
    config.data.D.balanced = True
    config.data.D.num_validation = 500
    for stage in config.stages.values():
      if "paper" in stage:
        stage.paper = ""  # Another data set: its numbers do not apply.
    return config
  if variant == "smoke":
    # Of a sample without a test set.
    config.data.D.image_size, config.data.D.short_side = 32, 36
    config.data.D.test_fraction = 0.2
  return variants.variant(config, variant)
