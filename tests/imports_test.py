"""Imports go down only: the levels of the package."""

import ast
import pathlib
import subprocess
import sys

from absl.testing import absltest

import robust_features

PACKAGE = pathlib.Path(robust_features.__file__).parent
# Rooms of the same level do not know each other.
LEVELS = (
  ("runtime", "theory"),
  ("attacks", "models", "data"),
  ("evaluate", "export", "trained", "usefulness", "objectives", "ridge",
   "construct_config", "spatial", "fourier", "train_config",
   "train_objectives"),
  ("train_step", "construct_step", "pytorch", "changes",
   "error_minimising_step", "whole_set"),
  ("train", "construct", "strong_attacks", "error_minimising",
   "class_perturbation"),
  ("transfer", "pictures"),
  ("study",),
  ("recipes",),
  ("main", "report"),
)  # fmt: skip
ROOMS = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(path):
  """Returns the top-level name that a file of the package belongs to."""
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
  """Yields the rooms that a file imports, at its top or inside functions."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
      continue
    for name in names:
      parts = name.split(".")
      if parts[0] == "robust_features" and len(parts) > 1:
        yield parts[1]


class PurityTest(absltest.TestCase):
  def test_importing_changes_nothing(self):
    """No variable, no logging level, no style: a library's user decides."""
    code = """
import importlib, logging, os, pathlib, sys
import absl.logging, jax, matplotlib, orbax.checkpoint
import tensorflow_datasets
def state():
  levels = {n: logging.getLogger(n).level for n in ("", "absl", "jax")}
  return dict(os.environ), levels, dict(matplotlib.rcParams)
before = state()
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("*.py")):
  parts = path.relative_to(root.parent).with_suffix("").parts
  importlib.import_module(".".join(parts).removesuffix(".__init__"))
print(before == state())
"""
    found = subprocess.run(
      [sys.executable, "-c", code, str(PACKAGE)],
      capture_output=True, text=True, cwd=PACKAGE.parent,
    )  # fmt: skip
    self.assertEqual(found.stdout.splitlines()[-1:], ["True"], found.stderr)


class ImportsTest(absltest.TestCase):
  def test_levels(self):
    for path in sorted(PACKAGE.rglob("*.py")):
      here = room(path)
      if here == "__init__":
        continue
      self.assertIn(here, ROOMS, f"give {path.name} a level")
      for there in imported(path):
        if there == here:
          continue
        self.assertIn(there, ROOMS, f"{path} imports {there}")
        self.assertLess(ROOMS[there], ROOMS[here], f"{path} imports {there}")

  def test_relative_imports_are_not_used(self):
    for path in PACKAGE.rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
          self.assertEqual(node.level, 0, path)

  def test_nothing_is_asserted(self):
    """`python -O` would leave it out."""
    for path in PACKAGE.rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        self.assertNotIsInstance(node, ast.Assert, path)

  def test_neither_tensorflow_nor_torch_is_imported_at_run_time(self):
    for path in PACKAGE.rglob("*.py"):
      if room(path) == "pytorch":
        continue
      for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
          names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
          names = [node.module or ""]
        for name in names:
          top = name.split(".")[0]
          self.assertNotIn(top, ("tensorflow", "torch", "torchvision"), path)


if __name__ == "__main__":
  absltest.main()
