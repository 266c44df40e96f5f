"""Every small command takes paths as users write them, or says one line."""

import os
import pathlib
import signal
import sys
from unittest import mock

import toys
from absl.testing import absltest, parameterized

from robust_features import export, report
from robust_features.data import constructed, prepare
from robust_features.pytorch import export_checkpoint, import_checkpoint
from robust_features.runtime import command

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "launch"))
import piece
import sweep

# (main, what it reads, what it writes)
READERS = {
  "export": (export.main, "--dataset=~/set", "--format=npz", "--out=x"),
  "export_checkpoint": (
    export_checkpoint.main, "--checkpoint=~/model", "--out=x.safetensors"
  ),
  "import_checkpoint": (
    import_checkpoint.main, "--checkpoint=~/m.safetensors", "--arch=cnn",
    "--out=x",
  ),
  "report": (report.main, "~/run"),
}  # fmt: skip


class CommandsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.home, here = toys.folder(self), os.getcwd()
    self.enterContext(mock.patch.dict(os.environ, {"HOME": str(self.home)}))
    os.chdir(toys.folder(self))
    self.addCleanup(os.chdir, here)

  def assert_refused(self, pattern, main, *arguments):
    status, out, err = toys.command(main, *arguments)
    if isinstance(status, str):  # What `sys.exit` prints.
      status, err = 1, f"{status}\n"
    self.assertEqual((status, out), (1, ""))
    self.assertRegex(err, f"^error: [^\n]*{pattern}[^\n]*\n$")
    self.assertEmpty(os.listdir())

  @parameterized.named_parameters(
    (name, *found)
    for name, *found in ((name, *found) for name, found in READERS.items())
  )
  def test_what_is_not_there(self, main, *arguments):
    """It is told by the path that was looked at, the home written out."""
    name = next(a for a in arguments if "~/" in a).rpartition("~/")[2]
    self.assert_refused(f"{self.home / name}", main, *arguments)

  @parameterized.named_parameters(
    (name, *found) for name, found in READERS.items()
  )
  def test_a_bucket_that_is_read(self, main, *arguments):
    arguments = [a.replace("~/", "gs://") for a in arguments]
    self.assert_refused("got 'gs://.*; mount the bucket", main, *arguments)

  def test_a_data_set_and_a_model_of_the_home(self):
    model = toys.write_checkpoint(self.home / "model")
    found = toys.command(
      export_checkpoint.main, f"--checkpoint=~/{model.name}",
      "--out=~/a.safetensors",
    )  # fmt: skip
    self.assertEqual((found[0], found[2]), (0, ""))
    found = toys.command(
      import_checkpoint.main, "--checkpoint=~/a.safetensors", "--arch=cnn",
      "--out=~/b",
    )  # fmt: skip
    self.assertEqual((found[0], found[2]), (0, ""))
    self.assertTrue((self.home / "b" / "0").is_dir())
    self.assertEmpty(os.listdir())

  @parameterized.parameters("/proc/x", "gs://bucket/x", "~no_one_at_all/x")
  def test_where_nothing_can_be_written(self, out):
    toys.write_checkpoint(self.home / "model")
    toys.command(
      export_checkpoint.main, "--checkpoint=~/model", "--out=~/a.safetensors"
    )
    pattern = rf"(to /proc\S* .*another out|out .* got '{out})"
    self.assert_refused(
      pattern, import_checkpoint.main, "--checkpoint=~/a.safetensors",
      "--arch=cnn", f"--out={out}",
    )  # fmt: skip
    self.assert_refused(
      pattern, export_checkpoint.main, "--checkpoint=~/model",
      f"--out={out}.safetensors",
    )  # fmt: skip
    constructed_set = mock.patch.multiple(
      constructed, find=mock.DEFAULT, read_manifest=mock.DEFAULT,
      load=mock.DEFAULT,
    )  # fmt: skip
    with constructed_set:
      self.assert_refused(
        pattern, export.main, "--dataset=a", "--format=npz", f"--out={out}"
      )
    with (
      mock.patch.object(report, "remake"),
      mock.patch.object(report.comparison, "compare", return_value=""),
    ):
      self.assert_refused(pattern, report.main, "a", "b", f"--out={out}")
    self.assert_refused(
      f"(cannot be written .* another data_dir|data_dir .* got '{out})",
      prepare.main, "--dataset=cifar10", f"--data_dir={out}",
    )  # fmt: skip
    pattern = pattern.replace("out", "--workdir")
    for main, *more in ((piece.main,), (sweep.main, "--run")):
      self.assert_refused(
        pattern, main, "--config=quickstart", f"--workdir={out}", *more
      )

  def test_a_piece_tells_of_its_out_before_it_begins(self):
    for out, pattern in (
      ("gs://b/x", "--out must be .* got 'gs://b/x'; mount"),
      (__file__, f"{__file__} is a file; give a folder"),
    ):
      self.assert_refused(
        pattern, piece.main, "--config=quickstart", f"--workdir={self.home}",
        f"--out={out}",
      )  # fmt: skip

  @parameterized.parameters("minutes", "grace_seconds")
  def test_how_long_a_piece_cannot_be(self, name):
    for number in ("-1", "nan"):
      self.assert_refused(
        f"--{name} must .* got {number}", piece.main, "--config=quickstart",
        f"--{name}={number}",
      )  # fmt: skip

  def test_what_a_command_changes_of_its_process(self):
    before = signal.getsignal(signal.SIGTERM)
    while_at_work = []

    def work():
      while_at_work.append(signal.getsignal(signal.SIGTERM))
      return "done"

    self.assertEqual(toys.command(lambda _: command.run(work), ""),
                     (0, "done\n", ""))  # fmt: skip
    self.assertEqual(signal.getsignal(signal.SIGTERM), before)
    with self.assertRaisesRegex(SystemExit, "143"):
      while_at_work[0]()


if __name__ == "__main__":
  absltest.main()
