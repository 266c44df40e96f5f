"""Tests of preparation: the builder's own download, and its failures."""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import threading
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from tensorflow_datasets.core import download

from robust_features.data import pixels, prepare, sources
from robust_features.data.dataset import DataError
from robust_features.runtime import command

tfds.disable_progress_bar()

CLASSES = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
]
NAME = "cifar-10-binary.tar.gz"
NUM_PER_FILE = 4


def write_archive(path):
  """Writes a small archive in the layout of CIFAR-10's binary version.

  Reference: https://www.cs.toronto.edu/~kriz/cifar.html: a record is one byte
  of label and 3,072 of pixels: red, green, blue, each row by row.

  Returns:
    Images `[N, 32, 32, 3]` and labels `[N]` of train, in order.
  """
  rng = np.random.default_rng(0)
  files = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
  records = rng.integers(256, size=(6, NUM_PER_FILE, 3073)).astype(np.uint8)
  records[..., 0] %= 10
  with tarfile.open(path, "w:gz") as archive:

    def add(name, content):
      member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))

    for name, content in zip(files, records, strict=True):
      add(name, content.tobytes())
    add("batches.meta.txt", "\n".join([*CLASSES, "", ""]).encode())
  train = records[:5].reshape(-1, 3073)
  planes = train[:, 1:].reshape(-1, 3, 32, 32)
  return np.stack([planes[:, c] for c in range(3)], axis=-1), train[:, 0]


def expect(path, url=None):
  """Makes tfds expect this archive, and download it from `url` if given."""
  builder_cls = tfds.builder_cls("cifar10")
  (real_url,) = builder_cls.url_infos
  content = path.read_bytes()
  info = download.checksums.UrlInfo(
    size=len(content),
    checksum=hashlib.sha256(content).hexdigest(),
    filename=NAME,
  )
  infos = {url or real_url: info}
  real_info = builder_cls._cifar_info.fget

  def cifar_info(self):
    return real_info(self)._replace(url=url or real_url)

  stack = contextlib.ExitStack()
  stack.enter_context(
    mock.patch.object(builder_cls, "_cifar_info", property(cifar_info))
  )
  stack.enter_context(mock.patch.object(builder_cls, "url_infos", infos))
  return stack


class PrepareTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enter_context(tempfile.TemporaryDirectory())
    )
    self.archive = self.folder / NAME
    self.images, self.labels = write_archive(self.archive)
    self.data_dir = self.folder / "deep" / "data"

  def load(self):
    return sources.load(
      sources.DataConfig("tfds", "cifar10", str(self.data_dir), 0, 0, 0, 0, 0)
    )

  def assert_complete(self):
    train, _, test = self.load()
    self.assertEqual(test.num_examples, NUM_PER_FILE)
    self.assertEqual(train.class_names, tuple(CLASSES))
    found = {
      image.tobytes(): label
      for image, label in zip(train.images, train.labels, strict=True)
    }
    expected = {
      image.tobytes(): label
      for image, label in zip(self.images, self.labels, strict=True)
    }
    self.assertEqual(found, expected)
    # Neither archive nor extracted files stay behind.
    names = {path.name for path in self.data_dir.rglob("*") if path.is_file()}
    self.assertLen([name for name in names if "array_record" in name], 2)
    self.assertLen(names, 5)
    self.assertEqual(os.listdir(self.data_dir), ["cifar10"])

  def assert_nothing_left(self):
    self.assertFalse(self.data_dir.exists())
    self.assertEqual(os.listdir(self.folder), [NAME])

  def run_main(self, *flags):
    """Returns status and standard error of the command."""
    flags = ["--dataset=cifar10", f"--data_dir={self.data_dir}", *flags]
    error = io.StringIO()
    with (
      contextlib.redirect_stderr(error),
      contextlib.redirect_stdout(io.StringIO()),
      mock.patch.object(command.signal, "signal"),
    ):
      status = prepare.main(flags)
    return status, error.getvalue()

  def test_from_archive(self):
    with expect(self.archive):
      status, _ = self.run_main(f"--from_archive={self.archive}")
    self.assertEqual(status, 0)
    self.assert_complete()

  def test_a_second_run_changes_nothing(self):
    with expect(self.archive):
      self.run_main(f"--from_archive={self.archive}")
      before = {p: p.stat().st_mtime_ns for p in self.data_dir.rglob("*")}
      status, _ = self.run_main()
    self.assertEqual(status, 0)
    after = {p: p.stat().st_mtime_ns for p in self.data_dir.rglob("*")}
    self.assertEqual(before, after)

  def test_download(self):
    handler = functools.partial(_Quiet, directory=str(self.folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    self.addCleanup(server.server_close)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(server.shutdown)
    url = f"http://127.0.0.1:{server.server_port}/{NAME}"
    with expect(self.archive, url), mock.patch.dict(os.environ, no_proxy="*"):
      status, error = self.run_main()
    self.assertEqual(status, 0, error)
    self.assert_complete()

  def test_no_network(self):
    # Nothing listens on port 1.
    url = f"http://127.0.0.1:1/{NAME}"
    with expect(self.archive, url), mock.patch.dict(os.environ, no_proxy="*"):
      status, error = self.run_main()
    self.assertEqual(status, 1)
    self.assertRegex(
      error, rf"^error: cifar10: no network.*{url}.*--from_archive={NAME}\n$"
    )
    self.assert_nothing_left()

  def test_wrong_checksum(self):
    with expect(self.archive):
      content = bytearray(self.archive.read_bytes())
      content[len(content) // 2] ^= 1
      self.archive.write_bytes(bytes(content))
      status, error = self.run_main(f"--from_archive={self.archive}")
    self.assertEqual(status, 1)
    self.assertRegex(error, r"^error: cifar10: wrong checksum.*sha256.*\n$")
    self.assert_nothing_left()

  def test_not_an_archive(self):
    self.archive.write_bytes(b"<html>moved</html>")
    with expect(self.archive):
      status, error = self.run_main(f"--from_archive={self.archive}")
    self.assertEqual(status, 1)
    self.assertEqual(error.count("\n"), 1)
    self.assert_nothing_left()

  def test_pickles_are_refused(self):
    python = self.archive.with_name("cifar-10-python.tar.gz")
    self.archive.rename(python)
    status, error = self.run_main(f"--from_archive={python}")
    self.archive = python.rename(self.archive)
    self.assertEqual(status, 1)
    self.assertRegex(error, rf"^error: .*pickles, .*get {NAME}\n$")
    self.assert_nothing_left()

  def test_an_archive_of_the_home(self):
    home = os.environ | {"HOME": str(self.folder)}
    with expect(self.archive), mock.patch.dict(os.environ, home):
      status, error = self.run_main(f"--from_archive=~/{self.archive.name}")
    self.assertEqual(status, 0, error)

  def test_missing_archive(self):
    status, error = self.run_main("--from_archive=/no/such/file")
    self.assertEqual(status, 1)
    self.assertRegex(error, "^error: from_archive: '/no/such/file'.*\n$")
    self.assert_nothing_left()

  def test_disk_full_while_writing(self):
    full = OSError(28, "No space left on device")
    with (
      expect(self.archive),
      mock.patch.object(pixels, "encode_png", side_effect=full),
    ):
      status, error = self.run_main(f"--from_archive={self.archive}")
    self.assertEqual(status, 1)
    self.assertRegex(error, r"^error: .*No space left on device.*\n$")
    self.assert_nothing_left()

  def test_interrupted(self):
    with (
      expect(self.archive),
      mock.patch.object(pixels, "encode_png", side_effect=KeyboardInterrupt),
    ):
      status, error = self.run_main(f"--from_archive={self.archive}")
    self.assertEqual((status, error.count("\n")), (1, 1))
    self.assert_nothing_left()

  def test_what_was_there_stays(self):
    self.data_dir.mkdir(parents=True)
    (self.data_dir / "mine.txt").write_text("keep")
    self.run_main("--from_archive=/no/such/file")
    self.assertEqual(os.listdir(self.data_dir), ["mine.txt"])

  def test_unknown_name(self):
    with self.assertRaisesRegex(DataError, "dataset: tfds knows no 'cifar11'"):
      prepare.prepare("cifar11", str(self.data_dir))
    self.assert_nothing_left()

  def test_tensorflow_is_put_back(self):
    builder_cls = tfds.builder_cls("cifar10")
    module = sys.modules[builder_cls.__module__]
    before = module.tf
    with prepare._without_tensorflow(builder_cls):
      self.assertIsNot(module.tf, before)
    self.assertIs(module.tf, before)

  def test_command_line(self):
    done = subprocess.run(
      [sys.executable, "-m", "robust_features.data.prepare", "--dataset=mnist"],
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(done.returncode, 1)
    self.assertRegex(done.stderr, r"^error: .*--data_dir\n$")


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


if __name__ == "__main__":
  absltest.main()
