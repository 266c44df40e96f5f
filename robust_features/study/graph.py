"""A study: named stages as a graph, each run once, each resumable.

A stage refers to others, to data sources and to architectures by name. Every
stage owns a folder of the workdir:

  config.json      every field that its result depends on, its ancestors' too
  inputs.json      the digests of what it works on: sources, models, sets
  result.json      what it found; written last, so its presence means "done"
  provenance.json  what found it: commit, versions, devices, flags, time

A finished stage is skipped. A folder that holds work of another config, or on
other inputs, is never touched: the run stops and says what differs. What a
stage does is a kind's, one file each of `study.kinds`.
"""

import dataclasses
import functools
import pathlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from robust_features import attacks, models, train, trained
from robust_features.data import dataset as ds
from robust_features.data import sources
from robust_features.runtime import files
from robust_features.study import folder, provenance, settings
from robust_features.study.report import tables

# What gives a source images that it lacks.
_MORE = {
  "train": "name a source that has some",
  "validation": "set its num_validation",
  "test": "set its test_fraction, or name a source that has some",
}
Result = dict[str, Any]


def _nothing(*unused) -> list[Any]:
  del unused
  return []


class Work(NamedTuple):
  """What a stage computes at most, in evaluations of a network on one image.

  Attributes:
    images: Images that it goes through.
    gradients: In an image or in the parameters.
    passes: Everything in forward passes: two a gradient in an image, three a
      gradient in the parameters.
  """

  images: float = 0.0
  gradients: float = 0.0
  passes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Kind:
  """What a kind of stage says of itself, one file of `study.kinds` each.

  Attributes:
    stage: Frozen dataclass of the stage's fields. Those that are dataclasses
      are sections of the config; marks of `settings` tell what others mean.
    run: `(study, name, stage, directory)` -> what goes into `result.json`.
    section: Where `results.json` keeps the results of this kind, by stage.
    heading: Of the kind in the report; by default its name.
    claim: What such stages show, in one sentence of the report.
    caption: What their figures show, in one sentence; also read out to those
      who cannot see them.
    is_row: Whether the config's `table` may name such a stage.
    open: For kinds that make a model: `(study, name, stage, which)` -> it.
      Their result has a "digest" and, if it differs by `which`, a
      "best_digest".
    load: For kinds that make a data set: `(study, name, stage)` -> it. Their
      result has a "sha256".
    check: `(plan, name, stage)`: raises ValueError where fields do not fit
      together.
    preflight: `(study, name, stage)`: raises ValueError where a file that the
      stage wants is missing or damaged, or its fields do not fit the data,
      before any work is done.
    radii: `(stage)` -> (field, attack's settings) whose radii must be in the
      images' box.
    present: `(study, name, stage)` -> the result as `results.json` shows it.
    report: `({stage: result})` -> sections of `results.md`; printed as well
      unless the kind makes models or data sets.
    failed: `({stage: result})` -> what was to hold and does not; makes the run
      fail once everything has been written.
    draw: `({stage: result}, workdir)` -> the figures' files.
    shrink: Makes a stage's `ConfigDict` a matter of seconds, for `:smoke`.
    work: `(stage, num_images)` -> what it costs at most; `num_images` tells the
      size of a (data, split).
    network: `(plan, stage)` -> the architecture that it makes; other kinds use
      that of the first model they name.
    how_far: `(directory)` -> what an interrupted stage goes on from, in words;
      empty if there is nothing yet.
  """

  stage: type
  run: Callable[["Study", str, Any, pathlib.Path], Result]
  section: str
  heading: str = ""
  claim: str = ""
  caption: str = ""
  is_row: bool = False
  open: Callable[["Study", str, Any, str], trained.Trained] | None = None
  load: Callable[["Study", str, Any], ds.Dataset] | None = None
  check: Callable[["Plan", str, Any], Any] = _nothing
  preflight: Callable[["Study", str, Any], Any] = _nothing
  radii: Callable[[Any], list[tuple[str, Any]]] = _nothing
  present: Callable[["Study", str, Any], Result] = lambda study, name, stage: (
    study.require(name)
  )
  report: Callable[[dict[str, Result]], Sequence[tables.Section]] = _nothing
  failed: Callable[[dict[str, Result]], list[str]] = _nothing
  draw: Callable[[dict[str, Result], pathlib.Path], list[pathlib.Path]] = (
    _nothing
  )
  shrink: Callable[[Any], Any] = _nothing
  work: Callable[[Any, Callable[[str, str], int]], Work] = (
    lambda stage, num_images: Work()
  )
  network: Callable[["Plan", Any], models.ModelConfig] | None = None
  how_far: Callable[[pathlib.Path], str] = lambda directory: (
    "begun" if any(directory.glob("parts/*")) else ""
  )

  def makes(self) -> str:
    """Returns what other stages may name it as: "model", "set" or ""."""
    return "model" if self.open else "set" if self.load else ""


class Node(NamedTuple):
  """One stage of a plan.

  Attributes:
    kind: What it does.
    stage: Its typed fields, of `kind.stage`.
    parents: The stages that it names.
    sources: The data sources that it names.
  """

  kind: Kind
  stage: Any
  parents: tuple[str, ...]
  sources: tuple[str, ...]


class Plan(NamedTuple):
  """A config, parsed: nothing is validated or built again after this.

  Attributes:
    config: As `recipes.study` describes it.
    data: Sources by name.
    models: Architectures by name.
    nodes: Stages by name, in the config's order.
    run: Cadences.
  """

  config: Any
  data: dict[str, sources.DataConfig]
  models: dict[str, models.ModelConfig]
  nodes: dict[str, Node]
  run: train.RunConfig


class Study:
  """Runs the stages of one plan in one workdir.

  Attributes:
    plan: What there is to do.
    workdir: Everything is written below it.
  """

  def __init__(self, plan: Plan, workdir: pathlib.Path):
    self.plan = plan
    self.workdir = workdir
    self._splits: dict[str, ds.Splits] = {}
    self._digests: dict[str, dict[str, Any]] = {}
    self._done: dict[str, Result] = {}
    # A source of many sets is read once; more would fill a device.
    self.open = functools.lru_cache(maxsize=3)(self._open)

  # What a stage is.

  def resolved(self, name: str) -> dict[str, Any]:
    """Returns every config field that a stage's result depends on, flat.

    Where data and imported models lie is no such field; their digests are
    among the stage's inputs.
    """
    config, node = self.plan.config, self.plan.nodes[name]
    hidden = settings.marks(node.kind.stage, settings.Shown)
    own = {k: v for k, v in config.stages[name].items() if k not in hidden}
    flat = {"seed": config.seed} | settings.flatten(own, f"stages.{name}")
    for field, mark in settings.marks(node.kind.stage, settings.Names).items():
      if "architecture" in mark.what:
        chosen = getattr(node.stage, field)
        flat |= settings.flatten(config.models[chosen], f"models.{chosen}")
    for parent in node.parents:
      flat |= self.resolved(parent)
    return {field: _as_json(value) for field, value in flat.items()}

  def inputs(self, name: str) -> dict[str, str]:
    """Returns the digests of what a stage works on, made if need be."""
    node = self.plan.nodes[name]
    found = {}
    for source in node.sources:
      self.splits(source)
      self._record_data(source)
      for split, part in self._digests[source].items():
        found[f"data.{source}.{split}"] = part["sha256"]
    for parent in node.parents:
      result = self.require(parent)
      for field in ("digest", "best_digest", "sha256"):
        if field in result:
          found[f"stages.{parent}.{field}"] = result[field]
    return found

  def key(self, name: str) -> jax.Array:
    """Returns a stage's PRNG key: of the seed and the stage's name."""
    root = jax.random.key(self.plan.config.seed)
    return jax.random.fold_in(root, zlib.crc32(name.encode()))

  # Running.

  def state(self, name: str) -> str:
    """Returns "done", what an interrupted stage goes on from, or ""."""
    directory = self.workdir / name
    if (directory / "result.json").exists():
      return "done"
    return self.plan.nodes[name].kind.how_far(directory)

  def read(self, name: str) -> Result:
    """Returns the result of a stage that is done.

    Raises:
      ValueError: If it is not what the stage wrote.
    """
    directory = self.workdir / name
    result = folder.read(directory, "result.json")
    if folder.read(directory, "provenance.json")[
      "result_sha256"
    ] != folder.sha256(result):
      raise ValueError(
        f"{directory / 'result.json'} is not what the stage wrote; "
        f"{folder.remedy(directory)}"
      )
    return result

  def require(self, name: str) -> Result:
    """Returns a stage's result, running it and its ancestors if need be."""
    if name in self._done:
      return self._done[name]
    kind, stage, _, _ = self.plan.nodes[name]
    directory = self.workdir / name
    state = self.state(name)
    config, inputs = self.resolved(name), self.inputs(name)
    if state:
      folder.check_same(directory, "config.json", config)
      folder.check_same(directory, "inputs.json", inputs)
    if state != "done":
      files.write_json(directory / "config.json", config)
      files.write_json(directory / "inputs.json", inputs)
      start = time.monotonic()
      result = kind.run(self, name, stage, directory)
      made = provenance.provenance() | {
        "result_sha256": folder.sha256(result),
        "sitting_seconds": time.monotonic() - start,
      }
      files.write_json(directory / "provenance.json", made)
      files.write_json(directory / "result.json", result)
    self._done[name] = self.read(name)
    return self._done[name]

  # Data and models by name.

  def splits(self, name: str) -> ds.Splits:
    """Returns a named source's splits, the same that the workdir began with."""
    if name not in self._splits:
      try:
        found = sources.load(self.plan.data[name])
      except ValueError as error:
        raise ds.DataError(f"data.{name}: {error}") from None
      self._check_data(name, found)
      self._splits[name] = found
    return self._splits[name]

  def _check_data(self, name: str, found: ds.Splits) -> None:
    path = self.workdir / "data" / f"{name}.json"
    here = {
      split: {"sha256": ds.digest(part), "num_examples": part.num_examples}
      for split, part in found._asdict().items()
    }
    if path.exists() and folder.read_mark(path, "splits") != here:
      raise ValueError(
        f"data.{name} holds other images than when {self.workdir} was begun; "
        "bring them back or choose another --workdir"
      )
    self._digests[name] = here

  def _record_data(self, name: str) -> None:
    section = settings.flatten(self.plan.config.data[name])
    section = {k: _as_json(v) for k, v in section.items()}
    files.write_json(
      self.workdir / "data" / f"{name}.json",
      {"splits": self._digests[name], "config": section},
    )

  def dataset(self, name: str, split: str) -> ds.Dataset:
    """Returns a split of a source, or the set that a stage made."""
    if name in self.plan.data:
      part = getattr(self.splits(name), split)
      if not part.num_examples:
        raise ds.DataError(f"data.{name} has no {split} images; {_MORE[split]}")
      return part
    kind, stage, _, _ = self.plan.nodes[name]
    assert_makes(kind, "set")
    self.require(name)
    found = kind.load(self, name, stage)  # pyright: ignore[reportOptionalCall]
    return ds.streamed(found) if self.streamed(name) else found

  def streamed(self, data: str) -> bool:
    """Returns whether images of a source, or of a set made from it, are."""
    if data in self.plan.data:
      return self.plan.data[data].streamed
    return self.streamed(self.plan.nodes[data].stage.data)

  def image_shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape (H, W, C) of the images that a stage works on."""
    data = self.plan.nodes[name].stage.data
    if data in self.plan.data:
      return self.splits(data).train.image_shape  # Of no images, too.
    return self.image_shape(data)

  def num_images(self, data: str, split: str) -> int:
    """Returns how many images a split of a source has, or a stage's set."""
    if data in self.plan.data:
      return getattr(self.splits(data), split).num_examples
    node = self.plan.nodes[data]
    return int(node.kind.work(node.stage, self.num_images).images)

  def num_classes(self, name: str) -> int:
    """Returns the number of classes of a source, or of a set made from one."""
    if name in self.plan.data:
      return self.splits(name).train.num_classes
    return self.num_classes(self.plan.nodes[name].stage.data)

  def _open(self, name: str, which: str = "last") -> trained.Trained:
    """Returns the model that a stage made, its variables on every device."""
    kind, stage, _, _ = self.plan.nodes[name]
    assert_makes(kind, "model")
    self.require(name)
    return kind.open(self, name, stage, which)  # pyright: ignore[reportOptionalCall]

  def model(self, name: str, which: str = "last") -> tuple[models.Model, Any]:
    """Returns (network, variables) of the model that a stage made."""
    found = self.open(name, which)
    return models.make_model(found.config), found.variables

  # Results.

  def preflight(self, names: list[str]) -> None:
    """Finds what only the disk and the data tell, before any work is done.

    Args:
      names: The stages that are to be run or read.

    Raises:
      ValueError: For a file that is missing or damaged, work of another config,
        or fields that do not fit the data, naming them; for a split without
        images.
    """
    for name in names:
      if self.state(name):
        directory = self.workdir / name
        folder.check_same(directory, "config.json", self.resolved(name))
    for name in names:
      node = self.plan.nodes[name]
      node.kind.preflight(self, name, node.stage)
      for field, mark in settings.marks(
        node.kind.stage, settings.PartOf
      ).items():
        for data in (getattr(node.stage, each) for each in mark.of):
          if data in self.plan.data:
            self.dataset(data, getattr(node.stage, field))
    for name in names:
      node = self.plan.nodes[name]
      for field, cfg in node.kind.radii(node.stage):
        radii = cfg.eps if isinstance(cfg.eps, tuple) else (cfg.eps,)
        for eps in radii:
          if eps != float("inf"):
            where = f"stages.{name}.{field}.eps"
            shape = self.image_shape(name)
            attacks.check_radius(where, eps, cfg.norm, shape)

  def results(self, names: list[str]) -> Result:
    """Returns the table's rows and what other stages found, by section.

    Args:
      names: All stages, in the order in which results have them.
    """
    config, nodes = self.plan.config, self.plan.nodes
    whose = {"study": config.name, "seed": config.seed}
    found: Result = {"rows": []}
    for name in names:
      node = nodes[name]
      if not node.kind.is_row:
        shown = node.kind.present(self, name, node.stage) | whose
        found.setdefault(node.kind.section, {})[name] = shown
    for name in config.table:
      node = nodes[name]
      found["rows"].append(node.kind.present(self, name, node.stage) | whose)
    return {
      **whose,
      **found,
      "stages": [self._shown(name) for name in names],
      "data": self._digests,
    }

  def _shown(self, name: str) -> Result:
    """Returns what the report says of a finished stage."""
    result = self.require(name)
    made = folder.read(self.workdir / name, "provenance.json")
    return {
      "name": name,
      "kind": self.plan.config.stages[name].kind,
      "parents": list(self.plan.nodes[name].parents),
      # Those of the last sitting where a stage does not add them up.
      "seconds": result.get("seconds", made["sitting_seconds"]),
      "commit": made["commit"],
      "date": made["date"],
    }


def assert_makes(kind: Kind, what: str) -> None:
  """Raises where a caller takes a stage for what its kind does not make."""
  if kind.makes() != what:
    raise TypeError(f"a stage of {kind.stage.__module__} makes no {what}")


def _as_json(value: Any) -> Any:
  """Returns a value as it comes back from JSON; infinity has no JSON."""
  if isinstance(value, (tuple, list)):
    return [_as_json(v) for v in value]
  return str(value) if value in (float("inf"), -float("inf")) else value
