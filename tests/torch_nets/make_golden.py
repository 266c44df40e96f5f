"""Records what PyTorch computes, for `models_parity_test.py`.

  python tests/torch_nets/make_golden.py     (needs the [torch] extra)

For each network: tensor names and shapes, the logits [2, 10] of the images,
and the input gradient [2, N, N, 3] of their sum weighted by the cotangent.
Weights and images come from `numbers_by_name.py`. Recorded with torch 2.13.0
on CPU.
"""

import json
import pathlib

import numpy as np
import torch
from networks import NETWORKS
from numbers_by_name import cotangent, images, tensor

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "models_parity.npz"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def record(arch: str) -> dict[str, np.ndarray]:
  """Returns the golden arrays of one network."""
  network = NETWORKS[arch]()
  shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
  state = {k: torch.as_tensor(tensor(k, s)) for k, s in shapes.items()}
  network.load_state_dict(state, strict=True)
  network.eval()
  mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
  x = torch.from_numpy(images(arch)).permute(0, 3, 1, 2).requires_grad_()
  logits = network((x - mean) / std)
  (logits * torch.from_numpy(cotangent())).sum().backward()
  return {
    "shapes": np.array(json.dumps(shapes)),
    "logits": logits.detach().numpy(),
    "gradient": x.grad.permute(0, 2, 3, 1).numpy(),
  }


def main() -> None:
  """Writes the golden file."""
  content = {}
  for name in NETWORKS:
    for key, array in record(name).items():
      content[f"{name}/{key}"] = array
    print(name, np.abs(content[f"{name}/logits"]).max())  # noqa: T201
  np.savez_compressed(GOLDEN, **content)


if __name__ == "__main__":
  main()
