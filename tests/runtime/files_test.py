"""Files appear whole or not at all, and damaged ones are named."""

import dataclasses
import errno
import hashlib
import io
import itertools
import json
import os
import pathlib
import stat
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest

from robust_features.runtime import files, processes


class FilesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    self.path = self.folder / "new" / "er" / "a.json"

  def test_write_makes_folders_and_replaces(self):
    files.write_bytes(self.path, b"one")
    files.write_bytes(self.path, b"two")
    self.assertEqual(self.path.read_bytes(), b"two")
    self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o644)

  def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(self):
    files.write_bytes(self.path, b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    for step, error in itertools.product(
      ("fsync", "replace"), (full, KeyboardInterrupt())
    ):
      with (
        mock.patch.object(os, step, side_effect=error),
        self.assertRaises(type(error)),
      ):
        files.write_bytes(self.path, b"new")
      self.assertEqual(self.path.read_bytes(), b"old")
      self.assertLen(list(self.path.parent.iterdir()), 1)

  def test_the_file_is_complete_before_it_gets_its_name(self):
    seen = []

    def replace(source, target):
      seen.append(pathlib.Path(source).read_bytes())
      self.assertFalse(pathlib.Path(target).exists())

    def fsync(handle):
      seen.append(os.fstat(handle).st_size)

    with (
      mock.patch.object(os, "replace", replace),
      mock.patch.object(os, "fsync", fsync),
    ):
      files.write_bytes(self.path, b"x" * 1000)
    self.assertEqual(seen, [1000, b"x" * 1000])

  def test_an_interrupt_after_the_file_has_its_name_stays_one(self):
    move = os.replace

    def replace(source, target):
      move(source, target)
      raise KeyboardInterrupt

    with (
      mock.patch.object(os, "replace", replace),
      self.assertRaises(KeyboardInterrupt),
    ):
      files.write_bytes(self.path, b"new")
    self.assertEqual(self.path.read_bytes(), b"new")

  def test_json_round_trip(self):
    value = {"b": [1, 2.5, None], "a": "ä"}
    files.write_json(self.path, value)
    self.assertEqual(files.read_json(self.path), value)
    text = self.path.read_text()
    self.assertLess(text.index('"b"'), text.index('"a"'))  # As given.
    self.assertEndsWith(text, "}\n")
    # Of another hand, whatever the locale.
    self.path.write_bytes('{"a": "ä"}'.encode())
    with mock.patch.object(io, "text_encoding", return_value="latin-1"):
      self.assertEqual(files.read_json(self.path), {"a": "ä"})

  def test_nan_is_refused_and_nothing_is_written(self):
    for value in (float("nan"), float("inf")):
      with self.assertRaises(ValueError):
        files.write_json(self.path, {"a": value})
    self.assertFalse(self.path.exists())

  def test_damaged_json_is_named_in_one_line(self):
    whole = json.dumps({"a": list(range(9))})
    self.path.parent.mkdir(parents=True)
    for content in (b"", whole[:-4].encode(), b"\xff\xfe\x00"):
      self.path.write_bytes(content)
      with self.assertRaisesRegex(
        ValueError, r"/a.json is damaged \(.+\); delete it"
      ):
        files.read_json(self.path)

  def test_arrays_and_what_they_belong_to(self):
    arrays = {"b": np.arange(3), "a": np.zeros((2, 1), np.float32)}
    files.write_npz(self.path, {"seed": 1, "of": ["x"]}, arrays)
    identity, found = files.read_npz(self.path)
    self.assertEqual(identity, {"seed": 1, "of": ["x"]})
    self.assertEqual(list(found), ["b", "a"])
    for name, array in arrays.items():
      self.assertEqual(found[name].dtype, array.dtype)
      np.testing.assert_array_equal(found[name], array)
    # The order of an identity is of no account: the same bytes.
    again = self.folder / "again.npz"
    files.write_npz(again, {"of": ["x"], "seed": 1}, arrays)
    self.assertEqual(again.read_bytes(), self.path.read_bytes())

  def test_damaged_arrays_are_named_and_missing_ones_are_missing(self):
    with self.assertRaises(FileNotFoundError):
      files.read_npz(self.path)
    files.write_npz(self.path, {}, {"a": np.arange(3)})
    whole = self.path.read_bytes()
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3))  # Of nobody.
    pickled = io.BytesIO()
    np.savez(pickled, identity=np.asarray("{}"), a=np.asarray([{}], object))
    for content in (b"", whole[:60], b"text", buffer.getvalue(),
                    pickled.getvalue()):  # fmt: skip
      self.path.write_bytes(content)
      with self.assertRaisesRegex(ValueError, "a.json is damaged .*; delete"):
        files.read_npz(self.path)
    with self.assertRaisesRegex(ValueError, f"{self.folder} is damaged"):
      files.read_npz(self.folder)

  def test_what_would_be_pickled_is_not_written(self):
    with self.assertRaises(ValueError):
      files.write_npz(self.path, {}, {"a": np.asarray([{}], object)})
    self.assertFalse(self.path.exists())

  def test_a_digest_sees_names_types_shapes_and_bytes(self):
    tree = {"b": {"c": np.arange(6, dtype=np.int32)}, "a": np.float32(1)}
    text = b"a float32 ()\n" + np.float32(1).tobytes() + b"b/c int32 (6,)\n"
    want = hashlib.sha256(text + tree["b"]["c"].tobytes()).hexdigest()
    self.assertEqual(files.digest(tree), want)
    self.assertEqual(files.digest(dict(sorted(tree.items()))), want)

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Tree:
      a: np.ndarray
      b: dict

    self.assertEqual(files.digest(Tree(tree["a"], tree["b"])), want)
    numbers = tree["b"]["c"]
    for other in (numbers + 1, numbers.astype(np.uint32),
                  numbers.reshape(2, 3), numbers[::-1]):  # fmt: skip
      changed = {"b": {"c": other}, "a": tree["a"]}
      self.assertNotEqual(files.digest(changed), want)
    self.assertNotEqual(files.digest({"b": {"d": numbers}, "a": 1.0}), want)

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Turned:
      b: dict
      a: np.ndarray

    self.assertEqual(files.digest(Turned(tree["b"], tree["a"])), want)

  def test_text_is_utf_8_and_json_is_indented_by_two(self):
    files.write_text(self.path, "ä\n")
    self.assertEqual(self.path.read_bytes(), "ä\n".encode())
    files.write_json(self.path, {"a": [1]})
    text = '{\n  "a": [\n    1\n  ]\n}\n'
    self.assertEqual(self.path.read_text(), text)

  def test_a_new_file_s_half_has_its_name_in_front(self):
    """Beside it, hidden, so that it moves in one step and is recognised."""
    seen = []
    with mock.patch.object(os, "replace", lambda a, b: seen.append((a, b))):
      files.write_here(self.path, b"")
    ((half, whole),) = seen
    self.assertStartsWith(pathlib.Path(half).name, ".a.json.")
    self.assertEqual(pathlib.Path(half).parent, self.path.parent)
    self.assertEqual(whole, self.path)

  def test_another_process_writes_nothing_and_learns_of_a_failure(self):
    with (
      mock.patch.object(processes, "is_first", return_value=False),
      mock.patch.object(processes, "agree", side_effect=[False, True, False]),
    ):
      files.write_bytes(self.path, b"new")
      with self.assertRaisesRegex(
        OSError, f"process 0 could not write {self.path}"
      ):
        files.write_bytes(self.path, b"new")
      files.write_npz(self.path, {}, {})
    self.assertFalse(self.path.exists())

  def test_the_first_process_tells_the_others_of_its_failure(self):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
      mock.patch.object(files, "write_here", side_effect=full),
      mock.patch.object(processes, "agree", side_effect=int) as agree,
      self.assertRaisesRegex(OSError, "No space left"),
    ):
      files.write_bytes(self.path, b"new")
    agree.assert_called_once_with(True)

  def test_a_folder_that_is_not_shared(self):
    """Of two processes one sees the file, the other does not."""
    folder = self.folder / "new"
    files.require_shared(folder)  # Alone: nothing to see to.
    self.assertFalse(folder.exists())
    drawn = set()
    for lost in (False, True):
      # Drawn number; could it be written; was it lost?
      agreed = mock.Mock(side_effect=[7, False, lost])
      with (
        mock.patch.object(processes, "several", return_value=True),
        mock.patch.object(processes, "agree", agreed),
        mock.patch.object(files.time, "sleep"),
      ):
        if lost:
          with self.assertRaisesRegex(
            ValueError, f"--workdir={folder} is not .*, such as NFS"
          ):
            files.require_shared(folder)
        else:
          files.require_shared(folder)
      self.assertEqual(agreed.call_args_list[2], mock.call(False))
      self.assertEmpty(list(folder.iterdir()))
      drawn.add(agreed.call_args_list[0].args)
    self.assertLen(drawn, 2)  # A name that no earlier run has left.

  def test_a_shared_folder_is_waited_for(self):
    waits, clock = [], itertools.count()
    with (
      mock.patch.object(processes, "several", return_value=True),
      mock.patch.object(processes, "is_first", return_value=False),
      mock.patch.object(processes, "agree", side_effect=[7, False, True]),
      mock.patch.object(files.time, "sleep", waits.append),
      mock.patch.object(files.time, "monotonic", side_effect=clock),
      self.assertRaises(ValueError),
    ):
      files.require_shared(self.folder / "none", wait_seconds=5)
    self.assertEqual(waits, 4 * [0.1])
    file = self.folder / ".shared-7"
    file.touch()
    with (
      mock.patch.object(processes, "several", return_value=True),
      mock.patch.object(processes, "is_first", return_value=False),
      mock.patch.object(processes, "agree", side_effect=[7, False, False]),
    ):
      files.require_shared(self.folder)
    self.assertTrue(file.exists())  # The first process's to take away.

  def test_sha256(self):
    # FIPS 180-2, appendix B.1.
    self.assertEqual(
      files.sha256(b"abc"),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )


if __name__ == "__main__":
  absltest.main()
