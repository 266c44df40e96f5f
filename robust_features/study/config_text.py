"""A config as a file that `--config` takes again."""

import pprint
from typing import Any

_TEXT = '''\
"""The config of a finished run, every field as it was.

Command: python -m robust_features.main --config=config.py
"""

from math import inf  # noqa: F401, where a radius has no bound.

from ml_collections import ConfigDict


def get_config():
  """Returns the study."""
  return ConfigDict({fields})
'''


def python(config: Any) -> str:
  """Returns a Python file whose `get_config()` returns an equal config."""
  fields = pprint.pformat(config.to_dict())
  return _TEXT.replace("{fields}", fields)
