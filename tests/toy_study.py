"""A study of few stages on toy images, which several test files share."""

import numpy as np
import toys

from robust_features import recipes


def write_npz(folder, seed=0):
  """Writes 40 training and 30 test images as `<folder>/toy.npz`."""
  train, test = toys.dataset(40, seed), toys.dataset(30, seed + 1)
  np.savez(
    folder / "toy.npz",
    train_images=train.images, train_labels=train.labels,
    test_images=test.images, test_labels=test.labels,
  )  # fmt: skip


def config(data_dir, **overrides):
  """Returns the study; overrides are paths with double underscores."""
  found = recipes.study("toy", seed=3)
  found.data.D = recipes.data(
    "npz", name="toy", data_dir=str(data_dir), num_validation=8
  )
  found.models.main = recipes.model(
    "mlp", num_classes=3, width=6, mean=(0.5,), std=(0.25,)
  )
  recipe = recipes.train(
    num_epochs=2, batch_size=8, schedule="constant",
    augment=recipes.no_augmentation(), eval_every_epochs=1,
  )  # fmt: skip
  rand = recipes.targeted("rand")
  rand.attack.num_steps, rand.batch_size, rand.shard_size = 2, 16, 20
  attack = recipes.evaluation(num_steps=3, batch_size=30)
  made = found.stages
  made.base = recipes.train_stage("main", "D", recipe)
  made.d_rand = recipes.construct_stage("base", rand)
  made.on_d_rand = recipes.train_stage("main", "d_rand", recipe)
  made.eval_base = recipes.evaluate_stage(
    "base", "standard", attack, paper="standard"
  )
  made.eval_on_d_rand = recipes.evaluate_stage(
    "on_d_rand", "on D_rand", attack, label_shift=1
  )
  made.sweep = recipes.step_sweep_stage("base", attack, (0, 2), (1.0, 2.0))
  found.table = ("eval_base", "eval_on_d_rand")
  for path, value in overrides.items():
    section, *rest = path.split("__")
    target = found[section] if rest else found
    for field in rest[:-1]:
      target = target[field]
    target[rest[-1] if rest else section] = value
  return found
