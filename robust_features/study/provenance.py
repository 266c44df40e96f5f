"""What made a result: commit, versions, devices, XLA's flags."""

import os
import pathlib
import subprocess
from importlib import metadata
from typing import Any

import jax


def git_commit() -> str:
  """Returns the commit of the code that runs, "-dirty" if changed."""
  here = pathlib.Path(__file__).parent
  try:
    return subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
      cwd=here, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
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
  }
