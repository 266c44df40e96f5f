"""Reads PyTorch checkpoints of MadryLab's `robustness` and of RobustBench.

  python -m robust_features.pytorch.import_checkpoint \
    --arch=resnet50 --checkpoint=cifar_l2_0_5.pt --out=DIR

writes an Orbax checkpoint, with the architecture, the normalisation and the
file's SHA-256 beside it. `.pt` and `.pth` files are read by PyTorch without
running code that they may hold; `.safetensors` files need no PyTorch.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import models
from robust_features.pytorch import state_dict
from robust_features.runtime import command, files, paths

# Pixels along a side of common images, the likeliest first.
_SIDES = (32, 28, 8, 16, 64, 96, 224)

# Where checkpoints keep the state dict, in the order tried.
_ENTRIES = ("model", "state_dict", "model_state_dict", "net")


def read_state(path: str | pathlib.Path) -> state_dict.State:
  """Reads the tensors of a `.pt`, `.pth` or `.safetensors` file.

  Raises:
    ValueError: if the file is missing, truncated, of another kind, or a pickle
      that can only be read by running code.
  """
  path = paths.resolve(path, "checkpoint")
  if not path.is_file():
    raise ValueError(f"checkpoint {path} does not exist")
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  return _find_state(path, _read_pickle(path))


def _read_safetensors(path: pathlib.Path) -> state_dict.State:
  try:
    import safetensors.numpy
  except ImportError:
    raise ValueError(_needs("safetensors", path)) from None
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(_unreadable(path, error)) from None


def _read_pickle(path: pathlib.Path) -> Any:
  try:
    import torch
  except ImportError:
    raise ValueError(_needs("torch", path)) from None
  try:
    return torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # PyTorch raises many kinds.
    code = re.search(
      r"GLOBAL (\S+)|(?:unsupported class|unrecognized function) (\S+)",
      str(error),
      re.IGNORECASE,
    )
    if code is None:
      raise ValueError(_unreadable(path, error)) from None
    raise ValueError(
      f"checkpoint {path} can only be read by running code that it holds"
      f" ({code.group(1) or code.group(2)}), which is refused; where you trust"
      " it, load it in PyTorch and save its tensors alone with"
      " torch.save(checkpoint['model'], file)"
    ) from None


def _needs(package: str, path: pathlib.Path) -> str:
  return (
    f"reading {path.name} needs {package}: pip install 'robust_features[torch]'"
  )


def _unreadable(path: pathlib.Path, error: Exception) -> str:
  reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
  return f"checkpoint {path} is truncated or no such file ({reason})"


def _find_state(path: pathlib.Path, content: Any) -> state_dict.State:
  """Returns the state dict in what PyTorch read, as NumPy arrays."""
  for entry in _ENTRIES:
    if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
      content = content[entry]
      break
  state = {}
  if isinstance(content, Mapping):
    state = {
      name: tensor.detach().float().numpy()
      for name, tensor in content.items()
      if isinstance(name, str) and hasattr(tensor, "detach")
    }
  if not state:
    raise ValueError(
      f"checkpoint {path} holds no state dict (looked for"
      f" {', '.join(_ENTRIES)}, and at the top)"
    )
  return state


def convert(
  arch: str,
  state: Mapping[str, np.ndarray],
  *,
  width: int = 0,
  mean: tuple[float, ...] | None = None,
  std: tuple[float, ...] | None = None,
) -> tuple[models.ModelConfig, dict[str, Any]]:
  """Returns the config and variables of a PyTorch state dict.

  Args:
    arch: a name in `MODELS`.
    state: tensors by name, with any wrapper's prefixes.
    width: as in `ModelConfig`.
    mean: the normalisation, where the state dict does not hold it.
    std: likewise.

  Raises:
    ValueError: if the tensors are not those of `arch`, or neither the state
      dict nor the caller says how images are normalised.
  """
  bare, found_mean, found_std = state_dict.tidy(state)
  mean, std = mean or found_mean, std or found_std
  if mean is None or std is None:
    raise ValueError(
      "the checkpoint does not say how images are normalised: give --mean and"
      " --std (0,0,0 and 1,1,1 for a network that takes pixels in [0, 1])"
    )
  head = state_dict.torch_name(arch, ("linear", "bias"))
  num_classes = len(bare[head]) if head in bare else 10
  cfg = models.ModelConfig(
    arch, num_classes=max(num_classes, 2), width=width, mean=mean, std=std
  )
  return cfg, state_dict.from_torch(arch, bare, _template(cfg, bare))


def _template(
  cfg: models.ModelConfig, state: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Returns the shapes of a network for images of the size that fits best.

  A state dict does not tell the images' size, on which some linear layers
  depend, nor their colours where the normalisation is one number.
  """
  model = models.make_model(cfg)
  colours = (len(cfg.mean),) if len(cfg.mean) > 1 else (3, 1)
  there = sorted(tensor.size for tensor in state.values())
  found = {}
  for side in _SIDES:
    for channels in colours:
      x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
      try:
        template = dict(jax.eval_shape(model.init, jax.random.key(0), x))
      except ValueError:  # Too small for this network.
        continue
      found = found or template
      if sorted(leaf.size for leaf in jax.tree.leaves(template)) == there:
        return template
  return found


def described(path: str | pathlib.Path) -> models.ModelConfig | None:
  """Returns the architecture that `export_checkpoint` wrote into a file.

  None for any other file.
  """
  path = paths.resolve(path, "checkpoint")
  if path.suffix != ".safetensors":
    return None
  import safetensors

  with safetensors.safe_open(path, "numpy") as file:
    text = (file.metadata() or {}).get("model")
  return models.ModelConfig(**json.loads(text)) if text else None


def _numbers(text: str) -> tuple[float, ...]:
  try:
    return tuple(float(part) for part in text.split(","))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"must be numbers between commas, got {text!r}"
    ) from None


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = command.Parser(prog="import_checkpoint", description=__doc__)
  parser.add_argument("--arch", required=True, choices=sorted(models.MODELS))
  parser.add_argument("--checkpoint", required=True, help="file to read")
  parser.add_argument("--out", required=True, help="folder to write")
  parser.add_argument("--width", type=int, default=0, help="0: the usual one")
  parser.add_argument(
    "--mean",
    type=_numbers,
    help="where the file does not say, e.g. 0,0,0 or 0.5",
  )
  parser.add_argument("--std", type=_numbers, help="likewise, e.g. 1,1,1")
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  from robust_features.runtime import checkpoint

  args = _parse(argv)

  def work() -> str:
    path, out = paths.resolve(args.checkpoint, "checkpoint"), args.out
    with command.new_folder(paths.resolve(out, "out")) as folder:
      state, told = read_state(path), described(path)
      if told and told.name == args.arch:
        args.width = args.width or told.width
        args.mean, args.std = args.mean or told.mean, args.std or told.std
      cfg, variables = convert(
        args.arch, state, width=args.width, mean=args.mean, std=args.std
      )
      sha256 = files.sha256(path.read_bytes())
      metadata = {
        "model": dataclasses.asdict(cfg),
        "source": path.name,
        "source_sha256": sha256,
      }
      checkpoint.save_variables(folder, variables, metadata)
    num = models.num_params(variables["params"])
    return f"{out}: {cfg.name}, {num:,} parameters, sha256 {sha256}"

  return command.run(work)


if __name__ == "__main__":
  sys.exit(main())
