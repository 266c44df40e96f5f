"""Remakes a finished run's report, and compares several.

  python -m robust_features.report WORKDIR...

Every workdir's figures and report.html are drawn again from its results.json;
of several, comparison.html lays their tables side by side.
"""

import pathlib
import sys

from robust_features.runtime import files, logs
from robust_features.runtime.command import Parser
from robust_features.study import publish
from robust_features.study.report import comparison


def main(argv: list[str] | None = None) -> None:
  """Runs the command line."""
  parser = Parser(description="Remakes reports; compares runs.")
  parser.add_argument("workdirs", nargs="+", type=pathlib.Path)
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("comparison.html"),
    help="Where the comparison of several runs goes.",
  )  # fmt: skip
  args = parser.parse_args(argv)
  try:
    runs = [remake(workdir) for workdir in args.workdirs]
    if len(runs) > 1:
      files.write_text(args.out, comparison.compare(runs))
      logs.say(
        f"\nmean ± standard deviation, n = {len(runs)}:\n\n"
        f"{comparison.markdown(runs)}\n\ncomparison: {args.out}"
      )
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")


def remake(workdir: pathlib.Path):
  """Draws a run's figures and page again; returns its results.

  Raises:
    ValueError: If the run is not finished, or older than reports are.
  """
  path = workdir / "results.json"
  if not path.is_file():
    raise ValueError(f"{path} is missing; finish the run first")
  results = publish.nothing() | files.read_json(path)
  if "config" not in results:
    raise ValueError(
      f"{path} was written by an older version; run the study's command again"
    )
  publish.write_page(results, workdir, publish.draw(results, workdir))
  return results


if __name__ == "__main__":
  main()
