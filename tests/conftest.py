"""Strict JAX for the whole suite: what can be an error is one."""

import gc
import os

# Nearly all the time goes into compiling programs that run for a moment. Set
# before JAX starts; the programs that tests start inherit it, and what follows.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
from absl import flags

from robust_features.runtime import xla_flags

xla_flags.use_all_cores()  # As `main` does.
xla_flags.compile_quickly()
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

# pytest has its own command line; absltest's temporary folders want flags.
flags.FLAGS.mark_as_parsed()

# Python's collector would walk all that JAX keeps, again and again: a fifth of
# the time.
gc.set_threshold(200_000, 10, 10)

# Begun first, longest first, so that the workers end together; xdist itself
# would begin with the classes of most tests, and end with the longest test.
LONGEST = (
  "main_test.py::SmokeTest", "processes_test.py::StudyTest",
  "slurm_test.py::SlurmTest", "main_test.py::QuickstartTest",
  "parity_test.py::ParityTest",
  "own_study_test.py::WholeStudyTest", "colabs_test.py::RunTest",
  "ensemble_test.py::ReferenceTest", "pieces_test.py::StudyTest",
  "train_test.py::ResumeTest", "remedies_test.py::RemediesTest",
)  # fmt: skip


def pytest_collection_modifyitems(items):
  """Puts the longest classes first, and leaves all else where it is."""
  items.sort(
    key=lambda item: next(
      (i for i, name in enumerate(LONGEST) if f"/{name}" in item.nodeid),
      len(LONGEST),
    )
  )


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
