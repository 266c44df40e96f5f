"""A stage by its section, and a study of made-up sets and models."""

from unittest import mock

import jax

from robust_features.study import settings
from robust_features.study.kinds import KINDS


def stage(section):
  """Returns a section of a config as its kind's stage."""
  fields = dict(section.items())
  return settings.build(KINDS[fields.pop("kind")].stage, fields, "stages.s")


def study(**sets):
  """Returns a study of these sets, whose every model is ("net", "weights")."""
  found = mock.Mock()
  found.dataset.side_effect = lambda name, split: sets[name]
  found.model.return_value = "net", "weights"
  found.key.side_effect = lambda name: jax.random.key(len(name))
  found.plan.data = {}
  return found
