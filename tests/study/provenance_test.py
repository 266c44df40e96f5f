"""Whose commit it is."""

import datetime
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from unittest import mock

import jax
import toys
from absl.testing import absltest

from robust_features.study import provenance


class CommitTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = toys.folder(self)
    self.path = self.root / ".venv" / "provenance.py"
    self.path.parent.mkdir()
    shutil.copy(provenance.__file__, self.path)

  def git(self, *arguments):
    subprocess.run(
      ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
      cwd=self.root, check=True, capture_output=True,
    )  # fmt: skip

  def commit(self):
    spec = importlib.util.spec_from_file_location("copied", self.path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.git_commit()

  def test_a_copy_inside_another_repository_has_none(self):
    self.git("init")
    (self.root / "mine.py").write_text("")
    self.git("add", "mine.py")
    self.git("commit", "-m", "mine")
    self.assertEqual(self.commit(), "unknown")

  def test_no_repository(self):
    self.assertEqual(self.commit(), "unknown")

  def test_of_a_tracked_file(self):
    self.git("init")
    self.git("add", ".")
    self.git("commit", "-m", "all")
    clean = self.commit()
    self.assertRegex(clean, "^[0-9a-f]{40}$")
    with self.path.open("a") as file:
      file.write("# Changed.\n")
    self.assertEqual(self.commit(), f"{clean}-dirty")
    self.git("commit", "-a", "-m", "more")
    self.git("tag", "-a", "v1", "-m", "a tag")
    self.assertRegex(self.commit(), "^[0-9a-f]{40}$")

  def test_without_git(self):
    with mock.patch.dict(os.environ, {"PATH": str(self.root)}):
      self.assertEqual(provenance.git_commit(), "unknown")


class ProvenanceTest(absltest.TestCase):
  def test_what_it_ran_on(self):
    devices = jax.device_count()  # Before XLA would look at the flags.
    argv = ["python", "-m", "a", "--config.x=1, 2"]
    with (
      mock.patch.dict(os.environ, {"XLA_FLAGS": "--a=1"}),
      mock.patch.object(sys, "orig_argv", argv),
    ):
      found = provenance.provenance()
    self.assertEqual(found["xla_flags"], "--a=1")
    self.assertEqual(found["command"], "python -m a '--config.x=1, 2'")
    self.assertEqual(found["cores"], os.cpu_count())
    self.assertEqual(found["python"], platform.python_version())
    self.assertStartsWith(found["devices"], f"{devices} x ")
    versions = found["versions"]
    self.assertEqual(versions["jax"], jax.__version__)
    for name in ("jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
      self.assertIn(name, versions)
    now = datetime.datetime.now(datetime.UTC)
    self.assertRegex(found["date"], r"T\d\d:\d\d:\d\d\+00:00$")
    made = datetime.datetime.fromisoformat(found["date"])
    self.assertLess(abs(now - made), datetime.timedelta(minutes=1))


if __name__ == "__main__":
  absltest.main()
