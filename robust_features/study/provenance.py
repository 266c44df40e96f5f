"""What made a result: commit, versions, devices, XLA's flags, date."""

import datetime
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax


def git_commit() -> str:
  """Returns the commit of the code that runs, "-dirty" if changed.

  "unknown" where the package is not tracked: a copy inside another repository
  has not that repository's commit.
  """
  here = pathlib.Path(__file__)

  def git(*arguments: str) -> str:
    return subprocess.run(
      ["git", *arguments], cwd=here.parent, capture_output=True, text=True,
      check=True,
    ).stdout.strip()  # fmt: skip

  try:
    git("ls-files", "--error-unmatch", here.name)
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"


def provenance() -> dict[str, Any]:
  """Returns what a reader needs beside the numbers: what it ran on."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  return {
    "commit": git_commit(),
    "versions": {name: metadata.version(name) for name in packages},
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "cores": os.cpu_count(),
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "python": platform.python_version(),
    "command": shlex.join(sys.orig_argv),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
  }
