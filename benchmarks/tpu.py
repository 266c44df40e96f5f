"""Memory and communication on TPU slices, from the TPU compiler: no TPU needed.

Compiles what a study runs for the devices of a slice that is not there. Each
program's arguments, temporaries (of a device) and collectives are the
compiler's own. The part of an image is the slope between two batches; what is
left is there at any batch. Parameters, statistics and momentum are arguments,
and so are CIFAR's 50,000 images in training; all else comes batch by batch.

Nothing runs: the numbers say what fits, not how fast it is. A program takes
minutes to compile.

Commands, the compiler first (684 MB; jax's extra `tpu` names its version):
  python -m pip install --no-deps --target=LIBTPU libtpu==0.0.42.1
  PYTHONPATH=LIBTPU TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu \\
    python -m benchmarks.tpu --topology=v5e:4x4
"""

import re
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.experimental import topologies

from benchmarks import common, pieces
from robust_features import (
  attacks,
  construct,
  construct_step,
  evaluate,
  models,
  train,
)
from robust_features.data import dataset as ds
from robust_features.data import streaming
from robust_features.runtime import sharding

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "Of the slice.")
_PROGRAMS = flags.DEFINE_list(
  "programs",
  [
    "resnet50_imagenet/standard", "resnet50_imagenet/standard/remat",
    "resnet50_imagenet/adversarial", "resnet50_imagenet/attack",
    "resnet50_imagenet/inversion", "resnet50/standard",
    "resnet50/adversarial", "resnet50/attack", "resnet50/inversion",
  ],
  "NETWORK/PIECE, `/remat` for blocks whose activations are computed again.",
)  # fmt: skip
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Of the network.")
_BATCHES = flags.DEFINE_list("batches", ["16", "32"], "Images of a device.")

# Bytes of an element, by XLA's name of its type.
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
          "f32": 4, "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
_COLLECTIVE = re.compile(
  r"= (?P<shape>\(.*?\)|\S+) (?P<name>all-reduce|all-gather|reduce-scatter|"
  r"all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]")


class Compiled(NamedTuple):
  """What the compiler says of a program, bytes of one device.

  Attributes:
    arguments: That it is given.
    temporaries: That it needs beside them.
    collectives: How many instructions bring devices together, by name; those in
      a loop's body count once, so once a step.
    communicated: Bytes of their results.
  """

  arguments: int
  temporaries: int
  collectives: dict[str, int]
  communicated: int


def collectives(text: str) -> tuple[dict[str, int], int]:
  """Returns how many of each there are in a program's text, and their bytes."""
  counts: dict[str, int] = {}
  total = 0
  for found in _COLLECTIVE.finditer(text):
    counts[found["name"]] = counts.get(found["name"], 0) + 1
    for kind, shape in _ARRAY.findall(found["shape"]):
      size = _BYTES.get(kind, 0)
      for side in filter(None, shape.split(",")):
        size *= int(side)
      total += size
  return counts, total


def on_slice(topology: str) -> int:
  """Has the package shard over a slice; returns its number of devices."""
  devices = topologies.get_topology_desc(
    platform="tpu", topology_name=topology
  ).devices
  mesh = jax.sharding.Mesh(
    devices, ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding._mesh = lambda: mesh  # Of devices that this process does not have.
  return len(devices)


def _given(tree: Any, where: jax.sharding.Sharding) -> Any:
  """Returns the shapes of arrays, with a sharding."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
    tree,
  )


@jax.jit(static_argnums=0)
def _attack(model, variables, images, labels, keys, cfg):
  """A batch of an evaluation: what is wrong after the whole attack."""
  x = ds.to_float(sharding.split_batch(images))
  objective = evaluate.classification_objective(
    lambda z: models.apply(model, variables, z).logits, labels, "cross_entropy"
  )
  return attacks.maximize(objective, x, keys, cfg).x_adv


def lower(program: str, batch: int):
  """Returns the lowered program of a piece, `batch` images in all."""
  network, piece, *remat = program.split("/")
  photos = network.endswith("imagenet")
  shape = (224, 224, 3) if photos else (32, 32, 3)
  fields = {"remat": True} if remat else {}
  model, variables = pieces.abstract_model(
    network, _DTYPE.value, shape, num_classes=9 if photos else 10, **fields
  )
  everywhere, split = sharding.everywhere(), sharding.over_data()
  variables = _given(variables, everywhere)
  key = _given(jax.eval_shape(lambda: jax.random.key(0)), everywhere)

  def array(kind, *sides, where=everywhere):
    return jax.ShapeDtypeStruct(sides, kind, sharding=where)

  rows = array(jnp.int32, batch)
  if piece == "attack":
    keys = _given(
      jax.eval_shape(lambda k: jax.random.split(k, batch), key), everywhere
    )
    return _attack.lower(
      model, variables, array(jnp.uint8, batch, *shape, where=split), rows,
      keys, attacks.AttackConfig("l2", 3.0, 0.6, 7),
    )  # fmt: skip
  if piece == "inversion":
    attack = attacks.AttackConfig("l2", float("inf"), 0.1, 1000,
                                  keep_best=False)  # fmt: skip
    cfg = construct.preset("robust", attack, fake_relu=True)
    return construct_step.construct_batch.lower(
      model, variables, (), _given(pieces.inversion_batch(batch, shape), split),
      key, attack, others=(), cfg=cfg,
    )  # fmt: skip
  attack = attacks.AttackConfig("l2", 0.5, 0.1, 7)
  cfg = pieces.recipe(batch, attack if piece == "adversarial" else None)
  steps = 50_000 // batch
  state = _given(
    jax.eval_shape(lambda k: train.init_state(model, cfg, steps, shape, k),
                   key),
    everywhere,
  )  # fmt: skip
  if photos:
    batches = streaming.Streamed(
      array(jnp.uint8, 1, batch, *shape, where=sharding.over_data(1)),
      array(jnp.int32, 1, batch), array(jnp.int32, 1, batch),
      array(jnp.int32),
    )  # fmt: skip
  else:
    labels = array(jnp.int32, 50_000)
    batches = streaming.Resident(
      array(jnp.uint8, 50_000, *shape), labels, labels, array(jnp.int32)
    )
  return train._train_chunk.lower(
    state, batches, (key, key), array(jnp.int32), model=model, cfg=cfg,
    steps_per_epoch=steps,
  )  # fmt: skip


def compile_for_tpu(program: str, batch: int) -> Compiled:
  """Compiles a piece of `batch` images in all; returns what is said of it."""
  compiled = lower(program, batch).compile()
  found = compiled.memory_analysis()
  counts, communicated = collectives(compiled.as_text())
  jax.clear_caches()  # A program takes a gigabyte and more.
  return Compiled(
    int(found.argument_size_in_bytes), int(found.temp_size_in_bytes), counts,
    communicated,
  )  # fmt: skip


def row(program: str, num_devices: int) -> list[str]:
  """Returns a program's cells."""
  small, large = (int(batch) for batch in _BATCHES.value)
  found = []
  for batch in (small, large):
    begin = time.monotonic()
    found.append(compile_for_tpu(program, batch * num_devices))
    print(
      f"{program}, {batch} a device: {time.monotonic() - begin:.0f} s, "
      f"{found[-1]}", file=sys.stderr, flush=True,
    )  # fmt: skip
  one, two = found
  slope = (two.temporaries - one.temporaries) / (large - small)
  names = [f"{count} {name}" for name, count in one.collectives.items()]
  return [
    program.replace("/", ", "),
    f"{one.arguments / 2**20:.0f}",
    f"{one.temporaries / 2**20:.0f}",
    f"{two.temporaries / 2**20:.0f}",
    f"{slope / 2**20:.1f}",
    ", ".join(names) or "none",
    f"{one.communicated / 2**20:.1f}",
  ]


def main(argv: list[str]) -> None:
  """Prints the table."""
  if len(argv) > 1 or len(_BATCHES.value) != 2:
    sys.exit("error: only flags, and two --batches")
  try:
    num_devices = on_slice(_TOPOLOGY.value)
  except Exception as error:  # Of whatever kind libtpu's is.
    sys.exit(f"error: no TPU compiler for {_TOPOLOGY.value}: {error}")
  small, large = _BATCHES.value
  rows = [
    [
      "program",
      "arguments MiB",
      f"temporaries MiB, {small} images",
      f"{large} images",
      "MiB an image",
      "collectives",
      "MiB communicated",
    ]
  ]
  rows += [row(program, num_devices) for program in _PROGRAMS.value]
  print(f"{_TOPOLOGY.value}, {num_devices} devices, {_DTYPE.value}, jax "
        f"{jax.__version__}\n\n{common.table(rows)}")  # fmt: skip


if __name__ == "__main__":
  app.run(main)
