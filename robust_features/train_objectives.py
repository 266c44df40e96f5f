"""What a training step descends, and what its adversaries climb.

Standard and adversarial training, TRADES, smoothed labels, adversarial weights
and distillation, as pure functions; `train_step` puts them together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from robust_features import models
from robust_features.attacks import losses

_TINY = 1e-20  # Below every gradient's norm but that of none.


class Descent(NamedTuple):
  """What a batch gives to descend.

  Attributes:
    loss: `[B]` float32; its mean is descended.
    correct: `[B]` bool, whether the images trained on, attacked if there is an
      adversary, are seen as what they are.
    model_state: The network's collections after the pass.
  """

  loss: jax.Array
  correct: jax.Array
  model_state: dict[str, Any]


def climbed(
  model: models.Model,
  variables: dict[str, Any],
  x: jax.Array,
  y: jax.Array,
  bn_mode: str,
  trades_beta: float,
) -> Callable[[jax.Array], jax.Array]:
  """Returns what the adversary of a batch climbs, `[B, H, W, C]` to `[B]`.

  Args:
    model: The architecture.
    variables: Before the step.
    x: `[B, H, W, C]`, not yet attacked.
    y: `[B]` int32.
    bn_mode: Of BatchNorm under attack.
    trades_beta: Where it is above 0, the divergence of the predictions from
      those on `x` is climbed; else the cross-entropy.
  """
  if trades_beta:
    clean = models.apply(model, variables, x, bn_mode).logits
    return lambda z: divergence(
      clean, models.apply(model, variables, z, bn_mode).logits
    )
  return lambda z: losses.cross_entropy(
    models.apply(model, variables, z, bn_mode).logits, y
  )


def descended(
  model: models.Model,
  variables: dict[str, Any],
  x: jax.Array,
  x_adv: jax.Array,
  y: jax.Array,
  key: jax.Array | None,
  *,
  loss_fn: Callable[[models.Outputs], jax.Array],
  trades_beta: float,
) -> Descent:
  """Returns the losses of a batch in a training pass.

  Under TRADES the images and the attacked ones pass one after the other, each
  normalised by its own batch's statistics; both move the running ones.

  Args:
    model: The architecture.
    variables: At which the loss is taken.
    x: `[B, H, W, C]`, not attacked.
    x_adv: `[B, H, W, C]`, attacked; `x` in standard training.
    y: `[B]` int32.
    key: Of what is random in the network; None if nothing is.
    loss_fn: Outputs to the loss `[B]` of an image.
    trades_beta: Weight of the divergence beside the loss on `x`; 0 takes the
      loss on `x_adv` alone.
  """
  if not trades_beta:
    outputs, state = models.apply_in_training(model, variables, x_adv, key)
    return Descent(loss_fn(outputs), outputs.logits.argmax(1) == y, state)
  first = second = None
  if key is not None:
    first, second = jax.random.split(key)
  clean, state = models.apply_in_training(model, variables, x, first)
  attacked, state = models.apply_in_training(
    model, {**variables, **state}, x_adv, second
  )
  apart = trades_beta * divergence(clean.logits, attacked.logits)
  return Descent(loss_fn(clean) + apart, attacked.logits.argmax(1) == y, state)


def smooth_cross_entropy(
  logits: jax.Array, y: jax.Array, smoothing: float
) -> jax.Array:
  """Returns the cross-entropy with smoothed labels in nats, `[B]`.

  The label's class has 1 - smoothing + smoothing / K, each other smoothing / K.

  Reference: arXiv:1512.00567, section 7.
  """
  loss = losses.cross_entropy(logits, y)
  if not smoothing:
    return loss
  spread = -jax.nn.log_softmax(logits.astype(jnp.float32)).mean(axis=1)
  return (1.0 - smoothing) * loss + smoothing * spread


def divergence(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
  """Returns KL(p || q) in nats of two `[B, K]` logits, `[B]`.

  Its gradient is zero where the two agree.

  Reference: arXiv:1901.08573, as its authors' code has it.
  """
  log_p, log_q = (
    jax.nn.log_softmax(logits.astype(jnp.float32))
    for logits in (p_logits, q_logits)
  )
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)


def distillation(
  outputs: models.Outputs,
  wanted: models.Outputs,
  target: str,
  temperature: float,
) -> jax.Array:
  """Returns how far a network is from its teacher, `[B]`.

  Args:
    outputs: The network's.
    wanted: The teacher's, on the same images.
    target: "logits": T^2 times the divergence of the two predictions, both
      softened by T; "representation": one minus the cosine of the two.
    temperature: T.

  Reference: arXiv:1503.02531, section 2; arXiv:2202.09994 and its code.
  """
  if target == "representation":
    return 1.0 - optax.losses.cosine_similarity(
      outputs.representation, wanted.representation, epsilon=1e-6
    )
  soft, soft_wanted = (
    found.logits.astype(jnp.float32) / temperature
    for found in (outputs, wanted)
  )
  return temperature**2 * divergence(soft_wanted, soft)


def worst_weights(params: Any, grads: Any, gamma: float) -> Any:
  """Returns weights moved up the loss by a share of their own length.

  Each tensor w of more than one axis goes to w + gamma |w| g / |g|; biases and
  BatchNorm's scales stay, as in the authors' code.

  Args:
    params: The weights.
    grads: The loss's gradients at them.
    gamma: The share.

  Reference: arXiv:2004.05884 and its code, one step.
  """

  def move(w, g):
    if w.ndim < 2:
      return w
    length = jnp.linalg.norm(w.ravel()) * gamma
    return w + g * (length / (jnp.linalg.norm(g.ravel()) + _TINY))

  return jax.tree.map(move, params, grads)


def moved_average(
  average: Any, variables: Any, decay: float, num_steps: jax.Array
) -> Any:
  """Returns the exponential average of variables after one more step.

  Its decay begins low, min(decay, (1 + t) / (10 + t)) after t steps, so that
  the initial weights are soon forgotten. Integers are taken as they are.

  Args:
    average: Before the step.
    variables: After the step.
    decay: Weight of the old average.
    num_steps: Steps taken, this one too.

  Reference: arXiv:2010.03593; the decay is TensorFlow's moving average's.
  """
  t = num_steps.astype(jnp.float32)
  kept = jnp.minimum(decay, (1.0 + t) / (10.0 + t))

  def move(old, new):
    if not jnp.issubdtype(new.dtype, jnp.floating):
      return new
    share = kept.astype(new.dtype)
    return share * old + (1.0 - share) * new

  return jax.tree.map(move, average, variables)
