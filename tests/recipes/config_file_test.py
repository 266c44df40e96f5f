"""Config files and their overrides: what is read, and one line for the rest."""

import pathlib
import tempfile

from absl.testing import absltest, parameterized
from ml_collections import ConfigDict

from robust_features.recipes import config_file

ROOT = pathlib.Path(__file__).parents[2]


class LoadTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, text, name="mine.py"):
    path = self.folder / name
    path.write_text(text)
    return str(path)

  def test_a_shipped_config_goes_by_its_name_or_its_path(self):
    by_name = config_file.load("quickstart")
    by_path = config_file.load(str(ROOT / "configs" / "quickstart.py"))
    self.assertEqual(by_name.to_dict(), by_path.to_dict())
    self.assertIn("quickstart", config_file.shipped())

  def test_variants_and_overrides(self):
    path = self.write(
      "from ml_collections import ConfigDict\n"
      "def get_config(variant=''):\n"
      "  return ConfigDict({'variant': variant, 'seed': 0})\n"
    )
    self.assertEqual(config_file.load(path).variant, "")
    found = config_file.load(f"{path}:tiny", {"seed": "7"})
    self.assertEqual((found.variant, found.seed), ("tiny", 7))

  def test_a_config_without_variants(self):
    path = self.write(
      "from ml_collections import ConfigDict\n"
      "def get_config():\n  return ConfigDict({'seed': 3})\n"
    )
    self.assertEqual(config_file.load(path).seed, 3)
    with self.assertRaisesRegex(ValueError, "mine.py: TypeError: get_config"):
      config_file.load(f"{path}:smoke")

  @parameterized.parameters(
    ("a = (", "mine.py, line 1: '\\(' was never closed"),
    ("a = 1\nimport nowhere_at_all\n",
     "line 2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ("x = 1\n", r"defines no get_config\(variant\)"),
    ("def get_config(variant=''):\n  pass\n",
     "must return an ml_collections.ConfigDict.*got None"),
    ("def get_config(variant=''):\n  a = 1\n  raise ValueError('too\\nfew')\n",
     "mine.py, line 3: too few"),
    ("def get_config(variant=''):\n  return {}['a']\n",
     "line 2: KeyError: 'a'"),
  )  # fmt: skip
  def test_what_cannot_be_run_names_its_line(self, text, pattern):
    with self.assertRaisesRegex(ValueError, pattern) as caught:
      config_file.load(self.write(text))
    self.assertNotIn("\n", str(caught.exception))

  def test_the_line_is_the_files_own_where_a_library_raises(self):
    path = self.write("import json\n\njson.loads('{')\n")
    with self.assertRaisesRegex(ValueError, "line 3: "):
      config_file.load(path)

  def test_no_such_file(self):
    with self.assertRaisesRegex(ValueError, "does not exist.*digits.*quickst"):
      config_file.load("configs/nothing.py")
    with self.assertRaisesRegex(ValueError, "is a folder; .*quickstart"):
      config_file.load(str(self.folder))
    with self.assertRaisesRegex(ValueError, "a Python file.*notes.md"):
      config_file.load(self.write("# Notes", "notes.md"))

  def test_every_shipped_config_says_what_it_is_about(self):
    for name, line in config_file.listing():
      self.assertRegex(line, r"^[A-Z].*[.:]?$", name)
    self.assertEqual(dict(config_file.listing()).keys(),
                     config_file.shipped().keys())  # fmt: skip


class SplitTest(absltest.TestCase):
  def test_only_fields_of_the_config_are_taken(self):
    fields, rest = config_file.split_overrides(
      ["main", "--config=a.py", "--config.a.b=8/255", "-config.c=x=y",
       "--workdir=w", "--config.a.b=1"]
    )  # fmt: skip
    self.assertEqual(fields, {"a.b": "1", "c": "x=y"})
    self.assertEqual(rest, ["main", "--config=a.py", "--workdir=w"])

  def test_without_a_value(self):
    with self.assertRaisesRegex(ValueError, "write --config.seed=VALUE"):
      config_file.split_overrides(["main", "--config.seed", "3"])


class OverrideTest(parameterized.TestCase):
  def config(self):
    return ConfigDict(
      {
        "seed": 0,
        "table": ("a",),
        "none": (),
        "stages": {"robust": {"eps": 0.5, "radii": (0.25, 0.5), "flip": True}},
      }
    )

  @parameterized.parameters(
    ("seed", "12", 12),
    ("seed", "-1", -1),
    ("seed", "1.5", 1.5),  # Whether it may is for the field to say.
    ("table", "b", ("b",)),
    ("table", "('b', 'c')", ("b", "c")),
    ("table", "()", ()),
    ("none", "3, 4.5", (3, 4.5)),
    ("stages.robust.eps", "8/255", 8 / 255),
    ("stages.robust.eps", "1", 1.0),
    ("stages.robust.eps", "inf", float("inf")),
    ("stages.robust.radii", "(0, 4/255, 8/255)", (0, 4 / 255, 8 / 255)),
    ("stages.robust.radii", "0.5", (0.5,)),
    ("stages.robust.radii", " [0.5, 1] ", (0.5, 1)),
    ("stages.robust.flip", "False", False),
    ("stages.robust.flip", "1", True),
  )
  def test_text_is_read_as_what_is_there(self, field, text, want):
    config = self.config()
    config_file.override(config, field, text)
    *parents, last = field.split(".")
    for part in parents:
      config = config[part]
    self.assertEqual(config[last], want)
    self.assertIs(type(config[last]), type(want))

  @parameterized.parameters(
    ("sed", "1", "no field sed; did you mean seed.*there are none, seed"),
    ("stages.robust.ep", "1", r"no field stages.robust.ep; did you mean eps\?"),
    ("stages.zzz.eps", "1", "no field stages.zzz; there are robust"),
    ("seed.x", "1", "no field seed.x: seed is no section"),
    ("", "1", "no field ;"),
    ("stages.robust", "1", "stages.robust is a section; give one of its fie"),
    ("seed", "abc", "seed must be a number.*'abc'"),
    ("stages.robust.eps", "8/0", "eps must be a number.*'8/0'"),
    ("stages.robust.eps", "1/2/3", "eps must be a number"),
    ("stages.robust.radii", "(0.25, x)", "radii must be a number.*'x'"),
    ("stages.robust.radii", "[0.25", "radii: a bracket has no other one, got"),
    ("stages.robust.radii", "0.25)", "radii: a bracket has no other one, got"),
    ("stages.robust.radii", "(0.25]", "radii: a bracket has no other one, got"),
    ("stages.robust.flip", "maybe", "flip must be true or false.*'maybe'"),
  )
  def test_what_is_not_understood(self, field, text, pattern):
    config = self.config()
    with self.assertRaisesRegex(ValueError, pattern) as caught:
      config_file.override(config, field, text)
    self.assertNotIn("\n", str(caught.exception))
    self.assertEqual(config.to_dict(), self.config().to_dict())


if __name__ == "__main__":
  absltest.main()
