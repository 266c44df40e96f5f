"""All tables of docs/performance.md in one go.

Runs the page's programs one after the other, each in a process of its own, and
writes what they print, with commit, commands and minutes, to one file. Each
refuses to report wall time where another program takes more than a tenth of a
core, so the machine must have nothing else to do. A program that fails is said
so at the end, and the others go on.

Command, about 20 minutes on two cores: make performance
  with AutoAttack beside its authors' code: make performance \\
    PERFORMANCE_FLAGS="--reference=DIR_OF_auto-attack --tfds_dir=DIR"
"""

import argparse
import datetime
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time

from robust_features.study import provenance

PEERS = ("torch", "foolbox", "torchattacks")


def programs(args: argparse.Namespace, runs: str) -> dict[str, list[str]]:
  """Returns the command lines after `python -m`, by title."""
  few = args.quick
  quickstart = [
    "robust_features.main",
    f"--config=configs/quickstart.py{':smoke' if few else ''}",
    f"--workdir={runs}/quickstart", f"--compilation_cache={runs}/cache",
  ]  # fmt: skip

  def training(model: str, batch: int, steps: int, *flags: str) -> list[str]:
    return [
      "benchmarks.train_throughput", f"--model={model}",
      f"--batch={4 if few else batch}", f"--steps={1 if few else steps}",
      f"--repeats={1 if few else 5}", "--inversion_steps=10", *flags,
    ]  # fmt: skip

  found = {
    "Quickstart, cold": quickstart,
    "Evaluation": [
      "benchmarks.evaluation", f"--workdir={runs}/quickstart",
      f"--rounds={1 if few else 3}",
      f"--config=quickstart{':smoke' if few else ''}",
    ],
    "Attacks": [
      "benchmarks.attack_throughput",
      *(("--models=cnn", "--batches=8", "--steps=2", "--repeats=1") if few
        else ("--repeats=7",)),
    ],
    "Training and inversion, small_resnet": training("small_resnet", 128, 8),
    "Training, ResNet-18": training(
      "small_resnet" if few else "resnet18", 32, 2,
      "--pieces=standard,adversarial",
    ),
    "Memory": ["benchmarks.memory"],
    "Smokes": ["benchmarks.smokes"],
    "XLA's counts": [
      "benchmarks.counts", f"--config=quickstart{':smoke' if few else ''}",
    ],
  }  # fmt: skip
  if args.reference:
    for network in ("l2", "wide"):
      found[f"AutoAttack, {network}"] = [
        "benchmarks.autoattack_speed", f"--reference={args.reference}",
        f"--tfds_dir={args.tfds_dir}", f"--network={network}",
        f"--num_images={8 if network == 'wide' or few else 64}",
        f"--batch_size={8 if network == 'wide' or few else 64}",
        *(("--attacks=apgd-ce,apgd-t,fab-t",) if network == "wide" else ()),
      ]  # fmt: skip
  return found


def run(command: list[str]) -> tuple[bool, str, float]:
  """Returns whether a program ended well, what it printed, and its seconds."""
  begin, lines = time.monotonic(), []
  with subprocess.Popen(
    [sys.executable, "-m", *command], stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT, text=True,
  ) as process:  # fmt: skip
    for line in process.stdout or ():
      print(line, end="", flush=True)
      lines.append(line)
  return process.returncode == 0, "".join(lines), time.monotonic() - begin


def main(argv: list[str] | None = None) -> None:
  """Writes the file; exits with status 1 where a program failed."""
  parser = argparse.ArgumentParser(
    description="Measures all of docs/performance.md.", allow_abbrev=False
  )
  parser.add_argument("--out", default="runs/performance.md")
  parser.add_argument("--reference", help="a clone of auto-attack")
  parser.add_argument("--tfds_dir", default="", help="where CIFAR-10 is")
  parser.add_argument("--quick", action="store_true", help="tiny, to try it")
  args = parser.parse_args(argv)
  if missing := [p for p in PEERS if importlib.util.find_spec(p) is None]:
    sys.exit(f"error: {', '.join(missing)} are missing; use make performance")
  out = pathlib.Path(args.out)
  out.parent.mkdir(parents=True, exist_ok=True)
  failed = []
  text = [f"commit {provenance.git_commit()}, {datetime.date.today()}\n"]
  with tempfile.TemporaryDirectory() as runs:
    for title, command in programs(args, runs).items():
      print(f"\n{title}", flush=True)
      well, printed, seconds = run(command)
      failed += [] if well else [title]
      shown = " ".join(command).replace(runs, "RUNS")
      text.append(
        f"## {title}\n\n    python -m {shown}\n\n{seconds / 60:.1f} minutes\n\n"
        f"{printed}"
      )
      out.write_text("\n".join(text))
  if failed:
    sys.exit(f"error: {', '.join(failed)} failed; see {out}")
  print(f"\n{out}")


if __name__ == "__main__":
  main()
