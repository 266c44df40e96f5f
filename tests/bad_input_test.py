"""Bad input, of every kind that a user can give, ends in one line.

Every field of a study is given what it cannot mean; so are the files and the
command line. The line names the field or file, nothing is written and no stage
runs. In one process, through `main`'s own functions.
"""

import dataclasses
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import toy_study
from absl import flags
from absl.testing import absltest, flagsaver, parameterized

from robust_features import main, recipes
from robust_features.runtime import preemption
from robust_features.study import settings
from robust_features.study.kinds import KINDS

# Fields that take any text, or none.
FREE = {
  "name": ("nonsense",),
  "stages.eval_base.title": ("nonsense", ""),
  "stages.eval_on_d_rand.title": ("nonsense", ""),
  "stages.eval_base.control_of": ("",),
  "stages.eval_on_d_rand.control_of": ("",),
  "stages.eval_base.paper": ("",),
  "stages.eval_on_d_rand.paper": ("",),
  "stages.d_rand.construct.kind": ("nonsense",),
  "stages.d_rand.teacher": ("",),
  "stages.d_rand.spared_by": ("",),
  # Numbers that may be negative or without a limit.
  "run.checkpoint_every_seconds": ("inf",),
  "stages.d_rand.construct.attack.eps": ("inf",),
  "stages.d_rand.construct.repel_weight": ("-1",),
}
FREE |= {
  f"stages.{stage}.{field}": ("",)
  for stage in ("base", "on_d_rand")
  for field in ("init_from", "teacher")
}
FREE |= {
  f"stages.{stage}.label_shift": ("-1",)
  for stage in ("eval_base", "eval_on_d_rand", "sweep")
}


def wrong_values(value):
  """Returns texts that cannot stand where a value does."""
  if isinstance(value, bool):
    return ("maybe",)
  if isinstance(value, (int, float)):
    return ("abc", "", "-1", "nan", "inf", "8/0")
  if isinstance(value, str):
    return ("nonsense", "")
  return ("(nan,)", "(0.5, x)") if value and value[0] != "eval_base" else ()


def every_field():
  """Yields (field, text) over all fields of a study."""
  for field, value in settings.flatten(toy_study.config("folder")).items():
    for text in wrong_values(value):
      if text not in FREE.get(field, ()):
        yield field, text


def unknown_fields():
  """Yields one misspelled field of every section."""
  seen = set()
  for field in settings.flatten(toy_study.config("folder")):
    section, _, last = field.rpartition(".")
    if section not in seen:
      seen.add(section)
      yield f"{section}.{last}s".strip(".")


FIELDS = tuple(every_field())
UNKNOWN = tuple(unknown_fields())
S = "stages."
# (fields, pattern): each right by itself, wrong together or with the data.
TOGETHER = (
  ({"seed": "4294967296"}, r"seed must be an integer in \[0, 2\*\*32\)"),
  ({"seed": "1099511627776"}, "seed must be"),
  ({"table": "eval_bas"}, "table names 'eval_bas', which is no row; there are"),
  ({"table": "base"}, "table names 'base'"),
  ({f"{S}base.data": "d_rand"}, "needs itself"),
  ({f"{S}base.train.batch_size": "33"}, "base.train.batch_size is 33, more th"),
  ({f"{S}base.train.momentum": "1"}, "momentum must be below 1"),
  ({f"{S}base.train.momentum": "2"}, "momentum must be below 1"),
  ({f"{S}base.train.ema_decay": "1"}, "base.train.ema_decay must be below 1"),
  ({f"{S}base.train.nesterov": "True", f"{S}base.train.momentum": "0"},
   "base.train.momentum must be above 0 with nesterov"),
  ({f"{S}base.train.distil_weight": "0.5"},
   "base.teacher must name a stage where train.distil_weight is above 0"),
  ({f"{S}on_d_rand.teacher": "base"},
   "on_d_rand.teacher must name a stage where train.distil_weight is above 0"),
  ({f"{S}base.init_from": "on_d_rand"}, "needs itself"),
  ({f"{S}base.train.trades_beta": "6"},
   "base.train.adversary.eps must be above 0 with trades_beta"),
  ({f"{S}base.train.trades_beta": "6", f"{S}base.train.adversary.eps": "0.5",
    f"{S}base.train.adversary.num_steps": "1",
    f"{S}base.train.adversary.step_size": "1"},
   "base.train.adversary.start must be 'random' with trades_beta"),
  ({f"{S}base.train.augment.pad": "8"}, "base.train.augment.pad must be less"),
  ({f"{S}base.train.augment.pad": "100"}, "augment.pad must be less than the"),
  ({f"{S}base.train.augment.jitter": "2"}, "jitter must be a number in"),
  ({f"{S}base.train.augment.rotate": "181"}, "rotate must be a number in"),
  ({f"{S}base.train.adversary.eps": "0.5"},
   "base.train.adversary.num_steps must be at least 1"),
  ({f"{S}base.train.adversary.eps": "0.5",
    f"{S}base.train.adversary.num_steps": "1"},
   "base.train.adversary.step_size must be above 0"),
  ({f"{S}d_rand.construct.attack.eps": "0"},
   "d_rand.construct.attack.eps must be above 0 for objective 'target'"),
  ({f"{S}d_rand.construct.attack.num_steps": "0"},
   "d_rand.construct.attack.num_steps must be at least 1"),
  ({f"{S}d_rand.construct.attack.step_size": "0"},
   "d_rand.construct.attack.step_size must be above 0"),
  ({f"{S}eval_base.evaluate.num_steps": "0"},
   "eval_base.evaluate.num_steps must be above 0, or nothing is attacked"),
  ({f"{S}eval_base.evaluate.step_ratio": "0"},
   "eval_base.evaluate.step_ratio must be above 0, or nothing is attacked"),
  ({f"{S}base.train.adversary.eps": "8",
    f"{S}base.train.adversary.norm": "linf",
    f"{S}base.train.adversary.num_steps": "1"}, "write 8/255"),
  ({f"{S}base.train.adversary.eps": "80",
    f"{S}base.train.adversary.num_steps": "1",
    f"{S}base.train.adversary.step_size": "1"}, "write 80/255"),
  ({f"{S}eval_base.evaluate.eps": "(0.5, 80)"}, "eval_base.evaluate.eps is 80"),
  ({f"{S}eval_base.evaluate.eps": "8", f"{S}eval_base.evaluate.norm": "linf"},
   "eval_base.evaluate.eps must be at most 1 for linf, got 8"),
  ({f"{S}sweep.evaluate.eps": "()"}, "sweep.evaluate.eps must hold a radius"),
  ({f"{S}sweep.steps": "()"}, "sweep.steps must be"),
  ({f"{S}sweep.steps": "(0, -1)"}, "sweep.steps must be"),
  ({f"{S}sweep.step_ratios": "inf"}, "sweep.step_ratios must be finite"),
  ({f"{S}base": "1"}, "stages.base is a section; give one of its fields"),
  ({f"{S}base.train.learning_rate.x": "1"}, "learning_rate is no section"),
  ({"models.main.std": "0"}, "models.main.std must be positive"),
  ({"models.main.mean": "(0.5, 0.5)"}, "models.main.mean"),
  ({"models.main.num_classes": "1"}, "num_classes must be an integer of at"),
  ({"data.D.data_dir": "gs://b/x"}, "error: data.D: data_dir must be .* mount"),
  ({"data.D.test_fraction": "0.5"}, "test_fraction must be 0 for data that"),
  ({"data.D.test_fraction": "1"}, r"test_fraction must be in \[0, 1\)"),
  ({"name": "../elsewhere"}, "name must be letters"),
  ({"name": "a/b"}, "name must be letters"),
)  # fmt: skip
# (name, text, pattern): config files.
CONFIGS = (
  ("a.md", "# Title", "a.md"),
  ("a.py", "def get_config(:\n", "a.py, line 1: "),
  ("a.py", "x = [1,\n", "a.py, line 1: "),
  ("a.py", "x = 1\n  y = 2", "a.py, line 2: "),
  ("a.py", "import nowhere_to_be_found\n", "line 1: ModuleNotFoundError"),
  ("a.py", "from robust_features import nothing\n", "line 1: ImportError"),
  ("a.py", "1 / 0\n", "line 1: ZeroDivisionError"),
  ("a.py", "", "defines no get_config"),
  ("a.py", "get_config = 3\n", "TypeError"),
  ("a.py", "def get_config(variant=''):\n  return None\n", "got None"),
  ("a.py", "def get_config(variant=''):\n  return {}\n", "got {}"),
  ("a.py", "def get_config(variant=''):\n  raise ValueError('no')\n",
   "line 2: no"),
  ("a.py", "def get_config(variant=''):\n  raise SystemError('no')\n",
   "line 2: SystemError: no"),
  ("a.py", "from ml_collections import ConfigDict\n"
   "def get_config(variant=''):\n  return ConfigDict({})\n",
   "the config has no field name; begin it with recipes.study"),
  ("a.py", "from robust_features import recipes\n"
   "def get_config(variant=''):\n  return recipes.study('a')\n",
   "stages is empty"),
  ("a.py", "from robust_features import recipes\n"
   "def get_config(variant=''):\n  c = recipes.study('a')\n"
   "  c.extra = 1\n  return c\n", "field extra, which nothing reads"),
  ("a.py", "from robust_features import recipes\n"
   "def get_config(variant=''):\n  return recipes.train(num_epoch=1)\n",
   "line 3: num_epoch is not one of"),
)  # fmt: skip


class BadInputTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    cls.data = cls.folder / "data"
    cls.data.mkdir()
    toy_study.write_npz(cls.data)
    cls.config = cls.write("toy.py", (
      "import toy_study\n"
      f"def get_config():\n  return toy_study.config({str(cls.data)!r})\n"
    ))  # fmt: skip
    cls.workdir = cls.folder / "run"
    runs = {
      name: dataclasses.replace(
        kind, run=mock.Mock(side_effect=AssertionError(f"{name} runs"))
      )
      for name, kind in KINDS.items()
    }
    cls.enterClassContext(mock.patch.dict(KINDS, runs))
    cls.enterClassContext(mock.patch.object(preemption, "install"))

  @classmethod
  def write(cls, name, text):
    path = cls.folder / name
    path.write_text(text)
    return path

  def refusal(self, fields=(), config=None, **others):
    """Returns the one line that main ends with; nothing may be written."""
    others = {"workdir": str(self.workdir), "compilation_cache": ""} | others
    # Or what one case leaves would be what the next one finds.
    self.addCleanup(shutil.rmtree, self.workdir, ignore_errors=True)
    before = sorted(self.folder.rglob("*"))
    with (
      flagsaver.flagsaver(config=str(config or self.config), **others),
      self.assertRaises(SystemExit) as caught,
    ):
      main.main(dict(fields), ["main"])
    line = caught.exception.code
    self.assertRegex(line, r"^error: \S.{10,}$")
    self.assertNotIn("Traceback", line)
    self.assertNotIn("\\", line)
    after = [p for p in self.folder.rglob("*") if "__pycache__" not in p.parts]
    self.assertEqual(sorted(after), before)
    return line

  @parameterized.parameters(*FIELDS)
  def test_a_field_that_cannot_be(self, field, text):
    line = self.refusal({field: text})
    # A class names its own field; the study says which section that is of.
    if field == "table":
      self.assertIn("table names", line)
    elif field.endswith("data_dir") or field.endswith("data.D.name"):
      self.assertRegex(line, "data_dir|name")
    else:
      self.assertIn(field, line)

  @parameterized.parameters(*UNKNOWN)
  def test_a_field_that_is_not_there(self, field):
    line = self.refusal({field: "1"})
    self.assertIn(f"the config has no field {field};", line)
    self.assertIn("did you mean", line)

  @parameterized.parameters(*TOGETHER)
  def test_fields_that_do_not_go_together(self, fields, pattern):
    self.assertRegex(self.refusal(fields), pattern)

  @parameterized.parameters(*CONFIGS)
  def test_a_config_file(self, name, text, pattern):
    path = self.write(name, text)
    self.addCleanup(path.unlink)
    self.assertRegex(self.refusal(config=path), pattern)

  @parameterized.parameters(
    ({"config": "nowhere.py"}, "'nowhere.py' does not exist;.*quickstart"),
    ({"config": "quikstart"}, "'quikstart' does not exist;.*quickstart"),
    ({"config": "~no_one_at_all/x.py"}, "--config begins with .*, got '~no_on"),
    ({"config": "configs"}, "'configs' (is a folder|does not exist)"),
    ({"config": "quickstart:tiny"}, "unknown variant 'tiny'; there is 'smoke'"),
    ({"only": "bas"}, "--only must be one of .*'base'.*got 'bas'"),
    ({"only": "bas", "dry_run": True}, "--only must be one of .*got 'bas'"),
    ({"only": "bas", "status": True}, "--only must be one of .*got 'bas'"),
    ({"reuse": "runs", "dry_run": True}, "--reuse takes stages where .* runs"),
    ({"reuse": "runs", "status": True}, "--reuse takes stages where .* runs"),
    ({"workdir": "gs://bucket/run"}, "mount the bucket"),
    ({"reuse": __file__}, "--reuse=.* is a file; give a folder"),
    ({"compilation_cache": "gs://b"}, "--compilation_cache must be .*mount"),
    ({"workdir": "/proc/nowhere"}, "nothing can be written to /proc/nowhere"),
    ({"workdir": __file__}, "is a file; give a folder"),
    ({"coordinator": "host:1"}, "--coordinator, --num_processes and --process"),
  )  # fmt: skip
  def test_the_command_line(self, others, pattern):
    self.assertRegex(self.refusal(**others), pattern)

  def test_no_config(self):
    with (
      flagsaver.flagsaver(config=None),
      self.assertRaisesRegex(SystemExit, "--config is missing.*list_configs"),
    ):
      main.main({}, ["main"])

  @parameterized.parameters("--wrokdir=x", "--only", "--config")
  def test_an_unknown_flag(self, argument):
    with self.assertRaisesRegex(
      SystemExit, "^error: .*" + argument.strip("-").split("=")[0]
    ):
      main._parse(["main", argument])
    flags.FLAGS.mark_as_parsed()

  def test_too_little_memory_for_the_data(self):
    error = MemoryError("Unable to allocate 9 TiB")
    with mock.patch("robust_features.data.sources.load", side_effect=error):
      line = self.refusal()
    self.assertEqual(
      line,
      "error: the study needs more memory than there is (Unable to allocate 9 "
      "TiB); set data.NAME.streamed to True for a large set, which then stays "
      "on the disk",
    )

  def test_an_argument_too_many(self):
    with self.assertRaisesRegex(SystemExit, "unknown argument 'more'"):
      main.main({}, ["main", "more"])

  def test_a_reader_that_wants_only_some(self):
    with (
      mock.patch("builtins.print", side_effect=BrokenPipeError),
      mock.patch.object(main.os, "dup2") as closed,
      flagsaver.flagsaver(list_configs=True),
    ):
      main.main({}, ["main"])
    closed.assert_called_once()

  def test_a_device_that_is_not_there(self):
    for error in (RuntimeError("Unable to initialize"), AssertionError()):
      with mock.patch("jax.devices", side_effect=error):
        line = self.refusal()
      self.assertRegex(line, "finds no device for JAX_PLATFORMS=.*unset it")

  def damaged(self, damage):
    """Returns what is said of a damaged npz file."""
    path = self.data / "toy.npz"
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    try:
      damage(path, arrays)
      return self.refusal()
    finally:
      path.write_bytes(whole)

  @parameterized.parameters(
    ("cut", lambda path, arrays: path.write_bytes(path.read_bytes()[:200])),
    ("empty", lambda path, arrays: path.write_bytes(b"")),
    ("html", lambda path, arrays: path.write_text("<html>")),
    ("no labels", lambda path, arrays: save(path, arrays, train_labels=None)),
    ("no images", lambda path, arrays: save(path, arrays, test_images=None)),
    ("fewer labels",
     lambda path, a: save(path, a, train_labels=a["train_labels"][:-1])),
    ("one-hot", lambda path, a: save(
      path, a, train_labels=np.eye(3)[a["train_labels"]])),
    ("negative labels",
     lambda path, a: save(path, a, train_labels=a["train_labels"] - 1)),
    ("fractional labels",
     lambda path, a: save(path, a, train_labels=a["train_labels"] + 0.5)),
    ("words", lambda path, a: save(
      path, a, train_labels=a["train_labels"].astype(str))),
    ("0 to 255 as floats", lambda path, a: save(
      path, a, train_images=a["train_images"].astype(np.float32))),
    ("nan", lambda path, a: save(
      path, a, train_images=np.full(a["train_images"].shape, np.nan))),
    ("flat", lambda path, a: save(
      path, a, train_images=a["train_images"].reshape(40, -1))),
    ("channels first", lambda path, a: save(
      path, a, train_images=a["train_images"].transpose(0, 3, 1, 2))),
    ("other sizes", lambda path, a: save(
      path, a, test_images=a["test_images"][:, :4])),
    ("pickled", lambda path, a: save(
      path, a, train_images=np.array([{}] * 40, object))),
    ("no examples", lambda path, a: save(
      path, a, train_images=a["train_images"][:0],
      train_labels=a["train_labels"][:0])),
  )  # fmt: skip
  def test_a_damaged_npz(self, what, damage):
    del what
    self.assertRegex(self.damaged(damage), "toy.npz|data.D|images|labels")

  def test_there_are_many(self):
    number = len(FIELDS) + len(UNKNOWN) + len(TOGETHER) + len(CONFIGS)
    self.assertGreater(number, 150)


def save(path, arrays, **changes):
  """Writes arrays with some changed, or left out."""
  arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
  np.savez(path, **arrays)


class GoodInputTest(absltest.TestCase):
  def test_the_toy_study_itself_is_accepted(self):
    """Or nothing above would mean anything."""
    folder = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, folder)
    toy_study.write_npz(folder)
    from robust_features.study import graph, outlook, parse

    plan = parse.parse(toy_study.config(folder))
    study = graph.Study(plan, folder / "run")
    study.preflight(outlook.order(plan))
    self.assertFalse((folder / "run").exists())

  def test_every_shipped_config_is_parsed(self):
    from robust_features.recipes import config_file
    from robust_features.study import parse

    for name in config_file.shipped():
      parse.parse(config_file.load(name))
      self.assertEqual(recipes.study(name).name, name)


if __name__ == "__main__":
  absltest.main()
