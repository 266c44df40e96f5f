"""Strict JAX for the whole suite: what can be an error is one."""

import os

# Nearly all the time goes into compiling programs that run for a moment. Set
# before JAX starts; the programs that tests start inherit it, and what follows.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
from absl import flags

from robust_features.runtime import xla_flags

xla_flags.use_all_cores()  # As `main` does.
# XLA's older emitters and one module a program: a fifth of the compile time.
for flag, value in (
  ("xla_cpu_use_fusion_emitters", "false"),
  ("xla_cpu_parallel_codegen_split_count", "1"),
):
  set_flags = os.environ.get("XLA_FLAGS", "")
  if flag not in set_flags and xla_flags.is_known(flag):
    os.environ["XLA_FLAGS"] = f"{set_flags} --{flag}={value}".strip()
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

# pytest has its own command line; absltest's temporary folders want flags.
flags.FLAGS.mark_as_parsed()


def pytest_terminal_summary(terminalreporter):
  """Says how many cases the property tests tried."""
  cases = sum(
    value
    for report in terminalreporter.getreports("passed")
    for name, value in report.user_properties
    if name == "cases"
  )
  if cases:
    terminalreporter.write_line(f"properties of attacks: {cases:,} cases")
