"""Remakes a finished run's report, and compares several.

  python -m robust_features.report WORKDIR...

Every workdir's figures and report.html are drawn again from its results.json;
of several, comparison.html lays their tables side by side.
"""

import pathlib
import sys

from robust_features.runtime import command, files, paths
from robust_features.study import publish
from robust_features.study.report import comparison


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  parser = command.Parser(description="Remakes reports; compares runs.")
  parser.add_argument("workdirs", nargs="+")
  parser.add_argument(
    "--out", default="comparison.html",
    help="Where the comparison of several runs goes.",
  )  # fmt: skip
  args = parser.parse_args(argv)
  return command.run(lambda: _remade(args.workdirs, args.out))


def _remade(workdirs: list[str], out: str) -> str:
  """Makes reports and the comparison; returns what is to be told."""
  runs = [remake(paths.folder(path, "workdir")) for path in workdirs]
  if len(runs) == 1:
    return f"report: {workdirs[0]}/report.html"
  page = paths.resolve(out, "out")
  with paths.writing(page.parent, "out"):
    files.write_text(page, comparison.compare(runs))
  return (
    f"\nmean ± standard deviation, n = {len(runs)}:\n\n"
    f"{comparison.markdown(runs)}\n\ncomparison: {out}"
  )


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
  sys.exit(main())
