"""PyTorch state dicts to variables and back, as pure functions on arrays.

Names follow the paper's library (MadryLab `robustness`) for the CIFAR networks,
torchvision for ImageNet's ResNet-50 and RobustBench for the pre-activation
ResNets; its other ResNets have the library's names. Kernels change from HWIO to
OIHW and linear weights are transposed.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from robust_features.models import vgg

State = dict[str, np.ndarray]
Rules = tuple[tuple[str, str], ...]

_RESNET: Rules = (
  (r"^layer(\d)_(\d+)", r"layer\1.\2"),
  (r"shortcut_conv", "shortcut.0"),
  (r"shortcut_bn", "shortcut.1"),
)
# Torchvision's names, which the library has for ImageNet.
_RESNET_IMAGENET: Rules = (
  (r"^layer(\d)_(\d+)", r"layer\1.\2"),
  (r"shortcut_conv", "downsample.0"),
  (r"shortcut_bn", "downsample.1"),
  (r"^linear", "fc"),
)
_DENSENET: Rules = ((r"^dense(\d)_(\d+)", r"dense\1.\2"),)
_WIDE: Rules = (
  (r"^block(\d)_(\d+)", r"block\1.layer.\2"),
  (r"\.shortcut", ".convShortcut"),
  (r"^linear", "fc"),
)
_PREACT: Rules = (
  (r"^block(\d)_(\d+)", r"layer\1.\2"),
  (r"\.shortcut", ".shortcut.0"),
  (r"^bn1", "bn"),
)
# Those of arXiv:2010.03593 and its heirs, which count from 0.
_WIDE_SILU: Rules = (
  (r"^conv1", "init_conv"),
  (r"^bn1", "batchnorm"),
  (r"^linear", "logits"),
  (r"^block1_(\d+)", r"layer.0.block.\1"),
  (r"^block2_(\d+)", r"layer.1.block.\1"),
  (r"^block3_(\d+)", r"layer.2.block.\1"),
  (r"\.bn1", ".batchnorm_0"),
  (r"\.bn2", ".batchnorm_1"),
  (r"\.conv1", ".conv_0"),
  (r"\.conv2", ".conv_1"),
)
_INCEPTION: Rules = (
  # The library writes single convolutions without, chains with an index, and
  # gives the pool at the head of a chain the index 0.
  (r"^(Mixed_5\w)\.branchpool_0", r"\1.branchpool.1"),
  (r"\.branchpool_0", ".branch_pool.1"),
  (r"\.branch1x1_0", ".branch1x1"),
  (r"^Mixed_6a\.branch3x3_0", "Mixed_6a.branch3x3"),
  (r"^(Mixed_(?:5\w|6\w|7a)\.branch\w+)_(\d)", r"\1.\2"),
)


def _vgg_rules() -> Rules:
  """Numbers convolutions (and BatchNorms, one later) as in `features`."""
  rules, index, layer = [(r"^linear", "classifier")], 0, 0
  for num_convs, _ in vgg.STAGES:
    for _ in range(num_convs):
      layer += 1
      rules.append((rf"^conv{layer}$", f"features.{index}"))
      rules.append((rf"^bn{layer}$", f"features.{index + 1}"))
      index += 3
    index += 1
  return tuple(rules)


_RULES: dict[str, Rules] = {
  "densenet121": _DENSENET,
  "densenet_cifar": _DENSENET,
  "inception_v3": _INCEPTION,
  "preact_resnet18": _PREACT,
  "resnet18": _RESNET,
  "resnet34": _RESNET,
  "resnet50": _RESNET,
  "resnet50_imagenet": _RESNET_IMAGENET,
  "small_resnet": _RESNET,
  "vgg16": _vgg_rules(),
  "wrn_28_10": _WIDE,
  "wrn_28_10_silu": _WIDE_SILU,
}

_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}

# Buffers that hold the normalisation: of the library, and of RobustBench.
_MEANS = (
  "normalizer.new_mean", "mu", "normalize.mean", "normalizer.mean", "mean",
)  # fmt: skip
_STDS = (
  "normalizer.new_std", "sigma", "normalize.std", "normalizer.std", "std",
)  # fmt: skip


def torch_name(arch: str, path: tuple[str, ...]) -> str:
  """Returns a leaf's name in PyTorch.

  Args:
    arch: a name in `MODELS`; those without rules keep their names.
    path: keys below "params" or "batch_stats".
  """
  name = ".".join(path[:-1])
  for pattern, replacement in _RULES.get(arch, ()):
    name = re.sub(pattern, replacement, name)
  return f"{name}.{_LEAVES[path[-1]]}"


def to_torch(arch: str, variables: Mapping[str, Any]) -> State:
  """Returns the state dict that a PyTorch network of `arch` loads strictly.

  Args:
    arch: a name in `MODELS`.
    variables: "params" and, with BatchNorm, "batch_stats".
  """
  state: State = {}
  for path, leaf in _flatten(variables).items():
    name, array = torch_name(arch, path[1:]), np.asarray(leaf)
    if path[-1] == "kernel":
      array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
    state[name] = np.ascontiguousarray(array)
    if path[-1] == "var":
      counter = name.replace("running_var", "num_batches_tracked")
      state[counter] = np.zeros((), np.int64)
  return state


def from_torch(
  arch: str, state: Mapping[str, np.ndarray], template: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns variables holding a PyTorch state dict's numbers, in float32.

  Args:
    arch: a name in `MODELS`.
    state: tensors by PyTorch name, as `tidy` leaves them.
    template: variables, or their shapes, of the network to fill.

  Raises:
    ValueError: naming the first tensors that are missing, left over or of
      another shape, and those that hold NaN or infinity.
  """
  left, result, problems = dict(state), {}, []
  for path, leaf in _flatten(template).items():
    name = torch_name(arch, path[1:])
    shape = tuple(leaf.shape)
    if path[-1] == "kernel":
      shape = tuple(
        shape[i] for i in ((3, 2, 0, 1) if len(shape) > 2 else (1, 0))
      )
    tensor = left.pop(name, None)
    if tensor is None:
      problems.append(f"{name} is missing")
    elif tensor.shape != shape:
      problems.append(
        f"{name} is {list(tensor.shape)}, should be {list(shape)}"
      )
    elif not np.isfinite(tensor).all():
      problems.append(f"{name} holds NaN or infinity")
    else:
      result[path] = _from_layout(path[-1], tensor)
  problems += [f"{name} is unknown" for name in left]
  if problems:
    more = len(problems) - 3
    tail = f" and {more} more" if more > 0 else ""
    raise ValueError(f"not a {arch}: {'; '.join(problems[:3])}{tail}")
  return traverse_util.unflatten_dict(result)


def _flatten(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
  """Returns leaves by path: kernels before the rest, 2 before 10."""

  def order(path):
    natural = [
      [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", key)]
      for key in path
    ]
    return path[0] != "params", path[-1] != "kernel", natural

  flat = {**traverse_util.flatten_dict(dict(variables))}
  return {path: flat[path] for path in sorted(flat, key=order)}


def _from_layout(kind: str, tensor: np.ndarray) -> jax.Array:
  if kind == "kernel":
    tensor = tensor.transpose((2, 3, 1, 0) if tensor.ndim == 4 else (1, 0))
  return jax.numpy.asarray(np.ascontiguousarray(tensor), "float32")


def tidy(
  state: Mapping[str, np.ndarray],
) -> tuple[State, tuple[float, ...] | None, tuple[float, ...] | None]:
  """Strips what wrappers add to a state dict.

  Removes what DataParallel (`module.`), `torch.compile` (`_orig_mod.`), the
  library's attacker (`model.`) and Sequential (a number) put before a name, the
  attacker's second copy of the network (`attacker.`), BatchNorm's counters, and
  the sub-block that TRADES-like wide ResNets carry and never use.

  Returns:
    The bare tensors, and the mean and std of the normaliser (None where the
    state dict has none).
  """
  bare: State = {}
  for name, tensor in _without_index(state).items():
    if name.startswith(("attacker.", "sub_block1.")):
      continue
    if name.endswith("num_batches_tracked"):
      continue
    bare[name.removeprefix("model.")] = tensor
  mean, std = _pop_constants(bare, _MEANS), _pop_constants(bare, _STDS)
  return bare, mean, std


def _without_index(state: Mapping[str, np.ndarray]) -> State:
  """Strips wrappers' parts of names, then a Sequential's numbers."""
  bare = {
    ".".join(p for p in name.split(".") if p not in ("module", "_orig_mod")): t
    for name, t in state.items()
  }
  if all(re.match(r"\d+\.", name) for name in bare):
    return {name.split(".", 1)[1]: tensor for name, tensor in bare.items()}
  return bare


def _pop_constants(state: State, names: tuple[str, ...]):
  """Takes the first of `names` out of `state`, as a tuple of floats."""
  for name in names:
    if name in state:
      values = np.asarray(state.pop(name), np.float32).ravel()
      # The shortest decimal of a float32: 0.4914, not 0.49140000343.
      return tuple(float(str(value)) for value in values)
  return None
