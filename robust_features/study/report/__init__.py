"""Writes a study's results for people: table, markdown, figures."""

import pathlib
from typing import Any

import jax
import numpy as np
import tqdm
from PIL import Image

from robust_features.runtime import files
from robust_features.study.report import figures


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
  if results["rows"]:
    say("\n" + table(results))
    say("\n".join(notes(results)))
  for title, lines in measurements(results):
    say("\n".join(["", title, "", *lines]))
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
  lines = [f"# {results['study']}", ""]
  if results["rows"]:
    lines += [table(results), ""]
    lines += [f"- {note}" for note in notes(results)]
  if results["data_sets"]:
    lines += ["", "## Data sets", "", _data_sets(results["data_sets"])]
  if results["models"]:
    lines += ["", "## Models", "", _models(results["models"])]
  if results["imported"]:
    lines += ["", "## Imported models", "", _imported(results["imported"])]
  for title, found in measurements(results):
    lines += ["", f"## {title}", "", *found]
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += ["", "## Made with", "", f"- commit `{results['commit']}`"]
  lines += [f"- {results['devices']}, {results['cores']} cores"]
  lines += [f"- {versions}", f"- XLA_FLAGS: {results['xla_flags'] or '-'}", ""]
  return "\n".join(lines)


def measurements(results: dict[str, Any]) -> list[tuple[str, list[str]]]:
  """Returns (title, lines) of every measurement that is no row of the table."""
  found = []
  for name, sweep in results["step_sweeps"].items():
    title = f"{name}: {sweep['norm']}, eps={sweep['eps']}"
    found.append((title, _step_sweep(sweep)))
  for name, result in results["carlini_wagner"].items():
    title = f"{name}: Carlini and Wagner's l2 attack"
    found.append((title, _carlini_wagner(result)))
  for name, result in results["autoattack"].items():
    title = f"{name}: AutoAttack on {result['model']}, {result['norm']}"
    found.append((title, _autoattack(result)))
  for name, result in results["transfer"].items():
    architecture = result["source_architecture"]
    title = f"{name}: examples of {result['source']} ({architecture})"
    found.append((title, _transfer(result)))
  return found


def _step_sweep(sweep: dict[str, Any]) -> list[str]:
  rows = [["steps", "robust accuracy", "step (eps / steps)"]]
  rows += [
    [
      str(r["num_steps"]),
      _percent(r["robust_accuracy"]),
      f"{r['step_ratio']:g}",
    ]
    for r in sweep["rows"]
  ]
  return [_aligned(rows)]


def _carlini_wagner(found: dict[str, Any]) -> list[str]:
  lines = [
    f"- eps={eps}: {_percent(value)}% robust"
    for eps, value in found["robust_accuracy"].items()
  ]
  lines.append(f"- median distance of its errors: {found['median_distance']}")
  return [*lines, f"- {found['attack']}"]


def _autoattack(found: dict[str, Any]) -> list[str]:
  attacks = ["clean", *found["attacks"]]
  header = ["eps", *attacks, "second pass", "largest move", "seconds"]
  rows, lines = [header], []
  for row in found["rows"]:
    cells = [f"{row['eps']:.4g}"]
    cells += [_percent(row["accuracy"][name]) for name in attacks]
    cells += [_percent(row["second_pass_accuracy"])]
    cells += [f"{row['max_perturbation']:.4g}"]
    rows.append([*cells, f"{sum(row['seconds'].values()):.0f}"])
    cost = ", ".join(f"{k} {row['queries'][k]:,}" for k in found["attacks"])
    lines.append(f"- eps={row['eps']:.4g}: forward evaluations {cost}")
    lines += [f"- eps={row['eps']:.4g}: warning: {w}" for w in row["warnings"]]
  budget = ", ".join(f"{k} {v}" for k, v in found["budget"].items())
  return [
    _aligned(rows),
    "",
    f"- percent of {found['num_examples']} test images still classified "
    f"correctly after each attack; seed {found['seed']}",
    *lines,
    f"- {budget}",
  ]


def _transfer(found: dict[str, Any]) -> list[str]:
  rows = [["architecture", "trained on D_det", "untargeted", "targeted",
           "trained on D", "of all: untargeted", "targeted"]]  # fmt: skip
  fields = ("learner_accuracy", "untargeted", "targeted", "accuracy",
            "untargeted_of_all", "targeted_of_all")  # fmt: skip
  for points, whose in ((found["rows"], ""), (found["paper"], "the paper's ")):
    for point in points:
      cells = [_percent(point.get(field)) for field in fields]
      rows.append([whose + point["architecture"], *cells])
  correlation = ", ".join(
    f"{kind} {'-' if value is None else format(value, '.2f')}"
    for kind, value in sorted(found["rank_correlation"].items(), reverse=True)
  )
  source, attack = found["source_rates"], found["attack"]
  shown = ", ".join(f"{k} {v}" for k, v in attack.items())
  return [
    _aligned(rows),
    "",
    f"- Spearman's rank correlation of success with the accuracy of the model "
    f"trained on D_det, over {len(found['rows'])} architectures: {correlation}",
    "- against the source itself: "
    f"untargeted {_percent(source['untargeted'])}, "
    f"targeted {_percent(source['targeted'])}",
    f"- {found['num_examples']} test images; an untargeted example counts "
    "where the model is right on the image, a targeted one where it does not "
    f"see the target there; targets: {found['target']} class",
    f"- attack: {shown}; examples that met a zero gradient: "
    f"{found['zero_gradient_fraction']:.2%}",
  ]


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


def _imported(found: dict[str, Any]) -> str:
  rows = [["model", "architecture", "parameters", "file", "sha256"]]
  for name, result in found.items():
    origin = result["origin"]
    rows.append(
      [
        name,
        result["model"]["name"],
        f"{result['num_params']:,}",
        str(origin.get("source", "trained here")),
        str(origin.get("source_sha256", "-")),
      ]
    )
  return _aligned(rows)


def _figures(results: dict[str, Any], workdir: pathlib.Path):
  """Draws what there is to draw; returns the files."""
  folder = workdir / "figures"
  drawn = []
  if results["rows"]:
    drawn.append(figures.accuracies(results, folder))
  if results["models"]:
    drawn.append(figures.curves(results["models"], folder))
  drawn += [
    figures.step_sweep(name, sweep, folder)
    for name, sweep in results["step_sweeps"].items()
  ]
  drawn += [
    figures.transfer(name, found, folder)
    for name, found in results["transfer"].items()
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
