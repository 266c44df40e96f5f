"""Examples of the docs run as printed; commands, figures and links exist."""

import contextlib
import dataclasses
import io
import pathlib
import re
from unittest import mock

import jax
import numpy as np
import toys
from absl.testing import absltest
from flax import linen as nn
from ml_collections import ConfigDict

from robust_features import models, recipes
from robust_features.data import dataset as ds
from robust_features.data import sources
from robust_features.models import layers
from robust_features.recipes import config_file
from robust_features.study import graph, run, settings
from robust_features.study.kinds import KINDS

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

  def test_contributing(self):
    """The kind, the network and the source of CONTRIBUTING make a study."""
    folder = toys.folder(self)
    names = {
      "dataclasses": dataclasses, "settings": settings, "Kind": graph.Kind,
      "np": np, "nn": nn, "layers": layers, "DataConfig": sources.DataConfig,
      "Dataset": ds.Dataset, "__name__": "contributing",
      "read": lambda data_dir: (toys.dataset(20), toys.dataset(9, seed=1)),
    }  # fmt: skip
    names = self.run_all("CONTRIBUTING.md", names)
    for known, name, made in (
      (KINDS, "count", names["KIND"]),
      (models.MODELS, "tiny", names["Tiny"]),
      (sources.SOURCES, "mine", names["_load_mine"]),
    ):
      self.enterContext(mock.patch.dict(known, {name: made}))
    config = recipes.study("contributed")
    config.data.D = recipes.data("mine", name="mine", data_dir=str(folder))
    config.models.main = recipes.model("tiny", num_classes=3, width=2)
    config.stages.base = recipes.train_stage(
      "main",
      "D",
      recipes.train(
        num_epochs=1, batch_size=10, augment=recipes.no_augmentation()
      ),
    )
    config.stages.count = ConfigDict(
      {"kind": "count", "data": "D", "split": "test"}
    )
    found = run.run(config, folder / "run")
    self.assertEqual(sum(found["counts"]["count"]["counts"]), 9)
    self.assertLess(found["models"]["base"]["num_params"], 100)


class CommandsTest(absltest.TestCase):
  """What docs/reproduce.md says to type exists: config, field, flag, figure."""

  def commands(self):
    text = (ROOT / "docs/reproduce.md").read_text()
    found = re.findall(
      r"python (?:-m )?(?:robust_features|launch)[^`\n]*", text
    )
    self.assertGreater(len(found), 20)
    for command in found:
      yield [word for word in command.split()[1:] if word != "-m"]

  def test_configs_and_fields(self):
    loaded = 0
    for _, *arguments in self.commands():
      fields, rest = config_file.split_overrides(arguments)
      for flag in rest:
        if flag.startswith("--config=runs/"):  # What a run leaves.
          continue
        if flag.startswith("--config="):
          config_file.load(flag.removeprefix("--config="), fields)
          loaded += 1
    self.assertGreater(loaded, 10)

  def test_programs_and_flags(self):
    for module, *arguments in self.commands():
      path = ROOT / module
      if not path.exists():
        path = ROOT / (module.replace(".", "/") + ".py")
      source = path.read_text()
      for argument in arguments:
        flag = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and "." not in flag:
          self.assertRegex(source, f'"(--)?{flag}"', module)

  def test_figures_are_of_stages(self):
    text = (ROOT / "docs/reproduce.md").read_text()
    for line in text.splitlines():
      figures = re.findall(r"figures/(\w+)\.png", line)
      config = re.search(r"--config=(\w+)", line)
      if not figures or not config:
        continue
      stages = config_file.load(config[1]).stages
      for figure in figures:
        own = figure in stages or figure.rpartition("_")[0] in stages
        self.assertTrue(own or figure in ("accuracies", "curves"), figure)

  def test_tests_that_are_named(self):
    """docs/testing.md says which test holds what: it is there."""
    text, file, count = (ROOT / "docs/testing.md").read_text(), "", 0
    for named, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", text):
      file, count = named or file, count + 1
      self.assertIn(f"def {test}(", (ROOT / file).read_text(), file)
    self.assertGreater(count, 60)

  def test_links(self):
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
      for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        self.assertTrue((page.parent / link).exists(), f"{page}: {link}")


if __name__ == "__main__":
  absltest.main()
