"""A flag that XLA does not know ends the process: it must never be set."""

import os
import pathlib
import sys
import types
from unittest import mock

import jaxlib
from absl.testing import absltest

from robust_features.runtime import xla_flags

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


class FlagsTest(absltest.TestCase):
  def flags(self, before, known=True):
    with (
      mock.patch.dict(os.environ, {"XLA_FLAGS": before}),
      mock.patch.object(xla_flags, "is_known", return_value=known),
    ):
      why = xla_flags.use_all_cores()
      return os.environ["XLA_FLAGS"], why

  def test_added_to_what_is_there(self):
    self.assertStartsWith(self.flags("")[0], f"{FLAG}=-LIBRARY")
    self.assertStartsWith(self.flags("--a=1")[0], f"--a=1 {FLAG}=-LIBRARY")

  def test_a_users_own_is_kept(self):
    self.assertEqual(self.flags(f"{FLAG}="), (f"{FLAG}=", ""))

  def test_one_line_where_it_is_not_known(self):
    flags, why = self.flags("--a=1", known=False)
    self.assertEqual(flags, "--a=1")
    self.assertRegex(why, f"^jaxlib {jaxlib.__version__} does not know {FLAG}:")

  def test_quickly(self):
    """A user's own is kept; what is not known is left out."""
    emitters = "--xla_cpu_use_fusion_emitters"
    for before, known, after in (
      (f"{emitters}=true", True, f"{emitters}=true --xla_cpu_parallel_codegen"),
      ("", True, f"{emitters}=false --xla_cpu_parallel_codegen_split_count=1"),
      ("--a=1", False, "--a=1"),
    ):
      with (
        mock.patch.dict(os.environ, {"XLA_FLAGS": before}),
        mock.patch.object(xla_flags, "is_known", return_value=known),
      ):
        xla_flags.compile_quickly()
        self.assertStartsWith(os.environ["XLA_FLAGS"], after)

  def test_the_installed_library_is_looked_at(self):
    """The pinned jaxlib knows it; no library knows a flag of nobody."""
    if jaxlib.__version__ == "0.10.2":
      self.assertTrue(xla_flags.is_known(FLAG.removeprefix("--")))
    self.assertFalse(xla_flags.is_known("xla_flag_of_nobody"))

  def test_a_library_with_an_xla_of_its_own(self):
    """What jaxlib knows, the TPU's need not."""
    with mock.patch.dict(sys.modules, libtpu=types.ModuleType("libtpu")):
      self.assertFalse(xla_flags.is_known(FLAG.removeprefix("--")))

  def test_a_name_inside_another_is_not_a_flag(self):
    """Messages' fields keep the names of flags that have gone."""
    folder = pathlib.Path(self.create_tempdir())
    (folder / "lib.so").write_bytes(
      b"\0xla_flag\0set_xla_goneEi\0xla_gone_by\0"
    )
    init = str(folder / "__init__.py")
    with mock.patch.object(xla_flags.jaxlib, "__file__", init):
      self.assertTrue(xla_flags.is_known("xla_flag"))
      for name in ("xla_gone", "flag", "set_xla_gone"):
        self.assertFalse(xla_flags.is_known(name), name)


if __name__ == "__main__":
  absltest.main()
