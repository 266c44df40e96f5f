"""Usefulness rho and robust usefulness gamma of models' representations.

Every coordinate of each model's representation, attacked on its own, beside
the data's singular vectors, for which the adversary is exact.

Reference: arXiv:1905.02175, section 2.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Any

import numpy as np

from robust_features import attacks, models, usefulness
from robust_features.runtime.measured import Measured
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import statements
from robust_features.study.kinds.subject import num_sampled, sampled
from robust_features.study.report import features_figure, tables
from robust_features.theory.checks.rows import Claim, Row
from robust_features.theory.usefulness import FeatureKind

# Coordinates of the widest representation there is, a ResNet-50's.
_MOST = 2048


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a usefulness stage.

  Attributes:
    models: Stages whose models' representations are measured.
    which: "last", or "best" on the held-out split.
    data: A source, or a stage that makes a data set.
    split: Of a source: "train", "validation" or "test".
    num_examples: Images; 0 for all.
    coordinates: Of the representation; all if empty.
    attack: The adversary.
    batch_size: Images at a time.
    ascending: Whether each model must keep more of its features' usefulness
      than the one before it, or the run fails: what adversarial training
      should do.
  """

  models: tuple[settings.ModelName, ...]
  which: settings.Which
  data: settings.DataName
  split: settings.Split
  num_examples: settings.Count
  coordinates: tuple[settings.Count, ...]
  attack: attacks.AttackConfig
  batch_size: settings.Size
  ascending: bool

  def __post_init__(self):
    if not self.models:
      raise ValueError("models must name at least one stage, got ()")
    attacks.check_climbs("attack", self.attack)


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  start = time.monotonic()
  whole = study.dataset(stage.data, stage.split)
  data = sampled(study, whole, stage.num_examples)
  images, labels = data.images, data.labels
  found = {
    "singular vectors": usefulness.linear_usefulness(
      images, labels, stage.attack.eps, stage.attack.norm
    )
  }
  for each in stage.models:
    model, variables = study.model(each, stage.which)
    found[each] = usefulness.representation_usefulness(
      functools.partial(_represent, model),
      variables,
      images,
      labels,
      stage.attack,
      study.key(name),
      coordinates=stage.coordinates,
      batch_size=stage.batch_size,
      measured=Measured(directory / "parts" / each),
    )
  rows = _claims(found, stage)
  return {
    "features": [_plain(name, table) for name, table in found.items()],
    "statements": [statements.plain(row) for row in rows],
    "attack": dataclasses.asdict(stage.attack),
    "num_examples": data.num_examples,
    "seconds": time.monotonic() - start,
  }


def _represent(model, variables, x):
  return models.represent(model, variables, x)


def _kept(table: usefulness.FeatureTable) -> float:
  """Returns the share of the features' usefulness that the attack leaves."""
  rho, gamma = (np.asarray(e.value) for e in (table.rho, table.gamma))
  return float(gamma.mean() / rho.mean())


def _claims(found: dict[str, Any], stage: Stage) -> list[Row]:
  rows = []
  if stage.ascending:
    for less, more in zip(stage.models, stage.models[1:], strict=False):
      claim = Claim(
        "Section 2",
        f"{more} keeps more of its features' usefulness than {less}",
        "representation_usefulness",
      )
      rows.append(claim.at_least(_kept(found[more]), _kept(found[less]), 0.0))
  for name, table in found.items():
    claim = Claim("Section 2", f"gamma <= rho, {name}", "robust_usefulness")
    rows.append(claim.at_least(table.rho.value, table.gamma.value, 1e-5))
  return rows


def _plain(name: str, table: usefulness.FeatureTable) -> dict[str, Any]:
  """Returns a table for JSON."""
  arrays = {
    "rho": table.rho.value,
    "rho_standard_error": table.rho.standard_error,
    "gamma": table.gamma.value,
    "gamma_standard_error": table.gamma.standard_error,
    "label": table.label,
    "kind": table.kind,
  }
  plain = {name: np.asarray(value).tolist() for name, value in arrays.items()}
  return {"name": name, **plain, "kept": _kept(table)}


def _lines(result: dict[str, Any]) -> list[str]:
  rows = [["features", "number", "robust", "useful, non-robust", "useless",
           "mean rho", "mean gamma", "gamma / rho"]]  # fmt: skip
  for table in result["features"]:
    kinds = [table["kind"].count(int(kind)) for kind in
             (FeatureKind.ROBUST, FeatureKind.NON_ROBUST,
              FeatureKind.USELESS)]  # fmt: skip
    means = [np.mean(table[field]) for field in ("rho", "gamma")]
    numbers = [f"{value:.3f}" for value in (*means, table["kept"])]
    rows.append(
      [table["name"], str(len(table["kind"])), *map(str, kinds), *numbers]
    )
  attack = ", ".join(f"{k} {v}" for k, v in result["attack"].items())
  return [
    tables.aligned(rows),
    "",
    f"- over {result['num_examples']} images; a claim needs 2 standard errors",
    f"- attack on each coordinate: {attack}; exact on singular vectors",
    "",
    *statements.lines(result["statements"]),
  ]


def _report(found: dict[str, Any]):
  return [
    (f"{name}: usefulness of features", _lines(result))
    for name, result in found.items()
  ]


def _draw(found: dict[str, Any], workdir: pathlib.Path):
  drawn = []
  for name, result in found.items():
    drawn.append(features_figure.features(name, result, workdir / "figures"))
  return drawn


def _shrink(stage: Any) -> None:
  stage.num_examples = 32
  stage.attack.num_steps = 2
  stage.ascending = False  # Two epochs teach nothing.


def _work(stage: Stage, num_images) -> Work:
  whole = num_images(stage.data, stage.split)
  images = num_sampled(stage.num_examples, whole)
  shown = len(stage.models) * images
  climbs = shown * (len(stage.coordinates) or _MOST)
  passes = shown + climbs * stage.attack.forward_passes()
  return Work(shown, climbs * stage.attack.gradients(), passes)


KIND = Kind(
  stage=Stage,
  run=_run,
  section="usefulness",
  claim=(
    "A feature is useful if it goes with the label, and robust if it still "
    "does under attack; adversarial training learns more robust ones."
  ),
  caption=(
    "Robust usefulness against usefulness, one point a feature; above zero it "
    "is robust."
  ),
  radii=lambda stage: [("attack", stage.attack)],
  report=_report,
  failed=statements.failed,
  draw=_draw,
  shrink=_shrink,
  work=_work,
)
