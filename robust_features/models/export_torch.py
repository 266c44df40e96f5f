"""Writes a model as safetensors, for PyTorch.

  python -m robust_features.models.export_torch \
    --arch=resnet50 --checkpoint=DIR --out=resnet50.safetensors

`DIR` is a checkpoint of variables, such as `import_torch` writes. In PyTorch,
`network.load_state_dict(safetensors.torch.load_file(file))` fills the network
of that name in MadryLab's `robustness`, or RobustBench's wide ResNet. Their
input is a normalised image: the file's metadata says with which mean and std.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from robust_features import models
from robust_features.models import torch_state


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
    ValueError: if safetensors is not installed or the file's name ends
      otherwise.
    OSError: if the file cannot be written.
  """
  path = pathlib.Path(path)
  if path.suffix != ".safetensors":
    raise ValueError(f"out must end in .safetensors, got {str(path)!r}")
  try:
    import safetensors.numpy
  except ImportError:
    raise ValueError(
      "writing needs safetensors: pip install 'robust_features[torch]'"
    ) from None
  metadata = {"format": "pt", "model": json.dumps(dataclasses.asdict(cfg))}
  state = torch_state.to_torch(cfg.name, variables)
  content = safetensors.numpy.save(state, metadata)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    temporary.write_bytes(content)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are one line and exit status 1."""

  def error(self, message: str) -> NoReturn:
    self.exit(1, f"error: {message}\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = _Parser(prog="export_torch", description=__doc__)
  parser.add_argument("--arch", required=True, choices=sorted(models.MODELS))
  parser.add_argument("--checkpoint", required=True, help="folder to read")
  parser.add_argument("--out", required=True, help="file to write")
  parser.add_argument("--num_classes", type=int, default=10)
  parser.add_argument("--width", type=int, default=0, help="0: the usual one")
  parser.add_argument("--channels", type=int, default=3, help="of the images")
  parser.add_argument("--image_size", type=int, default=32, help="pixels")
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  from robust_features import checkpoint

  args = _parse(argv)
  try:
    cfg = models.ModelConfig(
      args.arch, num_classes=args.num_classes, width=args.width
    )
    shape = (1, args.image_size, args.image_size, args.channels)
    like = jax.eval_shape(
      models.make_model(cfg).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    variables, metadata = checkpoint.load_variables(args.checkpoint, dict(like))
    if "model" in metadata:
      cfg = models.ModelConfig(**metadata["model"])
    if cfg.name != args.arch:
      raise ValueError(f"{args.checkpoint} holds a {cfg.name}, not {args.arch}")
    write(args.out, cfg, variables)
  except (ValueError, OSError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    return 1
  num = models.num_params(variables["params"])
  print(f"{args.out}: {cfg.name}, {num:,} parameters")  # noqa: T201
  return 0


if __name__ == "__main__":
  sys.exit(main())
