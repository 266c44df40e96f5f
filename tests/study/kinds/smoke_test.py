"""What a smoke run makes of the stages of each kind, to the number."""

from absl.testing import absltest

from robust_features import recipes
from robust_features.study.kinds import KINDS

# What a smoke run changes in a stage as it is by default.
SMOKE = {
  "train": {
    "train.adversary.num_steps": 2,
    "train.batch_size": 16,
    "train.num_epochs": 2,
  },
  "error_minimising": {
    "error_minimising.attack.num_steps": 2,
    "error_minimising.batch_size": 16,
    "error_minimising.max_rounds": 2,
    "error_minimising.shard_size": 32,
    "error_minimising.train_batch_size": 16,
    "error_minimising.train_steps": 2,
  },
  "class_perturbation": {
    "class_perturbation.attack.num_steps": 2,
    "class_perturbation.batch_size": 16,
    "class_perturbation.class_batch_size": 4,
    "class_perturbation.shard_size": 32,
  },
  "evaluate": {
    "evaluate.batch_size": 32,
    "evaluate.num_steps": 2,
  },
  "transfer": {
    "transfer.attack.num_steps": 2,
    "transfer.batch_size": 32,
  },
  "carlini_wagner": {
    "attack.num_searches": 2,
    "attack.num_steps": 2,
    "evaluate.batch_size": 32,
    "evaluate.num_steps": 2,
  },
  "pictures": {
    "pictures.features.frame_every_steps": 1,
    "pictures.features.num_steps": 2,
    "pictures.images_per_class": 1,
    "pictures.inversion.frame_every_steps": 1,
    "pictures.inversion.num_steps": 2,
    "pictures.num_classes": 3,
    "pictures.num_points": 3,
  },
  "usefulness": {
    "attack.num_steps": 2,
    "num_examples": 32,
  },
  "statements": {
    "checks.num_draws": 50,
    "checks.num_samples": 2000,
    "gap.dims": (2, 8),
    "gap.num_samples": 100,
    "path.num_eps": 20,
  },
  "spatial": {
    "num_examples": 16,
    "spatial.batch_size": 16,
    "spatial.num_angles": 3,
    "spatial.num_shifts": 3,
  },
  "fourier_map": {
    "fourier.batch_size": 16,
    "fourier.max_frequency": 2,
    "fourier.num_white": 2,
    "num_examples": 16,
  },
}


def flat(section, path=""):
  """Yields (path, value) of a section's fields."""
  for name, value in section.items():
    if hasattr(value, "items"):
      yield from flat(value, f"{path}{name}.")
    else:
      yield f"{path}{name}", value


class ShrinkTest(absltest.TestCase):
  def test_what_a_smoke_run_changes(self):
    attack = recipes.attack("l2", 0.5, 0.1, 7)
    train = recipes.train(adversary=recipes.adversary())
    models = ("m",)
    found = {}
    for made in (
      recipes.train_stage("main", "D", train),
      recipes.error_minimising_stage(),
      recipes.class_perturbation_stage("m", attack, "next"),
      recipes.evaluate_stage("m", "t", recipes.evaluation()),
      recipes.transfer_stage("m", ("a",), (), attack),
      recipes.carlini_wagner_stage("m", recipes.evaluation()),
      recipes.pictures_stage(models),
      recipes.usefulness_stage(models, attack),
      recipes.statements_stage(),
      recipes.spatial_stage(models),
      recipes.fourier_map_stage(models),
    ):
      before = dict(flat(made))
      KINDS[made.kind].shrink(made)
      found[made.kind] = {
        field: value for field, value in flat(made) if before[field] != value
      }
      # Once more changes nothing, and what is smaller stays so.
      after = dict(flat(made))
      KINDS[made.kind].shrink(made)
      self.assertEqual(dict(flat(made)), after)
    self.assertEqual(found, SMOKE)

  def test_sizes_of_a_smoke_run(self):
    made = recipes.autoattack_stage("m", "l2", (0.25, 0.5))
    KINDS["autoattack"].shrink(made)
    cfg = made.autoattack
    self.assertEqual((made.num_examples, cfg.batch_size), (8, 8))
    self.assertEqual((cfg.eps, cfg.attacks), ((0.25,), ("apgd-ce",)))
    self.assertEqual(
      (cfg.budget.num_steps, cfg.budget.num_targets, cfg.budget.num_queries),
      (2, 2, 2),
    )
    for by, want in (("right", "margin"), ("wrong", "margin"),
                     ("classes", "classes")):  # fmt: skip
      made = recipes.select_stage("d", by)
      KINDS["select"].shrink(made)
      self.assertEqual(made.by, want)
      self.assertEqual(made.fraction, 0.5 if want == "margin" else 1.0)
    for steps, want in ((7, 2), (2, 2), (1, 1)):
      made = recipes.construct_stage("m", recipes.targeted("rand"))
      made.construct.attack.num_steps = steps
      KINDS["construct"].shrink(made)
      self.assertEqual(made.construct.attack.num_steps, want)
    self.assertEqual(
      (made.construct.batch_size, made.construct.shard_size), (16, 32)
    )
    made = recipes.step_sweep_stage(
      "m", recipes.evaluation(), (5, 7, 9), (1.0,)
    )
    KINDS["step_sweep"].shrink(made)
    self.assertEqual(made.steps, (5, 2))


if __name__ == "__main__":
  absltest.main()
