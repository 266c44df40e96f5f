"""One study on more devices and processes: what that costs on one machine.

Each layout is so many processes of so many simulated devices, which share the
machine's cores however many they are: the rates say what distribution costs,
not what more hardware gains. A step is one of adversarial training of
small_resnet, 7 attack steps; "strong" has 64 images in all, "weak" 32 a device.
Beside them what a run of several processes does besides: placing an array of
147 MB (CIFAR-10's) on all devices, agreeing on a signal, and the time for which
a save of ResNet-50's state holds up training.

Layouts take turns, each in new processes; medians over the rounds.

Command: python -m benchmarks.scaling
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks import common, pieces
from robust_features import attacks, models, train
from robust_features.data import streaming
from robust_features.runtime import processes, sharding
from robust_features.runtime.checkpoint import Checkpoints

LAYOUTS = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1))
SHAPE = (32, 32, 3)
STRONG, WEAK = 64, 32
PLACED_BYTES = 147_000_000


def _step_seconds(batch: int, num_steps: int, repeats: int) -> float:
  """Returns the median seconds of a training step of a global batch."""
  model = models.make_model(models.ModelConfig("small_resnet"))
  cfg = pieces.recipe(batch, attacks.AttackConfig("l2", 0.5, 0.1, 7))
  key, images = jax.random.key(0), np.zeros((512, *SHAPE), np.uint8)
  steps = len(images) // batch
  state = sharding.replicate(train._init_state(model, cfg, steps, SHAPE, key))
  given = sharding.replicate(
    streaming.Resident(
      images, np.zeros(512, np.int32), np.arange(512, dtype=np.int32),
      np.int32(0),
    )
  )  # fmt: skip
  keys = sharding.replicate((key, key))
  seconds = []
  for _ in range(repeats + 1):
    begin = time.perf_counter()
    state, _ = train._train_chunk(
      state, given, keys, num_steps, model=model, cfg=cfg,
      steps_per_epoch=steps,
    )  # fmt: skip
    jax.block_until_ready(state)
    seconds.append((time.perf_counter() - begin) / num_steps)
    state = state._replace(step=sharding.replicate(np.int32(0)))
  return statistics.median(seconds[1:])


def _place_seconds() -> float:
  """Returns the seconds of placing an array on every device."""
  array = np.ones(PLACED_BYTES, np.uint8)
  processes.wait("place")
  begin = time.perf_counter()
  jax.block_until_ready(sharding.replicate(array))
  return time.perf_counter() - begin


def _agree_seconds(times: int = 50) -> float:
  """Returns the seconds of agreeing on a number."""
  processes.agree(0)
  begin = time.perf_counter()
  for _ in range(times):
    processes.agree(0)
  return (time.perf_counter() - begin) / times


def _save_seconds(workdir: pathlib.Path) -> float:
  """Returns the seconds for which a save of ResNet-50's state blocks."""
  model = models.make_model(models.ModelConfig("resnet50"))
  state = train._init_state(
    model, pieces.recipe(64), 1, SHAPE, jax.random.key(0)
  )
  state = sharding.replicate(
    {k: v for k, v in state._asdict().items() if v is not None}
  )
  seconds = []
  with Checkpoints(workdir) as checkpoints:
    for step in range(3):
      begin = time.perf_counter()
      checkpoints.save(step, state, {})
      seconds.append(time.perf_counter() - begin)
      checkpoints.wait()
  return statistics.median(seconds[1:])


def measure(args: argparse.Namespace) -> dict[str, float]:
  """Returns one process's measurements, after it met the others."""
  if args.num_processes > 1:
    processes.join(args.coordinator, args.num_processes, args.process_id)
  num_devices = jax.device_count()
  return {
    "strong": _step_seconds(STRONG, args.steps, 3),
    "weak": _step_seconds(WEAK * num_devices, args.steps, 3),
    "place": _place_seconds(),
    "agree": _agree_seconds(),
    "save": _save_seconds(pathlib.Path(args.workdir)),
  }


def run(layout: tuple[int, int], steps: int) -> dict[str, float]:
  """Returns a layout's measurements, of its slowest process.

  Raises:
    RuntimeError: If a process fails.
  """
  num_processes, num_devices = layout
  port = common.free_port()
  environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)}
  with tempfile.TemporaryDirectory() as workdir:
    started = [
      subprocess.Popen(
        [
          sys.executable, "-m", "benchmarks.scaling", "--child",
          f"--steps={steps}", f"--workdir={workdir}/checkpoints",
          f"--num_processes={num_processes}", f"--process_id={i}",
          f"--coordinator=127.0.0.1:{port}",
        ],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(num_processes)
    ]  # fmt: skip
    said = [process.communicate() for process in started]
  found = []
  for process, (out, error) in zip(started, said, strict=True):
    if process.returncode:
      raise RuntimeError(f"{layout}: {error[-2000:]}")
    found.append(json.loads(out.splitlines()[-1]))
  return {key: max(one[key] for one in found) for key in found[0]}


def main(argv: list[str] | None = None) -> None:
  """Prints the table, or is one of a layout's processes."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=2, help="a timed call")
  parser.add_argument("--loaded", action="store_true", help="others run too")
  for name in ("--child", "--coordinator", "--num_processes", "--process_id",
               "--workdir"):  # fmt: skip
    kind = {"action": "store_true"} if name == "--child" else {
      "type": int if name in ("--num_processes", "--process_id") else str
    }  # fmt: skip
    parser.add_argument(name, help=argparse.SUPPRESS, **kind)
  args = parser.parse_args(argv)
  if args.child:
    print(json.dumps(measure(args)))
    return
  print("\n".join(common.machine()), flush=True)
  foreign = common.Foreign()
  found: dict[tuple[int, int], list[dict]] = {key: [] for key in LAYOUTS}
  for _ in range(args.rounds):
    for layout in LAYOUTS:
      found[layout].append(run(layout, args.steps))
  if not args.loaded:
    foreign.require_quiet()

  def median(layout, name):
    return statistics.median(one[name] for one in found[layout])

  def against_one(layout, name, work):
    ratios = [
      work * one[name] / this[name]
      for one, this in zip(found[1, 1], found[layout], strict=True)
    ]
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

  rows = [
    [
      "processes x devices", "strong, images/s", "over one device",
      "weak, images/s", "over one device", "placing 147 MB", "agreeing",
      "of a step", "a save blocks",
    ]
  ]  # fmt: skip
  for layout in LAYOUTS:
    count = layout[0] * layout[1]
    rows.append(
      [
        f"{layout[0]} x {layout[1]}",
        f"{STRONG / median(layout, 'strong'):.0f}",
        against_one(layout, "strong", 1),
        f"{WEAK * count / median(layout, 'weak'):.0f}",
        against_one(layout, "weak", count),
        f"{median(layout, 'place'):.2f} s",
        f"{median(layout, 'agree') * 1e3:.2f} ms",
        f"{median(layout, 'agree') / median(layout, 'strong'):.2%}",
        f"{median(layout, 'save'):.2f} s",
      ]
    )
  print(f"\n{common.table(rows)}")


if __name__ == "__main__":
  main()
