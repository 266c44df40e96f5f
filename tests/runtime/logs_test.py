"""Scalars survive interruptions; image grids; the clock."""

import io
import itertools
import json
from unittest import mock

import numpy as np
import toys
from absl.testing import absltest

from robust_features.runtime import logs


class LoggerTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = toys.folder(self) / "new" / "run"
    self.path = self.folder / "metrics.jsonl"

  def records(self):
    return [json.loads(line) for line in self.path.read_text().splitlines()]

  def write(self, steps, first_step=0):
    logger = logs.Logger(self.folder, first_step)
    for step in steps:
      logger.scalars(step, {"train/loss": 1 / step})
    logger.close()

  def test_scalars(self):
    self.write([5, 10])
    want = [{"step": 5, "train/loss": 0.2}, {"step": 10, "train/loss": 0.1}]
    self.assertEqual(self.records(), want)
    events = list((self.folder / "tensorboard").iterdir())
    self.assertLen(events, 1)
    self.assertGreater(events[0].stat().st_size, 100)

  def test_a_resumed_run_reads_as_if_nothing_had_happened(self):
    self.write([5, 10, 15])
    self.write([15, 20], first_step=10)
    self.assertEqual([r["step"] for r in self.records()], [5, 10, 15, 20])

  def test_a_run_that_begins_anew_drops_everything(self):
    self.write([5, 10])
    self.write([5], first_step=0)
    self.assertEqual([r["step"] for r in self.records()], [5])

  def test_a_line_that_a_kill_cut_short_is_dropped(self):
    self.write([5, 10])
    with self.path.open("a") as file:
      file.write('{"step": 15, "train/lo')
    self.write([20], first_step=15)
    self.assertEqual([r["step"] for r in self.records()], [5, 10, 20])

  def test_lines_are_dropped_at_once_or_not_at_all(self):
    """By this process alone: the others do not come here."""
    self.write([5, 10])
    with (
      mock.patch("os.replace", side_effect=OSError),
      mock.patch.object(logs.files.processes, "agree") as agree,
      self.assertRaises(OSError),
    ):
      logs.Logger(self.folder, 5)
    agree.assert_not_called()
    self.assertEqual([r["step"] for r in self.records()], [5, 10])

  def test_the_board_is_told_the_step_and_what_of_before_is_void(self):
    with mock.patch.object(logs.board, "writer") as writer:
      logger = logs.Logger(self.folder, 10)
      logger.scalars(15, {"train/loss": 0.5})
      logger.images(20, "grid", np.zeros((1, 1, 3), np.uint8))
      logger.close()
    writer.assert_called_once_with(self.folder / "tensorboard", purge_step=11)
    board = writer.return_value
    board.add_scalar.assert_called_once_with("train/loss", 0.5, 15)
    (name, _, step), how = board.add_image.call_args
    self.assertEqual((name, step, how), ("grid", 20, {"dataformats": "HWC"}))
    board.close.assert_called_once_with()

  def test_without_a_board(self):
    with mock.patch.object(logs.board, "is_installed", return_value=False):
      self.write([5])
      logs.Logger(self.folder, 5).images(5, "grid", np.zeros((1, 1, 3)))
    self.assertEqual([r["step"] for r in self.records()], [5])
    self.assertFalse((self.folder / "tensorboard").exists())

  def test_images(self):
    logger = logs.Logger(self.folder)
    picture = np.random.default_rng(0).integers(256, size=(40, 40, 3))
    logger.images(3, "grid", picture.astype(np.uint8))
    logger.close()
    (event,) = (self.folder / "tensorboard").iterdir()
    self.assertIn(b"\x89PNG", event.read_bytes())

  def test_only_the_first_process_writes(self):
    with mock.patch("jax.process_index", return_value=1):
      self.write([5])
    self.assertFalse(self.folder.exists())


class GridTest(absltest.TestCase):
  def test_rows_under_each_other_with_a_frame(self):
    top = np.zeros((3, 4, 5, 3), np.uint8)
    bottom = np.full((3, 4, 5, 3), 0.5, np.float32)
    found = logs.grid([top, bottom])
    self.assertEqual(found.shape, (2 * 5, 3 * 6, 3))
    self.assertEqual(found.dtype, np.uint8)
    np.testing.assert_array_equal(found[0, :6, 0], [0, 0, 0, 0, 0, 255])
    np.testing.assert_array_equal(
      found[:, 0, 0], [0] * 4 + [255] + [128] * 4 + [255]
    )

  def test_grey_becomes_rgb_and_floats_are_clipped(self):
    levels = np.full((1, 2, 2, 3), 7, np.uint8)
    np.testing.assert_array_equal(logs.grid([levels])[:2, :2], levels[0])
    image = np.array([[-1.0, 2.0]], np.float32).reshape(1, 1, 2, 1)
    found = logs.grid([image])
    np.testing.assert_array_equal(found[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(found[0, 1], [255, 255, 255])


class ClockTest(absltest.TestCase):
  def test_seconds_add_up_over_sittings(self):
    with mock.patch("time.monotonic", side_effect=[100.0, 103.5, 900.0, 901.0]):
      first = logs.Stopwatch().seconds()
      self.assertEqual(first, 3.5)
      self.assertEqual(logs.Stopwatch(first).seconds(), 4.5)

  def test_progress_goes_on_from_where_it_was(self):
    with logs.progress(10, "name", initial=4) as bar:
      bar.update(2)
      self.assertEqual((bar.n, bar.total), (6, 10))

  def lines(self, seconds, isatty=False):
    """Returns what a bar of ten steps, so many seconds each, writes."""
    clock = itertools.count(step=seconds)
    stream = io.StringIO()
    stream.isatty = lambda: isatty
    with (
      mock.patch("sys.stderr", stream),
      mock.patch.object(logs.time, "monotonic", side_effect=clock),
      logs.progress(10, "name", unit="steps") as bar,
    ):
      for _ in range(10):
        bar.update(1)
        bar.set_postfix_str("loss 1.0")
    return stream.getvalue()

  def test_a_file_gets_a_line_a_minute(self):
    self.assertEqual(self.lines(0), "")
    found = self.lines(25)
    self.assertNotIn("\r", found)
    self.assertBetween(len(found.splitlines()), 2, 5)
    self.assertRegex(
      found, r"^name: \d+ of 10 steps, \d\d:\d\d gone, .* left, loss 1.0\n"
    )

  def test_a_terminal_gets_a_bar(self):
    self.assertIn("\r", self.lines(1, isatty=True))

  def test_a_minute_is_not_a_second_less(self):
    """A look at the clock is 20 s later; the first is of the new bar."""
    clock = itertools.count(step=20.0)
    stream = io.StringIO()
    with mock.patch.object(logs.time, "monotonic", side_effect=clock):
      bar = logs._Lines(total=4, desc="name", file=stream)
      bar.display()  # At 40 s.
      self.assertEqual(stream.getvalue(), "")
      bar.display()  # At 60 s, and so told at 80.
      self.assertLen(stream.getvalue().splitlines(), 1)
      bar.display()
      self.assertLen(stream.getvalue().splitlines(), 1)
      for _ in range(4):
        bar.display("a message")
      bar.clear()
      self.assertLen(stream.getvalue().splitlines(), 1)

  def test_bars_and_lines_of_the_first_process_alone(self):
    with mock.patch("jax.process_index", return_value=1):
      self.assertTrue(logs.progress(10, "name").disable)
      with mock.patch.object(logs.tqdm.tqdm, "write") as write:
        logs.say("text")
    write.assert_not_called()
    with mock.patch.object(logs.tqdm.tqdm, "write") as write:
      logs.say("text")
    write.assert_called_once_with("text")
    with logs.progress(10, "name") as bar:
      self.assertFalse(bar.disable)
      self.assertFalse(bar.leave)
      self.assertTrue(bar.dynamic_ncols)
      self.assertEqual((bar.mininterval, bar.unit), (0.5, "it"))

  def test_describe(self):
    found = logs.describe({"train/loss": 1.23456, "train/accuracy": 0.5})
    self.assertEqual(found, "loss 1.235  accuracy 0.5")


if __name__ == "__main__":
  absltest.main()
