"""Reading photographs: ours beside plain Pillow in as many processes.

Both decode JPEG files, take a random crop (torchvision's RandomResizedCrop) to
224 x 224 and flip half of them. Ours reads through `streaming.TrainFeed`, in
grain's threads, and puts batches on the device, where training flips; plain
Pillow is a loop in each of as many processes as there are cores, whose images
go nowhere. Rounds alternate. The images come as they are and enlarged to
ImageNet's size, short side 375.

Then a training step is simulated that takes 1.25 times the reading of its
batch: how much of the time is waiting for input.

Command: python -m benchmarks.reader --images=FOLDER
  FOLDER holds .jpg or .jpeg files, at any depth.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np
import PIL.Image
from absl import app, flags

from benchmarks import common
from robust_features.data import lazy, sources, streaming

_IMAGES = flags.DEFINE_string("images", "", "Folder of JPEG files.")
_NUM = flags.DEFINE_integer("num", 960, "Images a round.")
_BATCH = flags.DEFINE_integer("batch", 64, "Of ours.")
_LOADED = flags.DEFINE_bool("loaded", False, "Whether others may run as well.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed.")

SIZE, SHORT_SIDE, QUALITY, LEAST = 224, 375, 88, 0.08


def enlarged(image: PIL.Image.Image) -> PIL.Image.Image:
  """Returns an image whose shorter side is `SHORT_SIDE`."""
  scale = SHORT_SIDE / min(image.size)
  return image.resize([round(side * scale) for side in image.size])


def write(
  paths: list[pathlib.Path], folder: pathlib.Path, large: bool
) -> list[pathlib.Path]:
  """Writes two classes of photographs; returns the training set's files."""
  for i, path in enumerate(paths):
    split = "train" if i >= 2 else "test"
    to = folder / split / "ab"[i % 2] / f"{i:05}.jpeg"
    to.parent.mkdir(parents=True, exist_ok=True)
    if large:
      enlarged(PIL.Image.open(path).convert("RGB")).save(to, quality=QUALITY)
    else:
      to.symlink_to(path.absolute())
  return sorted((folder / "train").rglob("*.jpeg"))


def plain(paths: list[pathlib.Path]) -> int:
  """Decodes, crops and flips files with Pillow; returns how many."""
  for i, path in enumerate(paths):
    image = PIL.Image.open(path).convert("RGB")
    rng = np.random.default_rng((0, i))
    top, left, height, width = lazy.random_box(
      rng, image.size[1], image.size[0], LEAST
    )
    box = (left, top, left + width, top + height)
    found = image.crop(box).resize((SIZE, SIZE), PIL.Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
      found = found.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    np.asarray(found)
  return len(paths)


def feed(folder: pathlib.Path) -> tuple[lazy.Images, np.ndarray]:
  """Returns the training set's images, unread, and its labels."""
  splits = sources.load(
    sources.DataConfig(
      "image_folder", data_dir=str(folder), image_size=SIZE, streamed=True
    )
  )
  return splits.train.images, splits.train.labels


def ours(images, labels, num: int, step_seconds: float = 0.0) -> float:
  """Reads `num` images in batches; returns the share of time spent waiting.

  The wait for the first batch, which nothing could be done before, is left out.
  """
  watch = streaming.Watch()
  batches = streaming.TrainFeed(
    images, labels, _BATCH.value, 1, LEAST, (0, 0), watch
  )
  order = np.arange(num) % len(images)
  begin = first = None
  for _, streamed in batches.chunks(order, 0, 0, num // _BATCH.value):
    jax.block_until_ready(streamed.images)
    if begin is None:
      begin, first = time.perf_counter(), watch.seconds
    time.sleep(step_seconds)
  return (watch.seconds - first) / (time.perf_counter() - begin)


def row(name: str, paths, large: bool, pool, meter) -> list[str]:
  """Returns the cells of one kind of files."""

  def now() -> np.ndarray:
    return np.array([time.perf_counter(), meter.own_seconds()])

  with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(made)
    files = write(paths, folder, large)
    files = [files[i % len(files)] for i in range(_NUM.value)]
    workers = len(meter.children)
    parts = [files[i::workers] for i in range(workers)]
    images, labels = feed(folder)
    contenders = {
      "plain": lambda: list(pool.map(plain, parts)),
      "ours": lambda: ours(images, labels, _NUM.value),
    }
    taken: dict[str, list] = {key: [] for key in contenders}
    for run in contenders.values():
      run()  # Untimed: what a first call opens.
    for turn in range(_ROUNDS.value):
      for key in list(contenders)[:: 1 if turn % 2 else -1]:
        before = now()
        contenders[key]()
        taken[key].append(now() - before)
    wall = [
      p[0] / o[0] for p, o in zip(taken["plain"], taken["ours"], strict=True)
    ]
    cpu = [
      o[1] / p[1] for p, o in zip(taken["plain"], taken["ours"], strict=True)
    ]
    batch = statistics.median(t[0] for t in taken["ours"]) * _BATCH.value
    waiting = ours(images, labels, _NUM.value, 1.25 * batch / _NUM.value)

  def rate(key: str) -> str:
    return f"{_NUM.value / statistics.median(t[0] for t in taken[key]):.0f}"

  def spread(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}x ({min(values):.2f} to {max(values):.2f})"

  return [
    name, rate("plain"), rate("ours"), spread(wall), spread(cpu),
    f"{waiting:.1%}",
  ]  # fmt: skip


def main(argv: list[str]) -> None:
  """Prints the table."""
  paths = sorted(
    path
    for path in pathlib.Path(_IMAGES.value).rglob("*")
    if path.suffix.lower() in (".jpg", ".jpeg")
  )
  if len(argv) > 1 or not _IMAGES.value or len(paths) < 4:
    sys.exit("error: --images must name a folder of JPEG files")
  print("\n".join(common.machine(("grain", "pillow"))))
  rows = [
    [
      "files", "Pillow images/s", "ours images/s", "ours over Pillow",
      "processor time, ours over Pillow", "waiting",
    ]
  ]  # fmt: skip
  workers = len(os.sched_getaffinity(0))
  with concurrent.futures.ProcessPoolExecutor(
    workers, multiprocessing.get_context("spawn")
  ) as pool:
    list(pool.map(plain, [[]] * workers * 4))
    meter = common.Foreign(
      [process.pid for process in multiprocessing.active_children()]
    )
    rows.append(row("as they are", paths, False, pool, meter))
    rows.append(row(f"short side {SHORT_SIDE}", paths, True, pool, meter))
    if not _LOADED.value:
      meter.require_quiet()
  print(common.table(rows))


if __name__ == "__main__":
  app.run(main)
