"""Records what PyTorch computes, for `models_parity_test.py`.

  python tests/torch_nets/make_golden.py [NAME ...]   (needs the [torch] extra)

records the networks named, by default all; the others' records stay.

For each network: tensor names and shapes, the seed of an image, its logits
[1, 10], and the input gradient [1, N, N, 3] of their sum weighted by the
cotangent. Weights and images come from `numbers_by_name.py`.

Where the input of a ReLU is within rounding of 0, the gradient is not defined
in float32: PyTorch's own can differ from its float64 by 0.5%. So of many images
the one is taken on which all stay farthest from 0, measured in float64.

Recorded with torch 2.13.0 on CPU.
"""

import json
import math
import pathlib
import sys
from unittest import mock

import numpy as np
import torch
from networks import NETWORKS
from numbers_by_name import cotangent, image, tensor

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "models_parity.npz"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
NUM_SEEDS = 24


def normalized(x: torch.Tensor) -> torch.Tensor:
  """Returns images [B, 3, H, W] as the library feeds them."""
  mean, std = (
    torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD)
  )
  return (x - mean) / std


def margin(network: torch.nn.Module, x: np.ndarray) -> float:
  """Returns the smallest |input| of any ReLU, in units of its layer's RMS."""
  found = []

  def relu(z):
    found.append(float(z.abs().min() / z.square().mean().sqrt()))
    return z.clamp(min=0)

  with mock.patch.object(torch.Tensor, "relu", relu), torch.no_grad():
    network(normalized(torch.from_numpy(x).double().permute(0, 3, 1, 2)))
  return min(found, default=math.inf)


def record(arch: str) -> dict[str, np.ndarray]:
  """Returns the golden arrays of one network."""
  network = NETWORKS[arch]()
  shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
  state = {k: torch.as_tensor(tensor(k, s)) for k, s in shapes.items()}
  network.load_state_dict(state, strict=True)
  network.double().eval()
  margins = [margin(network, image(arch, seed)) for seed in range(NUM_SEEDS)]
  seed = int(np.argmax(margins))
  network.float().load_state_dict(state, strict=True)
  x = torch.from_numpy(image(arch, seed)).permute(0, 3, 1, 2).requires_grad_()
  logits = network(normalized(x))
  (logits * torch.from_numpy(cotangent())).sum().backward()
  print(f"{arch}: seed {seed}, margin {margins[seed]:.1e}", flush=True)  # noqa: T201
  return {
    "shapes": np.array(json.dumps(shapes)),
    "seed": np.array(seed),
    "logits": logits.detach().numpy(),
    "gradient": x.grad.permute(0, 2, 3, 1).numpy(),
  }


def main(names: list[str]) -> None:
  """Writes the golden file."""
  torch.set_num_threads(1)  # The same sums on every machine.
  content = dict(np.load(GOLDEN)) if names else {}
  for name in names or NETWORKS:
    for key, array in record(name).items():
      content[f"{name}/{key}"] = array
  np.savez_compressed(GOLDEN, **content)


if __name__ == "__main__":
  main(sys.argv[1:])
