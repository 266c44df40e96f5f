"""Pieces of a study, and what one costs, counted."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.recipes import config_file

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # Whoever runs the tests, from wherever.
from benchmarks import cost, pieces  # noqa: E402
from launch import piece  # noqa: E402

# Ends long after any test; stops as main does, with status 143.
PATIENT = """
import pathlib, signal, sys, time
def stop(*_):
  print("saved", flush=True)
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).write_text("")
time.sleep(600)
"""


def folder(test):
  """Returns an empty folder that goes when the test ends."""
  made = test.enterContext(tempfile.TemporaryDirectory())
  return pathlib.Path(made)


def write_npz(path):
  """Writes ten classes of made-up 32 x 32 images."""
  parts = {}
  for split, num in (("train", 100), ("test", 40)):
    data = toys.dataset(num, num_classes=10, size=32)
    parts[f"{split}_images"] = data.images
    parts[f"{split}_labels"] = np.arange(num) % 10
  np.savez(path, **parts)


class RunForTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = folder(self)
    self.log, self.ready = self.root / "log", self.root / "ready"

  def python(self, code):
    return [sys.executable, "-c", code, str(self.ready)]

  def test_what_ends_in_time_is_left_alone(self):
    status = piece.run_for(self.python("print('hi')"), 60, 1, self.log)
    self.assertEqual((status, self.log.read_text()), (0, "hi\n"))

  def test_a_failure_keeps_its_status(self):
    self.assertEqual(piece.run_for(self.python("exit(3)"), 60, 1, self.log), 3)

  def test_is_asked_to_stop_and_may_save(self):
    start = time.monotonic()
    status = piece.run_for(self.python(PATIENT), 6, 3, self.log)
    self.assertEqual((status, self.log.read_text()), (143, "saved\n"))
    self.assertLess(time.monotonic() - start, 6)

  def test_who_does_not_stop_is_killed(self):
    deaf = PATIENT.replace("sys.exit(143)", "return")
    start = time.monotonic()
    status = piece.run_for(self.python(deaf), 4, 1.5, self.log)
    self.assertEqual(status, -signal.SIGKILL)
    self.assertLess(time.monotonic() - start, 8)

  def test_a_signal_is_passed_on_once(self):
    before = signal.getsignal(signal.SIGTERM)

    def interrupt():
      while not self.ready.exists():
        time.sleep(0.02)
      os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status = piece.run_for(self.python(PATIENT), 60, 1, self.log)
    thread.join()
    self.assertEqual((status, self.log.read_text()), (143, "saved\n"))
    self.assertEqual(signal.getsignal(signal.SIGTERM), before)


class ProgressTest(absltest.TestCase):
  def test_tells_done_begun_and_left(self):
    config, root = recipes.study("s"), folder(self)
    for name in ("a", "b"):
      config.stages[name] = recipes.train_stage("main", "D", recipes.train())
    construct = recipes.inversion("robust")
    for name in ("c", "d"):
      config.stages[name] = recipes.construct_stage("a", construct)
    for name in "abc":
      (root / name).mkdir()
      (root / name / "config.json").write_text("{}")
    (root / "a" / "result.json").write_text('{"accuracy": 0.5}')
    for step in (20, 100, "100.tmp"):
      (root / "b" / "checkpoints" / str(step)).mkdir(parents=True)
    (root / "c" / "data").mkdir()
    for name in ("00000-images.npy", "00001-images.npy", "00001-labels.npy"):
      (root / "c" / "data" / name).write_bytes(b"")
    found = piece.progress(config, root)
    self.assertEqual(
      found,
      {
        "done": {"a": {"accuracy": 0.5}},
        "begun": {"b": "at step 100", "c": "with 2 shards"},
        "left": ["d"],
      },
    )
    self.assertEqual(
      piece.describe(found, 143, 90.0),
      "1.5 minutes: 1 of 4 stages done; b at step 100; c with 2 shards; "
      "not begun: d",
    )
    self.assertIn("killed", piece.describe(found, -signal.SIGKILL, 90.0))


class StudyTest(absltest.TestCase):
  """The real main, in two pieces."""

  def start(self, workdir, out):
    data = workdir.parent
    return subprocess.Popen(
      [sys.executable, "launch/piece.py",
       "--config=configs/cifar_standard.py:smoke", f"--workdir={workdir}",
       "--minutes=5", f"--out={out}", "--",
       "--config.data.D.source=npz", "--config.data.D.name=toy",
       f"--config.data.D.data_dir={data}", "--config.models.main.name=cnn",
       "--config.run.chunk_steps=1", f"--compilation_cache={data / 'cache'}",
       # Without drops, of which XLA would compile thousands.
       "--config.stages.standard.train.schedule=constant",
       "--config.stages.standard.train.num_epochs=100000"],
      cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip

  def step(self, workdir):
    """Returns how far training has come."""
    path = workdir / "standard" / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return json.loads(whole[-1])["step"] if whole else 0

  def test_the_second_piece_goes_on_from_the_first(self):
    root = folder(self)
    write_npz(root / "toy.npz")
    workdir, out, before = root / "run", root / "out", 0
    for _ in range(2):
      process = self.start(workdir, out)
      while process.poll() is None and self.step(workdir) <= before:
        time.sleep(0.05)
      process.terminate()
      stdout, stderr = process.communicate(timeout=120)
      self.assertEqual(process.returncode, 0, stderr)
      (line,) = stdout.splitlines()
      self.assertRegex(
        line,
        r"minutes: 0 of 2 stages done; standard at step [1-9]\d*; "
        r"not begun: eval_standard$",
      )
      step = int(line.partition("step ")[2].partition(";")[0])
      self.assertGreater(step, before)
      before = step
      progress = json.loads((out / "progress.json").read_text())
      self.assertEqual(progress["left"], ["eval_standard"])
    log = (workdir / "piece.log").read_text()
    self.assertEqual(log.count("stopped by SIGTERM"), 2)

  def test_a_failure_is_one_line_and_a_status(self):
    root = folder(self)
    process = self.start(root / "run", root / "out")
    _, stderr = process.communicate(timeout=120)
    self.assertEqual(process.returncode, 1)
    self.assertRegex(stderr, "^error: main failed with status 1: error: .*toy")

  def test_a_flag_that_is_not_there(self):
    with self.assertRaises(SystemExit) as raised:
      piece.parse([])
    self.assertEqual(raised.exception.code, 1)

  def test_a_config_that_is_not_there(self):
    with self.assertRaisesRegex(SystemExit, "'no.py' does not exist"):
      piece.main(["--config=no.py"])


class CollectTest(absltest.TestCase):
  def test_copies_what_is_small(self):
    root, out = folder(self), folder(self) / "deep" / "out"
    (root / "figures").mkdir()
    (root / "standard").mkdir()
    for name in ("results.json", "results.md", "figures/a.png",
                 "figures/a.pdf", "standard/weights", "piece.log"):  # fmt: skip
      (root / name).write_text(name)
    for _ in range(2):  # A later piece writes over an earlier one's.
      piece.collect(root, out, {"left": []})
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    self.assertEqual(
      found, {"progress.json", "results.json", "results.md", "figures/a.png"}
    )


class CostTest(parameterized.TestCase):
  def test_operations_of_a_network_counted_by_hand(self):
    model, variables = pieces.abstract_model(
      "resnet18", "float32", (32, 32, 3), width=8
    )
    by_hand = 3 * 9 * 8 * 32 * 32  # The stem.
    side, before = 32, 8
    for stage in range(4):
      width = 8 * 2**stage
      side = side if stage == 0 else side // 2
      by_hand += (before + 3 * width) * 9 * width * side**2
      by_hand += before * width * side**2 if stage else 0  # The shortcut.
      before = width
    by_hand += 64 * 10
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    found = pieces.common.forward_flops(
      lambda v, x: model.apply(v, x).logits, variables, x
    )
    self.assertEqual(found, 2 * 2 * by_hand)

  def test_xla_agrees_with_the_shapes(self):
    shape = (16, 16, 3)
    model, variables = pieces.abstract_model("cnn", "float32", shape, width=8)
    flops = pieces.count_flops(model, variables, shape, 4)
    for piece_name in pieces.PIECES:
      by_shapes = flops["forward, by shapes"]
      by_shapes *= pieces.forward_passes(piece_name)
      by_xla = pieces.xla_flops(piece_name, flops)
      self.assertBetween(by_xla / by_shapes, 0.7, 1.3, piece_name)

  def study(self):
    config = recipes.study("s")
    config.data.D = recipes.cifar10()
    config.models.main = recipes.model("resnet18")
    return config

  def test_stages_are_added_up(self):
    config = self.study()
    config.stages.a = recipes.train_stage("main", "D", recipes.train(
      num_epochs=2, batch_size=1000, eval_every_epochs=1,
      adversary=recipes.adversary(0.5)))  # fmt: skip
    config.stages.b = recipes.construct_stage(
      "a", recipes.targeted("rand"), split="test"
    )
    config.stages.c = recipes.evaluate_stage(
      "a", "t", recipes.evaluation(num_steps=20), data="b"
    )
    validated = 2 * 1000 * (1 + 2 * 7 + 1 + 1)
    for name, want in (
      ("a", 2 * 49_000 * (2 * 7 + 1 + 3) + validated),
      ("b", 10_000 * (2 * 100 + 6)),
      ("c", 10_000 * (1 + 2 * (2 * 20 + 2))),
    ):
      found = cost.passes_of(config, name)
      self.assertEqual((found.architecture, found.images), ("resnet18", want))

  def test_an_unknown_size_is_refused(self):
    config = self.study()
    config.data.D.name = "svhn"
    config.stages.a = recipes.train_stage("main", "D", recipes.train())
    with self.assertRaisesRegex(
      ValueError, r"tfds svhn\) is not known without them"
    ):
      cost.passes_of(config, "a")

  @parameterized.parameters("cifar_fast", "cifar_robust", "cifar_nonrobust")
  def test_full_size_studies_can_be_counted(self, name):
    config = config_file.load(str(ROOT / "configs" / f"{name}.py"))
    known = [cost.passes_of(config, stage) for stage in config.stages]
    self.assertGreater(sum(s.images for s in known if s), 1e7)

  def test_the_fast_plan_fits_ten_minutes(self):
    """At 40% of 700 TFLOP/s, with two fifths left for all the rest."""
    config = config_file.load(str(ROOT / "configs" / "cifar_fast.py"))
    flops = (
      sum(cost.passes_of(config, stage).images for stage in config.stages)
      * 1.111e9
    )
    self.assertLess(flops / (0.4 * 700e12), 360)

  def test_memory_of_a_program(self):
    model, variables = pieces.abstract_model(
      "cnn", "float32", cost.SHAPE, width=4
    )
    found = {
      batch: cost.memory(cost.lower("inversion", model, variables, batch, 100))
      for batch in (2, 4)
    }
    images = 2 * 2 * 32 * 32 * 3  # A batch and where it starts.
    self.assertBetween(found[2].arguments, images, 2 * images)
    self.assertGreater(found[4].temporaries, found[2].temporaries)


class ImportsTest(absltest.TestCase):
  def test_the_benchmark_needs_no_config_nor_data_package(self):
    """A borrowed GPU machine may lack them."""
    code = (
      "import sys\n"
      "for name in ('ml_collections', 'tensorflow_datasets'):\n"
      "  sys.modules[name] = None\n"
      "import benchmarks.train_throughput\n"
    )
    found = subprocess.run(
      [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
      check=False,
    )  # fmt: skip
    self.assertEqual(found.returncode, 0, found.stderr)


if __name__ == "__main__":
  absltest.main()
