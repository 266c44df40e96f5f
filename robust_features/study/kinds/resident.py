"""What stages that make a set all at once have in common; it lies in memory."""

from typing import Any

from robust_features.data import constructed
from robust_features.study import folder, provenance
from robust_features.study.graph import Study

# Of a set's manifest, what a stage's result repeats.
KEPT = ("sha256", "mean", "num_examples", "separability")


def preflight(study: Study, name: str, data: str) -> None:
  """Raises ValueError where a stage's source is streamed, or has no images."""
  if study.streamed(data):
    raise ValueError(
      f"stages.{name}.data must lie in memory: set data.{data}.streamed "
      "to False"
    )
  study.dataset(data, "train")


def origin(study: Study, name: str, data: str) -> dict[str, Any]:
  """Returns what a set made of a source records of where it comes from."""
  source = study.plan.data[data]
  return {
    "originals": source.name if source.source == "tfds" else source.source,
    "git_commit": provenance.git_commit(),
    "config": study.resolved(name),
  }


def load(study: Study, name: str, stage: Any):
  """Returns the set that a stage made; see `Kind.load`."""
  del stage
  with folder.remade(study.workdir / name):
    return constructed.load(study.workdir / name / "data")
