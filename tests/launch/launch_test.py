"""The sweep: what it prints, runs and sums up; and the kills of a study."""

import importlib.util
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"


def load(path):
  """Imports a script by its path."""
  spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


sweep = load(LAUNCH / "sweep.py")
kills = load(ROOT / "benchmarks" / "kill_and_resume.py")

STUDY = """
from robust_features import recipes

def get_config(variant=""):
  config = recipes.study("tiny")
  config.data.D = recipes.data(
    "planted", num_train=64, num_test=32, num_validation=16)
  config.models.main = recipes.model("cnn", width=4)
  config.stages.standard = recipes.train_stage("main", "D", recipes.train(
    num_epochs=1, batch_size=16, augment=recipes.no_augmentation()))
  config.stages.row = recipes.evaluate_stage("standard", "standard training",
    recipes.evaluation(num_steps=2, batch_size=32))
  config.table = ("row",)
  return config

def sweep():
  return [{"seed": seed} for seed in (0, 1)]
"""


def folder(test):
  """Returns an empty folder that goes when the test ends."""
  made = test.enterContext(tempfile.TemporaryDirectory())
  return pathlib.Path(made)


def run(*command, **kwargs):
  """Runs a command in the repository; returns the finished process."""
  return subprocess.run(
    [str(part) for part in command],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=600,
    **kwargs,
  )


class SweepTest(parameterized.TestCase):
  def write(self, text):
    path = folder(self) / "tiny.py"
    path.write_text(text)
    return path

  def test_prints_one_command_a_line(self):
    config = self.write(STUDY)
    found = run(sys.executable, LAUNCH / "sweep.py", f"--config={config}:x")
    self.assertEqual(found.returncode, 0, found.stderr)
    lines = [shlex.split(line) for line in found.stdout.splitlines()]
    self.assertEqual(
      lines,
      [
        ["python", "-m", "robust_features.main", f"--config={config}:x",
         f"--config.seed={seed}", f"--workdir=runs/tiny_sweep/seed={seed}"]
        for seed in (0, 1)
      ],
    )  # fmt: skip

  def test_runs_and_sums_up(self):
    config, root = self.write(STUDY), folder(self)
    found = run(
      sys.executable, LAUNCH / "sweep.py", f"--config={config}", "--run",
      f"--workdir={root}",
    )  # fmt: skip
    self.assertEqual(found.returncode, 0, found.stderr)
    summary = json.loads((root / "sweep.json").read_text())
    results = [
      json.loads((root / f"seed={seed}" / "results.json").read_text())
      for seed in (0, 1)
    ]
    (group,) = summary["groups"]
    (row,) = group["rows"]
    one, other = (r["rows"][0]["accuracy"] for r in results)
    self.assertEqual([r["seed"] for r in results], [0, 1])
    self.assertEqual(row["name"], "row")
    self.assertAlmostEqual(row["accuracy"]["mean"], (one + other) / 2)
    self.assertAlmostEqual(row["accuracy"]["std"], abs(one - other) / 2**0.5)
    self.assertIn("standard training", (root / "sweep.md").read_text())
    models = [r["models"]["standard"]["digest"] for r in results]
    self.assertNotEqual(*models)

  @parameterized.parameters(
    ("x = 1", "defines no sweep"),
    ("def sweep(): return []", "is empty"),
    ("def sweep(): return [{'a': 1}, {'a': 1}]", "repeats"),
    ("def sweep(): return [{'a b': 1}]", "names no field: 'a b'"),
  )
  def test_bad_sweeps_are_one_line(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      sweep.load_sweep(str(self.write(text)))

  def test_missing_file_is_one_line(self):
    found = run(sys.executable, LAUNCH / "sweep.py", "--config=no/such.py")
    self.assertEqual(found.returncode, 1)
    self.assertEqual(
      found.stderr, "error: --config: there is no file 'no/such.py'\n"
    )

  def test_names_tell_stages_and_values_apart(self):
    rate = "train.learning_rate"
    names = [
      sweep.run_name({"seed": 3}),
      sweep.run_name({f"stages.a.{rate}": 0.1}),
      sweep.run_name({f"stages.b.{rate}": 0.1}),
      sweep.run_name({f"stages.a.{rate}": 0.1, f"stages.b.{rate}": 0.1}),
      sweep.run_name({f"stages.a.{rate}": 0.1, f"stages.b.{rate}": 0.2}),
      sweep.run_name({"eps": (0.25, "x/y")}),
    ]
    self.assertEqual(names[:4], [
      "seed=3", "a,learning_rate=0.1", "b,learning_rate=0.1",
      "a,b,learning_rate=0.1",
    ])  # fmt: skip
    self.assertLen(set(names), len(names))
    for name in names:
      self.assertRegex(name, r"^[\w.,=+-]+$")

  def test_long_names_are_cut_but_differ(self):
    long = [{f"field_{i}": value for i in range(40)} for value in (1, 2)]
    names = [sweep.run_name(changes) for changes in long]
    self.assertNotEqual(*names)
    self.assertLess(max(map(len, names)), 160)

  def test_groups_are_settings_and_spread_is_over_seeds(self):
    root = folder(self)
    grid = [{"rate": r, "seed": s} for r in (1, 2) for s in (0, 1, 2)]
    runs = sweep.make_runs("c.py", root, grid)
    for run_, accuracy in zip(
      runs[:-1], (0.1, 0.2, 0.6, 0.5, 0.7), strict=True
    ):
      run_.workdir.mkdir()
      row = {"name": "n", "title": "t", "accuracy": accuracy,
             "robust_accuracy": {"0.5": accuracy / 2}}  # fmt: skip
      (run_.workdir / "results.json").write_text(json.dumps({"rows": [row]}))
    summary = sweep.collect("c.py", runs)
    self.assertEqual(
      [g["name"] for g in summary["groups"]], ["rate=1", "rate=2"]
    )
    first = summary["groups"][0]["rows"][0]
    self.assertAlmostEqual(first["accuracy"]["mean"], 0.3)
    # Deviations -.2, -.1, .3: sample variance .14 / 2.
    self.assertAlmostEqual(first["accuracy"]["std"], 0.07**0.5)
    self.assertAlmostEqual(first["robust_accuracy"]["0.5"]["mean"], 0.15)
    self.assertEqual(summary["groups"][1]["rows"][0]["accuracy"]["count"], 2)
    self.assertEqual(summary["missing"], [runs[-1].name])
    self.assertIn("30.00 ± 26.46 (10.00 to 60.00)", sweep.markdown(summary))

  def test_failures_are_reported_and_the_rest_runs(self):
    here = folder(self)
    runs = [
      sweep.Run("bad", {}, here, [sys.executable, "-c", "exit(3)"]),
      sweep.Run("good", {}, here, [sys.executable, "-c", ""]),
    ]
    self.assertEqual([r.name for r in sweep.run_all(runs)], ["bad"])

  def test_a_stopped_run_stops_the_sweep(self):
    stop = sweep.Run(
      "s", {}, pathlib.Path(), [sys.executable, "-c", "exit(143)"]
    )
    fail = sweep.Run("f", {}, pathlib.Path(), ["/does/not/exist"])
    with self.assertRaises(SystemExit) as caught:
      sweep.run_all([stop, fail])
    self.assertEqual(caught.exception.code, 143)


class KillsTest(absltest.TestCase):
  def test_wall_times_are_no_difference(self):
    one = {"rows": [{"accuracy": 0.5, "seconds": 1.0}], "commit": "a"}
    other = {"rows": [{"accuracy": 0.5, "seconds": 2.0}], "commit": "b"}
    found = kills.differences(kills.comparable(one), kills.comparable(other))
    self.assertEqual(found, [])

  def test_numbers_are(self):
    one = {"rows": [{"accuracy": 0.5, "robust": {"1": 0.25}}], "x": 1}
    other = {"rows": [{"accuracy": 0.5, "robust": {"1": 0.26}}]}
    found = kills.differences(one, other)
    self.assertEqual(found, ["rows[0].robust.1: 0.25, 0.26", "x: 1, None"])
    self.assertEqual(
      kills.differences([1], [1, 2], "a"), ["a: 1 entries, 2 entries"]
    )

  def test_shards_are_compared_by_their_bytes(self):
    root = folder(self)
    data = root / "d_rand" / "data"
    data.mkdir(parents=True)
    (data / "00000-images.npy").write_bytes(b"1")
    (data / "manifest.json").write_text("{}")
    (data / ".00000-images.npy.half").write_bytes(b"2")
    before = kills.shard_checksums(root)
    self.assertEqual(list(before), ["d_rand/data/00000-images.npy"])
    (data / "00000-images.npy").write_bytes(b"3")
    self.assertNotEqual(kills.shard_checksums(root), before)

  def test_kills_what_lasts_and_sees_what_ends(self):
    root = folder(self)
    marker, log = root / "marker", root / "log"

    def python(code):
      begin = f"open({str(marker)!r}, 'w').close(); "
      return [sys.executable, "-c", begin + code]

    lasts = python("import time; time.sleep(60)")
    self.assertTrue(kills.kill_after(lasts, marker, 0.2, log))
    self.assertFalse(kills.kill_after(python("pass"), marker, 60, log))
    with self.assertRaisesRegex(RuntimeError, "status 3"):
      kills.kill_after(python("exit(3)"), marker, 60, log)
    seconds = kills.run_through(
      python("import time; time.sleep(1)"), marker, log
    )
    self.assertBetween(seconds, 1.0, 30.0)


if __name__ == "__main__":
  absltest.main()
