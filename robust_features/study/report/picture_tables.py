"""What the stage kind `pictures` says in numbers."""

from typing import Any

import numpy as np

from robust_features.study.report import picture_figures, tables


def mean_and_error(values: Any) -> dict[str, Any]:
  """Returns means over the last axis and their standard errors, for JSON."""
  values = np.asarray(values, np.float64)
  number = values.shape[-1]
  error = values.std(axis=-1, ddof=1) if number > 1 else 0.0 * values[..., 0]
  return {
    "mean": values.mean(axis=-1).tolist(),
    "standard_error": (error / np.sqrt(number)).tolist(),
  }


def sections(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
  """Returns (title, lines) of every stage."""
  return [
    (
      f"{name}: pictures of representations",
      [_inversions(result), "", *_notes(result), "", _features(result)],
    )
    for name, result in found.items()
  ]


def _inversions(result: dict[str, Any]) -> tables.Table:
  rows = [["inversion of", "from", "relative distance at the start",
           "at the end", "pixels, l2 at the start", "at the end"]]  # fmt: skip
  for model, numbers in result["models"].items():
    for start in picture_figures.STARTS:
      part = numbers["inversion"][start]
      cells = [
        _cell(part[key], frame)
        for key in ("relative_distance", "pixels_l2")
        for frame in (0, -1)
      ]
      rows.append([model, start, *cells])
  return tables.aligned(rows, num_words=2)


def _features(result: dict[str, Any]) -> tables.Table:
  rows = [["feature of", "from", "deviations at the start", "at the end",
           "seen as its class"]]  # fmt: skip
  for model, numbers in result["models"].items():
    for start in picture_figures.STARTS:
      part = numbers["features"][start]
      cells = [_cell(part["deviations"], frame) for frame in (0, -1)]
      cells.append(tables.percent(part["seen_as_its_class"]))
      rows.append([model, start, *cells])
  return tables.aligned(rows, num_words=2)


def _cell(summary: dict[str, Any], frame: int) -> str:
  mean, error = summary["mean"][frame], summary["standard_error"][frame]
  return f"{mean:.3f} ± {error:.3f}"


def _notes(result: dict[str, Any]) -> list[str]:
  """Returns the comparison with each control, and what was done."""
  first, *controls = result["models"]
  lines = [
    _compared(result, first, control, start)
    for control in controls
    for start in picture_figures.STARTS
  ]
  number = len(result["classes"]) * result["images_per_class"]
  return [
    *lines,
    f"- {number} {result['split']} images of {len(result['classes'])} classes; "
    "± is a standard error; l2 steps in the whole box, last iterate: inversion "
    f"{_climb(result['inversion'])}, features {_climb(result['features'])}",
    "- a feature is the entry of the representation that correlates most with "
    "a class; deviations are from its mean over the set, in standard "
    "deviations",
  ]


def _compared(result: dict[str, Any], first: str, control: str, start: str):
  theirs, ours = (
    np.array(result["models"][m]["inversion"][start]["pixels_l2_end"])
    for m in (control, first)
  )
  gain = mean_and_error(theirs - ours)
  return (
    f"- from {start}, inversions of {first} end nearer to the original than "
    f"those of {control} by {gain['mean']:.3f} ± {gain['standard_error']:.3f} "
    "(l2 in pixels, paired); by nothing or less would refute that it sees more "
    "of the image"
  )


def _climb(cfg: dict[str, Any]) -> str:
  through = " through closed ReLUs" if cfg["fake_relu"] else ""
  return f"{cfg['num_steps']} of {cfg['step_size']:g}{through}"
