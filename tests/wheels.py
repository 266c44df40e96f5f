"""A wheel of this checkout, laid out as pip would install it."""

import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).parents[1]


def unpacked(folder):
  """Builds the wheel in a folder; returns where its files are, for PYTHONPATH.

  Nothing is written into the checkout.
  """
  subprocess.run(
    [sys.executable, "setup.py", "-q", "egg_info", f"--egg-base={folder}",
     "build", f"--build-base={folder / 'build'}", "bdist_wheel",
     f"--bdist-dir={folder / 'bdist'}", f"--dist-dir={folder}"],
    cwd=ROOT, check=True, capture_output=True,
  )  # fmt: skip
  (wheel,) = folder.glob("*.whl")
  zipfile.ZipFile(wheel).extractall(folder / "lib")
  return folder / "lib"
