"""A stage's folder read back: what is said of one that is damaged."""

import pathlib

import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features.data.dataset import DataError
from robust_features.runtime import files
from robust_features.study import folder


class FolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = toys.folder(self) / "stage"
    self.path.mkdir()

  def test_the_remedy_that_helps_takes_the_place_of_others(self):
    with (
      self.assertRaisesRegex(
        DataError, rf"^a is damaged; delete the folder {self.path} and run the"
      ),
      folder.remade(self.path),
    ):
      raise DataError("a is damaged; delete a; or b")
    with folder.remade(self.path):
      pass
    link = self.path.with_name("link")
    link.symlink_to(self.path)
    self.assertIn(f"folder {self.path.resolve()} and", folder.remedy(link))

  def test_read(self):
    path = self.path / "config.json"
    with self.assertRaisesRegex(ValueError, f"{path} is missing; delete the f"):
      folder.read(self.path, "config.json")
    for text in ("{", "[1]", "3", ""):
      path.write_text(text)
      with self.assertRaisesRegex(ValueError, f"{path} is damaged; delete the"):
        folder.read(self.path, "config.json")
    path.write_text('{"a": 1}')
    self.assertEqual(folder.read(self.path, "config.json"), {"a": 1})

  def test_arrays(self):
    path = self.path / "a.npz"
    with self.assertRaisesRegex(ValueError, f"^{path} is missing; do that$"):
      folder.read_npz(path, "do that")
    np.savez(path, a=np.arange(300))
    found = folder.read_npz(path, "")
    self.assertEqual(list(found), ["a"])
    np.testing.assert_array_equal(found["a"], np.arange(300))
    whole = path.read_bytes()
    changed = whole[:400] + b"?" + whole[401:]
    np.savez(path, a=np.array([{}], object))
    pickled = path.read_bytes()
    np.save(path.with_suffix(".npy"), np.arange(3))
    single = path.with_suffix(".npy").read_bytes()
    for content in (whole[:-9], changed, pickled, single, b"", b"text"):
      path.write_bytes(content)
      with self.assertRaisesRegex(ValueError, f"^{path} is damaged; do that$"):
        folder.read_npz(path, "do that")

  def test_a_mark(self):
    path = self.path / "mark.json"
    path.write_text('{"a": 1}')
    self.assertEqual(folder.read_mark(path, "a"), 1)
    for text in ("{", "{}", "[1]"):
      path.write_text(text)
      with self.assertRaisesRegex(ValueError, f"damaged; delete {path} and"):
        folder.read_mark(path, "a")

  def test_a_checksum_is_of_what_comes_back(self):
    """A tuple comes back as a list, a number as a name; order is no matter."""
    want = files.sha256(b'{"a": [1, 2], "b": {"3": null}}')
    self.assertEqual(folder.sha256({"b": {3: None}, "a": (1, 2)}), want)

  @parameterized.parameters(1, 5, 6, 8)
  def test_the_fields_that_differ(self, num):
    there = {f"f{i}": i for i in range(9)} | {"gone": None}
    files.write_json(self.path / "config.json", there)
    folder.check_same(self.path, "config.json", there)
    here = there | {f"f{i}": -i - 1 for i in range(num)}
    shown = "; ".join(
      f"f{i}: {i} there, {-i - 1} now" for i in range(min(num, 5))
    )
    more = f"; and {num - 5} more" if num > 5 else ""
    with self.assertRaises(ValueError) as caught:
      folder.check_same(self.path, "config.json", here)
    self.assertEqual(
      str(caught.exception),
      f"{self.path} was made under another config ({shown}{more}); choose "
      "another --workdir or delete that folder",
    )

  def test_a_field_that_is_absent(self):
    """Absent is not the same as empty, on either side."""
    files.write_json(self.path / "inputs.json", {"a": None})
    with self.assertRaisesRegex(
      ValueError,
      "made of other inputs .a: None there, 'absent' now; b: 'absent' there, "
      "None now",
    ):
      folder.check_same(self.path, "inputs.json", {"b": None})

  def test_the_newest_checkpoint(self):
    self.assertIsNone(folder.last_checkpoint(self.path))
    for name in ("9", "10", "2", "11.tmp", "best"):
      (self.path / "checkpoints" / name).mkdir(parents=True)
    self.assertEqual(folder.last_checkpoint(pathlib.Path(self.path)), 10)


if __name__ == "__main__":
  absltest.main()
