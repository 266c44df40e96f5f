"""Files appear whole or not at all, and damaged ones are named."""

import errno
import json
import os
import pathlib
import stat
from unittest import mock

import toys
from absl.testing import absltest

from robust_features.runtime import files


class FilesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    self.path = self.folder / "new" / "a.json"

  def test_write_makes_folders_and_replaces(self):
    files.write_bytes(self.path, b"one")
    files.write_bytes(self.path, b"two")
    self.assertEqual(self.path.read_bytes(), b"two")
    self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o644)

  def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(self):
    files.write_bytes(self.path, b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    for step in ("fsync", "replace"):
      with (
        mock.patch.object(os, step, side_effect=full),
        self.assertRaises(OSError),
      ):
        files.write_bytes(self.path, b"new")
      self.assertEqual(self.path.read_bytes(), b"old")
      self.assertLen(list(self.path.parent.iterdir()), 1)

  def test_the_file_is_complete_before_it_gets_its_name(self):
    seen = []

    def replace(source, target):
      seen.append(pathlib.Path(source).read_bytes())
      self.assertFalse(pathlib.Path(target).exists())

    with mock.patch.object(os, "replace", replace):
      files.write_bytes(self.path, b"x" * 100_000)
    self.assertEqual(seen, [b"x" * 100_000])

  def test_json_round_trip(self):
    value = {"b": [1, 2.5, None], "a": "ä"}
    files.write_json(self.path, value)
    self.assertEqual(files.read_json(self.path), value)
    text = self.path.read_text()
    self.assertLess(text.index('"b"'), text.index('"a"'))  # As given.
    self.assertEndsWith(text, "}\n")

  def test_nan_is_refused_and_nothing_is_written(self):
    for value in (float("nan"), float("inf")):
      with self.assertRaises(ValueError):
        files.write_json(self.path, {"a": value})
    self.assertFalse(self.path.exists())

  def test_damaged_json_is_named_in_one_line(self):
    whole = json.dumps({"a": list(range(9))})
    self.path.parent.mkdir()
    for content in (b"", whole[:-4].encode(), b"\xff\xfe\x00"):
      self.path.write_bytes(content)
      with self.assertRaisesRegex(ValueError, "a.json is damaged.*delete it"):
        files.read_json(self.path)

  def test_sha256(self):
    # FIPS 180-2, appendix B.1.
    self.assertEqual(
      files.sha256(b"abc"),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )


if __name__ == "__main__":
  absltest.main()
