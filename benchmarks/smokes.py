"""How long `:smoke` of each shipped config takes, nothing compiled before.

Each runs as a user would, in a process of its own, on made-up data where it
reads some, with an empty cache of compiled programs. Wall time, so refused on a
machine that is busy with something else.

Command: python -m benchmarks.smokes
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

from benchmarks import common
from robust_features.recipes import config_file

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import stand_ins  # noqa: E402  # pyright: ignore[reportMissingImports]


def measure(name: str) -> list[str]:
  """Returns a config's cells: seconds, and what it says of compiling."""
  config = f"configs/{name}.py:smoke"
  with tempfile.TemporaryDirectory() as folder:
    where = pathlib.Path(folder)
    overrides = stand_ins.write(config_file.load(f"{ROOT}/{config}"), where)
    begin = time.perf_counter()
    found = subprocess.run(
      [
        sys.executable, "-m", "robust_features.main", f"--config={config}",
        f"--workdir={where}/run", f"--compilation_cache={where}/cache",
        *(f"--config.{path}={value}" for path, value in overrides.items()),
      ],
      cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
  if found.returncode:
    sys.exit(f"error: {config} failed: {found.stderr[-1000:]}")
  (programs, compiling), *_ = re.findall(
    r"compiled (\d+) programs in ([\d.]+) s", found.stdout + found.stderr
  )
  return [name, f"{seconds:.1f}", programs, compiling]


def main() -> None:
  """Prints the table."""
  if sys.argv[1:]:
    sys.exit("error: there are no arguments")
  foreign = common.Foreign()
  rows = [["config", "seconds", "programs", "seconds of compiling"]]
  for path in sorted((ROOT / "configs").glob("*.py")):
    rows.append(measure(path.stem))
    print(*rows[-1], file=sys.stderr, flush=True)
  foreign.require_quiet()
  print(common.table(rows))


if __name__ == "__main__":
  main()
