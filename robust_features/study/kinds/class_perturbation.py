"""A stage that makes a set of which every class shares one perturbation.

Reference: arXiv:2102.04716, P3 and P4.
"""

import dataclasses
import pathlib
from typing import Any

from robust_features import class_perturbation as making
from robust_features.runtime.logs import Stopwatch
from robust_features.study import settings
from robust_features.study.graph import Kind, Study, Work
from robust_features.study.kinds import resident
from robust_features.study.report import tables


@dataclasses.dataclass(frozen=True)
class Stage:
  """Fields of a class_perturbation stage.

  Attributes:
    source: The stage whose model is led.
    which: Its "last" weights, or the "best" on the held-out split.
    data: A source, whose training images get the perturbations.
    class_perturbation: What is climbed.
  """

  source: settings.ModelName
  which: settings.Which
  data: settings.SourceName
  class_perturbation: making.ClassPerturbationConfig


def _run(study: Study, name: str, stage: Stage, directory: pathlib.Path):
  origin = {
    "source": stage.source,
    "source_digest": study.require(stage.source)["digest"],
    **resident.origin(study, name, stage.data),
  }
  watch = Stopwatch()
  manifest = making.make(
    stage.class_perturbation, *study.model(stage.source, stage.which),
    study.dataset(stage.data, "train"), directory, study.key(name), origin,
    name,
  )  # fmt: skip
  return {
    **{field: manifest[field] for field in resident.KEPT},
    "target": stage.class_perturbation.target,
    "seconds": watch.seconds(),
  }


def _report(found: dict[str, Any]):
  rows = [["data set", "led to", "images", "source led", "before rounding",
           "moved (l2)", "linear on the change", "seconds"]]  # fmt: skip
  for name, result in found.items():
    mean = result["mean"]
    rows.append(
      [
        name,
        result["target"],
        str(result["num_examples"]),
        tables.percent(mean["success"]),
        tables.percent(mean["success_before_rounding"]),
        f"{mean['moved_from_original']:.3f}",
        tables.percent(result["separability"]),
        f"{result['seconds']:.0f}",
      ]
    )
  title = "One perturbation for each class"
  return [(title, [tables.aligned(rows, 2)])] if found else []


def _shrink(stage: Any) -> None:
  cfg = stage.class_perturbation
  cfg.attack.num_steps = min(2, cfg.attack.num_steps)
  cfg.class_batch_size, cfg.batch_size, cfg.shard_size = 4, 16, 32


def _work(stage: Stage, num_images) -> Work:
  cfg, images = stage.class_perturbation, num_images(stage.data, "train")
  # Of ten classes: how many there are only the data tell.
  climbed = 10 * cfg.attack.num_steps * cfg.class_batch_size
  return Work(images, climbed, 2.0 * climbed + 2.0 * images)


def _how_far(directory: pathlib.Path) -> str:
  count = len(list(directory.glob("classes/*.npz")))
  return f"with {count} classes" if count else ""


KIND = Kind(
  stage=Stage,
  run=_run,
  section="class_perturbations",
  heading="One perturbation for each class",
  claim=(
    "What leads a network from one class to another need not differ from image "
    "to image: a single change for all of a class does, and who trains on it "
    "learns the change."
  ),
  load=resident.load,
  preflight=lambda study, name, stage: resident.preflight(
    study, name, stage.data
  ),
  radii=lambda stage: [
    ("class_perturbation.attack", stage.class_perturbation.attack)
  ],
  report=_report,
  shrink=_shrink,
  work=_work,
  how_far=_how_far,
)
