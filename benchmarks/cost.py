"""What full-size studies cost, counted before a GPU is asked for.

Nothing is trained and nothing timed. Operations of one image come from the
network's shapes (a multiplication and an addition are two) and, for the same
three pieces, from XLA's cost analysis; both are proportional to the batch.
Memory is what XLA reserves for the programs that a study runs, compiled here
for two batch sizes: a constant and a part per image. It is that of the CPU's
compiler; a GPU's places and fuses differently, and cuDNN adds its workspaces.

A study's total adds up its stages: forward passes' worth of work, counted as in
`passes_of`, where no example is broken before the last radius ("at most").
Minutes are those operations over an assumed rate: a plan, not a measurement.

Commands:
  python -m benchmarks.cost --models=resnet18,resnet50
  python -m benchmarks.cost --models= \\
    --configs=configs/cifar_fast.py,configs/cifar_robust.py
"""

import functools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from benchmarks import common, pieces
from robust_features import attacks, construct, construct_step, train
from robust_features.data import sources, streaming
from robust_features.recipes import config_file
from robust_features.study import outlook, parse

_MODELS = flags.DEFINE_list("models", ["resnet18", "resnet50"], "Of `MODELS`.")
_CONFIGS = flags.DEFINE_list("configs", [], "Studies to add up.")
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Of the network.")
_BATCHES = flags.DEFINE_list("batches", ["64", "128"], "Two sizes for memory.")
_MEMORY = flags.DEFINE_bool("memory", True, "Whether to compile for memory.")
_TFLOPS = flags.DEFINE_float("tflops", 700.0, "Assumed matrix product rate.")
_FRACTION = flags.DEFINE_float("fraction", 0.4, "Of it that is reached.")

SHAPE = (32, 32, 3)
# Training and test images, by name or, of what has none, by source.
SIZES = {
  "cifar10": (50_000, 10_000),
  "cifar10.1_v6": (0, 2_000),
  "planted": (4_000, 1_000),
  "digits": (1_500, 297),
}


class Memory(NamedTuple):
  """Bytes that XLA reserves for a compiled program."""

  arguments: int
  temporaries: int


def lower(piece: str, model: Any, variables: Any, batch: int, num_images: int):
  """Returns the lowered program that a study runs for a piece."""
  images = jax.ShapeDtypeStruct((num_images, *SHAPE), jnp.uint8)
  labels = jax.ShapeDtypeStruct((num_images,), jnp.int32)
  key = jax.random.key(0)
  if piece == "inversion":
    attack = attacks.AttackConfig("l2", float("inf"), 0.1, 1000,
                                  keep_best=False)  # fmt: skip
    cfg = construct.preset("robust", attack, fake_relu=True)
    return construct_step.construct_batch.lower(
      model, variables, (), pieces.inversion_batch(batch, SHAPE), key, attack,
      others=(), cfg=cfg,
    )  # fmt: skip
  attack = attacks.AttackConfig("l2", 0.5, 0.1, 7)
  cfg = pieces.recipe(batch, attack if piece == "adversarial" else None)
  steps = num_images // batch
  state = jax.eval_shape(
    lambda k: train.init_state(model, cfg, steps, SHAPE, k), key
  )
  order = jax.ShapeDtypeStruct((num_images,), jnp.int32)
  return train._train_chunk.lower(
    state, streaming.Resident(images, labels, order, 0), (key, key), 10,
    model=model, cfg=cfg, steps_per_epoch=steps,
  )  # fmt: skip


def memory(lowered: Any) -> Memory:
  """Compiles a program and returns what XLA reserves for it."""
  # Buffers are assigned before code is made; so make it cheaply.
  compiled = lowered.compile({"xla_backend_optimization_level": 0})
  found = compiled.memory_analysis()
  return Memory(
    int(found.argument_size_in_bytes), int(found.temp_size_in_bytes)
  )


def memory_row(piece: str, model: Any, variables: Any, batches) -> list[str]:
  """Returns a piece's cells: arguments, constant and part per image, MiB."""
  small, large = batches
  found = [
    memory(lower(piece, model, variables, batch, 50_000)) for batch in batches
  ]
  slope = (found[1].temporaries - found[0].temporaries) / (large - small)
  constant = found[0].temporaries - small * slope
  return [
    f"{value / 2**20:.1f}" for value in (found[0].arguments, constant, slope)
  ]


def model_table(name: str) -> list[list[str]]:
  """Returns a network's rows, one a piece."""
  model, variables = pieces.abstract_model(name, _DTYPE.value, SHAPE)
  batches = tuple(int(batch) for batch in _BATCHES.value)
  flops = pieces.count_flops(model, variables, SHAPE, batches[0])
  rows = []
  for piece in pieces.PIECES:
    passes = pieces.forward_passes(piece)
    row = [
      f"{name}, {piece}",
      f"{passes:g}",
      f"{passes * flops['forward, by shapes'] / 1e9:.2f}",
      f"{pieces.xla_flops(piece, flops) / 1e9:.2f}",
    ]
    if _MEMORY.value:
      row += memory_row(piece, model, variables, batches)
    rows.append(row)
  return rows


# A study.


class Stage(NamedTuple):
  """What a stage has to do.

  Attributes:
    kind: Of the stage.
    architecture: The network that is applied.
    images: Forward passes of single images, or as much work.
  """

  kind: str
  architecture: str
  images: float


def split_size(plan: Any, data: str, split: str) -> int:
  """Returns how many images a split of a source has, or a stage's set.

  Raises:
    ValueError: For data whose size only they tell; main's --dry_run reads them.
  """
  if data in plan.nodes:
    node = plan.nodes[data]
    size = functools.partial(split_size, plan)
    return int(node.kind.work(node.stage, size).images)
  cfg = plan.data[data]
  known = cfg.name if cfg.source in ("tfds", "npz") else cfg.source
  if known not in SIZES:
    raise ValueError(
      f"the size of data.{data} ({cfg.source} {cfg.name}) is not known without "
      "them; use robust_features.main --dry_run"
    )
  train_size, test_size = SIZES[known]
  if cfg.source == "planted":  # As many as are asked for.
    if cfg.num_train:
      train_size = cfg.num_train + cfg.num_validation
    test_size = cfg.num_test or test_size
  validation = sources.num_held_out(cfg.num_validation, train_size)
  left = train_size - validation
  return {
    "validation": validation,
    "train": min(cfg.num_train or left, left),
    "test": min(cfg.num_test or test_size, test_size),
  }[split]


def passes_of(config: Any, name: str) -> Stage | None:
  """Returns what a stage has to do, at most; None for what is not counted."""
  plan = parse.parse(config)
  node = plan.nodes[name]
  try:
    network = outlook.network(plan, name)
  except ValueError:
    return None  # An imported model's architecture is known once it is opened.
  work = node.kind.work(node.stage, functools.partial(split_size, plan))
  if network is None or not work.passes:
    return None
  return Stage(config.stages[name].kind, network.name, work.passes)


def study_rows(path: str, flops: dict[str, float]) -> list[list[str]]:
  """Returns a study's rows: its kinds of stages, then its total.

  Args:
    path: Of the config, with or without `:variant`.
    flops: Of a forward pass of one image, by architecture; filled as needed.
  """
  config = config_file.load(path)
  work: dict[str, float] = {}
  counts: dict[str, int] = {}
  for name in config.stages:
    stage = passes_of(config, name)
    kind = config.stages[name].kind
    counts[kind] = counts.get(kind, 0) + 1
    if stage is None:
      continue
    if stage.architecture not in flops:
      flops[stage.architecture] = _forward(stage.architecture)
    done = stage.images * flops[stage.architecture]
    work[kind] = work.get(kind, 0.0) + done
  rows = [
    _study_row(f"{config.name}, {counts[kind]} x {kind}", work.get(kind))
    for kind in counts
  ]
  return [*rows, _study_row(f"**{config.name}**", sum(work.values()))]


def _forward(architecture: str) -> float:
  model, variables = pieces.abstract_model(architecture, "bfloat16", SHAPE)
  x = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
  return float(common.forward_flops(model.apply, variables, x))


def _study_row(title: str, flops: float | None) -> list[str]:
  if flops is None:
    return [title, "not counted", "-"]
  seconds = flops / (_FRACTION.value * _TFLOPS.value * 1e12)
  return [title, f"{flops / 1e15:.1f}", f"{seconds / 60:.1f}"]


def main(argv: list[str]) -> None:
  """Prints the tables."""
  if len(argv) > 1 or len(_BATCHES.value) != 2:
    sys.exit("error: only flags, and two --batches")
  logging.set_verbosity(logging.WARNING)
  print("\n".join(common.machine()))
  rows = [["one image", "forward passes", "GFLOP, by shapes", "GFLOP, by XLA"]]
  if _MEMORY.value:
    rows[0] += ["arguments MiB", "temporaries MiB", "and per image MiB"]
  for name in _MODELS.value:
    rows += model_table(name)
  if _MODELS.value:
    print(f"\n{_DTYPE.value}, 50,000 images\n\n{common.table(rows)}")
  flops: dict[str, float] = {}
  rate = f"{_FRACTION.value:.0%} of {_TFLOPS.value:g} TFLOP/s"
  rows = [["study", "PFLOP, at most", f"minutes at {rate}, a plan"]]
  try:
    for path in _CONFIGS.value:
      rows += study_rows(path, flops)
  except ValueError as error:
    sys.exit(f"error: {error}")
  if _CONFIGS.value:
    print(f"\n{common.table(rows)}")


if __name__ == "__main__":
  app.run(main)
