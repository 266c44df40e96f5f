"""PGD evaluation as it is, beside one that attacks every image to the end.

Both attack the same images of a study's trained models with the same keys. The
whole attack takes all steps for every image that is classified right; ours
stops where an iterate decides. Verdicts are compared image by image: the script
stops where one differs.

Command: python -m benchmarks.evaluation --workdir=runs/quickstart
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from benchmarks import common
from robust_features import attacks, evaluate, models, trained
from robust_features.data import dataset as ds
from robust_features.recipes import config_file
from robust_features.runtime import batching
from robust_features.study import graph
from robust_features.study.parse import parse

_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "A finished one.")
_CONFIG = flags.DEFINE_string("config", "quickstart", "Its config.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed ones.")
_CLOCK = flags.DEFINE_enum("clock", "wall", list(common.CLOCKS), "Which time.")


def to_the_end(model, variables, data, cfg, key):
  """Returns a function that returns the accuracy under every radius."""

  @jax.jit
  def attack(x, y, indices, pgd):
    objective = evaluate.classification_objective(
      lambda x: models.apply(model, variables, x).logits, y, cfg.loss
    )
    keys = attacks.example_keys(key, indices)
    found = attacks.maximize(objective, x, keys, pgd)
    return models.apply(model, variables, found.x_adv).logits.argmax(1) != y

  size = batching.even_batch(cfg.batch_size, len(data.labels))

  def run() -> list[float]:
    logits = evaluate.predict(model, variables, data.images, cfg.batch_size)
    right = np.flatnonzero(logits.argmax(1) == data.labels)
    alive = np.ones(len(right), bool)
    accuracies = []
    for eps in sorted(cfg.eps):
      for start in range(0, len(right), size):
        part = np.resize(right[start : start + size], size)  # Of one shape.
        x = ds.to_float(jnp.asarray(data.images[part]))
        broken = attack(x, data.labels[part], part, cfg.attack(eps))
        count = len(right[start : start + size])
        alive[start : start + count] &= ~np.asarray(broken)[:count]
      accuracies.append(alive.sum() / len(data.labels))
    return accuracies

  return run


def main(argv: list[str]) -> None:
  """Prints the table."""
  del argv
  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  plan = parse(config_file.load(_CONFIG.value))
  study = graph.Study(plan, workdir)
  key = jax.random.key(0)
  print("\n".join(common.machine()), "\n")
  rows = [["model", "under attack", "to the end", "as it is", "times as fast"]]
  for name in plan.config.table:
    stage = plan.nodes[name].stage
    if stage.label_shift:
      continue
    data = study.dataset(stage.data, stage.split)
    config, variables, _ = trained.load(workdir / stage.model)
    arguments = (
      models.make_model(config), variables, data, stage.evaluate, key,
    )  # fmt: skip
    sides = {
      "whole": to_the_end(*arguments),
      "ours": functools.partial(evaluate.evaluate, *arguments),
    }
    whole = sides["whole"]()
    if (ours := list(sides["ours"]().robust_accuracy.values())) != whole:
      raise AssertionError(f"{name}: {ours} but {whole}")
    seconds = common.interleave(sides, _ROUNDS.value, _CLOCK.value)
    rows.append(
      [
        stage.title,
        " / ".join(f"{100 * value:.1f}" for value in whole),
        *(f"{np.median(seconds[who]):.2f} s" for who in ("whole", "ours")),
        common.spread(seconds["ours"], seconds["whole"]),
      ]
    )
  print(common.table(rows))


if __name__ == "__main__":
  app.run(main)
