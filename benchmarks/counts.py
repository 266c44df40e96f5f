"""What XLA counts of every program of a study: operations, bytes, memory.

Runs a config as `main` does and asks the compiler about each program that it
makes. A loop's body is counted once, as XLA does, whatever its length.

Command: python -m benchmarks.counts --config=quickstart
"""

import argparse
import tempfile

from jax._src import compiler  # No public hook sees every program.

from benchmarks import common  # Has convolutions use all cores, as `main`.
from robust_features.recipes import config_file
from robust_features.study import run


def record(found: list[dict]) -> None:
  """Adds to `found` what XLA says of each program compiled from now on."""
  compile_one = compiler.backend_compile_and_load

  def compile_and_ask(backend, module, *args, **kwargs):
    executable = compile_one(backend, module, *args, **kwargs)
    costs = executable.cost_analysis()
    memory = executable.get_compiled_memory_stats()
    found.append(
      {
        "name": module.operation.attributes["sym_name"].value,
        "operations": costs.get("flops", 0.0),
        "bytes": costs.get("bytes accessed", 0.0),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
      }
    )
    return executable

  compiler.backend_compile_and_load = compile_and_ask


def main(argv: list[str] | None = None) -> None:
  """Prints a line a program, in the order in which they are made."""
  parser = argparse.ArgumentParser(description="Counts of XLA's.")
  parser.add_argument("--config", default="quickstart")
  parser.add_argument("--least", type=float, default=1.0, help="MB accessed")
  args = parser.parse_args(argv)
  found: list[dict] = []
  record(found)
  with tempfile.TemporaryDirectory() as workdir:
    run.run(config_file.load(args.config), workdir)
  print(f"{len(found)} programs; those that access {args.least} MB and more:\n")
  rows = [
    ["program", "Moperations", "MB accessed", "MiB given", "MiB temporaries"]
  ]
  for program in found:
    if program["bytes"] >= 1e6 * args.least:
      rows.append(
        [
          program["name"],
          f"{program['operations'] / 1e6:.1f}",
          f"{program['bytes'] / 1e6:.1f}",
          f"{program['arguments'] / 2**20:.2f}",
          f"{program['temporaries'] / 2**20:.2f}",
        ]
      )
  print(common.table(rows))


if __name__ == "__main__":
  main()
