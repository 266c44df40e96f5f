"""A study of four stages: run once, skipped after, guarded against change."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import numpy as np
import toy_study
import toys
from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.data import dataset as ds
from robust_features.recipes import config_file
from robust_features.runtime import checkpoint, preemption
from robust_features.study import config_text, graph, run
from robust_features.study.kinds import KINDS, subject
from robust_features.study.parse import parse

STAGES = ("base", "d_rand", "on_d_rand", "eval_base", "eval_on_d_rand", "sweep")


def no_work():
  """Makes any stage that runs a failure."""
  runs = {
    name: dataclasses.replace(
      kind, run=mock.Mock(side_effect=AssertionError(name))
    )
    for name, kind in KINDS.items()
  }
  return mock.patch.dict(KINDS, runs)


def study(config, workdir):
  """Returns a study, nothing of it run."""
  return graph.Study(parse(config), workdir)


class StudyTestCase(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.data = folder / "npz"
    cls.data.mkdir()
    toy_study.write_npz(cls.data)
    cls.whole = folder / "whole"
    cls.results = run.run(toy_study.config(cls.data), cls.whole)

  def copy(self):
    """Returns a finished workdir to damage."""
    workdir = toys.folder(self) / "run"
    shutil.copytree(self.whole, workdir)
    return workdir

  def assert_refused(self, workdir, pattern, error=ValueError, **overrides):
    """One line, and nothing in the workdir is touched."""

    def listing():
      return {p: p.stat().st_mtime_ns for p in workdir.rglob("result.json")}

    before = listing()
    with self.assertRaisesRegex(error, pattern) as caught:
      run.run(toy_study.config(self.data, **overrides), workdir)
    self.assertNotIn("\n", str(caught.exception))
    self.assertEqual(listing(), before)


class ResultsTest(StudyTestCase):
  def test_rows(self):
    read = json.loads((self.whole / "results.json").read_text())
    self.assertEqual(read, self.results)
    self.assertEqual([r["name"] for r in read["rows"]],
                     ["eval_base", "eval_on_d_rand"])  # fmt: skip
    row = read["rows"][0]
    self.assertIsNone(row["paper"])  # It has one, but these are other images.
    self.assertEqual((row["seed"], row["num_examples"]), (3, 30))
    self.assertEqual(list(row["robust_accuracy"]), ["0.25", "0.5"])
    self.assertEqual(row["attack"]["num_steps"], 3)
    self.assertGreater(row["seconds"], 0)
    self.assertGreater(row["accuracy"], 0.5)

  def test_other_stages(self):
    self.assertEqual(set(self.results["models"]), {"base", "on_d_rand"})
    self.assertEqual(self.results["models"]["on_d_rand"]["num_examples"], 32)
    self.assertEqual(self.results["data_sets"]["d_rand"]["num_examples"], 32)
    sweep = self.results["step_sweeps"]["sweep"]
    self.assertEqual([r["num_steps"] for r in sweep["rows"]], [0, 2])
    accuracy = self.results["rows"][0]["accuracy"]
    self.assertEqual(sweep["rows"][0]["robust_accuracy"], accuracy)

  def test_provenance(self):
    self.assertIn("jax", self.results["versions"])
    self.assertRegex(self.results["commit"], "^([0-9a-f]{40}|unknown)")
    manifest = json.loads(
      (self.whole / "d_rand" / "data" / "manifest.json").read_text()
    )
    digest = self.results["models"]["base"]["digest"]
    self.assertEqual(manifest["origin"]["source_digest"], digest)
    self.assertEqual(manifest["origin"]["config"]["seed"], 3)

  def test_the_config_it_leaves_is_the_one_it_had(self):
    again = config_file.load(str(self.whole / "config.py"))
    config = toy_study.config(self.data)
    self.assertEqual(again, config)
    self.assertEqual(list(again.stages), list(config.stages))
    self.assertEqual(self.results["config"], config_text.python(again))
    config.stages.base.train.learning_rate = float("inf")
    path = toys.folder(self) / "config.py"
    path.write_text(config_text.python(config))
    self.assertEqual(config_file.load(str(path)), config)

  def test_every_stage_says_when_and_by_what_it_was_made(self):
    for stage in self.results["stages"]:
      self.assertGreater(stage["seconds"], 0)
      self.assertEqual(stage["commit"], self.results["commit"])
      self.assertLessEqual(stage["date"], self.results["date"])

  def test_every_stage_records_what_it_depends_on(self):
    found = json.loads((self.whole / "eval_on_d_rand/config.json").read_text())
    for field in (
      "seed", "stages.eval_on_d_rand.evaluate.num_steps",
      "stages.on_d_rand.train.learning_rate", "stages.base.train.learning_rate",
      "stages.d_rand.construct.attack.eps", "models.main.width",
    ):  # fmt: skip
      self.assertIn(field, found)
    self.assertNotIn("stages.eval_base.evaluate.num_steps", found)
    self.assertNotIn("stages.eval_on_d_rand.title", found)
    # Where data lie is no such thing; what they are is an input.
    self.assertFalse([field for field in found if field.startswith("data.")])

  def test_every_stage_records_the_digests_of_its_inputs(self):
    found = json.loads((self.whole / "eval_on_d_rand/inputs.json").read_text())
    models = self.results["models"]
    self.assertEqual(found["stages.on_d_rand.digest"],
                     models["on_d_rand"]["digest"])  # fmt: skip
    self.assertEqual(found["stages.on_d_rand.best_digest"],
                     models["on_d_rand"]["best_digest"])  # fmt: skip
    made = study(toy_study.config(self.data), self.whole)
    for split, part in made.splits("D")._asdict().items():
      self.assertEqual(found[f"data.D.{split}"], ds.digest(part))
    found = json.loads((self.whole / "on_d_rand/inputs.json").read_text())
    self.assertEqual(found["stages.d_rand.sha256"],
                     self.results["data_sets"]["d_rand"]["sha256"])  # fmt: skip

  def test_what_a_reader_is_told_of_stages_and_data(self):
    base, _, eval_base, *_ = self.results["stages"]
    self.assertEqual((base["name"], base["parents"]), ("base", []))
    self.assertEqual(eval_base["parents"], ["base"])
    self.assertEqual(base["seconds"], self.results["models"]["base"]["seconds"])
    made = json.loads((self.whole / "base" / "provenance.json").read_text())
    self.assertEqual(base["date"], made["date"])
    part = study(toy_study.config(self.data), self.whole).splits("D").test
    want = {"sha256": ds.digest(part), "num_examples": 30}
    self.assertEqual(self.results["data"]["D"]["test"], want)
    kept = json.loads((self.whole / "data" / "D.json").read_text())
    self.assertEqual(kept["splits"]["test"], want)
    # Where they lay, which is no field of a stage.
    self.assertEqual(kept["config"]["data_dir"], str(self.data))

  def test_examples_are_the_first_of_each_class(self):
    made = study(toy_study.config(self.data), self.whole)
    data, found = (made.dataset(name, "train") for name in ("D", "d_rand"))
    _, first = np.unique(data.labels, return_index=True)
    with np.load(self.whole / "d_rand" / "examples.npz") as shown:
      for name, want in (
        ("original", ds.to_float(data.images[first])),
        ("constructed", ds.to_float(found.images[first])),
        ("old", data.labels[first]), ("new", found.labels[first]),
      ):  # fmt: skip
        np.testing.assert_array_equal(shown[name], want)
    self.assertEqual(
      self.results["data_sets"]["d_rand"]["class_names"],
      list(data.class_names),
    )

  def test_keys_are_of_the_seed_and_the_name(self):
    def key(name, seed):
      made = study(toy_study.config(self.data, seed=seed), self.whole)
      return jax.random.key_data(made.key(name)).tolist()

    keys = [key("base", 3), key("base", 4), key("other", 3), key("base", 3)]
    self.assertEqual(keys[0], keys[3])
    self.assertLen({tuple(k) for k in keys}, 3)

  def test_infinity_is_a_word(self):
    """It has no JSON; and no box has a diameter that it could exceed."""
    inf = float("inf")
    config = toy_study.config(
      self.data, stages__d_rand__construct__attack__eps=inf
    )
    made = study(config, toys.folder(self) / "new")
    found = made.resolved("d_rand")
    self.assertEqual(found["stages.d_rand.construct.attack.eps"], "inf")
    made.preflight(["base", "d_rand"])
    self.assertEqual(graph._as_json((1, (-inf, "a"))), [1, ["-inf", "a"]])

  def test_label_shift(self):
    """The accuracy on y + 1 is that of predictions of y + 1."""
    made = study(toy_study.config(self.data), self.whole)
    stage = made.plan.nodes["eval_on_d_rand"].stage
    model, variables, data = subject.subject(made, stage)
    plain = made.dataset("D", "test")
    np.testing.assert_array_equal(data.labels, (plain.labels + 1) % 3)
    logits = model.apply(variables, np.float32(plain.images) / 255).logits
    hits = (np.asarray(logits).argmax(1) == (plain.labels + 1) % 3).mean()
    self.assertAlmostEqual(self.results["rows"][1]["accuracy"], hits)

  def test_a_stage_does_not_depend_on_its_neighbours(self):
    alone = toy_study.config(self.data, table=("eval_base",))
    for name in STAGES:
      if name not in ("base", "eval_base"):
        del alone.stages[name]
    found = run.run(alone, toys.folder(self) / "run")
    self.assertEqual(found["models"]["base"]["digest"],
                     self.results["models"]["base"]["digest"])  # fmt: skip
    drop = ("seconds", "train_seconds")
    rows = [{k: v for k, v in r["rows"][0].items() if k not in drop}
            for r in (found, self.results)]  # fmt: skip
    self.assertEqual(*rows)


class RerunTest(StudyTestCase):
  def test_finished_stages_are_skipped(self):
    workdir = self.copy()
    paths = [workdir / name / "result.json" for name in STAGES]
    before = [path.stat().st_mtime_ns for path in paths]
    with no_work():
      again = run.run(toy_study.config(self.data), workdir)
    self.assertEqual([path.stat().st_mtime_ns for path in paths], before)
    self.assertEqual(numbers(again), numbers(self.results))

  def test_data_that_moved_are_the_same_data(self):
    workdir, elsewhere = self.copy(), toys.folder(self)
    shutil.copytree(self.data, elsewhere / "npz")
    with no_work():
      found = run.run(toy_study.config(f"{elsewhere}/npz/"), workdir)
    self.assertEqual(numbers(found), numbers(self.results))

  def test_an_unfinished_stage_alone_is_run(self):
    workdir = self.copy()
    (workdir / "eval_base" / "result.json").unlink()
    kind = KINDS["evaluate"]
    runs = mock.Mock(wraps=kind.run)
    watched = dataclasses.replace(kind, run=runs)
    with no_work(), mock.patch.dict(KINDS, {"evaluate": watched}):
      again = run.run(toy_study.config(self.data), workdir)
    self.assertEqual(runs.call_count, 1)
    self.assertEqual(again["rows"][0]["robust_accuracy"],
                     self.results["rows"][0]["robust_accuracy"])  # fmt: skip

  def test_interrupted_everywhere_equals_straight(self):
    """A request to stop at every look at it, until the study is through."""
    workdir, stops, budget = toys.folder(self) / "run", 0, [1]
    check = preemption.check

    def stop_when_spent():
      budget[0] -= 1
      if budget[0] < 0:
        raise preemption.Stopped("SIGTERM")
      check()

    with mock.patch.object(preemption, "check", stop_when_spent):
      while True:
        budget[0] = 1 + stops  # An evaluation is done in one sitting.
        try:
          found = run.run(toy_study.config(self.data), workdir)
          break
        except preemption.Stopped:
          stops += 1
          self.assertLess(stops, 30)
    self.assertGreater(stops, 2)
    self.assertEqual(numbers(found), numbers(self.results))

  def test_a_request_at_the_start_is_heard_before_any_stage(self):
    self.addCleanup(preemption.reset)
    preemption.request()
    workdir = toys.folder(self) / "run"
    with self.assertRaises(preemption.Stopped):
      run.run(toy_study.config(self.data), workdir)
    self.assertFalse((workdir / "base").exists())

  def test_titles_are_not_results(self):
    workdir = self.copy()
    with no_work():
      found = run.run(
        toy_study.config(self.data, stages__eval_base__title="new",
               stages__eval_base__paper=""), workdir,
      )  # fmt: skip
    self.assertEqual(found["rows"][0]["title"], "new")

  def test_cadences_are_not_results(self):
    workdir, changed = (
      self.copy(),
      toy_study.config(self.data, run__chunk_steps=1),
    )
    with no_work():
      found = run.run(changed, workdir)
    self.assertEqual(numbers(found), numbers(self.results))
    self.assertIn("'chunk_steps': 1", (workdir / "config.py").read_text())
    # Nor would they be, were the stage run again.
    again = study(changed, toys.folder(self) / "run").require("base")
    # The results of a study add what a reader is told of the stage.
    told = numbers(self.results["models"]["base"])
    self.assertEqual(told | numbers(again), told)


def numbers(results):
  """Returns everything but the times and the config, which is no result."""
  if isinstance(results, dict):
    return {
      k: numbers(v)
      for k, v in results.items()
      if "seconds" not in k and k not in ("date", "config")
    }
  return [numbers(v) for v in results] if isinstance(results, list) else results


class ModelTest(StudyTestCase):
  def test_it_lies_on_every_device(self):
    made = study(toy_study.config(self.data), self.whole)
    for leaf in jax.tree.leaves(made.open("base").variables):
      self.assertLen(leaf.sharding.device_set, jax.device_count())

  def test_three_are_kept(self):
    with mock.patch.object(graph.Study, "_open") as opened:
      made = study(toy_study.config(self.data), self.whole)
      for names, count in (("abcabc", 3), ("d", 4), ("bcd", 4), ("a", 5)):
        for name in names:
          made.open(name)
        self.assertEqual(opened.call_count, count)

  def test_what_makes_no_model_or_no_set(self):
    made = study(toy_study.config(self.data), self.whole)
    for kind, take in (
      ("construct makes no model", lambda: made.open("d_rand")),
      ("train makes no set", lambda: made.dataset("base", "train")),
    ):
      with self.assertRaisesRegex(TypeError, kind):
        take()

  def test_a_set_of_a_streamed_source_is_streamed(self):
    for streamed in (True, False):
      config = toy_study.config(self.data, data__D__streamed=streamed)
      made = study(config, self.whole)
      self.assertEqual(made.streamed("d_rand"), streamed)
      node = made.plan.nodes["d_rand"]
      data = toys.dataset(3)
      kind = dataclasses.replace(node.kind, load=lambda *unused, d=data: d)
      made.plan.nodes["d_rand"] = node._replace(kind=kind)
      found = made.dataset("d_rand", "train")
      self.assertEqual(found is not data, streamed)
      np.testing.assert_array_equal(found.images[:3], data.images)

  def test_a_model_is_read_once(self):
    """Its last and its best are two; another study reads for itself."""
    with mock.patch.object(
      checkpoint, "load_variables", wraps=checkpoint.load_variables
    ) as load:
      for count in (2, 4):
        found = study(toy_study.config(self.data), self.whole)
        for which in ("last", "best", "last"):
          found.open("base", which)
        self.assertEqual(load.call_count, count)


class OptimizeTest(StudyTestCase):
  def test_stages_are_compiled_as_the_config_says(self):
    name = "jax_disable_most_optimizations"
    self.addCleanup(jax.config.update, name, jax.config.read(name))
    jax.config.update(name, False)
    seen = []

    def stop(*unused):
      seen.append(jax.config.read(name))
      raise KeyError

    with mock.patch.object(run, "_run_stages", stop):
      for optimize in (True, False):
        config = toy_study.config(self.data, run__optimize=optimize)
        with self.assertRaises(KeyError):
          run.run(config, toys.folder(self))
    self.assertEqual(seen, [False, True])


class GuardTest(StudyTestCase):
  @parameterized.parameters(
    ({"stages__base__train__learning_rate": 0.2},
     r"base was made under another config \(stages.base.train.learning_rate: "
     r"0.1 there, 0.2 now\); choose another --workdir or delete"),
    ({"stages__d_rand__construct__attack__eps": 0.4},
     "d_rand was made under.*d_rand.construct.attack.eps: 0.5 there, 0.4"),
    ({"stages__eval_on_d_rand__evaluate__eps": (0.5,)},
     r"eval_on_d_rand was.*evaluate.eps: \[0.25, 0.5\] there, \[0.5\] now"),
    ({"stages__sweep__steps": (0, 3)},
     r"sweep was made under.*stages.sweep.steps: \[0, 2\] there, \[0, 3\] now"),
    ({"models__main__width": 5}, "base was.*models.main.width: 6 there, 5 now"),
    ({"seed": 4}, "seed: 3 there, 4 now"),
    ({"name": "other"}, "belongs to the study 'toy', not 'other'; choose"),
  )  # fmt: skip
  def test_another_config(self, overrides, pattern):
    self.assert_refused(self.copy(), pattern, **overrides)

  def test_another_config_is_found_before_any_stage_runs(self):
    workdir = self.copy()
    shutil.rmtree(workdir / "eval_base")
    with no_work():
      self.assert_refused(
        workdir, "sweep was made un", stages__sweep__steps=(1,)
      )
    self.assertFalse((workdir / "eval_base").exists())

  def test_a_stage_alone_is_guarded_too(self):
    """Whoever asks for one need not have looked at all of them before."""
    config = toy_study.config(self.data, stages__sweep__steps=(1,))
    made = study(config, self.copy())
    with no_work(), self.assertRaisesRegex(ValueError, "sweep was made under"):
      made.require("sweep")

  def test_what_was_measured_on_another_model_is_stale(self):
    workdir = self.copy()
    path = workdir / "eval_base" / "inputs.json"
    inputs = json.loads(path.read_text())
    digest = inputs["stages.base.digest"]
    path.write_text(json.dumps(inputs | {"stages.base.digest": "another"}))
    self.assert_refused(
      workdir,
      rf"eval_base was made of other inputs \(stages.base.digest: 'another' "
      rf"there, '{digest}' now\); choose another --workdir or delete",
    )
    shutil.rmtree(workdir / "eval_base")  # As told.
    found = run.run(toy_study.config(self.data), workdir)
    self.assertEqual(numbers(found), numbers(self.results))

  @parameterized.parameters("config.json", "inputs.json")
  def test_work_of_unknown_origin(self, name):
    workdir = self.copy()
    (workdir / "eval_base" / name).unlink()
    self.assert_refused(workdir, f"eval_base/{name} is missing; delete the fol")

  def test_a_folder_without_work_belongs_to_nobody(self):
    workdir = self.copy()
    shutil.rmtree(workdir / "eval_base")
    (workdir / "eval_base").mkdir()
    (workdir / "eval_base" / "config.json").write_text('{"seed": 9}')
    found = run.run(toy_study.config(self.data), workdir)
    self.assertEqual(numbers(found), numbers(self.results))

  def test_many_fields_are_counted(self):
    changes = {
      f"stages__base__train__{field}": 0.05
      for field in ("learning_rate", "momentum", "weight_decay", "drop_factor",
                    "warmup_epochs", "eps_ramp_epochs")
    }  # fmt: skip
    self.assert_refused(self.copy(), r"and 1 more\); choose", **changes)

  def test_other_images(self):
    workdir = self.copy()
    self.addCleanup(toy_study.write_npz, self.data)
    toy_study.write_npz(self.data, seed=5)
    self.assert_refused(
      workdir, "data.D holds other images than when .* was begun; bring"
    )

  def test_a_damaged_result(self):
    workdir = self.copy()
    path = workdir / "base" / "result.json"
    path.write_text(path.read_text()[:60])
    self.assert_refused(workdir, "base/result.json is damaged; delete")

  def test_a_damaged_checkpoint(self):
    workdir = self.copy()
    (workdir / "eval_base" / "result.json").unlink()
    for data in (workdir / "base" / "checkpoints").rglob("d/*"):
      data.write_bytes(data.read_bytes()[:-20])
    self.assert_refused(
      workdir, "base/checkpoints/.* is damaged or of another model",
      checkpoint.CheckpointError,
    )  # fmt: skip

  def test_a_lost_checkpoint(self):
    workdir = self.copy()
    (workdir / "eval_base" / "result.json").unlink()
    shutil.rmtree(workdir / "base" / "checkpoints")
    self.assert_refused(workdir, "no checkpoint at .*base/checkpoints")

  def test_a_foreign_checkpoint(self):
    workdir = self.copy()
    (workdir / "eval_base" / "result.json").unlink()
    shutil.rmtree(workdir / "base" / "checkpoints")
    shutil.copytree(workdir / "on_d_rand" / "checkpoints",
                    workdir / "base" / "checkpoints")  # fmt: skip
    self.assert_refused(workdir, "is not the checkpoint that was trained there")

  def test_a_damaged_data_set(self):
    workdir = self.copy()
    (workdir / "on_d_rand" / "result.json").unlink()
    path = workdir / "d_rand" / "data" / "00001-images.npy"
    path.write_bytes(path.read_bytes()[:-5])
    self.assert_refused(
      workdir, "00001-images.npy does not match", ds.DataError
    )


class ValidationTest(StudyTestCase):
  """All of it is found before the first stage runs."""

  @parameterized.parameters(
    ({"stages__d_rand__source": "bases"}, "'bases'.*d_rand|d_rand.*'bases'"),
    ({"stages__on_d_rand__data": "d_det"}, "d_det"),
    ({"stages__eval_base__model": "d_rand"}, "stages.eval_base.model must be"),
    ({"stages__base__kind": "trian"}, "stages.base.kind must be one.*'trian'"),
    ({"stages__base__data": "d_rand"}, "needs itself"),
    ({"stages__base__architecture": "big"}, "stages.base.architecture must be"),
    ({"stages__base__validation": "E"}, "stages.base.validation must be"),
    ({"stages__eval_base__split": "tset"}, "stages.eval_base.split must be"),
    ({"stages__eval_base__which": "frist"}, "stages.eval_base.which must be"),
    ({"stages__eval_base__paper": "sandard"}, "stages.eval_base.paper must be"),
    ({"table": ("eval_base", "base")}, "table names 'base', which is no row"),
    ({"table": ("nothing",)}, "table names 'nothing'"),
    ({"stages__sweep__evaluate__norm": "3"}, "sweep.evaluate.norm must be"),
    ({"stages__eval_on_d_rand__evaluate__num_steps": -1},
     "stages.eval_on_d_rand.evaluate.num_steps must be an integer >= 0"),
    ({"stages__on_d_rand__train__schedule": "poly"},
     "stages.on_d_rand.train.schedule must be one of"),
    ({"stages__on_d_rand__train__adversary__norm": "l3"},
     "stages.on_d_rand.train.adversary.norm must be one of"),
    ({"stages__d_rand__construct__objective": "random"},
     "stages.d_rand.construct.objective must be one of"),
    ({"stages__d_rand__construct__kind": "det"},
     "stages.d_rand.construct.target must be 'next' for kind 'det'"),
    ({"stages__d_rand__spared_by": "base"},
     "stages.d_rand.spared_by is for spare 'predicted' alone"),
    ({"stages__d_rand__teacher": "nobody"},
     "stages.d_rand.teacher must be one of 'base'"),
    ({"data__D__num_train": -1}, "data.D.num_train must be an integer >= 0"),
    ({"data__D__num_validation": 0, "stages__eval_base__split": "validation"},
     "data.D has no validation images; set its num_validation"),
    ({"data__D__test_fraction": 0.5}, "data.D: test_fraction must be 0"),
    ({"data__D__source": "cloud"}, "data.D.source must be one of"),
    ({"run__chunk_steps": 0}, "run.chunk_steps must be at least 1"),
    ({"models__main__name": "cnn99"}, "models.main.*name must be one of"),
    ({"stages__on_d_rand__train__adversary__eps": 80.0,
      "stages__on_d_rand__train__adversary__num_steps": 1,
      "stages__on_d_rand__train__adversary__step_size": 1.0},
     r"stages.on_d_rand.train.adversary.eps is 80, larger.*write 80/255\?"),
    ({"stages__eval_on_d_rand__evaluate__eps": (0.5, 80.0)},
     r"stages.eval_on_d_rand.evaluate.eps is 80, larger than the l2 diameter"),
    ({"stages__d_rand__construct__attack__eps": 80.0},
     r"stages.d_rand.construct.attack.eps is 80, larger"),
  )  # fmt: skip
  def test_refuses(self, overrides, pattern):
    workdir = toys.folder(self) / "new"
    with no_work():
      self.assert_refused(workdir, pattern, **overrides)

  @parameterized.parameters(
    (recipes.probe_stage("", "part", test="D"), "train"),
    (recipes.probe_stage("", "D", test="part"), "test"),
    (recipes.probe_stage("", "d_rand", originals="part", split="test"), "test"),
    (recipes.combine_stage("D", "part", 0.5, split="test"), "test"),
    (recipes.select_stage("D", "right", model="base", judged="part"), "train"),
    (recipes.construct_stage("base", recipes.targeted("rand"), data="part",
                             split="test"), "train"),
    (recipes.class_perturbation_stage(
      "base", recipes.attack("l2", 2.5, 0.5, 20), "next", "part"), "train"),
  )  # fmt: skip
  def test_every_split_that_is_read(self, stage, lacks):
    """Of whichever field names it."""
    made = self.partial(stage, lacks)
    with self.assertRaisesRegex(
      ds.DataError, f"^data.part has no {lacks} images; .*name a source that"
    ):
      made.preflight(["more"])

  def test_no_other_split(self):
    for stage, lacks in (
      (recipes.probe_stage("", "part", test="D"), "test"),
      (recipes.probe_stage("", "D", test="part"), "train"),
    ):
      made = self.partial(stage, lacks)
      made.preflight(["more"])
      self.assertEqual(made.image_shape("more"), (8, 8, 3))

  def partial(self, stage, lacks):
    """Returns a study with this stage, and a source that lacks a split."""
    config = toy_study.config(self.data)
    config.data.part = recipes.data(**config.data.D)
    config.stages.more = stage
    made = study(config, toys.folder(self) / "new")
    whole = made.splits("part")
    # As CIFAR-10.1, which has test images alone.
    none = ds.take(getattr(whole, lacks), np.arange(0))
    made._splits["part"] = whole._replace(**{lacks: none})
    return made

  def test_data_that_is_not_there(self):
    with self.assertRaisesRegex(ds.DataError, "holds neither toy.npz"):
      run.run(toy_study.config(toys.folder(self)), toys.folder(self) / "new")


if __name__ == "__main__":
  absltest.main()
