"""The sweep: what it prints, runs and sums up; and the kills of a study."""

import contextlib
import importlib.util
import io
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.data import sources
from robust_features.study import parse

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
cost = importlib.import_module("benchmarks.cost")

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
  return [{"stages.row.evaluate.num_steps": steps} for steps in (1, 2)]
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
    config, root = self.write(STUDY), folder(self) / "a b"
    found = self.printed(
      f"--config={config}:x", f"--workdir={root}",
      "--config.stages.standard.train.adversary.eps=8/255",
    )  # fmt: skip
    field = "stages.row.evaluate.num_steps"
    self.assertEqual(
      [shlex.split(line) for line in found],
      [
        ["python", "-m", "robust_features.main", f"--config={config}:x",
         "--config.stages.standard.train.adversary.eps=8/255",
         f"--config.{field}={steps}",
         f"--workdir={root}/row,num_steps={steps}", f"--reuse={root}"]
        for steps in (1, 2)
      ],
    )  # fmt: skip

  def printed(self, *arguments):
    """Returns the lines that the sweep prints, in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
      sweep.main(list(arguments))
    return out.getvalue().splitlines()

  def test_a_reader_that_wants_only_some(self):
    script = f"'{sys.executable}' launch/sweep.py --config=cifar_nonrobust"
    script = f"set -o pipefail; {script} --config.data.D.data_dir=x | head -n 1"
    found = run("bash", "-c", script)
    self.assertEqual((found.returncode, found.stderr), (0, ""))
    self.assertLen(found.stdout.splitlines(), 1)

  def test_runs_and_sums_up(self):
    config, root = self.write(STUDY), folder(self)
    found = run(
      sys.executable, LAUNCH / "sweep.py", f"--config={config}", "--run",
      f"--workdir={root}",
    )  # fmt: skip
    self.assertEqual(found.returncode, 0, found.stderr)
    summary = json.loads((root / "sweep.json").read_text())
    first, second = (root / f"row,num_steps={steps}" for steps in (1, 2))
    results = [
      json.loads((path / "results.json").read_text())
      for path in (first, second)
    ]
    attacks = [r["rows"][0]["attack"]["num_steps"] for r in results]
    self.assertEqual(attacks, [1, 2])
    # What does not differ was made once.
    self.assertFalse((first / "standard").is_symlink())
    self.assertEqual(
      (second / "standard").resolve(), (first / "standard").resolve()
    )
    self.assertFalse((second / "row").is_symlink())
    self.assertEqual([g["name"] for g in summary["groups"]],
                     [first.name, second.name])  # fmt: skip
    text = (root / "sweep.md").read_text()
    for part in ("| standard training |", "### Models", "n = 1: row,num_steps"):
      self.assertIn(part, text)

  @parameterized.parameters(
    ("x = 1", "defines no sweep"),
    ("def sweep(): return []", "is empty"),
    ("def sweep(): return [{'a': 1}, {'a': 1}]", "repeats"),
    ("def sweep(): return [{'a b': 1}]", "config has no field a b; there are"),
    ("def sweep(): return [{'stages.row.title.x': 1}]", "row.title is no sect"),
    ("def sweep(): return [{'models.main.width': 'x'}]", "width must be a num"),
    ("def sweep(): 1 / 0", "line .*ZeroDivisionError"),
  )
  def test_bad_sweeps_are_one_line(self, text, message):
    text = STUDY.partition("def sweep")[0] + text
    with self.assertRaisesRegex(SystemExit, f"^error: .*{message}"):
      sweep.main([f"--config={self.write(text)}"])

  @parameterized.parameters(
    (["--config=no/such.py"], "'no/such.py' does not exist"),
    (["--config=quickstart", "--config.seed=3"], "is what the sweep itself"),
    (["--config=quickstart", "--config.sed=3"], "did you mean seed"),
    (["--config=cifar_small"], "defines no sweep"),
  )
  def test_bad_arguments_are_one_line(self, arguments, message):
    with self.assertRaisesRegex(SystemExit, f"^error: .*{message}"):
      sweep.main(arguments)

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
    grid = [{"data.D.num_test": r["rate"], "seed": r["seed"]} for r in grid]
    runs = sweep.make_runs("quickstart", root, grid, {})
    for run_, accuracy in zip(
      runs[:-1], (0.1, 0.2, 0.6, 0.5, 0.7), strict=True
    ):
      run_.workdir.mkdir()
      row = {"name": "n", "title": "t", "accuracy": accuracy, "paper": None,
             "shifted_accuracy": {}, "control_of": "",
             "confusion": [[5, 5], [5, 5]], "class_names": ["a", "b"],
             "robust_accuracy": {"0.5": accuracy / 2}}  # fmt: skip
      (run_.workdir / "results.json").write_text(json.dumps({"rows": [row]}))
    summary = sweep.collect("c.py", runs)
    self.assertEqual(
      [g["name"] for g in summary["groups"]], ["num_test=1", "num_test=2"]
    )
    first = summary["groups"][0]["rows"][0]
    self.assertAlmostEqual(first["accuracy"]["mean"], 0.3)
    # Deviations -.2, -.1, .3: sample variance .14 / 2.
    self.assertAlmostEqual(first["accuracy"]["std"], 0.07**0.5)
    self.assertAlmostEqual(first["robust_accuracy"]["0.5"]["mean"], 0.15)
    self.assertEqual(summary["groups"][1]["rows"][0]["accuracy"]["count"], 2)
    self.assertEqual(summary["missing"], [runs[-1].name])
    text = sweep.markdown(summary)
    self.assertIn("| t     | 30.00 ± 26.46 | 15.00 ± 13.23 |", text)
    self.assertIn("n = 3: num_test=1,seed=0, num_test=1,seed=1, num_te", text)
    self.assertIn("; mean ± standard deviation", text)

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


class CostTest(parameterized.TestCase):
  @parameterized.parameters(
    ("planted", {}), ("planted", {"num_train": 50, "num_test": 7}),
    ("planted", {"num_train": 50, "num_validation": 90}),
    ("digits", {"num_train": 9_000, "num_test": 500, "num_validation": 100}),
    ("digits", {"num_train": 60, "num_validation": 1_400}),
  )  # fmt: skip
  def test_sizes_are_those_that_a_run_finds(self, source, changes):
    plan = parse.parse(self.config(recipes.data(source, **changes)))
    found = sources.load(plan.data["D"])
    for split, part in found._asdict().items():
      counted = cost.split_size(plan, "D", split)
      self.assertEqual(counted, part.num_examples, split)

  def config(self, data):
    config = recipes.study("s")
    config.data.D = data
    config.stages.theory = recipes.statements_stage()
    return config

  def test_a_size_that_only_the_data_tell(self):
    data = recipes.data("image_folder", data_dir="photos")
    plan = parse.parse(self.config(data))
    with self.assertRaisesRegex(ValueError, "size of data.D .*--dry_run"):
      cost.split_size(plan, "D", "train")


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
