"""A study: named stages as a graph, each run once, each resumable.

`config.stages` names them; a stage refers to others, to data sets
(`config.data`) and to architectures (`config.models`) by name. Every stage
owns a folder of the workdir:

  config.json   every field that its result depends on, its ancestors' included
  result.json   what it found; written last, so its presence means "done"

A finished stage is skipped. A folder made under another config is never
touched: the run stops and names the fields that differ. What a stage does is
in `stages`.
"""

import pathlib
import zlib
from typing import Any

import flax.linen as nn
import jax

from robust_features import models, train, trained
from robust_features.data import constructed, sources
from robust_features.data import dataset as ds
from robust_features.runtime import checkpoint, files, sharding
from robust_features.study import (
  checks,
  paper,
  provenance,
  report,
  settings,
  stages,
)

_NOT_RESULTS = ("title", "paper")  # Fields of a stage that change no number.


class Study:
  """Runs the stages of one config in one workdir.

  Attributes:
    config: As `recipes.study` describes it.
    workdir: Everything is written below it.
  """

  def __init__(self, config: Any, workdir: pathlib.Path):
    self.config = config
    self.workdir = workdir
    self.run_config = settings.build(train.RunConfig, config.run, "run")
    self._splits: dict[str, ds.Splits] = {}
    self._done: dict[str, dict[str, Any]] = {}
    for name in config.stages:
      self._require_acyclic(name, ())

  # The graph.

  def _stage(self, name: str, wanted_by: str = "") -> Any:
    if name not in self.config.stages:
      where = f" (wanted by stages.{wanted_by})" if wanted_by else ""
      raise ValueError(
        f"there is no stage {name!r}{where}; there are "
        + ", ".join(sorted(self.config.stages))
      )
    return self.config.stages[name]

  def _parents(self, name: str) -> list[str]:
    """Returns the stages that a stage refers to."""
    stage = self._stage(name)
    if stage.kind not in stages.KINDS:
      raise ValueError(
        f"stages.{name}.kind must be one of {tuple(stages.KINDS)}, "
        f"got {stage.kind!r}"
      )
    wanted = [stage[f] for f in ("source", "model") if f in stage]
    for field in ("targets", "learners"):
      wanted += stage.get(field, ())
    wanted += [stage.data] if stage.data not in self.config.data else []
    for parent in wanted:
      self._stage(parent, name)
    return wanted

  def _require_acyclic(self, name: str, path: tuple[str, ...]) -> None:
    if name in path:
      raise ValueError(
        f"stages.{name} needs itself: {' <- '.join((*path, name))}"
      )
    for parent in self._parents(name):
      self._require_acyclic(parent, (*path, name))

  def resolved(self, name: str) -> dict[str, Any]:
    """Returns every config field that a stage's result depends on, flat."""
    stage = self._stage(name)
    own = {k: v for k, v in stage.items() if k not in _NOT_RESULTS}
    flat = {"seed": self.config.seed}
    flat |= settings.flatten(own, f"stages.{name}")
    for section, field in (("data", "data"), ("data", "validation"),
                           ("models", "architecture")):  # fmt: skip
      if stage.get(field) in self.config[section]:
        found = self.config[section][stage[field]]
        flat |= settings.flatten(found, f"{section}.{stage[field]}")
    for parent in self._parents(name):
      flat |= self.resolved(parent)
    return {field: _as_json(value) for field, value in flat.items()}

  def key(self, name: str) -> jax.Array:
    """Returns a stage's PRNG key: of the seed and the stage's name."""
    root = jax.random.key(self.config.seed)
    return jax.random.fold_in(root, zlib.crc32(name.encode()))

  # Running.

  def require(self, name: str) -> dict[str, Any]:
    """Returns a stage's result, running it and its ancestors if need be."""
    if name in self._done:
      return self._done[name]
    for parent in self._parents(name):
      self.require(parent)
    directory = self.workdir / name
    self._check_config(name, directory)
    path = directory / "result.json"
    if not path.exists():
      report.say(f"{name}: {self._stage(name).kind}")
      files.write_json(directory / "config.json", self.resolved(name))
      result = stages.KINDS[self._stage(name).kind](self, name, directory)
      files.write_json(path, result)
    self._done[name] = files.read_json(path)
    return self._done[name]

  def _check_config(self, name: str, directory: pathlib.Path) -> None:
    path = directory / "config.json"
    if not path.exists():
      return
    there, here = files.read_json(path), self.resolved(name)
    fields = [
      f"{field}: {there.get(field, 'absent')!r} there, "
      f"{here.get(field, 'absent')!r} now"
      for field in sorted(there.keys() | here.keys())
      if there.get(field, "absent") != here.get(field, "absent")
    ]
    if fields:
      more = f"; and {len(fields) - 5} more" if len(fields) > 5 else ""
      raise ValueError(
        f"{directory} was made under another config ({'; '.join(fields[:5])}"
        f"{more}); choose another --workdir or delete that folder"
      )

  # Data and models by name.

  def splits(self, name: str) -> ds.Splits:
    """Returns a named source's splits, the same that the workdir began with."""
    if name not in self._splits:
      section = self.config.data[name]
      cfg = settings.build(sources.DataConfig, section, f"data.{name}")
      found = sources.load(cfg)
      self._check_data(name, found)
      self._splits[name] = found
    return self._splits[name]

  def _check_data(self, name: str, found: ds.Splits) -> None:
    path = self.workdir / "data" / f"{name}.json"
    here = {
      split: {"sha256": ds.digest(part), "num_examples": part.num_examples}
      for split, part in found._asdict().items()
    }
    if path.exists() and files.read_json(path)["splits"] != here:
      raise ValueError(
        f"data.{name} holds other images than when {self.workdir} was begun; "
        "bring them back or choose another --workdir"
      )
    section = {
      k: _as_json(v)
      for k, v in settings.flatten(self.config.data[name]).items()
    }
    files.write_json(path, {"splits": here, "config": section})

  def dataset(self, name: str, split: str) -> ds.Dataset:
    """Returns a split of a source, or the constructed set of a stage."""
    if name in self.config.data:
      return getattr(self.splits(name), split)
    return constructed.load(self.workdir / name / "data")

  def image_shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape (H, W, C) of the images that a stage works on."""
    data = self._stage(name).data
    if data in self.config.data:
      splits = self.splits(data)
      part = splits.train if splits.train.num_examples else splits.test
      return part.image_shape
    return self.image_shape(data)

  def model_config(self, name: str) -> models.ModelConfig:
    """Returns the architecture of a train stage or an import."""
    stage = self._stage(name)
    if stage.kind == "imported":
      return models.ModelConfig(**self.require(name)["model"])
    section = self.config.models[stage.architecture]
    where = f"models.{stage.architecture}"
    return settings.build(models.ModelConfig, section, where)

  def architecture(self, name: str) -> nn.Module:
    """Returns the network of a train stage or an import."""
    return models.make_model(self.model_config(name))

  def variables(self, name: str, which: str = "last") -> dict[str, Any]:
    """Returns a model's variables, checked against the stage's result."""
    stage, result = self._stage(name), self.require(name)
    if stage.kind == "imported":
      found = sharding.replicate(trained.load(stage.checkpoint).variables)
      if checkpoint.digest(found) != result["digest"]:
        raise checkpoint.CheckpointError(
          f"{stage.checkpoint} holds another model than when {self.workdir} "
          "was begun; bring it back or choose another --workdir"
        )
      return found
    found = train.load(
      settings.build(train.TrainConfig, stage.train, f"stages.{name}.train"),
      self.architecture(name),
      result["num_examples"],
      tuple(result["image_shape"]),
      self.workdir / name,
      which,
    )
    if which == "last" and checkpoint.digest(found) != result["digest"]:
      raise checkpoint.CheckpointError(
        f"{self.workdir / name / 'checkpoints'} is not the checkpoint that "
        "this study trained; delete that stage's folder to train it again"
      )
    return found

  # Results.

  def results(self) -> dict[str, Any]:
    """Returns the table's rows and what other stages measured."""
    found: dict[str, Any] = {field: {} for field in stages.RESULTS.values()}
    for name, stage in self.config.stages.items():
      if stage.kind in stages.RESULTS:
        found[stages.RESULTS[stage.kind]][name] = self._done[name]
      if stage.kind == "transfer":
        printed = paper.TRANSFER[stage.paper] if stage.paper else ()
        found["transfer"][name] = self._done[name] | {"paper": list(printed)}
    return {
      "study": self.config.name,
      "seed": self.config.seed,
      "rows": [self._row(name) for name in self.config.table],
      **found,
    }

  def _row(self, name: str) -> dict[str, Any]:
    stage = self.config.stages[name]
    printed = paper.ROWS[stage.paper] if stage.paper else None
    model = self.require(stage.model)
    return self._done[name] | {
      "name": name,
      "title": stage.title,
      "paper": printed,
      "seed": self.config.seed,
      "train_seconds": model["seconds"],
      "model_digest": model["digest"],
    }


def _as_json(value: Any) -> Any:
  """Returns a value as it comes back from JSON; infinity has no JSON."""
  if isinstance(value, (tuple, list)):
    return [_as_json(v) for v in value]
  return str(value) if value in (float("inf"), -float("inf")) else value


def _claim(config: Any, workdir: pathlib.Path) -> None:
  """Marks the workdir as this study's.

  Raises:
    ValueError: If it is another study's.
  """
  path = workdir / "study.json"
  if path.exists() and files.read_json(path)["name"] != config.name:
    raise ValueError(
      f"{workdir} belongs to the study {files.read_json(path)['name']!r}, "
      f"not {config.name!r}; choose another --workdir"
    )
  files.write_json(path, {"name": config.name})
  files.write_text(workdir / "config.txt", f"{config}\n")


def run(config: Any, workdir: str | pathlib.Path) -> dict:
  """Runs every stage that is missing; writes and returns the results.

  Args:
    config: As made by a file of `configs/`.
    workdir: Where everything goes; made if missing.

  Returns:
    The content of `results.json`.

  Raises:
    ValueError: For bad input; the message is one line with the remedy.
    preemption.Stopped: If the process was asked to stop, once all is saved.
  """
  workdir = pathlib.Path(workdir)
  study = Study(config, workdir)
  checks.validate(config)
  _claim(config, workdir)
  checks.check_imports(config)
  checks.check_radii(config, study.image_shape)
  for name in [*config.table, *config.stages]:
    study.require(name)
  results = study.results() | provenance.provenance()
  report.write(results, workdir, config)
  return results
