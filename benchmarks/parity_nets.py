"""Small networks with the same weights in JAX and in PyTorch, for parity.

A network is a dict of arrays: kernels `conv0, conv1, ...` [kh, kw, C, D] with
`bias0, ...` [D], and a last layer `dense` [F, K] with `dense_bias` [K]. Every
convolution is 3 x 3 with one pixel of padding and a ReLU; the first has stride
1, the second and third stride 2, the fourth 1. Images are in [0, 1].

`nets_cifar.npz` beside this file holds three of them for CIFAR-10 (a standard
one, and ones trained on l2 0.5 and linf 8/255 adversarial examples), each
number rounded to 8 bits: `python -m benchmarks.parity_nets` prints their sizes.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.models import convolution

STRIDES = (1, 2, 2, 1)
MEAN, STD = 0.5, 0.25
CIFAR_NETS = pathlib.Path(__file__).parent / "nets_cifar.npz"


def jax_logits(net: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  """Returns logits `[B, K]` of images `[B, H, W, C]`."""
  h = (x - MEAN) / STD
  for k in range(num_convolutions(net)):
    stride = (STRIDES[k], STRIDES[k])
    h = convolution.convolve(h, net[f"conv{k}"], stride, ((1, 1), (1, 1)))
    h = jax.nn.relu(h + net[f"bias{k}"][None, None, None])
  b, height, width, channels = h.shape
  h = h.reshape(b, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
  return h.reshape(b, -1) @ net["dense"] + net["dense_bias"][None]


def torch_logits(net: dict[str, np.ndarray]):
  """Returns a PyTorch function from images `[B, C, H, W]` to logits."""
  import torch
  from torch.nn import functional

  def tensor(array):
    return torch.from_numpy(np.array(array))  # A copy, contiguous.

  kernels = [
    tensor(net[f"conv{k}"].transpose(3, 2, 0, 1))
    for k in range(num_convolutions(net))
  ]
  biases = [tensor(net[f"bias{k}"]) for k in range(len(kernels))]
  dense, dense_bias = tensor(net["dense"].T), tensor(net["dense_bias"])

  def logits(x):
    h = (x - MEAN) / STD
    for k, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
      h = functional.conv2d(h, kernel, bias, stride=STRIDES[k], padding=1)
      h = functional.relu(h)
    h = functional.avg_pool2d(h, 2)
    # The dense layer reads rows, columns, channels, in this order.
    return functional.linear(
      h.permute(0, 2, 3, 1).flatten(1), dense, dense_bias
    )

  return logits


def num_convolutions(net) -> int:
  """Returns how many convolutions a network has."""
  return sum(name.startswith("conv") for name in net)


def quantize(net: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns int8 arrays with a scale for each output channel."""
  result = {}
  for name, array in net.items():
    scale = np.abs(array).max(axis=tuple(range(array.ndim - 1))) / 127
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    result[name] = np.round(array / scale).astype(np.int8)
    result[f"{name}/scale"] = scale
  return result


def dequantize(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the float32 network of `quantize`'s arrays."""
  return {
    name: array.astype(np.float32) * arrays[f"{name}/scale"]
    for name, array in arrays.items()
    if not name.endswith("/scale")
  }


def load(path=CIFAR_NETS) -> dict[str, dict[str, np.ndarray]]:
  """Returns the networks of a file, by name."""
  nets: dict[str, dict[str, np.ndarray]] = {}
  with np.load(path, allow_pickle=False) as arrays:
    for full, array in arrays.items():
      name, part = full.split(":")
      nets.setdefault(name, {})[part] = array
  return {name: dequantize(arrays) for name, arrays in nets.items()}


def save(path, nets: dict[str, dict[str, np.ndarray]]) -> None:
  """Writes networks, quantized."""
  arrays = {
    f"{name}:{part}": array
    for name, net in nets.items()
    for part, array in quantize(net).items()
  }
  np.savez_compressed(path, **arrays)


def as_partial(net: dict[str, np.ndarray]) -> jax.tree_util.Partial:
  """Returns the JAX network with its weights as arguments, not constants."""
  return jax.tree_util.Partial(jax_logits, jax.tree.map(jnp.asarray, net))


def main():
  """Prints what the CIFAR-10 networks are."""
  for name, net in load().items():
    count = sum(array.size for array in net.values())
    print(f"{name}: {num_convolutions(net)} convolutions, {count:,} numbers")


if __name__ == "__main__":
  main()
