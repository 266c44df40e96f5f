"""Small networks with the same weights in JAX and in PyTorch, for parity.

A network is a dict of arrays: kernels `conv0, conv1, ...` [kh, kw, C, D] with
`bias0, ...` [D], and a last layer `dense` [F, K] with `dense_bias` [K]. Every
convolution is 3 x 3 with one pixel of padding and a ReLU; `STRIDES` tells the
strides by how many there are. Images are in [0, 1].

`nets_cifar.npz` beside this file holds three for CIFAR-10, each number rounded
to 8 bits. `standard` and `l2` (trained on l2 0.5 adversarial examples) are
small enough for the reference to end within minutes on a CPU: 0.7 million
multiplications an image; `python -m benchmarks.parity_nets --tfds_dir=DIR`
made them. `wide_l2` is `l2` with four convolutions of 16 to 64 channels, 5
million.
"""

import argparse
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_features import attacks
from robust_features.models import convolution

STRIDES = {3: (2, 2, 2), 4: (1, 2, 2, 1)}
CHANNELS = (16, 32, 64)  # Of the networks that `main` trains.
MEAN, STD = 0.5, 0.25
CIFAR_NETS = pathlib.Path(__file__).parent / "nets_cifar.npz"


def jax_logits(net: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  """Returns logits `[B, K]` of images `[B, H, W, C]`."""
  h = (x - MEAN) / STD
  for k, s in enumerate(strides(net)):
    h = convolution.convolve(h, net[f"conv{k}"], (s, s), ((1, 1), (1, 1)))
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
    for k in range(len(strides(net)))
  ]
  biases = [tensor(net[f"bias{k}"]) for k in range(len(kernels))]
  layers = kernels, biases, strides(net)
  dense, dense_bias = tensor(net["dense"].T), tensor(net["dense_bias"])

  def logits(x):
    h = (x - MEAN) / STD
    for kernel, bias, stride in zip(*layers, strict=True):
      h = functional.conv2d(h, kernel, bias, stride=stride, padding=1)
      h = functional.relu(h)
    h = functional.avg_pool2d(h, 2)
    # The dense layer reads rows, columns, channels, in this order.
    return functional.linear(
      h.permute(0, 2, 3, 1).flatten(1), dense, dense_bias
    )

  return logits


def strides(net) -> tuple[int, ...]:
  """Returns the stride of each convolution of a network."""
  return STRIDES[sum(name.startswith("conv") for name in net)]


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


def init(channels: tuple[int, ...], size: int, key: jax.Array):
  """Returns a network of random weights for `[size, size, 3]` images."""
  net, before = {}, 3
  for k, after in enumerate(channels):
    shape = (3, 3, before, after)
    draw = jax.random.normal(jax.random.fold_in(key, k), shape)
    net[f"conv{k}"] = draw * (2 / (9 * before)) ** 0.5
    net[f"bias{k}"] = jnp.zeros(after)
    before, size = after, size // STRIDES[len(channels)][k]
  features = (size // 2) ** 2 * before
  key = jax.random.fold_in(key, len(channels))
  draw = jax.random.normal(key, (features, 10))
  return net | {"dense": draw / features**0.5, "dense_bias": jnp.zeros(10)}


@functools.partial(jax.jit, static_argnames="tx")
def _step(net, state, x, y, adversary, *, tx):
  def loss(net, x):
    return attacks.losses.cross_entropy(jax_logits(net, x), y)

  keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
  x = attacks.maximize(lambda x: loss(net, x), x, keys, adversary).x_adv
  grads = jax.grad(lambda net: loss(net, x).mean())(net)
  updates, state = tx.update(grads, state, net)
  return optax.apply_updates(net, updates), state


def train(x, y, channels: tuple[int, ...], eps: float, epochs: int, seed=0):
  """Returns a network trained on uint8 images, against l2 `eps` if not 0."""
  net = init(channels, x.shape[1], jax.random.key(seed))
  steps = epochs * (len(x) // 100)
  tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
  state, rng = tx.init(net), np.random.default_rng(seed)
  for step in range(steps):
    rows = rng.integers(0, len(x), 100)
    radius = eps * min(1.0, 2 * step / steps)
    adversary = attacks.AttackConfig(
      "l2", radius, radius / 4, 6 if eps else 0, keep_best=False
    )
    images = jnp.asarray(x[rows], jnp.float32) / 255
    net, state = _step(net, state, images, jnp.asarray(y[rows]), adversary,
                       tx=tx)  # fmt: skip
  return jax.tree.map(np.asarray, net)


def main():
  """Trains `standard` and `l2` and puts them into the file."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--tfds_dir", required=True)
  parser.add_argument("--out", type=pathlib.Path, default=CIFAR_NETS)
  parser.add_argument("--epochs", type=int, default=12)
  args = parser.parse_args()
  from robust_features.data import tfds_source

  train_set, test = tfds_source.load("cifar10", args.tfds_dir, 0)
  nets = load(args.out) if args.out.exists() else {}
  for name, eps in (("standard", 0.0), ("l2", 0.5)):
    net = train(train_set.images, train_set.labels, CHANNELS, eps, args.epochs)
    nets[name] = net
    logits = jax_logits(net, jnp.asarray(test.images, jnp.float32) / 255)
    hits = np.asarray(logits).argmax(1) == test.labels
    print(f"{name}: {hits.mean():.1%} of the test images", flush=True)
  save(args.out, nets)


if __name__ == "__main__":
  main()
