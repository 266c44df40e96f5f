"""The command line as a user meets it: every config, errors, interruptions."""

import errno
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import stand_ins
import toys
from absl.testing import absltest, parameterized

from robust_features import main
from robust_features.recipes import config_file
from robust_features.study import run

ROOT = pathlib.Path(__file__).parents[1]
NAMES = tuple(sorted(path.stem for path in (ROOT / "configs").glob("*.py")))
WHOLE = "configs/quickstart.py"
QUICKSTART = f"{WHOLE}:smoke"


def numbers(value):
  """Returns results without what may differ between two runs."""
  drop = ("command", "commit", "config", "date", "devices", "versions")
  if isinstance(value, dict):
    return {
      k: numbers(v)
      for k, v in value.items()
      if "seconds" not in k and k not in drop
    }
  return [numbers(v) for v in value] if isinstance(value, list) else value


def read(path):
  return json.loads(pathlib.Path(path).read_text())


def checksums(workdir):
  """Returns the bytes' checksums of every constructed data set."""
  found = {}
  for path in workdir.glob("*/data/manifest.json"):
    manifest = read(path)
    found[path.parts[-3]] = manifest["sha256"], manifest["shards"]
  return found


class CommandTestCase(parameterized.TestCase):
  """Runs the program; compiled programs are shared by all tests."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.shared = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )

  @classmethod
  def command(cls, config, *arguments, workdir=None):
    found = [sys.executable, "-m", "robust_features.main"]
    found += [f"--config={config}"] if config else []
    found += [f"--workdir={workdir}"] if workdir else []
    return [*found, f"--compilation_cache={CACHE.name}", *arguments]

  @classmethod
  def start(cls, *args, **kwargs):
    # A session of its own, so that a kill cannot reach the tests.
    return subprocess.Popen(
      cls.command(*args, **kwargs), cwd=ROOT, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip

  @classmethod
  def call(cls, *args, **kwargs):
    """Returns (exit status, stdout, stderr)."""
    process = cls.start(*args, **kwargs)
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err

  def assert_one_line(self, found, pattern):
    status, out, err = found
    self.assertEqual(status, 1, err)
    self.assertNotIn("Traceback", err)
    lines = [line for line in err.splitlines() if line.strip()]
    self.assertLen(lines, 1, err)
    self.assertRegex(lines[0], f"^error: .*{pattern}")
    self.assertEqual(out.strip(), "")


def setUpModule():
  global CACHE
  CACHE = tempfile.TemporaryDirectory()


def tearDownModule():
  CACHE.cleanup()


class QuickstartTest(CommandTestCase):
  """One whole run of the smallest study, and what can be done to it."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.whole = cls.shared / "whole"
    status, cls.out, cls.err = cls.call(QUICKSTART, workdir=cls.whole)
    if status:
      raise AssertionError(cls.err)
    cls.results = read(cls.whole / "results.json")

  def test_the_table_and_the_figures_are_told(self):
    for text in ("| model ", "adversarial training", "attack: ",
                 "zero gradient", "results.json"):  # fmt: skip
      self.assertIn(text, self.out)
    figures = list((self.whole / "figures").glob("*.png"))
    self.assertGreaterEqual(len(figures), 3)
    for path in figures:
      self.assertIn(str(path), self.out)
    self.assertNotIn("Warning", self.err)
    self.assertNotIn("Traceback", self.err)

  def test_few_programs_are_compiled(self):
    """One for every shape and network, whatever the set and the stage."""
    (count,) = re.findall(r"compiled (\d+) programs", self.err + self.out)
    self.assertLessEqual(int(count), 20)

  def test_results(self):
    for row in self.results["rows"]:
      for field in ("name", "accuracy", "robust_accuracy", "attack", "paper",
                    "seed", "seconds"):  # fmt: skip
        self.assertIn(field, row)
    self.assertIn(self.results["rows"][0]["title"],
                  (self.whole / "results.md").read_text())  # fmt: skip

  def test_again_nothing_is_done(self):
    # A fraction is read as what it stands for: 5/2 is the config's own 2.5.
    before = {p: p.stat().st_mtime_ns for p in self.whole.glob("*/*.json")}
    status, out, err = self.call(
      QUICKSTART, "--config.stages.eval_standard.evaluate.step_ratio=5/2",
      workdir=self.whole,
    )  # fmt: skip
    self.assertEqual(status, 0, err)
    self.assertIn("| model ", out)
    after = {p: p.stat().st_mtime_ns for p in self.whole.glob("*/*.json")}
    done = {p for p in before if p.name == "result.json"}
    self.assertEqual({before[p] for p in done}, {after[p] for p in done})
    self.assertEqual(numbers(read(self.whole / "results.json")),
                     numbers(self.results))  # fmt: skip

  def test_a_radius_written_as_a_fraction(self):
    found = self.call(
      QUICKSTART, "--config.stages.robust.train.adversary.eps=8/255",
      workdir=self.whole,
    )  # fmt: skip
    self.assert_one_line(
      found, r"robust.*adversary.eps: 0.5 there, 0.03137254901960784 now"
    )

  def test_signals_and_kills_change_no_number(self):
    """SIGTERM once, SIGKILL twice, at moments that differ from run to run."""
    workdir = self.shared / "disturbed"
    total = len(list(self.whole.glob("*/result.json")))
    arguments = ["--config.run.checkpoint_every_seconds=0",
                 "--config.run.chunk_steps=2"]  # fmt: skip
    rng = random.Random()
    for share, number in ((0.1, signal.SIGTERM), (0.3, signal.SIGKILL),
                          (0.6, signal.SIGKILL)):  # fmt: skip
      process = self.start(QUICKSTART, *arguments, workdir=workdir)
      while len(list(workdir.glob("*/result.json"))) < share * total:
        self.assertIsNone(process.poll(), "it ended before the signal")
        time.sleep(0.02)
      time.sleep(rng.uniform(0, 0.5))
      os.killpg(process.pid, number)
      _, err = process.communicate(timeout=300)
      if number == signal.SIGTERM:
        self.assertEqual(process.returncode, 143, err)
        self.assertIn("stopped by SIGTERM; run the same command to go on", err)
        self.assertNotIn("Traceback", err)
      else:
        self.assertEqual(process.returncode, -number)
    status, _, err = self.call(QUICKSTART, *arguments, workdir=workdir)
    self.assertEqual(status, 0, err)
    found = numbers(read(workdir / "results.json"))
    self.assertEqual(found, numbers(self.results))
    self.assertEqual(checksums(workdir), checksums(self.whole))
    self.assertNotEmpty(checksums(workdir))

  def test_a_workdir_of_another_seed_or_study(self):
    found = self.call(QUICKSTART, "--config.seed=5", workdir=self.whole)
    self.assert_one_line(found, "seed: 0 there, 5 now.*choose another --workd")
    found = self.call(QUICKSTART, "--config.name=other", workdir=self.whole)
    self.assert_one_line(found, "belongs to the study 'quickstart-smoke'")

  def test_damaged_data(self):
    workdir = self.shared / "damaged"
    shutil.copytree(self.whole, workdir)
    (workdir / "on_d_rand" / "result.json").unlink()
    path = workdir / "d_rand" / "data" / "00000-images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    status, _, err = self.call(QUICKSTART, workdir=workdir)
    self.assertEqual(status, 1)
    self.assertRegex(err, "error: .*00000-images.npy does not match its checks")
    self.assertNotIn("Traceback", err)


class ErrorsTest(CommandTestCase):
  @parameterized.parameters(
    ("", [], "--config is missing, such as --config=quickstart"),
    ("configs/none.py", [], "configs/none.py"),
    ("configs/quickstart.py:tiny", [], "unknown variant 'tiny'"),
    # The variants import JAX's half of the package, which takes seconds.
    (WHOLE, ["--config.nope=3"], "nope"),
    (WHOLE, ["--config.stages.standard.train.num_epoch=3"], "num_epoch"),
    (
      WHOLE,
      ["--config.stages.standard.train.num_epochs=abc"],
      "num_epochs.*'abc'",
    ),
    (WHOLE, ["--config.seed=1.5"], "seed.*1.5"),
    (WHOLE, ["--wrokdir=x"], "wrokdir"),
    (QUICKSTART, ["more"], "unknown argument 'more'"),
  )
  def test_of_the_command_line(self, config, arguments, pattern):
    workdir = self.shared / "new"
    found = self.call(config, *arguments, workdir=workdir)
    self.assert_one_line(found, pattern)
    self.assertFalse(workdir.exists())

  @parameterized.parameters(
    (
      ["norm=linf", "eps=8"],
      r"stages.robust.train.adversary.eps must be at most 1 .*write 8/255\?",
    ),
    (["norm=l3"], "stages.robust.train.adversary.norm must be one of"),
  )
  def test_of_values(self, changes, pattern):
    prefix = "--config.stages.robust.train.adversary."
    found = self.call(
      QUICKSTART, *(prefix + change for change in changes),
      workdir=self.shared / "values",
    )  # fmt: skip
    self.assert_one_line(found, pattern)

  def test_a_warning_is_one_line(self):
    found = self.call(
      QUICKSTART, "--dry_run", "--config.stages.robust.train.adversary.eps=4"
    )
    self.assertEqual(found[0], 0)
    for line in found[2].splitlines():
      self.assertRegex(line, "^warning: .*adversary.eps is 4 in l2, .* meant")

  def test_a_workdir_that_cannot_be_written(self):
    path = self.shared / "file"
    path.write_text("")
    found = self.call(QUICKSTART, workdir=path)
    self.assert_one_line(found, "file")

  def test_a_full_disk(self):
    # As TensorStore tells it, which mounting a tiny disk showed.
    for error in (
      OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "w/x.npy"),
      ValueError("RESOURCE_EXHAUSTED: w/x: No space left on device [28]"),
    ):
      text = str(main._explained(error))
      self.assertRegex(text, "^no space left on the disk of --workdir; .*same")
    other = ValueError("another")
    self.assertIs(main._explained(other), other)


class SmokeTest(CommandTestCase):
  """The other shipped configs, on stand-ins for the data they read.

  Run in this process, with its strict JAX and two devices; a start of its own
  for each would take a third of the time.
  """

  # The two others of Restricted ImageNet have the same kinds of stages.
  @parameterized.parameters(
    *(
      name
      for name in NAMES
      if not name.startswith(("quickstart", "restricted_imagenet"))
    ),
    "restricted_imagenet_robust",
  )
  def test_smoke(self, name):
    path = f"{ROOT}/configs/{name}.py:smoke"
    overrides = stand_ins.write(config_file.load(path), toys.folder(self))
    workdir = toys.folder(self)
    # Carlini and Wagner's optimiser is optax's, which promotes.
    with jax.numpy_dtype_promotion("standard"):
      found = run.run(config_file.load(path, overrides), workdir)
    self.assertLen(found["rows"], len(config_file.load(path).table))
    self.assertTrue((workdir / "results.json").exists())
    self.assertIn("| ", (workdir / "results.md").read_text())

  def test_with_jax_looking_for_nan_and_inf(self):
    config = config_file.load(f"{ROOT}/configs/cifar_standard.py:smoke")
    for path, value in stand_ins.write(config, toys.folder(self)).items():
      config_file.override(config, path, value)
    with jax.debug_nans(True), jax.debug_infs(True):
      found = run.run(config, toys.folder(self))
    self.assertLen(found["rows"], 1)

  def test_as_a_command(self):
    workdir = toys.folder(self) / "run"
    config = "configs/cifar_standard.py:smoke"
    found = stand_ins.write(
      config_file.load(f"{ROOT}/{config}"), toys.folder(self)
    )
    overrides = (f"--config.{path}={to}" for path, to in found.items())
    status, out, err = self.call(config, *overrides, workdir=workdir)
    self.assertEqual(status, 0, err[-3000:])
    self.assertNotIn("Traceback", err)
    self.assertTrue((workdir / "results.json").exists())
    self.assertIn("| ", out)


if __name__ == "__main__":
  absltest.main()
