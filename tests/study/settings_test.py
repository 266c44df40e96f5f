"""Sections of a config become dataclasses, or an error names the field."""

import dataclasses
import math
from typing import Annotated

import ml_collections
from absl.testing import absltest, parameterized

from robust_features.study import settings


@dataclasses.dataclass(frozen=True)
class Inner:
  size: int
  rate: float

  def __post_init__(self):
    if self.size < 1:
      raise ValueError(f"size must be at least 1, got {self.size!r}")


@dataclasses.dataclass(frozen=True)
class Outer:
  name: str
  on: bool
  eps: tuple[float, ...]
  inner: Inner


@dataclasses.dataclass(frozen=True)
class Counted:
  num: settings.Count
  sizes: tuple[settings.Size, ...]
  seed: int


def section(**changes):
  inner = {"size": 3, "rate": 0.5}
  return {"name": "a", "on": True, "eps": (0.1, 0.2), "inner": inner} | changes


class BuildTest(parameterized.TestCase):
  @parameterized.parameters(dict, ml_collections.ConfigDict)
  def test_nested(self, kind):
    found = settings.build(Outer, kind(section()), "top")
    self.assertEqual(found, Outer("a", True, (0.1, 0.2), Inner(3, 0.5)))
    self.assertIsInstance(found.eps, tuple)
    hash(found)  # It is a static argument of compiled functions.

  def test_what_is_no_section(self):
    for value in (3, "inner", None, (1, 2)):
      with self.assertRaisesRegex(ValueError, "top.inner must be a section, g"):
        settings.build(Outer, section(inner=value), "top")

  def test_whole_numbers_pass_as_floats(self):
    found = settings.build(Inner, {"size": 1, "rate": 2}, "top")
    self.assertIs(type(found.rate), float)

  @parameterized.parameters(
    ({"names": "b"}, r"top\.names is not a field; choose from eps, inner"),
    ({"name": 3}, r"top\.name must be str, got 3"),
    ({"on": 1}, r"top\.on must be bool, got 1"),
    ({"on": "False"}, r"top\.on must be bool, got 'False'"),
    ({"eps": 0.5}, r"top\.eps must be a tuple, got 0.5"),
    ({"inner": {"size": 3}}, r"top\.inner\.rate is missing"),
    ({"inner": {"size": 0, "rate": 1.0}}, r"top\.inner\.size must be at least"),
    ({"inner": {"size": True, "rate": 1.0}}, r"top\.inner\.size must be int"),
    ({"inner": {"size": 2.0, "rate": 1.0}}, r"top\.inner\.size must be int"),
    ({"inner": {"size": "2", "rate": 1.0}}, r"top\.inner\.size.*got '2'"),
    ({"inner": {"size": 2, "rate": "1"}}, r"top\.inner\.rate must be float"),
    ({"inner": {"size": 2, "rate": True}}, r"top\.inner\.rate must be float"),
    (
      {"inner": {"size": 2**31, "rate": 1.0}},
      r"must be below 2\*\*31, got",
    ),
    ({"inner": {"size": -(2**31), "rate": 1.0}}, r"size must be below 2\*\*31"),
    ({"inner": {"size": 2, "rate": None}}, r"top\.inner\.rate must be float"),
  )
  def test_refuses(self, changes, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      settings.build(Outer, section(**changes), "top")
    self.assertNotIn("\n", str(caught.exception))

  def test_no_count_is_less_than_its_least(self):
    fields = {"num": 0, "sizes": (1, 2**31 - 1), "seed": 2**32 - 1}
    self.assertEqual(settings.build(Counted, fields, "s"), Counted(**fields))
    for changes, message in (
      ({"num": -1}, "^s.num must be at least 0, got -1$"),
      ({"sizes": (1, 0)}, "^s.sizes must be at least 1, got 0$"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        settings.build(Counted, fields | changes, "s")

  def test_a_missing_field_is_named(self):
    fields = section()
    del fields["eps"]
    with self.assertRaisesRegex(ValueError, r"top\.eps is missing"):
      settings.build(Outer, fields, "top")
    with self.assertRaisesRegex(ValueError, r"top\.eps is missing"):
      settings.build(Outer, {}, "top")

  def test_each_of_a_tuple(self):
    found = settings.build(Outer, section(eps=[1, 0.5]), "top")
    self.assertEqual(found.eps, (1.0, 0.5))
    self.assertIs(type(found.eps[0]), float)
    with self.assertRaisesRegex(ValueError, "top.eps must be float, got 'a'"):
      settings.build(Outer, section(eps=(0.5, "a")), "top")


@dataclasses.dataclass(frozen=True)
class Marked:
  data: settings.DataName
  models: tuple[settings.ModelName, ...]
  split: settings.Split
  other: Annotated[str, settings.PartOf(("a",), ("x", "y"))]
  hows: tuple[Annotated[str, settings.OneOf(("b", "c"))], ...]
  plain: str


class MarksTest(absltest.TestCase):
  def test_also_those_inside_a_tuple(self):
    found = settings.marks(Marked, settings.Names)
    self.assertEqual(
      {name: mark.what for name, mark in found.items()},
      {"data": ("source", "set"), "models": ("model",)},
    )

  def test_a_part_is_one_of_them_too(self):
    self.assertEqual(
      list(settings.marks(Marked, settings.OneOf)), ["split", "other", "hows"]
    )
    found = settings.marks(Marked, settings.PartOf)
    self.assertEqual(
      {name: mark.of for name, mark in found.items()},
      {"split": ("data",), "other": ("x", "y")},
    )

  def test_each_of_a_tuple_is_looked_at(self):
    fields = {"data": "D", "models": ("m",), "split": "test", "other": "a",
              "hows": ("b", "c"), "plain": "anything"}  # fmt: skip
    settings.build(Marked, fields, "s")
    for change, message in (
      ({"hows": ("b", "d")}, "^s.hows must be one of 'b', 'c', got 'd'$"),
      ({"other": "test"}, "^s.other must be one of 'a', got 'test'$"),
      ({"models": ("m", 3)}, "^s.models must be str, got 3$"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        settings.build(Marked, fields | change, "s")


class FlattenTest(absltest.TestCase):
  def test_paths_and_tuples(self):
    config = ml_collections.ConfigDict(section(eps=(1, math.inf)))
    want = {
      "s.name": "a", "s.on": True, "s.eps": [1, math.inf],
      "s.inner.size": 3, "s.inner.rate": 0.5,
    }  # fmt: skip
    self.assertEqual(settings.flatten(config, "s"), want)
    self.assertIn("inner.size", settings.flatten(config))


if __name__ == "__main__":
  absltest.main()
