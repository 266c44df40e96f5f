"""Which small network a CPU study takes: accuracy by processor time.

Each candidate is trained once by cifar_small's standard recipe on its images,
evaluated by its attack, and counted: parameters, operations of a forward pass,
the processor time of all threads, which other work disturbs little.

Command: python -m benchmarks.networks --data_dir=DIR [--only=NAME,...]
"""

import tempfile
import time

import jax
from absl import app, flags, logging

from benchmarks import common
from robust_features import evaluate, models, train
from robust_features.data import sources
from robust_features.models import small
from robust_features.recipes import config_file
from robust_features.study.parse import parse

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Of tfds.", required=True)
_ONLY = flags.DEFINE_list("only", [], "Candidates; all by default.")

_NORMALIZE = {"mean": models.CIFAR_MEAN, "std": models.CIFAR_STD}


def _cnn(multipliers, strides, pool=2):
  return small.CNN(
    width=16, multipliers=multipliers, strides=strides, pool=pool,
    num_classes=10, **_NORMALIZE,
  )  # fmt: skip


# Channels are 16 times the first tuple, strides the second.
CANDIDATES = {
  "cnn4": _cnn((2, 4, 8, 8), (2, 2, 1, 2)),
  "strided_cnn4": _cnn((2, 4, 8, 8), (2, 2, 2, 1)),
  "wider start": _cnn((3, 6, 8, 8), (2, 2, 2, 1)),
  "wider end": _cnn((2, 4, 8, 16), (2, 2, 2, 1)),
  "three layers": _cnn((4, 8, 16), (2, 2, 2)),
  "narrower": _cnn((2, 4, 6, 6), (2, 2, 2, 1)),
}


def _row(name: str, model, plan, data: sources.Splits) -> list[str]:
  recipe = plan.nodes["standard"].stage.train
  attack = plan.nodes["eval_standard"].stage.evaluate
  run = train.RunConfig(checkpoint_every_seconds=1e6)
  with tempfile.TemporaryDirectory() as folder:
    start = time.process_time()
    result = train.train(
      recipe, run, model, data.train, data.validation, folder,
      jax.random.key(0), name,
    )  # fmt: skip
    seconds = time.process_time() - start
  found = evaluate.evaluate(
    model, result.variables, data.test, attack, jax.random.key(1), name
  )
  flops = common.forward_flops(
    lambda x: models.apply(model, result.variables, x).logits,
    jax.ShapeDtypeStruct((1, *data.train.image_shape), "float32"),
  )
  accuracies = (found.accuracy, *found.robust_accuracy.values())
  return [
    name,
    f"{models.num_params(result.variables['params']):,}",
    f"{flops / 1e6:.1f}",
    f"{seconds:.0f}",
    *(f"{100 * value:.1f}" for value in accuracies),
  ]


def main(argv: list[str]) -> None:
  """Prints the table."""
  del argv
  logging.set_verbosity(logging.ERROR)
  plan = parse(
    config_file.load("cifar_small", {"data.D.data_dir": _DATA_DIR.value})
  )
  data = sources.load(plan.data["D"])
  print("\n".join(common.machine()), "\n")
  rows = [["network", "parameters", "MFLOP an image", "processor seconds",
           "accuracy", "eps=0.25", "eps=0.5"]]  # fmt: skip
  for name in _ONLY.value or CANDIDATES:
    rows.append(_row(name, CANDIDATES[name], plan, data))
  print(common.table(rows))


if __name__ == "__main__":
  app.run(main)
