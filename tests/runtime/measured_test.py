"""Batches kept on disk: measured once, and only if they are the same ones."""

import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest

from robust_features import attacks, evaluate, strong_attacks
from robust_features.runtime.measured import Measured


class Broken(Exception):
  pass


class Counted:
  """Squares, and how often they were asked for."""

  def __init__(self, limit=99):
    self.calls, self.limit = 0, limit

  def __call__(self, indices):
    if self.calls == self.limit:
      raise Broken
    self.calls += 1
    return indices**2, indices > 2


class PartsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    made = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(made) / "parts"

  def test_asks_once(self):
    function, indices = Counted(), np.array([1, 2, 3])
    for _ in range(2):
      squares, large = Measured(self.root).run("a", indices, function)
      np.testing.assert_array_equal(squares, [1, 4, 9])
      np.testing.assert_array_equal(large, [False, False, True])
    self.assertEqual(function.calls, 1)
    Measured(self.root).run("b", indices, function)
    Measured(self.root).run("a", np.array([1, 2, 4]), function)
    self.assertEqual(function.calls, 3)

  def test_a_damaged_file_is_measured_again(self):
    function, indices = Counted(), np.array([1, 2])
    Measured(self.root).run("a", indices, function)
    (path,) = self.root.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    squares, _ = Measured(self.root).run("a", indices, function)
    np.testing.assert_array_equal(squares, [1, 4])
    self.assertEqual(function.calls, 2)

  def test_files_are_named_by_their_first_example(self):
    """And hold more arrays than ten, in their order."""

    def many(indices):
      return [indices + i for i in range(12)]

    indices = np.array([42, 7])
    for _ in range(2):
      found = Measured(str(self.root)).run("a", indices, many)
      np.testing.assert_array_equal(found, [indices + i for i in range(12)])
    (path,) = self.root.iterdir()
    self.assertEqual(path.name, "a-000042.npz")

  def test_nothing_is_kept_without_a_directory(self):
    function = Counted()
    for _ in range(2):
      Measured().run("a", np.array([1]), function)
    self.assertEqual(function.calls, 2)

  def test_what_is_found_is_numpy_s(self):
    for directory in (None, self.root):
      found = Measured(directory).run(
        "a", np.array([1]), lambda indices: [jax.numpy.asarray(indices)]
      )
      self.assertIsInstance(found[0], np.ndarray)

  def test_what_one_process_misses_all_measure(self):
    function, indices = Counted(), np.array([1, 2])
    Measured(self.root).run("a", indices, function)
    with mock.patch("robust_features.runtime.processes.agree") as agree:
      agree.side_effect = [True, False]  # Missing; could it be written?
      Measured(self.root).run("a", indices, function)
    self.assertEqual(agree.call_args_list, 2 * [mock.call(False)])
    self.assertEqual(function.calls, 2)

  def test_sweep_and_distances_are_the_same_from_disk(self):
    model, data = toys.Linear(3), toys.dataset(20)
    variables = toys.linear_variables(
      np.random.default_rng(0).normal(size=(192, 3))
    )
    cfg = evaluate.EvaluateConfig(
      "l2", (0.2,), 2, 2.5, 1, "cross_entropy", "running", 8
    )
    carlini = attacks.CarliniWagnerConfig(
      num_steps=3, num_searches=2, learning_rate=0.1, initial_c=1.0
    )

    def measure(parts):
      rows = evaluate.step_sweep(
        model, variables, data, cfg, jax.random.key(0), (0, 2), (1.0, 2.5),
        parts,
      )  # fmt: skip
      with jax.numpy_dtype_promotion("standard"):  # For optax's Adam.
        found, _ = strong_attacks.nearest_errors(
          model, variables, data, carlini, 8, parts
        )
        return rows, found

    wanted, distances = measure(None)
    for _ in range(2):
      rows, found = measure(Measured(self.root))
      self.assertEqual(rows, wanted)
      np.testing.assert_array_equal(found, distances)
    names = {path.name for path in self.root.iterdir()}
    self.assertIn("distance-000016.npz", names)
    self.assertContainsSubset(
      {"eps0.2-steps2-ratio1", "eps0.2-steps2-ratio2.5"},
      {name.rpartition("-")[0] for name in names},
    )
    # The second time nothing was attacked: no file is older than the last.
    before = {p: p.stat().st_mtime_ns for p in self.root.iterdir()}
    measure(Measured(self.root))
    after = {p: p.stat().st_mtime_ns for p in self.root.iterdir()}
    self.assertEqual(before, after)


if __name__ == "__main__":
  absltest.main()
