"""Checkpoints come back bit for bit or not at all; nothing is unpickled."""

import ast
import gc
import os
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from absl import logging
from absl.testing import absltest, parameterized

import robust_features
from robust_features.runtime import checkpoint, sharding
from robust_features.runtime.checkpoint import CheckpointError

PACKAGE = pathlib.Path(robust_features.__file__).parent
NOTHING = (
  "^there is no checkpoint at /.*/checkpoints; if a finished stage lost it, "
  "delete the stage's folder and run again$"
)


def state(seed=0):
  rng = np.random.default_rng(seed)
  weights = rng.normal(size=(300, 7)).astype(np.float32)
  return {
    "params": {"w": jnp.asarray(weights), "b": jnp.ones(3, jnp.bfloat16)},
    "step": jnp.int32(5),
    "none": {},
  }


class CheckpointTestCase(parameterized.TestCase):
  def folder(self):
    return toys.folder(self) / "checkpoints"

  def assert_damaged(self, directory, like, pattern):
    with self.assertRaisesRegex(CheckpointError, pattern) as caught:
      checkpoint.load_variables(directory, like)
    self.assertNotIn("\n", str(caught.exception))
    self.assertIsInstance(caught.exception, ValueError)  # A user's error.


class RoundTripTest(CheckpointTestCase):
  def test_arrays_and_metadata(self):
    folder, tree = self.folder(), state()
    metadata = {"history": [{"epoch": 1, "loss": 0.5}], "best": -1.0}
    checkpoint.save_variables(folder, tree, metadata)
    like = jax.eval_shape(lambda: tree)
    found, described = checkpoint.load_variables(folder, like)
    self.assertEqual(described, metadata)
    self.assertEqual(checkpoint.digest(found), checkpoint.digest(tree))
    self.assertEqual(found["params"]["b"].dtype, jnp.bfloat16)
    as_it_is, _ = checkpoint.load_variables(folder)
    self.assertEqual(checkpoint.digest(as_it_is), checkpoint.digest(tree))
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    # Whatever devices the file remembers; here it was one.
    for leaf in jax.tree.leaves((found, as_it_is)):
      self.assertEqual(leaf.sharding, sharding.everywhere())

  def test_a_path_may_be_relative(self):
    here = os.getcwd()
    os.chdir(toys.folder(self))
    self.addCleanup(os.chdir, here)
    checkpoint.save_variables("a", {"w": jnp.ones(3)}, {"b": 1})
    self.assertEqual(checkpoint.load_variables("a")[1], {"b": 1})

  def test_the_newest_is_kept_and_found_by_another_process(self):
    folder = self.folder()
    with checkpoint.Checkpoints(folder) as checkpoints:
      self.assertIsNone(checkpoints.restore(state()))
      for step in (1, 2, 7):
        checkpoints.save(step, state(step), {"step": step})
      checkpoints.wait()
      self.assertEqual(checkpoints.latest_step(), 7)
    with checkpoint.Checkpoints(folder) as checkpoints:
      found, metadata = checkpoints.restore(state())
    self.assertEqual(metadata, {"step": 7})
    self.assertEqual(checkpoint.digest(found), checkpoint.digest(state(7)))
    self.assertEqual([p.name for p in folder.iterdir()], ["7"])

  def test_a_step_is_saved_once(self):
    folder = self.folder()
    with checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(3, state(0), {"which": "first"})
      checkpoints.wait()
      checkpoints.save(3, state(1), {"which": "second"})
      checkpoints.save(2, state(1), {"which": "earlier"})
    _, metadata = checkpoint.load_variables(folder, state())
    self.assertEqual(metadata, {"which": "first"})

  def test_waiting_ends_when_the_newest_is_on_disk(self):
    folder = self.folder()
    tree = {"w": np.zeros(4_000_000, np.float32)}
    with checkpoint.Checkpoints(folder) as checkpoints:
      checkpoints.save(1, tree, {})
      checkpoints.wait()
      with checkpoint.Checkpoints(folder, read_only=True) as others:
        self.assertEqual(others.latest_step(), 1)

  def test_arrays_may_change_once_save_has_returned(self):
    folder = self.folder()
    tree = {"w": np.arange(1_000_000, dtype=np.float32)}
    with checkpoint.Checkpoints(folder) as checkpoints:
      donated = jax.tree.map(jnp.asarray, tree)
      checkpoints.save(1, donated, {})
      donated["w"].delete()
    found, _ = checkpoint.load_variables(folder, tree)
    np.testing.assert_array_equal(found["w"], tree["w"])


class DigestTest(absltest.TestCase):
  def test_everything_counts(self):
    base = {"a": np.zeros(4, np.float32), "b": np.ones(2, np.int32)}
    others = [
      base | {"a": np.array([0, 0, 0, 1e-45], np.float32)},
      base | {"a": np.zeros((2, 2), np.float32)},
      base | {"a": np.zeros(4, np.int32)},
      {"c": base["a"], "b": base["b"]},
      {"a": base["a"]},
    ]
    digests = [checkpoint.digest(tree) for tree in (base, *others)]
    self.assertLen(set(digests), 6)
    self.assertEqual(
      digests[0], checkpoint.digest(dict(reversed(base.items())))
    )
    on_device = jax.tree.map(jnp.asarray, base)
    self.assertEqual(digests[0], checkpoint.digest(on_device))


# Orbax drops the coroutine of a read that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class DamageTest(CheckpointTestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.whole = pathlib.Path(folder) / "whole"
    checkpoint.save_variables(cls.whole, state(), {"a": 1})

  def tearDown(self):
    super().tearDown()
    gc.collect()  # Here, not in a test that does not ignore the warning.

  def test_nothing_there(self):
    self.assert_damaged(self.folder(), state(), NOTHING)
    folder = self.folder()
    folder.mkdir()
    self.assert_damaged(folder, state(), NOTHING)
    file = self.folder()
    file.touch()
    self.assert_damaged(file, state(), NOTHING)

  def test_any_file_cut_short_or_lost(self):
    """Either an error of one line, or the file did not matter."""
    files = [p.relative_to(self.whole) for p in self.whole.rglob("*")
             if p.is_file()]  # fmt: skip
    refused = 0
    for relative in files:
      for how in ("truncate", "delete"):
        folder = self.folder()
        shutil.copytree(self.whole, folder)
        path = folder / relative
        if how == "delete":
          path.unlink()
        else:
          path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
          found, _ = checkpoint.load_variables(folder, state())
        except CheckpointError as error:
          self.assertNotIn("\n", str(error))
          refused += 1
        else:
          want = checkpoint.digest(state())
          self.assertEqual(checkpoint.digest(found), want, relative)
    self.assertGreater(refused, 5)  # The others are not read back.

  def test_a_flipped_bit_of_the_arrays(self):
    folder = self.folder()
    shutil.copytree(self.whole, folder)
    data = max(folder.rglob("*"), key=lambda p: p.is_file() * p.stat().st_size)
    content = bytearray(data.read_bytes())
    self.assertGreater(len(content), 4000)
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    self.assert_damaged(folder, state(), "damaged or of another model")

  def test_another_checksum(self):
    folder = self.folder()
    shutil.copytree(self.whole, folder)
    want = checkpoint.digest(state())
    changed = 0
    for path in folder.rglob("*"):
      if path.is_file() and want.encode() in path.read_bytes():
        content = path.read_bytes().replace(want.encode(), b"0" * 64)
        path.write_bytes(content)
        changed += 1
    self.assertEqual(changed, 1)
    self.assert_damaged(folder, state(), "checksum does not match")

  @parameterized.named_parameters(
    ("shape", "w", (7, 300), jnp.float32),
    ("larger", "w", (301, 7), jnp.float32),
    ("type", "w", (300, 7), jnp.bfloat16),
    ("name", "v", (300, 7), jnp.float32),
  )
  def test_another_structure(self, name, shape, dtype):
    like = state()
    del like["params"]["w"]
    like["params"][name] = jnp.zeros(shape, dtype)
    self.assert_damaged(self.whole, like, "damaged or of another model")

  def test_reading_warns_of_nothing(self):
    folder = self.folder()
    checkpoint.save_variables(folder, {"a": jnp.ones(2)}, {})
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    with self.assertNoLogs(logging.get_absl_logger(), "WARNING"):
      checkpoint.load_variables(folder)
    self.assertEqual(logging.get_verbosity(), logging.WARNING)
    logging.set_verbosity(before)

  def test_a_save_that_was_cut_short_is_not_found(self):
    folder = self.folder()
    shutil.copytree(self.whole, folder)
    (folder / "0").rename(folder / "0.orbax-checkpoint-tmp-1")
    self.assert_damaged(folder, state(), NOTHING)
    checkpoint.save_variables(folder, state(1), {})
    self.assertEqual([p.name for p in folder.iterdir()], ["0"])

  def test_who_reads_touches_nothing(self):
    """Nor remains of a save that another process may be at, nor a folder."""
    folder = self.folder()
    shutil.copytree(self.whole, folder)
    (folder / "1.orbax-checkpoint-tmp-1").mkdir()
    before = sorted(folder.rglob("*"))
    checkpoint.load_variables(folder, state())
    self.assertEqual(sorted(folder.rglob("*")), before)
    nowhere = self.folder()
    with self.assertRaises(CheckpointError):
      checkpoint.load_variables(nowhere)
    for there, newest in ((nowhere, None), (folder, 0)):
      with checkpoint.Checkpoints(there, read_only=True) as checkpoints:
        checkpoints.save(7, state(), {})
        self.assertEqual(checkpoints.latest_step(), newest)
        self.assertEqual(checkpoints.restore() is None, newest is None)
    self.assertFalse(nowhere.exists())
    self.assertEqual(sorted(folder.rglob("*")), before)

  def test_the_folder_a_short_reason_and_the_remedy_are_told(self):
    error = checkpoint._damaged(
      pathlib.Path("/a/0"), ValueError("x" * 300 + "\nand more")
    )
    self.assertEqual(
      str(error),
      f"checkpoint /a/0 is damaged or of another model ({'x' * 200}); delete "
      "this folder to go on from what is left",
    )

  def test_a_lost_process_is_no_damage(self):
    """It is what ends the run, with the status that has it begun again."""
    other = {"params": state()["params"]}
    with (
      mock.patch.object(checkpoint.processes, "is_loss", return_value=True),
      self.assertRaises(Exception) as caught,
    ):
      checkpoint.load_variables(self.whole, other)
    self.assertNotIsInstance(caught.exception, CheckpointError)


class NoPickleTest(absltest.TestCase):
  """Data and checkpoints of strangers must not run code."""

  def test_the_package_unpickles_nothing(self):
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib",
                 "marshal", "shelve"}  # fmt: skip
    calls = 0
    for path in sorted(PACKAGE.rglob("*.py")):
      for node in ast.walk(ast.parse(path.read_text())):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
          for alias in node.names:
            self.assertNotIn(alias.name.split(".")[0], forbidden, where)
        elif isinstance(node, ast.ImportFrom):
          self.assertNotIn((node.module or "").split(".")[0], forbidden, where)
        elif isinstance(node, ast.Call):
          calls += self.check_call(node, where)
    self.assertGreater(calls, 0)  # np.load is called somewhere.

  def check_call(self, node, where):
    keywords = {
      k.arg: k.value.value
      for k in node.keywords
      if isinstance(k.value, ast.Constant)
    }
    self.assertIsNot(keywords.get("allow_pickle"), True, where)
    called = ast.unparse(node.func)
    if called in ("np.load", "numpy.load"):
      self.assertIs(keywords.get("allow_pickle"), False, where)
      return 1
    if called == "torch.load":
      self.assertIs(keywords.get("weights_only"), True, where)
    self.assertNotIn(called, ("eval", "exec", "np.loads"), where)
    return 0


if __name__ == "__main__":
  absltest.main()
