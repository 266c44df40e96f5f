"""What is imported is declared, and what is declared is imported."""

import ast
import pathlib
import re
import sys
import tomllib

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[1]
# Distributions whose modules are called otherwise.
MODULES = {
  "absl-py": "absl", "ml-collections": "ml_collections",
  "orbax-checkpoint": "orbax", "pillow": "PIL", "scikit-learn": "sklearn",
  "tensorflow-datasets": "tensorflow_datasets",
}  # fmt: skip
# Wanted by what we import: tensorflow-datasets reads array records with one and
# imports the other without saying so.
INDIRECT = {"array_record", "importlib_resources"}
EXTRAS = {"torch", "safetensors", "tensorboardX"}


def declared():
  """Returns the modules of `install_requires`."""
  tree = ast.parse((ROOT / "setup.py").read_text())
  found = [
    ast.literal_eval(keyword.value)
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
    for keyword in node.keywords
    if keyword.arg == "install_requires"
  ]
  names = [re.split(r"[<>=\[]", requirement)[0] for requirement in found[0]]
  return {MODULES.get(name, name) for name in names}


def imported(folder):
  """Returns the outside modules that a folder's files import, anywhere."""
  found = set()
  for path in folder.rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        found |= {alias.name.split(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and node.module:
        found.add(node.module.split(".")[0])
  return found - set(sys.stdlib_module_names) - {"robust_features", "libtpu"}


class DependenciesTest(absltest.TestCase):
  def test_the_package(self):
    used = imported(ROOT / "robust_features") - EXTRAS
    self.assertEqual(used, declared() - INDIRECT)

  def test_python_is_what_the_package_says(self):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    target = config["tool"]["ruff"]["target-version"]
    self.assertEqual(target, "py311")
    self.assertIn('python_requires=">=3.11"', (ROOT / "setup.py").read_text())


if __name__ == "__main__":
  absltest.main()
