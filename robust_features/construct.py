"""The paper's data sets: D_R, D_NR, D_rand and D_det.

Every kind is one objective for `attacks.maximize`:

  robust, nonrobust  minus the relative distance ||g(x_r) - g(x)|| / ||g(x)||
                     of representations, climbed in the whole box from another
                     training image or from noise; the label stays y. The kinds
                     differ by their source model alone: robust or standard.
  rand, det          minus the cross-entropy of a target t, climbed inside a
                     small ball about x; the label becomes t, uniform over all
                     classes or (y + 1) mod C.

A data set is a directory of shards with a manifest; see `robust_features.data.
constructed` for its format. Shards are written one by one, so an interrupted
construction goes on where it stopped and ends in the same bytes.

Reference: arXiv:1905.02175, sections 3.1 and 3.2, appendices C.4 and C.5.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_features import attacks, models
from robust_features.attacks import geometry, losses
from robust_features.data import constructed
from robust_features.data import dataset as ds
from robust_features.runtime import batching, sharding
from robust_features.runtime.logs import Stopwatch, grid, progress

# Kind: (objective, label).
KINDS = {
  "robust": ("representation", "original"),
  "nonrobust": ("representation", "original"),
  "rand": ("target", "uniform"),
  "det": ("target", "next"),
}
_START, _NOISE, _TARGET, _ATTACK = range(4)  # Streams of an example's key.


@dataclasses.dataclass(frozen=True)
class ConstructConfig:
  """How a data set is made.

  Attributes:
    kind: "robust", "nonrobust", "rand" or "det".
    init: Where the climb starts: "image" (another training image), "noise", or
      "self" (the image itself, what rand and det use).
    attack: Norm, radius (inf for the whole box), step size and count.
    fake_relu: Lets the gradient through the last ReLU where it is closed.
    pixels: What is stored and trained on: "uint8" or "float32".
    batch_size: Images at a time.
    shard_size: Images in one file.
  """

  kind: str
  init: str
  attack: attacks.AttackConfig
  fake_relu: bool
  pixels: str
  batch_size: int
  shard_size: int

  def __post_init__(self):
    for name, choices in (
      ("kind", tuple(KINDS)),
      ("init", ("image", "noise", "self")),
      ("pixels", ("uint8", "float32")),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(
          f"{name} must be one of {choices}, got {getattr(self, name)!r}"
        )
    for name in ("batch_size", "shard_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if KINDS[self.kind][0] == "target" and self.init != "self":
      raise ValueError(
        f"init must be 'self' for {self.kind!r}, got {self.init!r}"
      )


def representation_objective(model, variables, x, fake_relu: bool):
  """Returns z -> -||g(z) - g(x)|| / ||g(x)||, `[B]`.

  Reference: arXiv:1905.02175, equation 6.
  """
  wanted = models.apply(model, variables, x).representation
  scale = jnp.maximum(geometry.row_norm(wanted), 1e-12)

  def objective(z):
    found = models.apply(model, variables, z, fake_relu=fake_relu)
    return -geometry.row_norm(found.representation - wanted) / scale

  return objective


def target_objective(model, variables, target):
  """Returns z -> minus the cross-entropy of the target class, `[B]`.

  Reference: arXiv:1905.02175, equation 7.
  """

  def objective(z):
    logits = models.apply(model, variables, z).logits
    return -losses.cross_entropy(logits, target)

  return objective


def new_labels(kind: str, y: jax.Array, keys: jax.Array, num_classes: int):
  """Returns the labels `[B]` of a kind: y, uniform over classes, or y + 1."""
  rule = KINDS[kind][1]
  if rule == "uniform":
    draw = functools.partial(
      jax.random.randint, shape=(), minval=0, maxval=num_classes
    )
    return jax.vmap(draw)(keys).astype(y.dtype)
  return (y + 1) % num_classes if rule == "next" else y


def starting_points(init: str, x, pool, start_keys, noise_keys):
  """Returns where the climbs begin, `[B, H, W, C]`.

  Args:
    init: "image", "noise" or "self".
    x: The images `[B, H, W, C]`.
    pool: Training images `[N, H, W, C]` that "image" draws from.
    start_keys: `[B]`, of the draw.
    noise_keys: `[B]`, of the noise.
  """
  if init == "self":
    return x
  if init == "noise":
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(
      noise_keys
    )
    return jnp.clip(0.5 + noise / 20.0, 0.0, 1.0)
  draw = functools.partial(
    jax.random.randint, shape=(), minval=0, maxval=pool.shape[0]
  )
  return ds.to_float(pool[jax.vmap(draw)(start_keys)])


@functools.partial(
  jax.jit,
  static_argnames=(
    "model",
    "kind",
    "init",
    "fake_relu",
    "pixels",
    "num_classes",
  ),
)
def _construct_batch(
  model, variables, images, labels, pool, indices, key, attack, *,
  kind, init, fake_relu, pixels, num_classes,
):  # fmt: skip
  """Makes the examples at `indices` `[B]`; returns arrays of one row each."""
  indices = sharding.split_batch(indices)
  x, y = ds.to_float(images[indices]), labels[indices]
  keys = attacks.example_keys(key, indices)
  streams = [jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(4)]
  label = new_labels(kind, y, streams[_TARGET], num_classes)
  x_init = starting_points(init, x, pool, streams[_START], streams[_NOISE])
  if KINDS[kind][0] == "representation":
    objective = representation_objective(model, variables, x, fake_relu)
  else:
    objective = target_objective(model, variables, label)
  result = attacks.maximize(
    objective, x, streams[_ATTACK], attack, x_init=x_init
  )
  stored = result.x_adv
  if pixels == "uint8":
    stored = jnp.round(stored * 255.0).astype(jnp.uint8)
  shown = ds.to_float(stored)
  before = models.apply(model, variables, result.x_adv).logits.argmax(1)
  after = models.apply(model, variables, shown).logits.argmax(1)
  return {
    "images": stored,
    "labels": label,
    "original_labels": y,
    "stats": {
      "moved_from_original": geometry.row_norm(shown - x),
      "moved_from_start": geometry.row_norm(shown - x_init),
      "objective_start": objective(x_init),
      "objective_end": result.value,
      "objective_stored": objective(shown),
      "success_before_rounding": before == label,
      "success": after == label,
      "met_zero_gradient": result.zero_gradients > 0,
    },
  }


def construct(
  cfg: ConstructConfig,
  model: nn.Module,
  variables: Any,
  dataset: ds.Dataset,
  pool: ds.Dataset,
  directory: str | pathlib.Path,
  key: jax.Array,
  origin: dict[str, Any],
  name: str = "construct",
) -> dict[str, Any]:
  """Makes a data set, going on after the last shard that is complete.

  Args:
    cfg: The kind and its optimisation.
    model: The source model's architecture.
    variables: Its variables.
    dataset: The images that are modified.
    pool: Training images that "image" starts from.
    directory: Where shards, manifest, card and grid go.
    key: Of targets, starts and noise, folded with each example's index.
    origin: Recorded in the manifest: config, source checkpoint, commit.
    name: For the progress bar.

  Returns:
    The manifest.

  Raises:
    ValueError: If the radius exceeds the box, or a shard on disk is damaged.
    preemption.Stopped: If the process was asked to stop.
  """
  if not math.isinf(cfg.attack.eps):
    attacks.check_radius(
      "attack.eps", cfg.attack.eps, cfg.attack.norm, dataset.image_shape
    )
  writer = constructed.Writer(directory, origin)
  bounds = range(0, dataset.num_examples, cfg.shard_size)
  on_device = sharding.replicate((dataset.images, dataset.labels, pool.images))
  batch_size = batching.even_batch(cfg.batch_size, dataset.num_examples)
  run = functools.partial(
    _construct_batch, model, variables, *on_device, key=key, attack=cfg.attack,
    kind=cfg.kind, init=cfg.init, fake_relu=cfg.fake_relu, pixels=cfg.pixels,
    num_classes=dataset.num_classes,
  )  # fmt: skip
  with progress(dataset.num_examples, name, unit="image") as bar:
    for number, start in enumerate(bounds):
      indices = np.arange(
        start, min(start + cfg.shard_size, dataset.num_examples)
      )
      if not writer.has(number):
        watch = Stopwatch()
        arrays, stats = _shard(run, indices, batch_size, bar)
        writer.write(number, arrays, stats | {"seconds": watch.seconds()})
      else:
        bar.update(len(indices))
  manifest = writer.finish(
    num_shards=len(bounds),
    class_names=dataset.class_names,
    pixels=cfg.pixels,
  )
  first = constructed.load(directory)
  constructed.write_card(directory, cfg.kind, manifest)
  constructed.write_grid(
    directory,
    grid([dataset.images[:10], first.images[:10]]),
  )
  return manifest


def _shard(run, indices: np.ndarray, batch_size: int, bar):
  """Runs one shard's batches; returns (arrays, sums of statistics)."""
  whole = batching.map_batches(
    lambda part: run(indices=part), indices, batch_size, bar=bar
  )
  stats = {
    k: float(np.asarray(v, np.float64).sum())
    for k, v in whole.pop("stats").items()
  }
  return whole, stats
