"""A run: who may run in a folder, what is told of it, what it returns."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toy_study
import toys
from absl.testing import absltest

from robust_features import recipes
from robust_features.runtime import compilation, logs, memory
from robust_features.runtime.workdir import hold
from robust_features.study import graph, outlook, publish, run
from robust_features.study.parse import parse


class RunTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self)
    toy_study.write_npz(self.folder)
    self.config = recipes.study("toy")
    self.config.data.D = toy_study.config(self.folder).data.D
    self.config.stages.few = recipes.select_stage("D", "first", num_examples=5)
    self.study = graph.Study(parse(self.config), self.folder / "run")

  def test_a_folder_in_which_another_runs(self):
    with (
      hold(self.study.workdir),
      self.assertRaisesRegex(ValueError, "run is in use by process"),
    ):
      run.complete(self.study)
    self.assertFalse((self.study.workdir / "few").exists())

  def test_only_a_stage_returns_its_result(self):
    found = run.complete(self.study, "few")
    self.assertEqual(found, self.study.require("few"))
    self.assertEqual(found["num_examples"], 5)

  def test_too_little_memory_names_the_stage_and_what_needs_less(self):
    """Of a device, where it is asked for really; of the machine."""
    study = graph.Study(
      parse(toy_study.config(self.folder)), self.folder / "whole"
    )
    kinds = {name: node.kind for name, node in study.plan.nodes.items()}

    def allocate(*unused):
      jnp.zeros((2**20, 2**20, 2**8)).block_until_ready()

    def on_the_host(*unused):
      np.ones((2**20, 2**20, 2**8))

    for name, work, message in (
      ("base", allocate, "raise stages.base.train.accumulate_steps .now 1. or "
       "set models.main.remat to True; what is done so far is kept$"),
      ("d_rand", on_the_host, "lower stages.d_rand.construct.batch_size .now 1"
       "6.; what is done"),
    ):  # fmt: skip
      failing = dataclasses.replace(kinds[name], run=work)
      node = study.plan.nodes[name]
      with (
        mock.patch.dict(study.plan.nodes, {name: node._replace(kind=failing)}),
        self.assertRaisesRegex(
          memory.OutOfMemoryError,
          rf"^stages.{name} needs more memory than there is .*\d+.*; {message}",
        ),
      ):
        run.complete(study, name)

  def test_other_errors_of_jax_pass(self):
    error = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with (
      mock.patch.object(graph.Study, "require", side_effect=error),
      self.assertRaisesRegex(jax.errors.JaxRuntimeError, "INTERNAL: a bug"),
    ):
      run.complete(self.study)

  def test_compiling_is_told_if_there_was_any(self):
    for programs, seconds, said in ((3, 1.26, True), (0, 0.0, False)):
      with (
        mock.patch.object(
          compilation, "since", return_value=(programs, seconds)
        ),
        mock.patch.object(logs, "say") as say,
      ):
        found = run.run(self.config, str(self.study.workdir))
      self.assertEqual(found["compile_seconds"], seconds)
      lines = [call.args[0] for call in say.call_args_list]
      self.assertEqual("compiled 3 programs in 1.3 s" in lines, said)
      self.assertEqual(any(line.startswith("comp") for line in lines), said)

  def test_every_check_that_failed_is_named(self):
    row = {"name": "Lemma 1", "statement": "a", "passed": False}
    rows = [row, row | {"passed": True}, row | {"statement": "b"}]
    results = publish.nothing()
    run._require_no_failure(results)
    results["statements"] = {"theory": {"statements": rows}}
    with self.assertRaisesRegex(
      run.FailedError, "^2 checks failed: Lemma 1: a; Lemma 1: b$"
    ):
      run._require_no_failure(results)


class TimeLeftTest(absltest.TestCase):
  def test_by_what_ran_from_its_beginning_less_compiling(self):
    plan = parse(toy_study.config("nowhere"))
    study = graph.Study(plan, toys.folder(self))
    names = ["base", "d_rand", "on_d_rand", "eval_base"]
    states = dict(zip(names, ("done", "with 1 shards", "", ""), strict=True))
    with (
      mock.patch.object(study, "state", states.get),
      mock.patch.object(study, "require"),
      mock.patch.object(
        outlook,
        "costs",
        side_effect=lambda study, names: dict.fromkeys(names, 1),
      ) as costs,
      mock.patch.object(compilation, "since", return_value=(1, 40.0)),
      mock.patch.object(run.time, "monotonic", side_effect=range(0, 9999, 100)),
      mock.patch.object(logs, "say") as say,
    ):
      run._run_stages(study, names)
    costs.assert_called_once_with(study, names[1:])
    lines = [call.args[0] for call in say.call_args_list]
    self.assertEqual(
      lines[1:5],
      ["stage 2 of 4: d_rand (construct), goes on with 1 shards",
       "d_rand: 2 min",  # Begun before: it tells nothing of the others.
       "stage 3 of 4: on_d_rand (train)",
       "on_d_rand: 2 min; about 60 s left"],
    )  # fmt: skip


if __name__ == "__main__":
  absltest.main()
