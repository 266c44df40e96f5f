"""Imports go down only: the levels of the package."""

import ast
import os
import pathlib
from unittest import mock

import jaxlib
from absl.testing import absltest

import robust_features

PACKAGE = pathlib.Path(robust_features.__file__).parent
# Rooms of the same level do not know each other.
LEVELS = (
  ("runtime", "theory"),
  ("attacks", "models", "data"),
  ("evaluate", "trained", "usefulness", "objectives", "ridge",
   "construct_config"),
  ("train_step", "pytorch"),
  ("train", "construct", "strong_attacks"),
  ("transfer",),
  ("study",),
  ("recipes",),
  ("main",),
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


class FlagsTest(absltest.TestCase):
  FLAG = "--xla_cpu_experimental_ynn_fusion_type"

  def flags(self, before, version="0.10.2"):
    with (
      mock.patch.dict(os.environ, {"XLA_FLAGS": before}),
      mock.patch.object(jaxlib, "__version__", version),
    ):
      robust_features._use_all_cores()
      return os.environ["XLA_FLAGS"]

  def test_added_to_what_is_there(self):
    self.assertStartsWith(self.flags(""), f"{self.FLAG}=-LIBRARY")
    self.assertStartsWith(self.flags("--a=1"), f"--a=1 {self.FLAG}=-LIBRARY")

  def test_a_users_own_is_kept(self):
    self.assertEqual(self.flags(f"{self.FLAG}="), f"{self.FLAG}=")

  def test_other_versions_may_not_know_it(self):
    self.assertEqual(self.flags("--a=1", "0.12.0"), "--a=1")


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
