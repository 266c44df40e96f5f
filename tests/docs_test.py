"""The examples of README and docs/library.md run as they are printed."""

import contextlib
import io
import pathlib
import re

import jax
import numpy as np
import toys
from absl.testing import absltest

from robust_features import models

ROOT = pathlib.Path(__file__).parents[1]


def snippets(path):
  """Returns the Python examples of a page."""
  return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


class SnippetsTest(absltest.TestCase):
  def run_all(self, page, names):
    found = snippets(ROOT / page)
    self.assertNotEmpty(found)
    with contextlib.redirect_stdout(io.StringIO()):
      for snippet in found:
        lines = [line for line in snippet.splitlines() if line.strip()]
        self.assertLessEqual(len(lines), 15, snippet)
        exec(compile(snippet, page, "exec"), names)
    return names

  def test_library(self):
    self.enterContext(contextlib.chdir(toys.folder(self)))
    names = self.run_all("docs/library.md", {"__name__": "library"})
    x, moved = names["x"], np.asarray(names["x_adv"] - names["x"])
    self.assertLess(np.sqrt((moved**2).sum((1, 2, 3))).max(), 0.5 + 1e-5)
    distance = names["distance"]
    self.assertGreater(
      float(distance(names["inverted"]).mean()),
      float(distance(x[::-1]).mean()),
    )
    self.assertEqual(names["manifest"]["num_examples"], 8)
    self.assertLen(names["result"].history, 1)
    for kind in ("nnx", "plain"):
      found = models.apply(
        names[f"{kind}_model"], names[f"{kind}_variables"], x
      )
      self.assertEqual(found.logits.shape, (8, 4))

  def test_readme(self):
    folder = toys.folder(self)
    toys.write_checkpoint(folder / "runs" / "quickstart" / "robust")
    self.enterContext(contextlib.chdir(folder))
    names = self.run_all("README.md", {})
    self.assertEqual(names["result"].x_adv.shape, names["x"].shape)
    self.assertEqual(names["logits"].shape, (len(names["x"]), 10))
    self.assertIsInstance(names["result"].x_adv, jax.Array)


if __name__ == "__main__":
  absltest.main()
