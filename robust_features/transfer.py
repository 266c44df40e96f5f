"""How well one model's adversarial examples fool other models.

The paper's reading of transfer: models that pick up the same non-robust
features are fooled by the same perturbations. An architecture that learns more
from D_det, a data set of one source model's perturbations, should be fooled
more often by that source's adversarial examples.

The paper prints neither the attack nor how success is counted. Here an
untargeted example succeeds if a model that is right on the image is wrong on
the example, and a targeted one if a model that does not see class t in the
image sees it in the example; other images do not count, so that a model's own
errors are not taken for transfer. Shares of all images are given beside.

Reference: arXiv:1905.02175, section 3.3, figure 3; appendix D.9, figure 13.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, evaluate, models
from robust_features.attacks import losses
from robust_features.data import dataset as ds
from robust_features.runtime import batching, sharding
from robust_features.runtime.logs import progress

TARGETS = ("next", "other")


@dataclasses.dataclass(frozen=True)
class TransferConfig:
  """Settings of a transfer attack.

  Attributes:
    attack: Ascent on the source model, for both kinds of example.
    target: The class a targeted example aims at: "next", (y + 1) mod C as in
      D_det, or "other", uniform over the classes but y.
    batch_size: Images at a time.
  """

  attack: attacks.AttackConfig
  target: str
  batch_size: int

  def __post_init__(self):
    if self.target not in TARGETS:
      raise ValueError(f"target must be one of {TARGETS}, got {self.target!r}")
    if math.isinf(self.attack.eps):
      raise ValueError("attack.eps must be finite, got inf")
    attacks.check_climbs("attack", self.attack)
    if self.batch_size < 1:
      raise ValueError(
        f"batch_size must be at least 1, got {self.batch_size!r}"
      )


class Examples(NamedTuple):
  """Adversarial examples of one source model.

  Attributes:
    away: `[N, H, W, C]` float32, led away from the label.
    towards: `[N, H, W, C]` float32, led towards `classes`.
    classes: `[N]` what `towards` aims at.
    zero_gradient_fraction: Share that ever met a zero gradient, the larger of
      the two kinds.
  """

  away: np.ndarray
  towards: np.ndarray
  classes: np.ndarray
  zero_gradient_fraction: float


def target_classes(
  rule: str, y: np.ndarray, num_classes: int, key: jax.Array
) -> np.ndarray:
  """Returns the classes `[N]` to aim at, never an image's own.

  Args:
    rule: One of `TARGETS`.
    y: `[N]` labels.
    num_classes: At least 2.
    key: Folded with each example's index.
  """
  if rule == "next":
    return (y + 1) % num_classes
  keys = attacks.example_keys(key, jnp.arange(len(y)))
  offset = jax.vmap(lambda k: jax.random.randint(k, (), 1, num_classes))(keys)
  return ((y + np.asarray(offset)) % num_classes).astype(y.dtype)


@functools.partial(jax.jit, static_argnames="model")
def _craft(model, variables, images, classes, indices, key, cfg, sign):
  """Climbs `sign` times the cross-entropy of a class at `indices` `[B]`."""
  x = ds.to_float(sharding.split_batch(images[indices]))
  y = classes[indices]

  def objective(z):
    logits = models.apply(model, variables, z).logits
    return sign * losses.cross_entropy(logits, y)

  found = attacks.maximize(
    objective, x, attacks.example_keys(key, indices), cfg
  )
  return found.x_adv, found.zero_gradients > 0


def _climb(name, model, variables, dataset, cfg, classes, key, sign):
  """Returns examples `[N, H, W, C]`, the share that met a zero gradient."""
  on_device = sharding.replicate((dataset.images, classes))
  batch_size = batching.even_batch(cfg.batch_size, dataset.num_examples)
  craft = functools.partial(
    _craft, model, variables, *on_device,
    key=key, cfg=cfg.attack, sign=jnp.float32(sign),
  )  # fmt: skip
  with progress(dataset.num_examples, name, unit="image") as bar:
    examples, stuck = batching.map_batches(
      craft, np.arange(dataset.num_examples), batch_size, bar=bar
    )
  return examples, float(stuck.mean())


def make_examples(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  cfg: TransferConfig,
  key: jax.Array,
) -> Examples:
  """Makes both kinds of example of a source model.

  Args:
    model: The source's architecture.
    variables: Its variables.
    dataset: Images and labels.
    cfg: The attack.
    key: Split in three, of the classes aimed at, of untargeted and of targeted
      examples; each folded with an example's index.

  Raises:
    ValueError: If images or labels are none, there are too few logits, or the
      radius exceeds the box.
    preemption.Stopped: If the process was asked to stop.
  """
  evaluate.check_fit(model, variables, dataset)
  attacks.check_radius(
    "attack.eps", cfg.attack.eps, cfg.attack.norm, dataset.image_shape
  )
  target_key, away_key, towards_key = jax.random.split(key, 3)
  y = dataset.labels
  classes = target_classes(cfg.target, y, dataset.num_classes, target_key)
  source = model, variables, dataset, cfg
  away, stuck = _climb("untargeted", *source, y, away_key, 1.0)
  towards, more = _climb("targeted", *source, classes, towards_key, -1.0)
  return Examples(away, towards, classes, max(stuck, more))


def success_rates(
  clean: np.ndarray,
  untargeted: np.ndarray,
  targeted: np.ndarray,
  y: np.ndarray,
  targets: np.ndarray,
) -> dict[str, float]:
  """Counts how often a model is fooled; see the module's head.

  Args:
    clean: `[N]` the model's predictions on the images.
    untargeted: `[N]` on the untargeted examples.
    targeted: `[N]` on the targeted ones.
    y: `[N]` labels.
    targets: `[N]` classes that the targeted ones aim at.

  Returns:
    Fractions in [0, 1]: accuracy on the images; untargeted and targeted
    success, 0 where no image counts; and both as shares of all images.
  """
  wrong, hit = untargeted != y, targeted == targets
  right, elsewhere = clean == y, clean != targets
  return {
    "accuracy": float(right.mean()),
    "untargeted": float(wrong[right].mean()) if right.any() else 0.0,
    "targeted": float(hit[elsewhere].mean()) if elsewhere.any() else 0.0,
    "untargeted_of_all": float(wrong.mean()),
    "targeted_of_all": float(hit.mean()),
  }


def rates(
  model: models.Model,
  variables: Any,
  dataset: ds.Dataset,
  examples: Examples,
  batch_size: int,
) -> dict[str, float]:
  """Returns `success_rates` of a source's examples against any model."""

  def predict(x):
    return evaluate.predict(model, variables, x, batch_size).argmax(1)

  return success_rates(
    predict(dataset.images),
    predict(examples.away),
    predict(examples.towards),
    dataset.labels,
    examples.classes,
  )


def correlations(rows: list[dict[str, Any]]) -> dict[str, float | None]:
  """Returns Spearman's correlation of success and what was learnt of D_det.

  Args:
    rows: With `learner_accuracy`, `untargeted` and `targeted`.

  Returns:
    By kind of example; None where either side is constant.
  """
  # Late: it takes a fifth of the time that `main` needs to start.
  from scipy import stats

  learnt = np.array([row["learner_accuracy"] for row in rows])
  found = {}
  for kind in ("untargeted", "targeted"):
    rates = np.array([row[kind] for row in rows])
    if np.ptp(rates) == 0 or np.ptp(learnt) == 0:
      found[kind] = None
    else:
      correlation: Any = stats.spearmanr(learnt, rates)
      found[kind] = float(correlation.statistic)
  return found
