"""Every shipped config: complete, valid, plain, described, and as recorded.

After a wanted change of a config or of a recipe, renew the golden files with
`python tests/configs_test.py renew`.
"""

import hashlib
import importlib.util
import inspect
import pathlib
import subprocess
import sys

import ml_collections
from absl.testing import absltest, parameterized

from robust_features import recipes
from robust_features.recipes import variants
from robust_features.study import graph, paper
from robust_features.study.parse import parse

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "quickstart.txt"
DIGESTS = ROOT / "tests" / "golden" / "configs.txt"
# Beside "" and "smoke".
VARIANTS = {
  "better_source": ("imported", "small"),
  "cifar_answers": ("small",),
  "cifar_nonrobust": ("cifar10_1",),
  "cifar_robust": ("images",),
  "cifar_transfer": ("small",),
  "how_robust": ("small",),
  "poisons": ("small",),
  "restricted_imagenet_nonrobust": ("balanced",),
  "restricted_imagenet_robust": ("balanced",),
  "restricted_imagenet_standard": ("balanced",),
}
NAMES = tuple(sorted(path.stem for path in (ROOT / "configs").glob("*.py")))


def module(name):
  """Imports a config file as the command line does."""
  path = ROOT / "configs" / f"{name}.py"
  spec = importlib.util.spec_from_file_location(f"config_{name}", path)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


def sections(node, path=""):
  """Yields (path, ConfigDict) of every section."""
  yield path, node
  for name, value in node.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from sections(value, f"{path}.{name}" if path else name)


def digest(config):
  return hashlib.sha256(str(config).encode()).hexdigest()[:16]


def digests():
  """Yields what every config and recipe is known by, a line each."""
  for name in NAMES:
    for variant in ("", "smoke", *VARIANTS.get(name, ())):
      config = module(name).get_config(variant)
      yield f"{name}:{variant} {digest(config)}"
  # A sweep has an order; no config says what a recipe is by default.
  yield f"grid {digest(recipes.grid('standard'))}"
  samples = {str: "a", float: 0.5, tuple[str, ...]: ("a", "b"),
             tuple[float, ...]: (0.5,)}  # fmt: skip
  for name, recipe in inspect.getmembers(recipes, inspect.isfunction):
    wanted = inspect.signature(recipe).parameters.values()
    if name.endswith("_stage") or recipe.__module__.endswith("sections"):
      args = [
        samples.get(p.annotation, recipes.attack("l2", 1.0, 0.1, 3))
        for p in wanted
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
      ]
      yield f"recipes.{name} {digest(recipe(*args))}"


class ConfigsTest(parameterized.TestCase):
  def test_there_are_some(self):
    self.assertIn("quickstart", NAMES)

  @parameterized.product(name=NAMES, variant=("", "smoke"))
  def test_plain_values_under_the_files_name(self, name, variant):
    config = module(name).get_config(variant)
    self.assertEqual(config.name, f"{name}-{variant}" if variant else name)
    for path, section in sections(config):
      for field, value in section.items():
        if isinstance(value, ml_collections.ConfigDict):
          continue
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
          self.assertIn(type(item), (int, float, str, bool), f"{path}.{field}")

  @parameterized.parameters(*NAMES)
  def test_the_header_says_what_command_and_time(self, name):
    text = module(name).__doc__
    for part in ("Command: ", f"--config=configs/{name}.py", "Time: ",
                 "Reference: arXiv:1905.02175"):  # fmt: skip
      self.assertIn(part, text)
    self.assertRegex(text.splitlines()[0], r"\.$")

  @parameterized.parameters(*NAMES)
  def test_an_unknown_variant_is_refused(self, name):
    with self.assertRaisesRegex(ValueError, "'tiny'"):
      module(name).get_config("tiny")

  @parameterized.product(name=NAMES, variant=("", "smoke"))
  def test_studies_are_valid(self, name, variant):
    config = module(name).get_config(variant)
    found = graph.Study(parse(config), pathlib.Path("nowhere"))
    for stage in config.stages:
      found.resolved(stage)
    for name in config.table:
      stage = config.stages[name]
      self.assertTrue(stage.title)
      if stage.paper:
        self.assertIn(stage.paper, paper.ROWS)

  def test_claims_have_controls(self):
    config = module("cifar_small").get_config()
    found = {}
    for name in config.table:
      claim = config.stages[name].control_of
      if claim:
        found.setdefault(claim, []).append(name)
    self.assertEqual(
      found,
      {
        "eval_on_d_rand": ["eval_on_leaked_rand", "eval_on_shuffled_rand"],
        "eval_on_d_det": ["eval_on_leaked_det", "eval_on_shuffled_det"],
        "eval_on_d_other": ["eval_on_leaked_other"],
        "eval_on_d_other_rest": ["eval_on_noise_other_rest"],
      },
    )
    stages = config.stages
    for name in ("leaked_rand", "leaked_other", "leaked_det"):
      construct, attack = stages[name].construct, stages.d_rand.construct.attack
      self.assertEqual(construct.objective, "none")
      self.assertEqual(construct.attack.eps, attack.eps)
    self.assertEqual(stages.d_other.construct.attack, attack)
    for name, of in (("d_det_rest", "d_det"), ("d_other_rest", "d_other"),
                     ("noise_other_rest", "noise_other")):  # fmt: skip
      rest = stages[name]
      found = rest.data, rest.by, rest.model, rest.judged
      self.assertEqual(found, (of, "wrong", "weak", "D"))
    self.assertEqual(stages.noise_other.construct.spare, "none")
    self.assertTrue(stages.on_d_other.train.augment.flip)
    self.assertEqual(stages.weak.train.num_epochs, 2)

  def test_transfer(self):
    """Two trainings an architecture; three stages are cifar_nonrobust's."""
    config = module("cifar_transfer").get_config()
    stage = config.stages.transfer
    names = [
      [config.models[config.stages[n].architecture].name for n in group]
      for group in (stage.targets, stage.learners)
    ]
    self.assertEqual(names[0], names[1])
    self.assertCountEqual(
      names[0],
      ["vgg16", "inception_v3", "resnet18", "resnet50", "densenet121"],
    )
    self.assertNotIn(stage.source, stage.targets)
    made, other = (
      graph.Study(parse(module(name).get_config()), pathlib.Path("nowhere"))
      for name in ("cifar_transfer", "cifar_nonrobust")
    )
    for name in ("standard", "d_det_standard", "on_d_det_standard"):
      self.assertEqual(made.resolved(name), other.resolved(name))

  def test_transfer_of_the_size_of_a_cpu(self):
    config = module("cifar_transfer").get_config("small")
    parse(config)
    self.assertLen(config.stages.transfer.targets, 5)
    rates = {
      config.models[stage.architecture].name: stage.train.learning_rate
      for stage in config.stages.values()
      if stage.kind == "train"
    }
    self.assertEqual(rates["cnn4"], 0.1)
    self.assertEqual(rates["mlp"], 0.02)

  @parameterized.parameters(*NAMES)
  def test_a_smoke_run_has_shallow_networks(self, name):
    for section in module(name).get_config("smoke").models.values():
      self.assertTrue(
        section.name in variants._SHALLOW or ":" in section.name, section.name
      )

  @parameterized.parameters(
    "cifar_fast", "cifar_nonrobust", "cifar_robust", "cifar_small"
  )
  def test_the_robust_source_differs_by_its_adversary_alone(self, name):
    stages = module(name).get_config().stages
    standard, robust = (dict(stages[s].train) for s in ("standard", "robust"))
    self.assertEqual(standard["adversary"].eps, 0)
    self.assertGreater(robust["adversary"].eps, 0)
    del standard["adversary"], robust["adversary"]
    self.assertEqual(standard, robust)

  @parameterized.parameters(*NAMES)
  def test_no_section_is_shared(self, name):
    """An override of one stage must not change another."""
    seen = {}
    for path, section in sections(module(name).get_config()):
      self.assertNotIn(id(section), seen, f"{path}, {seen.get(id(section))}")
      seen[id(section)] = path

  def test_golden(self):
    found = f"{module('quickstart').get_config()}\n"
    self.assertEqual(
      found, GOLDEN.read_text(), "renew it: see this file's head"
    )

  def test_every_number_is_as_recorded(self):
    """Of all configs, their variants and what a recipe is by default."""
    self.assertEqual(
      list(digests()), DIGESTS.read_text().splitlines(),
      "renew it, if that was wanted: see this file's head",
    )  # fmt: skip

  def test_they_load_without_jax(self):
    """A sweep reads many; JAX takes seconds to import."""
    code = (
      "import sys, runpy, pathlib\n"
      "for path in sorted(pathlib.Path('configs').glob('*.py')):\n"
      "  runpy.run_path(str(path))['get_config']()\n"
      "print('jax' in sys.modules)\n"
    )
    found = subprocess.run(
      [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
      check=True,
    )  # fmt: skip
    self.assertEqual(found.stdout, "False\n")


class RecipesTest(absltest.TestCase):
  """The paper's tables 3 to 6 and appendix C, read off again."""

  def test_training(self):
    found = recipes.train()
    for field, want in {
      "num_epochs": 150, "batch_size": 128, "learning_rate": 0.1,
      "schedule": "step", "drop_every_epochs": 50, "drop_factor": 0.1,
      "momentum": 0.9, "weight_decay": 5e-4,
    }.items():  # fmt: skip
      self.assertEqual(found[field], want, field)
    self.assertEqual(found.adversary.eps, 0)

  def test_adversary(self):
    found = recipes.adversary(0.5)
    self.assertEqual((found.norm, found.eps, found.num_steps), ("l2", 0.5, 7))
    self.assertAlmostEqual(found.step_size, 0.1)
    self.assertEqual(found.start, "x")

  def test_constructions(self):
    found = recipes.inversion("robust")
    attack = found.attack
    self.assertEqual((attack.num_steps, attack.step_size), (1000, 0.1))
    self.assertEqual(attack.eps, float("inf"))
    found = recipes.targeted("det")
    attack = found.attack
    self.assertEqual(
      (attack.num_steps, attack.step_size, attack.eps), (100, 0.1, 0.5)
    )
    self.assertEqual((found.kind, found.init), ("det", "self"))

  def test_an_unknown_field_is_refused(self):
    with self.assertRaisesRegex(ValueError, "num_epoch is not one of"):
      recipes.train(num_epoch=3)


if __name__ == "__main__":
  if sys.argv[1:] == ["renew"]:
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(f"{module('quickstart').get_config()}\n")
    DIGESTS.write_text("".join(f"{line}\n" for line in digests()))
  else:
    absltest.main()
