"""Training and inversion per second, beside a plain PyTorch loop.

Ours is what a study runs: `train`'s compiled chunk of steps and `construct`'s
compiled batch. The peer is `torch_recipe`: the same network with the same
weights, the same batches of the same images held on the device, MadryLab's
order of work, bf16 autocast and channels-last memory where asked. Neither
augments. Both sides take turns.

Operations are counted twice: from the network's shapes (a forward pass; an
attack step costs two of them, an update three) and by XLA's cost analysis of
the same pieces. The first count times the measured rate, over the measured
rate of a matrix product in the same type, is the fraction of the machine used.

Command, CPU: python -m benchmarks.train_throughput --model=small_resnet
Command, GPU: python -m benchmarks.train_throughput --model=resnet18
  --dtype=bfloat16 --batch=512 --steps=50 --compile_torch
"""

import os
import sys
from typing import Any, NamedTuple

# PyTorch needs a part of the GPU's memory in the same process.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from benchmarks import common, pieces
from robust_features import attacks, construct, construct_step, models, train
from robust_features.data import streaming
from robust_features.runtime import sharding

_MODEL = flags.DEFINE_string(
  "model", "resnet18", "A ResNet or CNN of `MODELS`."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "What the network computes in."
)
_BATCH = flags.DEFINE_integer("batch", 128, "Images of a step.")
_SIZE = flags.DEFINE_integer("size", 32, "Height and width of the images.")
_STEPS = flags.DEFINE_integer("steps", 4, "Training steps of a timed call.")
_ATTACK_STEPS = flags.DEFINE_integer("attack_steps", 7, "Of the adversary.")
_INVERSION_STEPS = flags.DEFINE_integer("inversion_steps", 20, "Timed ones.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed rounds.")
_PIECES = flags.DEFINE_list("pieces", list(pieces.PIECES), "What to measure.")
_PEER = flags.DEFINE_bool("peer", True, "Whether PyTorch runs beside us.")
_THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "PyTorch's.")
_CHANNELS_LAST = flags.DEFINE_bool("channels_last", True, "PyTorch's layout.")
_COMPILE_TORCH = flags.DEFINE_bool("compile_torch", False, "torch.compile.")
_WIDTH = flags.DEFINE_integer("width", 0, "Of the network; 0 is its own.")

_CLOCK = flags.DEFINE_enum(
  "clock", "wall", list(common.CLOCKS), "Wall time, or processor time."
)


class Problem(NamedTuple):
  """What both sides are given."""

  model: Any
  variables: Any
  images: np.ndarray  # [N, H, W, C] uint8
  labels: np.ndarray  # [N] int32
  cfg: train.TrainConfig
  adversarial: train.TrainConfig


class Piece(NamedTuple):
  """One side's work on a piece: a call, and how long it took to compile."""

  run: Any
  compile_seconds: float
  compiled: Any


def make_problem() -> Problem:
  """Returns random images, enough for one timed call, and fresh weights."""
  fields = {"name": _MODEL.value, "width": _WIDTH.value, "dtype": _DTYPE.value}
  model = models.make_model(models.ModelConfig(**fields))
  shape = (_SIZE.value, _SIZE.value, 3)
  generator = np.random.default_rng(0)
  count = _BATCH.value * _STEPS.value
  adversary = attacks.AttackConfig("l2", 0.5, 0.1, _ATTACK_STEPS.value)
  return Problem(
    model,
    models.init_variables(model, jax.random.key(0), shape),
    generator.integers(0, 256, (count, *shape), dtype=np.uint8),
    generator.integers(0, 10, count).astype(np.int32),
    pieces.recipe(_BATCH.value),
    pieces.recipe(_BATCH.value, adversary),
  )


def our_training(problem: Problem, cfg: train.TrainConfig) -> Piece:
  """Returns `_STEPS` training steps as the driver runs them: in one call."""
  shape, steps = problem.images.shape[1:], _STEPS.value
  state = train.init_state(problem.model, cfg, steps, shape, jax.random.key(0))
  state = sharding.replicate(state)
  images, labels = sharding.replicate((problem.images, problem.labels))
  order = sharding.replicate(jnp.arange(len(labels), dtype=jnp.int32))
  batches = streaming.Resident(images, labels, order, 0)
  keys = (jax.random.key(1), jax.random.key(2))
  kept = {"model": problem.model, "cfg": cfg, "steps_per_epoch": steps}
  compiled, seconds = common.compile_seconds(
    train._train_chunk, state, batches, keys, steps, **kept
  )

  def run():
    nonlocal state
    state, sums = compiled(state, batches, keys, steps)
    return jax.block_until_ready(sums)

  return Piece(run, seconds, compiled)


def our_inversion(problem: Problem) -> Piece:
  """Returns the construction of one batch of D_R, from other images."""
  attack = attacks.AttackConfig(
    "l2", float("inf"), 0.1, _INVERSION_STEPS.value, keep_best=False
  )
  cfg = construct.preset("robust", attack, fake_relu=True)
  kept = {"others": (), "cfg": cfg}
  indices = np.arange(_BATCH.value)
  images, labels = problem.images[indices], problem.labels[indices]
  keys = construct_step.streams(jax.random.key(0), indices)
  batch = construct_step.Batch(keys, labels, labels, labels, images, images)
  args = (
    problem.variables, (), sharding.replicate(batch), jax.random.key(0), attack
  )  # fmt: skip
  compiled, seconds = common.compile_seconds(
    construct_step.construct_batch, problem.model, *args, **kept
  )
  return Piece(
    lambda: jax.block_until_ready(compiled(*args)), seconds, compiled
  )


def our_piece(problem: Problem, piece: str) -> Piece:
  """Returns our side of a piece."""
  if piece == "inversion":
    return our_inversion(problem)
  standard = piece == "standard"
  return our_training(problem, problem.cfg if standard else problem.adversarial)


class Peer:
  """PyTorch's side: the same weights, images and batches."""

  def __init__(self, problem: Problem):
    import torch

    from benchmarks import torch_recipe

    self.torch, self.recipe, self.problem = torch, torch_recipe, problem
    torch.set_num_threads(_THREADS.value)
    torch.backends.cudnn.benchmark = True
    self.device = "cuda" if torch.cuda.is_available() else "cpu"
    self.layout = (
      torch.channels_last if _CHANNELS_LAST.value else torch.contiguous_format
    )
    images = torch_recipe.to_tensor(problem.images / np.float32(255))
    self.images = images.to(self.device).contiguous(memory_format=self.layout)
    self.labels = torch.from_numpy(problem.labels).long().to(self.device)

  def _twin(self):
    problem, recipe = self.problem, self.recipe
    twin = recipe.make_twin(
      problem.model, problem.variables, problem.images.shape[1:], self.layout
    )
    return twin.to(self.device)

  def _wait(self):
    if self.device == "cuda":
      self.torch.cuda.synchronize()

  def piece(self, piece: str):
    """Returns a call that does the same work as `our_piece`."""
    if piece == "inversion":
      return self._inversion()
    adversary = None
    if piece == "adversarial":
      adversary = {"eps": 0.5, "step_size": 0.1}
      adversary["num_steps"] = _ATTACK_STEPS.value
    trainer = self.recipe.Trainer(
      self._twin(), self.images, self.labels, learning_rate=0.01,
      adversary=adversary, dtype=_DTYPE.value, compiled=_COMPILE_TORCH.value,
    )  # fmt: skip
    order = self.torch.arange(len(self.labels), device=self.device)

    def run():
      for indices in order.split(_BATCH.value):
        trainer.step(indices)
      self._wait()

    return run

  def _inversion(self):
    twin = self._twin().requires_grad_(False)
    represent = twin.represent
    if _COMPILE_TORCH.value:
      represent = self.torch.compile(represent)
    x = self.images[: _BATCH.value]

    def in_dtype(z):
      with self.recipe.autocast(self.device, _DTYPE.value):
        return represent(z).float()

    def run():
      start = x.roll(1, 0)
      end = self.recipe.invert(
        in_dtype, x, start, step_size=0.1, num_steps=_INVERSION_STEPS.value
      )
      # What ours records of every image: the objective at the start, the end
      # and as stored, and three predictions.
      with self.torch.no_grad():
        for z in (start, end, end.mul(255).round().div(255)):
          in_dtype(z)
          twin.linear(represent(z)).argmax(1)
      self._wait()

    return run


def passes(piece: str) -> float:
  """Returns the forward passes' worth of work of one image of a timed call."""
  steps = _INVERSION_STEPS if piece == "inversion" else _STEPS
  return steps.value * pieces.forward_passes(piece, _ATTACK_STEPS.value)


def image_steps(piece: str) -> tuple[int, str]:
  """Returns what a timed call gets done, and its unit."""
  if piece == "inversion":
    return _BATCH.value * _INVERSION_STEPS.value, "image-steps/s"
  return _BATCH.value * _STEPS.value, "images/s"


def measure(problem: Problem, piece: str, peer, flops: float, peak: float):
  """Returns a piece's rows of the table."""
  mine = our_piece(problem, piece)
  contenders = {"ours": mine.run}
  if peer is not None:
    contenders["PyTorch"] = peer.piece(piece)
  seconds = common.interleave(contenders, _REPEATS.value, _CLOCK.value)
  work, unit = image_steps(piece)
  rows = []
  for name, taken in seconds.items():
    rate = common.median_rate(work, taken)
    used = common.median_rate(flops * passes(piece) * _BATCH.value, taken)
    is_ours = name == "ours"
    rows.append(
      [
        f"{piece}, {name}",
        f"{rate:.1f} {unit}",
        f"{rate / _BATCH.value:.3g}",
        f"{used / 1e9:.0f}",
        f"{used / peak:.1%}",
        "-" if is_ours else common.spread(seconds["ours"], taken),
        f"{mine.compile_seconds:.1f} s" if is_ours else "-",
        f"{common.temp_bytes(mine.compiled) / 2**20:.0f}" if is_ours else "-",
      ]
    )
  return rows


def main(argv: list[str]) -> None:
  """Measures every piece and prints one table."""
  unknown = sorted(set(_PIECES.value) - set(pieces.PIECES))
  if len(argv) > 1 or unknown:
    sys.exit(f"error: unknown argument or piece {(argv[1:] + unknown)[0]!r}")
  logging.set_verbosity(logging.WARNING)
  packages = ("torch",) if _PEER.value else ()
  print("\n".join(common.machine(packages)))
  problem = make_problem()
  peak = common.matmul_rate(_DTYPE.value, clock=_CLOCK.value)
  print(f"matrix product, {_DTYPE.value}: {peak / 1e9:.0f} GFLOP/s measured")
  flops = pieces.count_flops(
    problem.model, problem.variables, problem.images.shape[1:], _BATCH.value
  )
  for name, value in flops.items():
    print(f"operations an image, {name}: {value / 1e6:.2f} MFLOP")
  peer = Peer(problem) if _PEER.value else None
  rows = [["piece", "rate", "steps/s", "GFLOP/s", "of matrix product",
           "ours is faster by", "compile", "temporaries MiB"]]  # fmt: skip
  for piece in _PIECES.value:
    rows += measure(problem, piece, peer, flops["forward, by shapes"], peak)
  layout = "channels last" if _CHANNELS_LAST.value else "channels first"
  compiled = ", torch.compile" if _COMPILE_TORCH.value else ""
  print(
    f"\n## {_MODEL.value}, batch {_BATCH.value}, {_DTYPE.value}; PyTorch:"
    f" {layout}{compiled}; {_CLOCK.value} time\n\n{common.table(rows)}"
  )


if __name__ == "__main__":
  app.run(main)
