"""The notebooks of colabs/ run from a wheel, and are stored as they should be.

Each runs in a kernel of its own that finds the wheel's package, so that its
first cell installs nothing. After its parameters come those of `SMALL`: all
cells run, and show nothing.
"""

import ast
import os
import pathlib
import re
from unittest import mock

import nbclient
import nbformat
import toys
import wheels
from absl.testing import absltest, parameterized
from IPython.core.inputtransformer2 import TransformerManager

FOLDER = pathlib.Path(__file__).parents[1] / "colabs"
SMALL = {
  "quickstart": "num_train, num_epochs, num_steps = 200, 1, 1",
  "robust_features": "num_train, num_epochs, num_steps = 200, 1, 2",
  "gaussian": "num_samples, num_draws = 20, 2",
  # The plain network compiles soonest.
  "your_own": "num_images, num_epochs, num_steps, num_queries = 400, 1, 8, 2\n"
  'network, attacks = "my_networks:plain", ("apgd-ce", "square")',
}


def read(name):
  """Returns a notebook as nbformat reads it."""
  return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(book):
  """Returns the sources of a notebook's code cells."""
  return [cell.source for cell in book.cells if cell.cell_type == "code"]


class StoredTest(parameterized.TestCase):
  def test_all_are_run(self):
    self.assertCountEqual(SMALL, [path.stem for path in FOLDER.glob("*.ipynb")])

  @parameterized.parameters(*SMALL)
  def test_without_outputs(self, name):
    book = read(name)
    nbformat.validate(book)
    for cell in book.cells:
      if cell.cell_type == "code":
        self.assertEmpty(cell.outputs)
        self.assertIsNone(cell.execution_count)

  @parameterized.parameters(*SMALL)
  def test_the_first_cell_installs_and_names_versions(self, name):
    first = read(name).cells[0].source
    self.assertEqual(first, read("quickstart").cells[0].source)
    self.assertIn("%pip install --quiet {repository}", first)
    pinned = (wheels.ROOT / "requirements.lock").read_text()
    jax = re.search(r"^jax==(.+)$", pinned, re.MULTILINE)[1]
    self.assertIn(f"# Run with Python 3.11 and jax {jax}.", first)

  @parameterized.parameters(*SMALL)
  def test_cells_define_nothing(self, name):
    """What `%%writefile` writes is a file of the user's, not a cell's."""
    for source in code_cells(read(name)):
      tree = ast.parse(TransformerManager().transform_cell(source))
      for node in ast.walk(tree):
        self.assertNotIsInstance(node, (ast.FunctionDef, ast.ClassDef), source)


class RunTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = toys.class_folder(cls)
    cls.installed = wheels.unpacked(cls.folder)

  @parameterized.parameters(*SMALL)
  def test_runs(self, name):
    book = read(name)
    (at,) = [
      i for i, cell in enumerate(book.cells)
      if "parameters" in cell.metadata.get("tags", ())
    ]  # fmt: skip
    small = nbformat.v4.new_code_cell(SMALL[name])
    book.cells.insert(at + 1, small)
    environment = {
      "PYTHONPATH": str(self.installed),  # Before an editable install.
      "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    workdir = {"metadata": {"path": str(toys.folder(self))}}
    client = nbclient.NotebookClient(book, timeout=600, resources=workdir)
    with mock.patch.dict(os.environ, environment):
      client.execute()
    text = book.cells[0].outputs[0].text
    self.assertIn(f" in {self.installed / 'robust_features'}\n", text)
    pictures = [
      output
      for cell in book.cells
      for output in cell.get("outputs", ())
      if "image/png" in output.get("data", ())
    ]
    self.assertNotEmpty(pictures)


if __name__ == "__main__":
  absltest.main()
