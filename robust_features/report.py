"""Writes a study's results for people: table, markdown, figures."""

import pathlib
from typing import Any

import jax
import numpy as np
import tqdm
from PIL import Image

from robust_features import figures, files


def say(text: str) -> None:
  """Prints a line above any progress bar, on the first process."""
  if jax.process_index() == 0:
    tqdm.tqdm.write(text)


def write(results: dict[str, Any], workdir: pathlib.Path, config) -> None:
  """Writes results.json, results.md and figures/; prints the table."""
  if jax.process_index() != 0:
    return
  del config
  files.write_json(workdir / "results.json", results)
  files.write_text(workdir / "results.md", markdown(results))
  drawn = _figures(results, workdir)
  say("\n" + table(results))
  say("\n".join(notes(results)))
  say(f"\nresults: {workdir / 'results.json'} and results.md")
  say(f"figures: {', '.join(str(path) for path in drawn)}")


def _percent(value: float | None) -> str:
  return "-" if value is None else f"{100 * value:.2f}"


def _columns(results: dict[str, Any]) -> list[str]:
  """Returns every radius of the table, ascending."""
  radii = {eps for row in results["rows"] for eps in row["robust_accuracy"]}
  return sorted(radii, key=float)


def table(results: dict[str, Any]) -> str:
  """Returns the table in markdown, ours and the paper's, in percent."""
  radii = _columns(results)
  has_paper = any(row["paper"] for row in results["rows"])
  has_cues = any("cues" in row for row in results["rows"])
  header = ["model", "accuracy", *(f"eps={eps}" for eps in radii)]
  if has_cues:
    header += ["follows shape", "follows texture"]
  if has_paper:
    header += ["paper", *(f"paper eps={eps}" for eps in radii)]
  rows = [header]
  for row in results["rows"]:
    cells = [row["title"], _percent(row["accuracy"])]
    cells += [_percent(row["robust_accuracy"].get(eps)) for eps in radii]
    if has_cues:
      cues = row.get("cues", {})
      cells += [_percent(cues.get(c)) for c in ("shape", "texture")]
    if has_paper:
      printed = row["paper"] or {"accuracy": None, "robust_accuracy": {}}
      cells += [_percent(printed["accuracy"])]
      cells += [_percent(printed["robust_accuracy"].get(eps)) for eps in radii]
    rows.append(cells)
  return _aligned(rows)


def _aligned(rows: list[list[str]]) -> str:
  """Returns a markdown table whose columns line up; numbers to the right."""
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rule = ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]]
  lines = []
  for row in [rows[0], rule, *rows[1:]]:
    cells = [row[0].ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def notes(results: dict[str, Any]) -> list[str]:
  """Returns what a reader of the table must know, a line each."""
  attacks, sizes = {}, set()
  for row in results["rows"]:
    shown = {
      k: v
      for k, v in row["attack"].items()
      if k not in ("zero_gradient_fraction", "class_robust_accuracy")
    }
    text = ", ".join(f"{k} {v}" for k, v in shown.items())
    stuck = row["attack"].get("zero_gradient_fraction", 0.0)
    attacks[text] = max(attacks.get(text, 0.0), stuck)
    sizes.add(row["num_examples"])
  lines = [f"attack: {text}; examples that met a zero gradient: at most "
           f"{stuck:.2%}" for text, stuck in attacks.items()]  # fmt: skip
  lines.append(
    "percent correct of "
    + ", ".join(str(size) for size in sorted(sizes))
    + f" test images; seed {results['seed']}"
  )
  return lines


def markdown(results: dict[str, Any]) -> str:
  """Returns `results.md`."""
  lines = [f"# {results['study']}", "", table(results), ""]
  lines += [f"- {note}" for note in notes(results)]
  if results["data_sets"]:
    lines += ["", "## Data sets", "", _data_sets(results["data_sets"])]
  if results["models"]:
    lines += ["", "## Models", "", _models(results["models"])]
  for name, sweep in results["step_sweeps"].items():
    lines += ["", f"## {name}: {sweep['norm']}, eps={sweep['eps']}", ""]
    rows = [["steps", "robust accuracy", "step (eps / steps)"]]
    rows += [
      [
        str(r["num_steps"]),
        _percent(r["robust_accuracy"]),
        f"{r['step_ratio']:g}",
      ]
      for r in sweep["rows"]
    ]
    lines.append(_aligned(rows))
  for name, found in results["carlini_wagner"].items():
    lines += ["", f"## {name}: Carlini and Wagner's l2 attack", ""]
    lines += [
      f"- eps={eps}: {_percent(value)}% robust"
      for eps, value in found["robust_accuracy"].items()
    ]
    lines.append(f"- median distance of its errors: {found['median_distance']}")
    lines.append(f"- {found['attack']}")
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += ["", "## Made with", "", f"- commit `{results['commit']}`"]
  lines += [f"- {results['devices']}", f"- {versions}", ""]
  return "\n".join(lines)


def _data_sets(found: dict[str, Any]) -> str:
  rows = [["data set", "images", "moved (l2)", "source predicts label",
           "before rounding", "seconds"]]  # fmt: skip
  for name, result in found.items():
    mean = result["mean"]
    rows.append(
      [
        name,
        str(result["num_examples"]),
        f"{mean['moved_from_original']:.3f}",
        _percent(mean["success"]),
        _percent(mean["success_before_rounding"]),
        f"{result['seconds']:.0f}",
      ]
    )
  return _aligned(rows)


def _models(found: dict[str, Any]) -> str:
  rows = [["model", "parameters", "train accuracy", "validation", "seconds"]]
  for name, result in found.items():
    last = result["history"][-1]
    rows.append(
      [
        name,
        f"{result['num_params']:,}",
        _percent(last["train_accuracy"]),
        _percent(last.get("validation_accuracy")),
        f"{result['seconds']:.0f}",
      ]
    )
  return _aligned(rows)


def _figures(results: dict[str, Any], workdir: pathlib.Path):
  """Draws what there is to draw; returns the files."""
  folder = workdir / "figures"
  drawn = [figures.accuracies(results, folder)]
  drawn.append(figures.curves(results["models"], folder))
  drawn += [
    figures.step_sweep(name, sweep, folder)
    for name, sweep in results["step_sweeps"].items()
  ]
  pictures = [
    (name, workdir / name / "data" / "grid.png")
    for name in results["data_sets"]
  ]
  if pictures:
    drawn.append(_data_set_grids(pictures, folder))
  return drawn


def _data_set_grids(pictures, folder: pathlib.Path) -> pathlib.Path:
  """Stacks the grids of every data set: figures 2a and 9 of the paper."""
  names = [name for name, _ in pictures]
  images = []
  for _, path in pictures:
    with Image.open(path) as image:
      images.append(np.asarray(image.convert("RGB")))
  return figures.picture_rows(names, images, folder)
