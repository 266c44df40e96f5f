"""Data sets that leave: each is opened by those who asked for the format.

Who wants the two consumers that the suite does not install, `datasets` and
`torch`, installs them beside it and runs this file.
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
import toys
from absl.testing import absltest, parameterized
from pyarrow import parquet

from robust_features import export
from robust_features.data import constructed, pixels, sources
from robust_features.runtime import logs

# Not in the order of the alphabet, and with a class that has no image.
CLASSES = ("zebra", "ant b", "nobody", "c")
ORIGIN = {"source": "standard", "originals": "planted", "config": {"seed": 3}}


def write(folder, dtype):
  """Writes a set of two shards; returns it as it is loaded."""
  rng = np.random.default_rng(0)
  writer = constructed.Writer(folder, ORIGIN)
  for i in range(2):
    images = rng.integers(256, size=(6, 5, 4, 3)).astype(np.uint8)
    if dtype == np.float32:
      images = rng.random((6, 5, 4, 3), np.float32)
    arrays = {"images": images, "labels": np.array([0, 1, 3, 1, 0, 0])}
    arrays["original_labels"] = np.array([1, 1, 2, 2, 3, i])
    arrays = {k: v if k == "images" else v.astype(np.int32)
              for k, v in arrays.items()}  # fmt: skip
    writer.write(i, arrays, {"success": 5.0, "spared": 0.0, "seconds": 1.0})
  manifest = writer.finish("det", 2, CLASSES, np.dtype(dtype).name, 0.1)
  constructed.write_card(folder, manifest)
  return constructed.load(folder)


def needs(package):
  return unittest.skipUnless(
    importlib.util.find_spec(package), f"{package} is not installed"
  )


class ExportTestCase(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = cls.enter_context(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(root)
    cls.sets, cls.out = {}, {}
    for dtype in ("uint8", "float32"):
      cls.sets[dtype] = write(cls.root / dtype, np.dtype(dtype))
      for name in export.FORMATS:
        if (name, dtype) != ("image_folder", "float32"):
          cls.out[name, dtype] = out = cls.root / f"{name}_{dtype}"
          with contextlib.redirect_stderr(io.StringIO()):  # tfds's bars.
            export.export(cls.root / dtype, name, out)

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(logs, "say"))

  def assert_same(self, dtype, images, labels, originals=None):
    wanted = self.sets[dtype]
    np.testing.assert_array_equal(images, wanted.images)
    self.assertEqual(np.asarray(images).dtype, wanted.images.dtype)
    np.testing.assert_array_equal(labels, wanted.labels)
    if originals is not None:
      np.testing.assert_array_equal(originals, wanted.extras["original_labels"])

  def as_source(self, source, out, **fields):
    cfg = sources.DataConfig(source, data_dir=str(out), **fields)
    return sources.load(cfg).train


@parameterized.parameters("uint8", "float32")
class RoundTripTest(ExportTestCase):
  def test_tfds(self, dtype):
    builder = tfds.builder_from_directory(self.out["tfds", dtype])
    rows = list(builder.as_data_source(split="train"))
    self.assertEqual(builder.info.name, "d_det")
    self.assertEqual(builder.info.features["label"].names, list(CLASSES))
    columns = [[row[key] for row in rows]
               for key in ("image", "label", "original_label")]  # fmt: skip
    self.assert_same(dtype, *columns)

  def test_npz(self, dtype):
    out = self.out["npz", dtype]
    with np.load(out / "d_det.npz") as found:
      self.assert_same(
        dtype, found["train_images"], found["train_labels"],
        found["train_original_labels"],
      )  # fmt: skip
    ours = self.as_source("npz", out, name="d_det")
    self.assert_same(dtype, ours.images, ours.labels)
    self.assertEqual(ours.class_names, CLASSES)

  def test_parquet_as_arrow_sees_it(self, dtype):
    path = self.out["parquet", dtype] / "data"
    table = parquet.read_table(path / "train-00000-of-00001.parquet")
    images = table["image"].to_pylist()
    if dtype == "uint8":
      images = [self.decode(image["bytes"]) for image in images]
    images = np.array(images, dtype)
    self.assert_same(dtype, images, table["label"], table["original_label"])
    self.assertIn(
      b'"names": ["zebra", "ant b",', table.schema.metadata[b"huggingface"]
    )

  def decode(self, png):
    with pixels.PIL.Image.open(io.BytesIO(png)) as image:
      return np.asarray(image)

  @needs("datasets")
  def test_parquet_as_hugging_face_sees_it(self, dtype):
    import datasets

    found = datasets.load_dataset(
      str(self.out["parquet", dtype]), split="train",
      cache_dir=toys.folder(self),
    )  # fmt: skip
    self.assertEqual(found.features["label"].names, list(CLASSES))
    images = np.array([np.asarray(row["image"], dtype) for row in found])
    self.assert_same(
      dtype, images, found["label"][:], found["original_label"][:]
    )

  def test_madry(self, dtype):
    ours = self.as_source("madry", self.out["madry", dtype])
    images = ours.images
    if dtype == "uint8":
      images = np.rint(images * 255).astype(np.uint8)
    path = self.out["madry", dtype] / "original_labels.npy"
    self.assert_same(dtype, images, ours.labels, np.load(path))
    self.assertEqual(ours.class_names, CLASSES)

  @needs("torch")
  def test_madry_as_pytorch_sees_it(self, dtype):
    import torch

    out = self.out["madry", dtype]
    images = torch.cat(torch.load(out / "CIFAR_ims")).permute(0, 2, 3, 1)
    labels = torch.cat(torch.load(out / "CIFAR_lab"))
    images = images.numpy()
    if dtype == "uint8":  # As torchvision's ToPILImage does.
      images = np.rint(images * 255).astype(np.uint8)
    self.assert_same(dtype, images, labels.numpy())


class ImageFolderTest(ExportTestCase):
  def test_round_trip(self):
    out = self.out["image_folder", "uint8"]
    found = self.as_source("image_folder", out)
    self.assertEqual(found.class_names, CLASSES)
    rows = (out / "original_labels.csv").read_text().splitlines()
    files = [row.split(",") for row in rows[1:]]
    order = sorted(range(12), key=lambda i: (int(files[i][1]), files[i][0]))
    back = np.argsort(order)
    self.assert_same(
      "uint8", found.images[back], found.labels[back],
      [int(row[2]) for row in files],
    )  # fmt: skip
    for path, label, _ in files:
      self.assertEqual(pathlib.Path(path).parent.name, CLASSES[int(label)])
      self.assertTrue((out / path).is_file())

  @needs("datasets")
  def test_as_hugging_face_sees_it(self):
    import datasets

    found = datasets.load_dataset(
      str(self.out["image_folder", "uint8"]), split="train",
      cache_dir=toys.folder(self),
    )  # fmt: skip
    names, wanted = found.features["label"].names, self.sets["uint8"]
    for row in found:
      i = int(pathlib.Path(row["image"].filename).stem)
      np.testing.assert_array_equal(row["image"], wanted.images[i])
      self.assertEqual(names[row["label"]], CLASSES[wanted.labels[i]])


class CardTest(ExportTestCase):
  def test_every_export_says_how_it_is_loaded(self):
    for (name, dtype), out in self.out.items():
      text = (out / "README.md").read_text()
      self.assertStartsWith(
        text, "---\npretty_name: D_det\nlicense: apache-2.0"
      )
      self.assertIn(f'"{out.name}', text, (name, dtype))
      self.assertTrue((out / "origin.json").is_file())

  def test_no_path_of_this_machine(self):
    for out in self.out.values():
      for path in out.rglob("*"):
        if path.is_file():
          self.assertNotIn(str(self.root).encode(), path.read_bytes(), path)

  @parameterized.parameters("npz", "tfds", "image_folder")
  def test_its_code_runs(self, name):
    out = self.out[name, "uint8"]
    code = (out / "README.md").read_text().split("```")[1]
    names, here = {}, os.getcwd()
    os.chdir(out.parent)
    self.addCleanup(os.chdir, here)
    exec(code.removeprefix("python"), names)
    self.assertIn("dataset", names)


class CommandTest(ExportTestCase):
  def run_main(self, out, name="npz", dataset=None):
    error = io.StringIO()
    with (
      contextlib.redirect_stderr(error),
      contextlib.redirect_stdout(io.StringIO()),
      mock.patch.object(export.command.signal, "signal"),
    ):
      try:
        status = export.main(
          [f"--dataset={dataset or self.root / 'uint8'}", f"--format={name}",
           f"--out={out}"]
        )  # fmt: skip
      except SystemExit as stop:
        status = stop.code
    return status, error.getvalue()

  def assert_refused(self, message, out, **arguments):
    status, error = self.run_main(out, **arguments)
    self.assertEqual(status, 1)
    self.assertRegex(error, f"^error: .*{message}")
    self.assertEqual(error.count("\n"), 1)

  def test_writes(self):
    out = toys.folder(self) / "deep" / "set"
    self.assertEqual(self.run_main(out), (0, ""))
    self.assertEqual({p.name for p in out.parent.iterdir()}, {"set"})
    self.assertEqual(
      {p.name for p in out.iterdir()}, {"d_det.npz", "README.md", "origin.json"}
    )

  def test_what_is_there_stays(self):
    out = toys.folder(self)
    self.assertEqual(self.run_main(out)[0], 0)  # An empty folder will do.
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    self.assert_refused(
      f"out {out} exists and is not empty; choose another", out
    )
    self.assert_refused("README.md exists", out / "README.md")
    self.assertEqual(
      {p.name: p.stat().st_mtime_ns for p in out.iterdir()}, before
    )

  def test_refuses(self):
    out = toys.folder(self) / "x"
    self.assert_refused("invalid choice: 'zip'", out, name="zip")
    self.assert_refused("holds no constructed data", out, dataset="/no/such")
    self.assert_refused(
      "holds 8 bits and this set float32", out, name="image_folder",
      dataset=self.root / "float32",
    )  # fmt: skip
    self.assertEmpty(list(out.parent.iterdir()))

  def test_class_names_that_are_no_folders(self):
    for bad in ("a/b", "..", ""):
      folder = toys.folder(self)
      with mock.patch(f"{__name__}.CLASSES", ("a", "b", bad, "c")):
        write(folder, np.uint8)
      self.assert_refused(
        f"class names that can be folders, got {bad!r}", folder / "x",
        name="image_folder", dataset=folder,
      )  # fmt: skip

  @parameterized.parameters(OSError("disk full"), KeyboardInterrupt())
  def test_a_failure_leaves_nothing(self, error):
    out = toys.folder(self) / "x"
    with mock.patch.object(pixels, "encode_png", side_effect=error):
      for name in ("image_folder", "parquet"):
        self.assert_refused("disk full|interrupted, nothing", out, name=name)
    self.assertEmpty(list(out.parent.iterdir()))

  def test_as_a_program(self):
    out = toys.folder(self) / "x"
    done = subprocess.run(
      [sys.executable, "-m", "robust_features.export", "--format=madry",
       f"--dataset={self.root / 'uint8'}", f"--out={out}"],
      capture_output=True, text=True, check=False,
    )  # fmt: skip
    self.assertEqual(done.stdout, f"{out}: madry; see README.md there\n")
    self.assertTrue((out / "CIFAR_ims").is_file())


if __name__ == "__main__":
  absltest.main()
