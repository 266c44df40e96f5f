"""Event files of every stage, read back as TensorBoard reads them."""

import importlib.util
import struct
import sys
import unittest
from unittest import mock

import numpy as np
import toys
from absl.testing import absltest
from PIL import Image

from robust_features.runtime import board, files
from robust_features.study.report import events

STAGES = {
  "base": {"accuracy": 0.5, "title": "a base", "history": [1, 2], "ok": True},
  "base_more": {"robust_accuracy": {"0.25": 0.125}, "missing": None},
}


def read(path):
  """Returns the values of an event file, by tag."""
  from tensorboardX.proto import event_pb2

  content, found = path.read_bytes(), {}
  while content:
    (size,) = struct.unpack("<Q", content[:8])
    event = event_pb2.Event.FromString(content[12 : 12 + size])
    found |= {value.tag: value for value in event.summary.value}
    content = content[16 + size :]
  return found


@unittest.skipUnless(
  importlib.util.find_spec("tensorboardX"), "tensorboardX is missing"
)
class EventsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = toys.class_folder(cls)
    for name in STAGES:
      fields = {"seed": 3, f"stages.{name}.eps": [1, 2], "stages.x.eps": 4}
      files.write_json(cls.workdir / name / "config.json", fields)
    pictures = [cls.workdir / f"{stem}.png" for stem in
                ("base_more_a", "base", "curves")]  # fmt: skip
    for picture in pictures:
      Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(picture)
    curve = board.writer(cls.workdir / "base" / "tensorboard")
    curve.add_scalar("train/loss", 1.0, 5)
    curve.close()
    for _ in range(2):  # The second time in place of the first.
      events.write(STAGES, pictures, cls.workdir)

  def values(self, name):
    (path,) = (self.workdir / name / "tensorboard").glob("*.results")
    return read(path)

  def test_is_installed(self):
    """Without, runs and reports leave the events out."""
    self.assertTrue(board.is_installed())
    with mock.patch.dict(sys.modules, tensorboardX=None):
      self.assertFalse(board.is_installed())

  def test_scalars(self):
    self.assertAlmostEqual(self.values("base")["accuracy"].simple_value, 0.5)
    found = self.values("base_more")
    self.assertEqual(found["robust_accuracy/0.25"].simple_value, 0.125)
    for tag in ("title", "history", "ok"):
      self.assertNotIn(tag, self.values("base"))
    self.assertNotIn("missing", found)

  def test_what_training_wrote_stays(self):
    self.assertLen(list((self.workdir / "base/tensorboard").iterdir()), 2)

  def test_every_picture_goes_to_its_stage(self):
    for name, picture in (("base", "base"), ("base_more", "base_more_a"),
                          ("figures", "curves")):  # fmt: skip
      images = {t for t, v in self.values(name).items() if v.image.width == 5}
      self.assertEqual(images, {picture})

  def test_settings(self):
    started = self.values("base")["_hparams_/session_start_info"]
    content = started.metadata.plugin_data.content
    for text in (b"seed", b"eps", b"[1, 2]"):
      self.assertIn(text, content)
    self.assertNotIn(b"stages", content)


if __name__ == "__main__":
  absltest.main()
