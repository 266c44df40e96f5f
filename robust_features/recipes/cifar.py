"""What the studies of CIFAR-10 share that are not of the paper's own size."""

from typing import Any, NamedTuple

from robust_features.recipes import sections, studies, variants


class Cifar(NamedTuple):
  """A study of CIFAR-10 to be filled, and recipes of its size.

  Attributes:
    config: With `data.D` and `models.main`.
    standard: Standard training, with crop and flip.
    robust: Adversarial training against l2 0.5.
    plain: Standard training without augmentation.
    inversion: Changes to `inversion`.
    targeted: Changes to `targeted`.
    evaluation: Of every row.
    num_attacked: Images that AutoAttack and the grids get.
  """

  config: Any
  standard: Any
  robust: Any
  plain: Any
  inversion: dict[str, Any]
  targeted: dict[str, Any]
  evaluation: Any
  num_attacked: int


def cifar_study(name: str, small: bool) -> Cifar:
  """Returns a study of CIFAR-10 for two CPU cores, or for one GPU.

  Args:
    name: Of the study.
    small: Whether it is for CPU cores: 10,000 images, four convolutions; else
      ResNet-18 in bfloat16 and the whole of CIFAR-10.
  """
  return _small(name) if small else _fast(name)


def cifar_variant(config: Any, variant: str) -> Any:
  """Returns the study as a config's variant: "small", "smoke" or as it is.

  Args:
    config: Of the size that the variant asks for; "smoke" shrinks the small
      one.
    variant: Its name; see `recipes.variant`.
  """
  if variant == "small":
    config.name = f"{config.name}-{variant}"
    return config
  return variants.variant(config, variant)


def _small(name: str) -> Cifar:
  config = studies.study(name)
  config.data.D = sections.cifar10(
    num_train=10_000, num_test=1_000, num_validation=500
  )
  config.models.main = sections.model("strided_cnn4")
  standard = sections.train(
    num_epochs=12,
    batch_size=100,
    schedule="cosine",
    warmup_epochs=1.0,
    weight_decay=4e-3,  # Of so few images and epochs; the paper's is 5e-4.
    augment=_crop_and_flip(),
    eval_every_epochs=3,
  )
  inversion = {"attack": sections.inversion("robust").attack}
  inversion["attack"].num_steps = 100
  inversion["attack"].step_size = 0.2
  targeted = {"attack": sections.targeted("rand").attack}
  # Twice the paper's radius: on so small a network's D_det at 0.5 another one
  # learns less than chance.
  targeted["attack"].eps, targeted["attack"].step_size = 1.0, 0.2
  targeted["attack"].num_steps = 20
  return _whole(
    config, standard, sections.attack("l2", 0.5, 0.15, 5), inversion, targeted,
    sections.evaluation(num_steps=20), 200,
  )  # fmt: skip


def _fast(name: str) -> Cifar:
  config = studies.study(name)
  config.data.D = sections.cifar10()
  config.models.main = sections.model("resnet18", dtype="bfloat16")
  # An epoch has 95 steps: one call each, and no host in between.
  config.run.chunk_steps = 100
  standard = sections.train(
    num_epochs=20,
    batch_size=512,
    learning_rate=0.4,
    schedule="linear",
    warmup_epochs=4.0,
    augment=_crop_and_flip(),
    eval_every_epochs=5,
  )
  batches = {"batch_size": 1000, "shard_size": 7000}
  inversion = {
    "attack": sections.attack("l2", float("inf"), 0.2, 100, keep_best=False),
    **batches,
  }
  targeted = {"attack": sections.attack("l2", 0.5, 0.1, 25), **batches}
  return _whole(
    config, standard, sections.adversary(0.5), inversion, targeted,
    # Of the paper's own models, 20 steps lie within a point of 2,560.
    sections.evaluation(num_steps=20, batch_size=1000), 1000,
  )  # fmt: skip


def _crop_and_flip() -> Any:
  found = sections.augmentation()
  found.jitter, found.rotate = 0.0, 0.0
  return found


def _whole(config, standard, adversary, *rest: Any) -> Cifar:
  robust = sections.train(**standard)
  robust.adversary = adversary
  plain = sections.train(**standard)
  plain.augment = sections.no_augmentation()
  return Cifar(config, standard, robust, plain, *rest)
