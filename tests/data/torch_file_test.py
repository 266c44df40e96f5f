"""Lists of tensors in `torch.save` files, read without unpickling.

tests/golden/torch_{legacy,zip,module}.pt were written by PyTorch 2.14.
"""

import pathlib
import pickle
import zipfile

import numpy as np
import source_case
import toys
from absl.testing import absltest, parameterized

from robust_features.data import dataset as ds
from robust_features.data import released, sources, torch_file

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FIRST = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 32
SECOND = np.arange(24, 48, dtype=np.float32).reshape(2, 3, 2, 2) / 64


class FileTest(parameterized.TestCase):
  def assert_equal(self, found, wanted):
    for one, other in zip(found, wanted, strict=True):
      self.assertEqual(one.dtype, other.dtype)
      np.testing.assert_array_equal(one, other)

  def zipped(self, opcodes, storage=bytes(16)):
    """Returns a file of today's format around a pickle."""
    path = toys.folder(self) / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("x/data.pkl", opcodes)
      archive.writestr("x/data/0", storage)
    return path

  @parameterized.parameters("legacy", "zip")
  def test_reads_what_pytorch_writes(self, name):
    found = torch_file.read(GOLDEN / f"torch_{name}.pt")
    self.assert_equal(found, [FIRST, SECOND])

  def test_writes_the_opcodes_that_pytorch_writes(self):
    path = toys.folder(self) / "x.pt"
    labels = [np.arange(5), np.zeros(0, np.int64)]
    for tensors in ([FIRST, SECOND], labels, [FIRST.transpose(0, 2, 3, 1)]):
      torch_file.write(path, tensors)
      self.assert_equal(torch_file.read(path), tensors)

  def one_tensor(self, values, *, module=b"torch", where=b"cpu", stride=1,
                 flag=b"\x89"):  # fmt: skip
    """Returns a file of one float32 tensor `[3]`, as torch.save writes it."""
    return self.zipped(
      b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage"
      + b"c%s\nFloatStorage\nX\x01\0\0\0000" % module
      + b"X%c\0\0\0%sK%ctQ" % (len(where), where, len(values))
      + b"K\0K\x03\x85K%c\x85%sccollections\nOrderedDict\n)RtR."
      % (stride, flag),
      np.array(values, np.float32).tobytes(),
    )

  @parameterized.parameters(
    {"module": b"torch.cuda", "where": b"cuda:0"},  # Before PyTorch 1.6.
    {"where": b"cuda:0"},
    {"flag": b"\x88"},  # NEWTRUE: it wanted a gradient.
  )
  def test_where_a_tensor_lay_is_of_no_account(self, **changes):
    path = self.one_tensor([1, 2, 3], **changes)
    self.assert_equal(torch_file.read(path), [np.float32([1, 2, 3])])

  def test_one_number_that_is_expanded_is_refused(self):
    """Stride 0 would make any size of a few bytes."""
    with self.assertRaisesRegex(ValueError, "larger than its storage"):
      torch_file.read(self.one_tensor([7], stride=0))
    found = torch_file.read(self.one_tensor([7, 8, 9], stride=0))
    self.assert_equal(found, [np.float32([7, 7, 7])])

  @parameterized.parameters(
    (b"\x8c\x01a", "SHORT_BINUNICODE"), (b"\x93", "STACK_GLOBAL"),
    (b"\x8f", "EMPTY_SET"), (b"\x97", "NEXT_BUFFER"), (b"N0", "POP"),
  )  # fmt: skip
  def test_opcodes_that_lists_of_tensors_lack_are_refused(self, code, name):
    path = self.zipped(b"\x80\x04]" + code + b".")
    with self.assertRaisesRegex(ValueError, f"x.pt: .*refused opcode {name}"):
      torch_file.read(path)

  def test_views_of_a_storage(self):
    # Rows 1 and 2 of a 3 x 2 storage, transposed: offset 2, strides (1, 2).
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
    storage = b"".join((
      b"X\x07\0\0\0storage", b"ctorch\nHalfStorage\n", b"X\x01\0\0\0000",
      b"X\x03\0\0\0cpu", b"K\x06tQ",
    ))  # fmt: skip
    tail = (
      b"K\x02K\x02K\x02\x86K\x01K\x02\x86\x89ccollections\nOrderedDict\n)RtR."
    )
    values = np.arange(6, dtype=np.float16)
    path = self.zipped(head + storage + tail, values.tobytes())
    self.assert_equal(
      torch_file.read(path), [np.array([[2, 4], [3, 5]], np.float16)]
    )
    path = self.zipped(head + storage + tail, values[:5].tobytes())
    with self.assertRaisesRegex(ValueError, "larger than its storage"):
      torch_file.read(path)
    backwards = tail.replace(b"K\x01K\x02\x86", b"J\xff\xff\xff\xffK\x02\x86")
    path = self.zipped(head + storage + backwards, values.tobytes())
    with self.assertRaisesRegex(ValueError, "backwards"):
      torch_file.read(path)

  def test_no_code_runs(self):
    class Bomb:
      def __reduce__(self):
        return (exec, ("raise SystemExit",))

    for protocol in range(6):
      for value in ([Bomb()], Bomb(), {"a": Bomb()}):
        content = pickle.dumps(value, protocol)
        path = self.zipped(content)
        with self.assertRaisesRegex(ValueError, "x.pt: .*refused"):
          torch_file.read(path)
        legacy = path.with_name("y.pt")
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        legacy.write_bytes(magic + content)
        with self.assertRaisesRegex(ValueError, "y.pt: no list of tensors"):
          torch_file.read(legacy)

  def test_names_that_are_no_tensors(self):
    with self.assertRaisesRegex(ValueError, "torch_module.pt: .*refused"):
      torch_file.read(GOLDEN / "torch_module.pt")
    call = b"\x80\x02cbuiltins\nlist\n)R."
    with self.assertRaisesRegex(ValueError, "refused call of builtins.list"):
      torch_file.read(self.zipped(call))

  def test_a_dict_with_a_key_and_no_value(self):
    path = self.zipped(b"\x80\x02}(K\x01K\x02K\x03u.")
    with self.assertRaisesRegex(ValueError, r"x.pt: no list .*zip\(\)"):
      torch_file.read(path)

  @parameterized.parameters(
    ("a string",), (3,), ({"a": 1},), ([1, 2],), (None,), ((),)
  )
  def test_other_values(self, value):
    # Protocol 2 is what PyTorch writes.
    path = self.zipped(pickle.dumps(value, 2))
    with self.assertRaisesRegex(ValueError, "x.pt: .*something else"):
      torch_file.read(path)

  @parameterized.parameters("legacy", "zip")
  def test_damage_is_one_line(self, name):
    whole = (GOLDEN / f"torch_{name}.pt").read_bytes()
    path = toys.folder(self) / "x.pt"
    for cut in range(0, len(whole) - 1, 37):
      path.write_bytes(whole[:cut])
      with self.assertRaisesRegex(ValueError, "x.pt: no list") as caught:
        torch_file.read(path)
      self.assertNotIn("\n", str(caught.exception))
    # Whatever a flipped bit turns the stream into, it is read or refused.
    for place in range(0, len(whole), 11):
      flipped = bytearray(whole)
      flipped[place] ^= 1 << place % 8
      path.write_bytes(flipped)
      try:
        torch_file.read(path)
      except ValueError as error:
        self.assertIn("x.pt: no list", str(error))

  def test_big_endian_is_refused(self):
    path = self.zipped(pickle.dumps([], 2))
    with zipfile.ZipFile(path, "a") as archive:
      archive.writestr("x/byteorder", "big")
    with self.assertRaisesRegex(ValueError, "big-endian"):
      torch_file.read(path)


class ReleasedTest(source_case.SourceTestCase):
  """The authors' layout as a source."""

  def write(self, images=(FIRST, SECOND), labels=([3, 9], [0, 1])):
    root = self.folder()
    torch_file.write(root / "CIFAR_ims", list(images))
    torch_file.write(root / "CIFAR_lab", [np.array(y) for y in labels])
    return root

  def test_reads(self):
    train, _, test = self.load("madry", data_dir=str(self.write()))
    wanted = np.concatenate([FIRST, SECOND]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(train.images, wanted)
    np.testing.assert_array_equal(train.labels, [3, 9, 0, 1])
    self.assertEqual(train.class_names[3], "cat")
    self.assertEqual((train.num_classes, test.num_examples), (10, 0))

  def test_round_trip(self):
    rng = np.random.default_rng(0)
    levels = rng.integers(256, size=(2100, 2, 3, 3)).astype(np.uint8)
    data = ds.make(levels, rng.integers(3, size=2100), ("x", "y", "z"))
    root = self.folder()
    released.save(root, data)
    found = released.load(str(root))
    back = np.rint(found.images * 255).astype(np.uint8)
    np.testing.assert_array_equal(back, levels)
    np.testing.assert_array_equal(found.labels, data.labels)
    self.assertEqual(found.class_names, data.class_names)
    self.assertLen(torch_file.read(root / "CIFAR_ims"), 3)

  def test_refuses(self):
    root = self.write()
    (root / "CIFAR_lab").unlink()
    cfg = sources.DataConfig("madry", data_dir=str(root))
    self.assert_refused(cfg, "CIFAR_lab is missing; data_dir must be one set")
    for changes, message in (
      ({"labels": ([3, 10], [0, 1])}, r"labels must lie in \[0, 10\)"),
      ({"labels": ([3], [0])}, "4 images but 2 labels"),
      ({"images": (FIRST * 9, SECOND)}, r"must lie in \[0, 1\]"),
      ({"images": (FIRST[0],)}, "CIFAR_ims: must hold tensors of 4"),
      ({"images": ()}, "CIFAR_ims: must hold tensors of 4"),
      ({"images": (FIRST, SECOND[..., :1])}, "CIFAR_ims: .* differ in shape"),
    ):
      cfg = sources.DataConfig("madry", data_dir=str(self.write(**changes)))
      self.assert_refused(cfg, message)
    (root / "CIFAR_ims").write_text("<html>")
    cfg = sources.DataConfig("madry", data_dir=str(root))
    self.assert_refused(cfg, "CIFAR_ims: no list of tensors .*; get it again")


if __name__ == "__main__":
  absltest.main()
