"""What tests of data sources share: configs, images, how a refusal looks."""

import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import parameterized

from robust_features.data import sources
from robust_features.data.dataset import DataError
from robust_features.runtime import logs


def random_images(num, size, seed, channels=3):
  rng = np.random.default_rng(seed)
  shape = (num, size, size, channels)
  return rng.integers(256, size=shape).astype(np.uint8)


class SourceTestCase(parameterized.TestCase):
  """Keeps what a source prints in `self.said`."""

  def setUp(self):
    super().setUp()
    self.said = []
    self.enter_context(mock.patch.object(logs, "say", self.said.append))

  def folder(self):
    return pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

  def load(self, source, **fields):
    return sources.load(sources.DataConfig(source, **fields))

  def assert_refused(self, cfg, *patterns):
    """Loading fails with one line that matches every pattern."""
    with self.assertRaises(DataError) as caught:
      sources.load(cfg)
    message = str(caught.exception)
    self.assertNotIn("\n", message)
    for pattern in patterns:
      self.assertRegex(message, pattern)

  def assert_said(self, *patterns):
    """Exactly these lines were printed, one pattern each."""
    self.assertLen(self.said, len(patterns), self.said)
    for line, pattern in zip(self.said, patterns, strict=True):
      self.assertRegex(line, pattern)
