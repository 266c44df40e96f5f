"""Writes a model as safetensors, for PyTorch.

  python -m robust_features.pytorch.export_checkpoint \
    --checkpoint=runs/cifar_robust/robust --out=resnet50.safetensors

`--checkpoint` is the folder of a finished train stage, or what
`import_checkpoint` wrote. In PyTorch,
`network.load_state_dict(safetensors.torch.load_file(file))` fills the network
of that name in MadryLab's `robustness`, or RobustBench's wide ResNet. Their
input is a normalised image: the file's metadata says with which mean and std.
The card beside it, `resnet50.md`, is fit for the Hugging Face hub.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from robust_features import models, trained
from robust_features.pytorch import model_card, state_dict
from robust_features.runtime import command, files, paths


def write(
  path: str | pathlib.Path,
  cfg: models.ModelConfig,
  variables: Mapping[str, Any],
) -> None:
  """Writes `variables` with PyTorch's names and layouts, whole or not at all.

  Args:
    path: file to write, ending in `.safetensors`.
    cfg: the model's config; goes into the file's metadata as JSON.
    variables: "params" and, with BatchNorm, "batch_stats".

  Raises:
    ValueError: if safetensors is not installed, the file's name ends
      otherwise, or it cannot be written.
  """
  path = paths.resolve(path, "out")
  if path.suffix != ".safetensors":
    raise ValueError(f"out must end in .safetensors, got {str(path)!r}")
  try:
    import safetensors.numpy
  except ImportError:
    raise ValueError(
      "writing needs safetensors: pip install 'robust_features[torch]'"
    ) from None
  metadata = {"format": "pt", "model": json.dumps(dataclasses.asdict(cfg))}
  state = state_dict.to_torch(cfg.name, variables)
  content = safetensors.numpy.save(state, metadata)
  with paths.writing(path.parent, "out"):
    files.write_here(path, content)


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = command.Parser(prog="export_checkpoint", description=__doc__)
  parser.add_argument("--checkpoint", required=True, help="folder to read")
  parser.add_argument("--out", required=True, help="file to write")
  parser.add_argument("--which", default="last", choices=("last", "best"))
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  args = _parse(argv)

  def work() -> str:
    folder = paths.resolve(args.checkpoint, "checkpoint")
    out = paths.resolve(args.out, "out")
    found = trained.load(folder, args.which)
    write(out, found.config, found.variables)
    text = model_card.render(found, out.name, folder, args.which)
    files.write_text(out.with_suffix(".md"), text)
    num = models.num_params(found.variables["params"])
    return f"{args.out} and its card: {found.config.name}, {num:,} parameters"

  return command.run(work)


if __name__ == "__main__":
  sys.exit(main())
