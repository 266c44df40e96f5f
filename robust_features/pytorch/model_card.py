"""The card of a model that leaves, as the Hugging Face hub reads it."""

import pathlib
from typing import Any

from robust_features import models
from robust_features.runtime import checkpoint, files
from robust_features.trained import Trained


def render(found: Trained, file: str, folder: pathlib.Path, which: str) -> str:
  """Returns a card in Markdown: what it is, how to load it, how it was made.

  Args:
    found: The model.
    file: Name of the file of weights, beside the card.
    folder: Of the stage that trained it, or of an import.
    which: The weights that were taken, "last" or "best".
  """
  cfg = found.config
  params = models.num_params(found.variables["params"])
  mean, std = (", ".join(map(str, values)) for values in (cfg.mean, cfg.std))
  lines = [
    "---",
    "license: unknown",
    "library_name: pytorch",
    "pipeline_tag: image-classification",
    "tags:",
    "- adversarial-examples",
    "- robustness",
    "---",
    "",
    f"# {cfg.name}",
    "",
    f"{params:,} parameters, {cfg.num_classes} classes. Who passes these"
    " weights on says under which licence: it follows from the data.",
    "",
    "```python",
    "import safetensors.torch, torch",
    "",
    f'network.load_state_dict(safetensors.torch.load_file("{file}"))',
    "network.eval()",
    f"mean, std = torch.tensor([{mean}]), torch.tensor([{std}])",
    "# x: [N, C, H, W] in [0, 1].",
    "logits = network((x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))",
    "```",
    "",
    "`network` is a module whose parameters have the file's names: those of"
    " MadryLab's `robustness` and of RobustBench, where they have this one.",
    "",
    *_measured(found, folder),
    *_origin(found, folder, which),
  ]
  return "\n".join(lines)


def _measured(found: Trained, folder: pathlib.Path) -> list[str]:
  """Returns what the study of these weights found, if it is at hand."""
  path = folder.parent / "results.json"
  results = files.read_json(path) if path.is_file() else {"rows": []}
  digest = checkpoint.digest(found.variables)
  rows = [row for row in results["rows"] if row["model_digest"] == digest]
  if not rows:
    return []
  lines = ["## Measured", "", "| on | images | attack | accuracy |",
           "| --- | ---: | --- | ---: |"]  # fmt: skip
  for row in rows:
    attack = row["attack"]
    about = f"{attack['name']}, {attack['norm']}, {attack['num_steps']} steps"
    for eps, value in {"": row["accuracy"], **row["robust_accuracy"]}.items():
      under = f"{about}, eps {eps}" if eps else "none"
      lines.append(f"| {row['title']} | {row['num_examples']} | {under} | "
                   f"{value:.2%} |")  # fmt: skip
  return [*lines, ""]


def _without_folder(value: Any) -> Any:
  """Returns a file's bare name: where it lay is nobody else's business."""
  is_path = isinstance(value, str) and pathlib.Path(value).is_absolute()
  return pathlib.Path(value).name if is_path else value


def _origin(found: Trained, folder: pathlib.Path, which: str) -> list[str]:
  """Returns how the weights came to be, every setting."""
  path = folder / "config.json"
  told: dict[str, Any] = dict(found.origin)
  if path.is_file():
    told |= files.read_json(path)
  lines = [
    f"- {name}: `{_without_folder(value)}`"
    for name, value in told.items()
    if isinstance(value, (str, int, float))
  ]
  return [
    "## Origin",
    "",
    f"- weights: {which}",
    f"- sha256 of the variables: `{checkpoint.digest(found.variables)}`",
    *lines,
    "",
    "Networks, training and measurements: robust_features, after Ilyas et al.,"
    " *Adversarial Examples Are Not Bugs, They Are Features*,"
    " arXiv:1905.02175.",
    "",
  ]
