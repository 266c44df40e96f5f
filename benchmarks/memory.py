"""How many copies of the images a stage holds, by peak resident memory.

Each driver runs on a small set and on a large one, in one process. The peak is
set back in between (Linux: /proc/self/clear_refs), and the slope, the growth
of the peak over the growth of the images, is free of what the program itself
takes. It is in units of the images as the driver is given them, which are not
counted themselves: uint8, for AutoAttack float32.

Command: python -m benchmarks.memory
"""

import ctypes
import gc
import pathlib
import tempfile
from collections.abc import Callable

import jax
import numpy as np

from benchmarks import common
from robust_features import attacks, construct, evaluate, models
from robust_features.attacks import autoattack
from robust_features.data import dataset as ds

SIZES = (4_000, 20_000)
SHAPE = (32, 32, 3)
BATCH = 250


def images(num: int, kind: type) -> ds.Dataset:
  """Returns random images, uint8 or float32."""
  generator = np.random.default_rng(0)
  pixels = generator.integers(0, 256, (num, *SHAPE), dtype=np.uint8)
  labels = generator.integers(0, 10, num)
  if kind is np.float32:
    pixels = pixels.astype(kind)
    pixels /= 255
  return ds.make(pixels, labels, 10)


def peak_bytes() -> int:
  """Returns the most memory held since `forget`."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmHWM:"):
      return int(line.split()[1]) * 1024
  raise OSError("the system does not tell the peak; Linux does")


def forget() -> int:
  """Sets the peak back to what is held now; returns that."""
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)  # What is free goes back to the system.
  pathlib.Path("/proc/self/clear_refs").write_text("5")
  return peak_bytes()


def drivers() -> dict[str, Callable[[ds.Dataset], object]]:
  """Returns, by name, what is run on a data set: one step of each."""
  cfg = models.ModelConfig("mlp", width=4)
  model = models.make_model(cfg)
  variables = models.init_variables(model, jax.random.key(0), SHAPE)
  key = jax.random.key(1)
  attack = attacks.AttackConfig("l2", 0.5, 0.1, 1)
  made = construct.preset("rand", attack, batch_size=BATCH, shard_size=BATCH)
  judged = evaluate.EvaluateConfig(num_steps=1, batch_size=BATCH)

  def run_construct(data: ds.Dataset):
    with tempfile.TemporaryDirectory() as folder:
      construct.construct(made, model, variables, data, data, folder, key, {})

  def run_evaluate(data: ds.Dataset):
    evaluate.evaluate(model, variables, data, judged, key)

  def run_autoattack(data: ds.Dataset):
    # Half of the labels are right, so that half of the images are attacked.
    logits = evaluate.predict(model, variables, data.images, BATCH)
    labels = np.where(np.arange(len(logits)) % 2, 0, logits.argmax(1))
    autoattack.run(
      jax.tree_util.Partial(lambda v, x: model.apply(v, x), variables),
      data.images, labels.astype(np.int32), key=key,
      norm="l2", eps=1e-4, attacks=("apgd-ce",),
      batch_size=BATCH, budget=autoattack.Budget(num_steps=2),
    )  # fmt: skip

  return {
    "construct": run_construct,
    "evaluate": run_evaluate,
    "autoattack": run_autoattack,
  }


def copies(run: Callable[[ds.Dataset], object], kind: type) -> float:
  """Returns the bytes held at the peak, in units of the images'."""
  taken = []
  for num in (SIZES[0], *SIZES):  # What is kept for good is kept at first.
    data = images(num, kind)
    begun = forget()
    run(data)
    taken.append(peak_bytes() - begun)
    del data
  image = np.prod(SHAPE) * np.dtype(kind).itemsize
  return (taken[2] - taken[1]) / ((SIZES[1] - SIZES[0]) * image)


def main() -> None:
  """Prints the table."""
  print("\n".join(common.machine()))
  rows = [["driver", "copies of the images at the peak"]]
  for name, run in drivers().items():
    kind = np.float32 if name == "autoattack" else np.uint8
    rows.append([name, f"{copies(run, kind):.2f}"])
  print(common.table(rows))


if __name__ == "__main__":
  main()
