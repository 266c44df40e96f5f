"""What is said of steps before, and the file's name, reach the event file."""

import struct
import unittest

import toys
from absl.testing import absltest

from robust_features.runtime import board


def events(path):
  """Returns the events of a file of TFRecords."""
  from tensorboardX.proto import event_pb2

  content, found = path.read_bytes(), []
  while content:
    (size,) = struct.unpack("<Q", content[:8])
    found.append(event_pb2.Event.FromString(content[12 : 12 + size]))
    content = content[16 + size :]
  return found


@unittest.skipUnless(board.is_installed(), "tensorboardX is missing")
class WriterTest(absltest.TestCase):
  def test_what_is_void_and_what_the_file_is_called(self):
    folder = toys.folder(self) / "tensorboard"
    with board.writer(folder, purge_step=11, suffix=".mine") as writer:
      writer.add_scalar("a", 0.5, 12)
    (path,) = folder.iterdir()
    self.assertEndsWith(path.name, ".mine")
    *_, start, scalar = events(path)
    self.assertEqual((start.step, start.session_log.status), (11, 1))  # START.
    (value,) = scalar.summary.value
    self.assertEqual((scalar.step, value.tag, value.simple_value),
                     (12, "a", 0.5))  # fmt: skip


if __name__ == "__main__":
  absltest.main()
