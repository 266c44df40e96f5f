"""What stages that train a network have in common: the network for the data."""

from robust_features import models
from robust_features.data import dataset as ds
from robust_features.study.graph import Study


def fitted(
  study: Study, architecture: str, data: str, source: str
) -> tuple[models.ModelConfig, str]:
  """Returns an architecture with what the data tell, and its place.

  Args:
    study: Whose it is.
    architecture: Of `config.models`.
    data: What it is trained on, a source or a set, for the classes.
    source: Of the images that set was made of, for normalisation.
  """
  where = f"models.{architecture}"
  found = study.plan.data[source]
  own = study.plan.models[architecture]
  if (found.source, found.name) == ("tfds", "cifar10"):
    # The constants of the paper's library.
    constants = models.CIFAR_MEAN, models.CIFAR_STD
  elif own.mean and own.std:
    constants = own.mean, own.std
  else:
    constants = ds.channel_moments(study.splits(source).train)
  try:
    return models.fitted(own, study.num_classes(data), *constants), where
  except ValueError as error:
    raise ValueError(f"{where}.{error}") from None
