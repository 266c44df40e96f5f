"""What the studies of the planted set share, chosen for two CPU cores."""

from typing import Any

from robust_features.recipes import sections, studies


def planted_study(name: str) -> Any:
  """Returns a study with D and the network for it."""
  config = studies.study(name)
  config.data.D = sections.data(
    "planted", num_train=4000, num_test=1000, num_validation=200
  )
  config.models.main = sections.model(
    "plain_strided_cnn", width=16, mean=(0.3,) * 3, std=(0.2,) * 3
  )
  return config


def planted_train(**changes: Any) -> Any:
  """Returns standard training on the planted set."""
  return sections.train(
    **{
      "num_epochs": 18,
      "batch_size": 100,
      "schedule": "cosine",
      "warmup_epochs": 1.0,
      # What training on D_R leaves unused must fade, or it reads the faint
      # texture that inversion carries over.
      "weight_decay": 3e-3,
      "augment": sections.no_augmentation(),
      "eval_every_epochs": 2,
    }
    | changes
  )


def planted_robust_train(eps: float, **changes: Any) -> Any:
  """Returns adversarial training on the planted set, against l2 `eps`."""
  return planted_train(
    **{
      "num_epochs": 20,
      "learning_rate": 0.05,
      "adversary": sections.adversary(eps),
      # At the full radius from the start it would stay at chance.
      "eps_ramp_epochs": 8.0,
    }
    | changes
  )
