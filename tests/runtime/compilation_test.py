"""Programs are counted once each; a broken cache of them stops nothing."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import toys
from absl.testing import absltest

from robust_features.runtime import compilation


class CompilationTest(absltest.TestCase):
  def test_counts_programs(self):
    compilation.listen()
    compilation.listen()  # Twice listens once.
    x = jnp.arange(3.0)
    double = jax.jit(lambda x: 2.0 * x)
    begin = compilation.mark()
    double(x)
    programs, seconds = compilation.since(begin)
    self.assertEqual(programs, 1)
    self.assertGreater(seconds, 0)
    double(x)
    self.assertEqual(compilation.since(begin)[0], 1)
    self.assertEqual(compilation.since(compilation.mark()), (0, 0))

  def test_optimized(self):
    """Without inside, as before after an error; a user's own wish is kept."""
    name = "jax_disable_most_optimizations"
    self.addCleanup(jax.config.update, name, jax.config.read(name))
    for optimize, before, inside in (
      (True, False, False), (False, False, True), (True, True, True),
    ):  # fmt: skip
      jax.config.update(name, before)
      with self.assertRaises(KeyError), compilation.optimized(optimize):
        self.assertEqual(jax.config.read(name), inside)
        raise KeyError
      self.assertEqual(jax.config.read(name), before)


class CacheTest(absltest.TestCase):
  """Of `--compilation_cache`, in a process of its own."""

  def twice(self, folder):
    """Returns what a program says before and after its entries are cut."""
    code = (
      "import pathlib, sys, jax\n"
      "from robust_features import main\n"
      "main._use_cache(sys.argv[1])\n"
      "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
      "for _ in range(2):\n"
      "  print(jax.jit(lambda x: 2 * x + 1)(jax.numpy.arange(3)))\n"
      "  for path in pathlib.Path(sys.argv[1]).glob('*-cache'):\n"
      "    path.write_bytes(path.read_bytes()[:20])\n"
      "    print('cut')\n"
      "  jax.clear_caches()\n"
    )
    found = subprocess.run(
      [sys.executable, "-c", code, str(folder)],
      text=True, check=True, capture_output=True,
    )  # fmt: skip
    return found.stdout.split("\n"), found.stderr

  def test_entries_that_are_cut_short(self):
    lines, err = self.twice(toys.folder(self) / "cache")
    self.assertEqual(lines.count("[1 3 5]"), 2)
    self.assertIn("cut", lines)
    self.assertIn("Error reading persistent compilation cache", err)

  def test_a_folder_that_cannot_be_written(self):
    lines, _ = self.twice("/proc/nowhere")
    self.assertEqual(lines, ["[1 3 5]", "[1 3 5]", ""])


if __name__ == "__main__":
  absltest.main()
