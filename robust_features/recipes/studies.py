"""Whole studies and parts of them, composed of sections and stages."""

import functools
import itertools
from typing import Any

from ml_collections import ConfigDict

from robust_features.recipes import measurements, sections, stages


def study(name: str, *, seed: int = 0) -> Any:
  """Returns an empty study: data, models, stages and table to be filled."""
  return ConfigDict(
    {
      "name": name,
      "seed": seed,
      "data": {},
      "models": {},
      "stages": {},
      "table": (),
      "run": {
        "chunk_steps": 50,
        "checkpoint_every_seconds": 60.0,
        "eval_batch_size": 250,
        "optimize": True,
      },
    }
  )


def add_row(config: Any, model: str, title: str, settings: Any,
            suffix: str = "", **changes: Any) -> None:  # fmt: skip
  """Adds an evaluation of a trained stage, and its row of the table.

  Args:
    config: The study.
    model: The train stage.
    title: The row's name in the table.
    settings: Of the attack.
    suffix: Tells a second evaluation of one model from the first.
    **changes: As `evaluate_stage` takes them.
  """
  name = f"eval_{model}{suffix}"
  config.stages[name] = measurements.evaluate_stage(
    model, title, settings, **changes
  )
  config.table = (*config.table, name)


def add_data_set(config: Any, name: str, source: str,
                 construct: Any, recipe: Any) -> None:  # fmt: skip
  """Adds a constructed data set and a training run on it, `on_<name>`."""
  config.stages[name] = stages.construct_stage(source, construct)
  config.stages[f"on_{name}"] = stages.train_stage("main", name, recipe)


def paper_study(
  config: Any,
  *,
  standard: Any,
  robust: Any,
  on_robust: Any,
  on_nonrobust: Any,
  on_rand: Any,
  on_det: Any,
  inversion: dict[str, Any],
  targeted: dict[str, Any],
  evaluation: Any,
  controls: bool = True,
) -> None:
  """Adds section 3 whole: D_R, D_NR, D_rand, D_det from both sources.

  Args:
    config: A study with `data.D` and `models.main`.
    standard: Recipe of the standard model on D.
    robust: Recipe of the adversarially trained model on D.
    on_robust: Recipe of standard training on D_R, and so on.
    on_nonrobust: See `on_robust`.
    on_rand: See `on_robust`.
    on_det: See `on_robust`.
    inversion: Changes to `inversion`.
    targeted: Changes to `targeted`.
    evaluation: Of every row.
    controls: Whether D_rand and D_det get, beside them, what could refute them;
      see `add_controls`.
  """
  config.stages.standard = stages.train_stage("main", "D", standard)
  config.stages.robust = stages.train_stage("main", "D", robust)
  row = functools.partial(add_row, config, settings=evaluation)
  row("standard", "standard training", paper="standard")
  row("robust", "adversarial training", paper="robust")
  for name, kind, source, recipe, title, printed in (
    ("d_robust", "robust", "robust", on_robust, "on D_R", "robust_image"),
    ("d_nonrobust", "nonrobust", "standard", on_nonrobust, "on D_NR",
     "nonrobust_image"),
    ("d_rand", "rand", "standard", on_rand, "on D_rand", "rand_standard"),
    ("d_det", "det", "standard", on_det, "on D_det", "det_standard"),
    ("d_rand_robust", "rand", "robust", on_rand,
     "on D_rand, robust source", "rand_robust"),
    ("d_det_robust", "det", "robust", on_det, "on D_det, robust source",
     "det_robust"),
  ):  # fmt: skip
    if kind in ("rand", "det"):
      construct = sections.targeted(kind, **targeted)
    else:
      construct = sections.inversion(kind, **inversion)
    add_data_set(config, name, source, construct, recipe)
    row(f"on_{name}", title, paper=printed)
    if kind == "det":
      row(
        f"on_{name}", f"{title}, labels y+1", suffix="_relabelled",
        label_shift=1, paper=f"{printed}_relabelled",
      )  # fmt: skip
  if controls:
    add_controls(
      config, standard=standard, on_rand=on_rand, on_det=on_det,
      on_other=on_nonrobust,
      attack=config.stages.d_rand.construct.attack, evaluation=evaluation,
    )  # fmt: skip


def add_controls(
  config: Any,
  *,
  standard: Any,
  on_rand: Any,
  on_det: Any,
  on_other: Any,
  attack: Any,
  evaluation: Any,
) -> None:
  """Adds what D_rand's and D_det's accuracy must stand clear of, and D_other.

  A set leaks where an example can be read by features that nobody made: where
  t = y, or where a weak model sees t in the image as it is. The leakage twin
  keeps these images alone and hides the rest under noise fixed for each class,
  with no adversarial example in it; the deleted twin has them left out; the
  shuffled one has every label dealt out again.

  D_other is D_rand without t = y, its examples made under crop and flip, so
  that they last where the training augments; its deleted twin, in which
  neither way of leaking is left, has a leakage twin of its own.

  Args:
    config: A study with `standard`, `d_rand`, `d_det` and their rows.
    standard: Recipe of the standard model, of which two epochs make the weak
      one.
    on_rand: Recipe of training on D_rand and its twins.
    on_det: The same of D_det.
    on_other: The same of D_other.
    attack: Of D_rand and D_det; its radius is the noise's norm.
    evaluation: Of every row, whose radii are left out here.

  Reference: KellerJordan, cifar10-zoo, adversarial.
  """
  clean = sections.make(evaluation.to_dict(), {"eps": ()})
  weak = sections.make(standard.to_dict(), {"num_epochs": 2})
  config.stages.weak = stages.train_stage("main", "D", weak)
  noise = sections.make(attack.to_dict(), {"num_steps": 0})
  source = functools.partial(stages.construct_stage, "standard")

  def leaked(target: str, spare: str = "none"):
    construct = sections.construction(
      "leaked", noise, objective="none", fixed_noise="class_of_label",
      target=target, spare=spare,
    )  # fmt: skip
    return source(construct, spared_by="weak" if spare == "predicted" else "")

  def rest(name: str):
    return stages.select_stage(name, "wrong", model="weak", judged="D")

  other = sections.construction(
    "other", attack, target="other", transform_copies=1
  )
  shuffled = functools.partial(
    stages.transform_stage, transform="shuffle_labels"
  )
  for name, stage, recipe, title, claim in (
    ("leaked_rand", leaked("uniform", "label_is_own"), on_rand,
     "D_rand: leakage alone", "d_rand"),
    ("shuffled_rand", shuffled("d_rand"), on_rand,
     "D_rand: labels shuffled", "d_rand"),
    ("leaked_det", leaked("next", "predicted"), on_det,
     "D_det: leakage alone", "d_det"),
    ("shuffled_det", shuffled("d_det"), on_det,
     "D_det: labels shuffled", "d_det"),
    ("d_det_rest", rest("d_det"), on_det, "on D_det without what leaks", ""),
    ("d_other", source(other), on_other, "on D_other", ""),
    ("leaked_other", leaked("other", "predicted"), on_other,
     "D_other: leakage alone", "d_other"),
    ("d_other_rest", rest("d_other"), on_other,
     "on D_other without what leaks", ""),
    ("noise_other", leaked("other"), None, "", ""),
    ("noise_other_rest", rest("noise_other"), on_other,
     "the same, noise instead", "d_other_rest"),
  ):  # fmt: skip
    config.stages[name] = stage
    if recipe is None:
      continue  # A step on the way.
    config.stages[f"on_{name}"] = stages.train_stage("main", name, recipe)
    row = f"eval_on_{claim}" if claim else ""
    add_row(config, f"on_{name}", title, clean, control_of=row)


def transfer_study(
  config: Any,
  widths: dict[str, int],
  *,
  standard: Any,
  on_det: Any,
  construct: Any,
  attack: Any,
) -> None:
  """Adds section 3.3: transfer of one source's examples to architectures.

  The source and its D_det are named as `paper_study`'s kin name them.

  Args:
    config: A study with `data.D`.
    widths: Of every architecture; the first one is also the source's.
    standard: Recipe on D, of the source and of the models to be fooled.
    on_det: Recipe on the source's D_det.
    construct: Of D_det.
    attack: Of the examples that are shown to every model.
  """
  source, *others = widths
  names = {"main": source} | {name: name for name in others}
  for key, name in names.items():
    config.models[key] = sections.model(name, width=widths[name])
  config.stages.standard = stages.train_stage("main", "D", standard)
  add_data_set(config, "d_det_standard", "standard", construct, on_det)
  learners = {"main": "on_d_det_standard"}
  for name in others:
    learners[name] = f"on_d_det_{name}"
    config.stages[learners[name]] = stages.train_stage(
      name, "d_det_standard", on_det
    )
  targets = {key: f"target_{name}" for key, name in names.items()}
  for key, target in targets.items():
    config.stages[target] = stages.train_stage(key, "D", standard)
  config.stages.transfer = measurements.transfer_stage(
    "standard", tuple(targets.values()),
    tuple(learners[key] for key in targets), attack,
  )  # fmt: skip


def grid(stage: str) -> list[dict[str, Any]]:
  """Returns appendix C.2's grid over a train stage, as `sweep()` wants it."""
  train = f"stages.{stage}.train"
  augmentations = ((4, True, 0.25, 2.0), (0, False, 0.0, 0.0))
  points = itertools.product(
    (0.1, 0.01, 0.05), (128, 256), ("step", "constant"), augmentations
  )
  return [
    {
      f"{train}.learning_rate": rate,
      f"{train}.batch_size": batch_size,
      f"{train}.schedule": schedule,
      f"{train}.augment.pad": pad,
      f"{train}.augment.flip": flip,
      f"{train}.augment.jitter": jitter,
      f"{train}.augment.rotate": rotate,
    }
    for rate, batch_size, schedule, (pad, flip, jitter, rotate) in points
  ]
