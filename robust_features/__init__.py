"""Adversarial examples are features: robust and non-robust data sets in JAX."""

import importlib.util
import os

import jaxlib

__version__ = "0.1.0"


def _use_all_cores() -> None:
  """Has XLA's convolutions on a CPU use every core; nothing else changes.

  The library that this version of jaxlib hands them to runs on one thread: two
  cores attack 1.5 times as fast without it (docs/performance.md). XLA reads its
  flags when it starts, and a flag that it does not know ends the process: other
  versions are left alone, and TPUs, whose library has a version of its own.
  """
  flag = "--xla_cpu_experimental_ynn_fusion_type"
  flags = os.environ.get("XLA_FLAGS", "")
  known = jaxlib.__version__ == "0.10.2"
  if known and not importlib.util.find_spec("libtpu") and flag not in flags:
    value = "-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
    os.environ["XLA_FLAGS"] = f"{flags} {flag}={value}".strip()


_use_all_cores()
