"""The peer: the same networks and training loops in plain PyTorch.

Module names equal the Flax ones, so that `load_variables` needs no table. The
loops are those of MadryLab's recipe: SGD with momentum and weight decay, l2
PGD in eval mode, the update in train mode on adversarial images alone.

Reference: arXiv:1905.02175, appendix C.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from robust_features import models
from robust_features.models import resnet, small


class Normalize(nn.Module):
  """Takes images `[B, C, H, W]` in [0, 1] to the network's scale."""

  def __init__(self, mean, std):
    super().__init__()
    self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
    self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

  def forward(self, x):
    """Returns (x - mean) / std."""
    return (x - self.mean) / self.std


def _conv(channels: int, features: int, size: int = 3, stride: int = 1,
          bias: bool = False) -> nn.Conv2d:  # fmt: skip
  return nn.Conv2d(
    channels, features, size, stride, padding=size // 2, bias=bias
  )


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or the bottleneck's 1x1-3x3-1x1."""

  def __init__(self, channels: int, width: int, stride: int, bottleneck: bool):
    super().__init__()
    out = 4 * width if bottleneck else width
    plan = [(width, 3, stride), (width, 3, 1)]
    if bottleneck:
      plan = [(width, 1, 1), (width, 3, stride), (out, 1, 1)]
    self.depth, before = len(plan), channels
    for i, (features, size, step) in enumerate(plan, start=1):
      self.add_module(f"conv{i}", _conv(before, features, size, step))
      self.add_module(f"bn{i}", nn.BatchNorm2d(features))
      before = features
    self.projects = stride > 1 or channels != out
    if self.projects:
      self.shortcut_conv = _conv(channels, out, 1, stride)
      self.shortcut_bn = nn.BatchNorm2d(out)

  def forward(self, x):
    """Maps `[B, C, H, W]` to the block's activation."""
    y = x
    for i in range(1, self.depth + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      y = functional.relu(y) if i < self.depth else y
    if self.projects:
      x = self.shortcut_bn(self.shortcut_conv(x))
    return functional.relu(x + y)


class ResNet(nn.Module):
  """The twin of `robust_features.models.resnet.ResNet`."""

  def __init__(self, twin: resnet.ResNet, channels: int):
    super().__init__()
    self.normalize = Normalize(twin.mean, twin.std)
    self.conv1 = _conv(channels, twin.width)
    self.bn1 = nn.BatchNorm2d(twin.width)
    before, self.blocks = twin.width, []
    for stage, num_blocks in enumerate(twin.stage_sizes):
      width = twin.width * 2**stage
      for i in range(num_blocks):
        stride = 2 if stage > 0 and i == 0 else 1
        name = f"layer{stage + 1}_{i}"
        self.add_module(name, Block(before, width, stride, twin.bottleneck))
        self.blocks.append(name)
        before = 4 * width if twin.bottleneck else width
    self.linear = nn.Linear(before, twin.num_classes)

  def represent(self, x):
    """Returns the representation `[B, D]` of images `[B, C, H, W]`."""
    x = functional.relu(self.bn1(self.conv1(self.normalize(x))))
    for name in self.blocks:
      x = getattr(self, name)(x)
    return x.mean((2, 3))

  def forward(self, x):
    """Returns logits `[B, K]` of images `[B, C, H, W]`."""
    return self.linear(self.represent(x))


class CNN(nn.Module):
  """The twin of `robust_features.models.small.CNN`."""

  def __init__(self, twin: small.CNN, image_shape: tuple[int, ...]):
    super().__init__()
    self.normalize = Normalize(twin.mean, twin.std)
    self.pool, self.depth = twin.pool, len(twin.strides)
    side, before = image_shape[0], image_shape[2]
    plan = zip(twin.multipliers, twin.strides, strict=True)
    batch_norm = twin.norm == "batch"
    for i, (multiplier, stride) in enumerate(plan, start=1):
      features = twin.width * multiplier
      norm = nn.BatchNorm2d(features) if batch_norm else nn.Identity()
      bias = not batch_norm
      self.add_module(f"conv{i}", _conv(before, features, 3, stride, bias))
      self.add_module(f"bn{i}", norm)
      side, before = -(-side // stride), features
    side = side // twin.pool if twin.pool else 1
    self.linear = nn.Linear(before * side * side, twin.num_classes)

  def represent(self, x):
    """Returns the representation `[B, D]` of images `[B, C, H, W]`."""
    x = self.normalize(x)
    for i in range(1, self.depth + 1):
      x = functional.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
    x = functional.avg_pool2d(x, self.pool or tuple(x.shape[2:]))
    return x.flatten(1)

  def forward(self, x):
    """Returns logits `[B, K]` of images `[B, C, H, W]`."""
    return self.linear(self.represent(x))


def make_twin(
  model: Any,
  variables: dict[str, Any],
  image_shape: tuple[int, ...],
  layout: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
  """Returns the PyTorch twin of a Flax network, with its weights, in eval mode.

  Args:
    model: A `ResNet` or `CNN` of `robust_features.models`.
    variables: Its variables.
    image_shape: (H, W, C).
    layout: Memory layout of its parameters.
  """
  if isinstance(model, resnet.ResNet):
    twin = ResNet(model, image_shape[2])
  elif isinstance(model, small.CNN):
    twin = CNN(model, image_shape)
  else:
    raise ValueError(f"there is no PyTorch twin of {type(model).__name__}")
  load_variables(twin, variables)
  for module in twin.modules():
    if isinstance(module, nn.Conv2d):
      weight = module.weight.data.contiguous(memory_format=layout)
      module.weight.data = weight
  return twin.eval()


def load_variables(twin: nn.Module, variables: dict[str, Any]) -> None:
  """Copies a Flax network's variables into its twin; every one must fit."""
  names = {"kernel": "weight", "scale": "weight", "bias": "bias",
           "mean": "running_mean", "var": "running_var"}  # fmt: skip
  state = {}
  for collection in variables.values():
    for path, array in _leaves(collection):
      array = np.asarray(array)
      if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
      elif array.ndim == 2:
        array = array.T
      name = ".".join([*path[:-1], names[path[-1]]])
      state[name] = torch.from_numpy(array.copy())
  missing, unexpected = twin.load_state_dict(state, strict=False)
  allowed = ("num_batches_tracked", "normalize.mean", "normalize.std")
  missing = [name for name in missing if not name.endswith(allowed)]
  if missing or unexpected:
    raise ValueError(f"weights do not fit: {missing=}, {unexpected=}")


def _leaves(tree: Any, path: tuple[str, ...] = ()):
  for name, value in tree.items():
    if hasattr(value, "items"):
      yield from _leaves(value, (*path, name))
    else:
      yield (*path, name), value


def to_tensor(x: np.ndarray, device: str = "cpu") -> torch.Tensor:
  """Returns images `[B, H, W, C]` as a tensor `[B, C, H, W]`."""
  x = np.ascontiguousarray(np.asarray(x, np.float32).transpose(0, 3, 1, 2))
  return torch.from_numpy(x).to(device)


def from_tensor(x: torch.Tensor) -> np.ndarray:
  """Returns a tensor `[B, C, H, W]` as images `[B, H, W, C]`."""
  return x.detach().float().cpu().numpy().transpose(0, 2, 3, 1)


def _norm(x: torch.Tensor) -> torch.Tensor:
  """Returns l2 norms `[B, 1, 1, 1]`."""
  return x.flatten(1).norm(dim=1).clamp_min(1e-10).view(-1, 1, 1, 1)


def l2_pgd(
  network: Callable, x: torch.Tensor, y: torch.Tensor, *,
  eps: float, step_size: float, num_steps: int,
) -> torch.Tensor:  # fmt: skip
  """Returns adversarial images by normalised l2 steps from `x` itself."""
  z = x.detach()
  for _ in range(num_steps):
    z.requires_grad_()
    loss = functional.cross_entropy(network(z), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, z)
    with torch.no_grad():
      delta = z + step_size * gradient / _norm(gradient) - x
      delta *= (eps / _norm(delta)).clamp_max(1.0)
      z = (x + delta).clamp(0, 1)
  return z.detach()


def invert(
  represent: Callable, x: torch.Tensor, start: torch.Tensor, *,
  step_size: float, num_steps: int,
) -> torch.Tensor:  # fmt: skip
  """Returns images of [0, 1] whose representation approaches that of `x`."""
  with torch.no_grad():
    wanted = represent(x)
  z = start.detach()
  for _ in range(num_steps):
    z.requires_grad_()
    distance = (represent(z) - wanted).norm(dim=1)
    loss = (distance / wanted.norm(dim=1)).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    with torch.no_grad():
      z = (z - step_size * gradient / _norm(gradient)).clamp(0, 1)
  return z.detach()


def autocast(device: str, dtype: str):
  """Returns the context that computes in `dtype`, "float32" or "bfloat16"."""
  if dtype == "float32":
    return contextlib.nullcontext()
  return torch.autocast(torch.device(device).type, torch.bfloat16)


class Trainer:
  """A plain training loop over batches given by indices.

  Args:
    twin: The network.
    images: `[N, C, H, W]` float32, on the device.
    labels: `[N]` int64, on the device.
    learning_rate: Of SGD with momentum 0.9 and weight decay 5e-4.
    adversary: Keywords of `l2_pgd`, or None for standard training.
    dtype: What the network computes in.
    compiled: Whether `torch.compile` is applied.
  """

  def __init__(self, twin, images, labels, *, learning_rate: float,
               adversary: dict[str, Any] | None, dtype: str,
               compiled: bool = False):  # fmt: skip
    self.twin, self.images, self.labels = twin, images, labels
    self.network = torch.compile(twin) if compiled else twin
    self.optimizer = torch.optim.SGD(
      twin.parameters(), learning_rate, momentum=0.9, weight_decay=5e-4
    )
    self.adversary, self.dtype = adversary, dtype

  def _logits(self, x):
    with autocast(str(x.device), self.dtype):
      return self.network(x).float()

  def step(self, indices: torch.Tensor) -> torch.Tensor:
    """Takes one step on the images at `indices`; returns the mean loss."""
    x, y = self.images[indices], self.labels[indices]
    if self.adversary is not None:
      # Compiled, the attack would otherwise also work out these gradients.
      self.twin.eval().requires_grad_(False)
      x = l2_pgd(self._logits, x, y, **self.adversary)
    self.twin.train().requires_grad_(True)
    self.optimizer.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(self._logits(x), y)
    loss.backward()
    self.optimizer.step()
    return loss.detach()


def make_pair(name: str, image_shape: tuple[int, ...], seed: int, **fields):
  """Returns (Flax model, its variables, PyTorch twin) with equal weights.

  BatchNorm's running statistics are drawn at random, so that a slip in their
  transfer shows.
  """
  model = models.make_model(models.ModelConfig(name=name, **fields))
  variables = models.init_variables(model, jax.random.key(seed), image_shape)
  generator = np.random.default_rng(seed)

  def disturb(path, leaf):
    draw = generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return draw if path[-1].key == "var" else draw - 1.0

  if "batch_stats" in variables:
    variables["batch_stats"] = jax.tree_util.tree_map_with_path(
      disturb, variables["batch_stats"]
    )
  return model, variables, make_twin(model, variables, image_shape)
