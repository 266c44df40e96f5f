"""What is installed runs without a clone: the configs are inside."""

import os
import pathlib
import subprocess
import sys

import toys
import wheels
from absl.testing import absltest

from robust_features.recipes import config_file

ROOT = pathlib.Path(__file__).parents[1]


class WheelTest(absltest.TestCase):
  def test_configs_go_by_their_names_anywhere(self):
    folder = toys.folder(self)
    installed = wheels.unpacked(folder)
    code = "from robust_features.recipes import config_file as c\n"
    code += "print(*c.shipped(), c.load('quickstart').name)"
    found = subprocess.run(
      [sys.executable, "-c", code], cwd=folder, text=True, check=True,
      env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True,
    )  # fmt: skip
    names = [*config_file.shipped(), "quickstart"]
    self.assertEqual(found.stdout.split(), names)

  def test_the_console_script_is_main(self):
    text = (ROOT / "setup.py").read_text()
    self.assertIn('"robust-features=robust_features.main:run"', text)


if __name__ == "__main__":
  absltest.main()
