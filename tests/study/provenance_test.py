"""Whose commit it is."""

import importlib.util
import shutil
import subprocess

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


if __name__ == "__main__":
  absltest.main()
