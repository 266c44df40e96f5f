"""TRADES, adversarial weights, averages and distillation against numpy."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import attacks, models, train_objectives, train_step
from robust_features.attacks import AttackConfig, geometry, losses
from robust_features.models import Outputs

SHAPE = (2, 2, 3)
RANDOM = AttackConfig("linf", 0.05, 0.03, 1, start="random")


def softmax(z):
  p = np.exp(z - z.max(1, keepdims=True))
  return p / p.sum(1, keepdims=True)


def kl(p, q):
  return (p * (np.log(p) - np.log(q))).sum(1)


class Reference:
  """A linear network's training in float64, written from the papers."""

  def __init__(self, cfg, kernel, bias, taught):
    self.cfg, self.taught = cfg, taught
    self.w, self.b = (np.asarray(a, np.float64) for a in (kernel, bias))
    self.velocity = [np.zeros_like(self.w), np.zeros_like(self.b)]
    self.average = [self.w, self.b]
    self.steps = 0

  def attacked(self, x, y, start):
    """One signed step from a given start; the better of the two is kept."""
    cfg = self.cfg.adversary
    if not cfg.eps:
      return x
    p, own = softmax(x @ self.w + self.b), np.eye(self.w.shape[1])[y]
    target = p if self.cfg.trades_beta else own

    def value(z):
      return kl(np.maximum(target, 1e-300), softmax(z @ self.w + self.b))

    slope = (softmax(start @ self.w + self.b) - target) @ self.w.T
    end = np.clip(start + cfg.step_size * np.sign(slope), x - cfg.eps,
                  x + cfg.eps).clip(0, 1)  # fmt: skip
    return np.where((value(end) > value(start))[:, None], end, start)

  def gradients(self, w, b, x, x_adv, y):
    """Returns d loss / d (w, b)."""
    cfg, classes = self.cfg, w.shape[1]
    share = cfg.label_smoothing
    label = (1 - share) * np.eye(classes)[y] + share / classes
    trades = cfg.trades_beta > 0
    p, q = softmax(x @ w + b), softmax(x_adv @ w + b)
    clean, adv = p - label, q - label
    if cfg.distil_weight:
      t = cfg.distil_temperature
      soft, wanted = softmax((x @ w + b) / t), softmax(x @ self.taught / t)
      adv = (1 - cfg.distil_weight) * adv
      adv += cfg.distil_weight * t * (soft - wanted)
    if trades:
      ratio = np.log(p) - np.log(q)
      clean += cfg.trades_beta * p * (ratio - kl(p, q)[:, None])
      adv = cfg.trades_beta * (q - p)
    gw, gb = x_adv.T @ adv, adv.sum(0)
    if trades:
      gw, gb = gw + x.T @ clean, gb + clean.sum(0)
    return gw / len(y), gb / len(y)

  def step(self, x, y, start):
    cfg, x_adv = self.cfg, self.attacked(x, y, start)
    w, b = self.w, self.b
    if cfg.awp_gamma:
      up, _ = self.gradients(w, b, x, x_adv, y)
      norm = np.linalg.norm
      w = w + cfg.awp_gamma * norm(w) / norm(up) * up
    grads = self.gradients(w, b, x, x_adv, y)
    moved = []
    for i, (g, at, old) in enumerate(
      zip(grads, (w, b), (self.w, self.b), strict=True)
    ):
      g = g + cfg.weight_decay * at
      self.velocity[i] = cfg.momentum * self.velocity[i] + g
      v = self.velocity[i]
      if cfg.nesterov:
        v = g + cfg.momentum * v
      moved.append(old - cfg.learning_rate * v)
    self.w, self.b = moved
    self.steps += 1
    decay = min(cfg.ema_decay, (1 + self.steps) / (10 + self.steps))
    self.average = [
      decay * a + (1 - decay) * new
      for a, new in zip(self.average, moved, strict=True)
    ]


EXTRAS = {
  "smoothing": {"label_smoothing": 0.2},
  "nesterov": {"nesterov": True},
  "adversarial": {"adversary": RANDOM},
  "smoothing_under_attack": {"adversary": RANDOM, "label_smoothing": 0.2},
  "trades": {"adversary": RANDOM, "trades_beta": 3.0},
  "awp": {"awp_gamma": 0.3},
  "average": {"ema_decay": 0.25},
}
EXTRAS["all"] = functools.reduce(lambda a, b: a | b, EXTRAS.values())
EXTRAS["distil"] = {"distil_weight": 0.6, "distil_temperature": 3.0}


def compiled(model, cfg, adversary=None, teacher=None):
  """Returns `train_step`, compiled for a recipe of one step an epoch."""
  return jax.jit(
    functools.partial(
      train_step.train_step, model=model, cfg=cfg, adversary=adversary,
      tx=train_step.make_optimizer(cfg, 1), teacher=teacher,
    )
  )  # fmt: skip


class StepTest(parameterized.TestCase):
  @parameterized.named_parameters(EXTRAS.items())
  def test_against_numpy(self, extras):
    cfg = toys.recipe(
      num_epochs=3, learning_rate=0.3, schedule="constant", weight_decay=0.02
    )
    cfg = dataclasses.replace(cfg, **extras)
    model = toys.Linear(3)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(4, 5, *SHAPE)).astype(np.float32)
    y = rng.integers(3, size=(4, 5))
    state = train_step.init_state(model, cfg, 1, SHAPE, jax.random.key(0))
    taught = rng.normal(size=(12, 3))
    want = Reference(cfg, state.params["kernel"], state.params["bias"], taught)
    step = compiled(
      model, cfg, cfg.adversary if cfg.adversary.eps else None,
      (model, toys.linear_variables(taught)) if cfg.distil_weight else None,
    )  # fmt: skip
    for i in range(4):
      # Keys of the first restart, as `maximize` has them.
      keys = toys.keys(5, seed=i)
      starts = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
      noise = geometry.random_in_ball(starts, SHAPE, "linf", 0.05)
      start = jnp.clip(x[i] + noise, 0.0, 1.0)
      state = step(
        state, jnp.asarray(x[i]), jnp.asarray(y[i], jnp.int32),
        toys.keys(5, seed=i),
      )  # fmt: skip
      flat, start = (
        np.asarray(images, np.float64).reshape(5, -1)
        for images in (x[i], start)
      )
      want.step(flat, y[i], start)
    found = state.evaluated["params"]
    params = want.average if cfg.ema_decay else (want.w, want.b)
    for name, value in zip(("kernel", "bias"), params, strict=True):
      np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
    if cfg.ema_decay:
      np.testing.assert_allclose(
        state.params["kernel"], want.w, rtol=1e-4, atol=1e-5
      )

  def test_trades_moves_the_statistics_twice_the_images_first(self):
    cfg = toys.recipe(
      adversary=dataclasses.replace(RANDOM, eps=0.2, step_size=0.2),
      trades_beta=2.0,
    )
    model, data = toys.small_cnn(), toys.dataset(8)
    x, y = jnp.asarray(data.images, jnp.float32) / 255, jnp.asarray(data.labels)
    state = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))
    objective = train_objectives.climbed(
      model, state.variables, x, y, "running", 2.0
    )
    climb = jax.jit(lambda x, keys: attacks.maximize(
      objective, x, keys, cfg.adversary).x_adv)  # fmt: skip
    x_adv = climb(x, toys.keys(8))
    self.assertGreater(float(jnp.abs(x_adv - x).max()), 0.1)
    want = state.variables
    train_pass = jax.jit(
      lambda variables, x: models.apply_in_training(model, variables, x, None)
    )
    for images in (x, x_adv):
      want = {**want, **train_pass(want, images)[1]}
    found = compiled(model, cfg, cfg.adversary)(state, x, y, toys.keys(8))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      found.model_state["batch_stats"],
      want["batch_stats"],
    )

  def test_the_statistics_are_averaged_too(self):
    cfg = toys.recipe(ema_decay=0.5)
    model, data = toys.small_cnn(), toys.dataset(8)
    x, y = jnp.asarray(data.images, jnp.float32) / 255, jnp.asarray(data.labels)
    old = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))
    new = compiled(model, cfg)(old, x, y, toys.keys(8))
    jax.tree.map(
      lambda average, a, b: np.testing.assert_allclose(
        average, (2 * a + 9 * b) / 11, rtol=1e-5, atol=1e-6
      ),
      new.evaluated,
      old.variables,
      new.variables,
    )

  def test_dropout_is_drawn_anew_in_every_pass(self):
    model = models.from_linen(toys.Dropping())
    x, y = jnp.full((4, *SHAPE), 0.5), jnp.zeros(4, jnp.int32)
    variables = models.init_variables(model, jax.random.key(0), SHAPE)
    ones, twos = (
      train_objectives.descended(
        model, variables, x, x, y, jax.random.key(1), trades_beta=beta,
        loss_fn=lambda outputs: losses.cross_entropy(outputs.logits, y),
      ).loss
      for beta in (1.0, 2.0)
    )  # fmt: skip
    # What differs is the divergence, none where all units are the same.
    self.assertGreater(float(jnp.abs(ones - twos).max()), 1e-3)

  def test_dropout_has_keys_of_its_own(self):
    """For the step of adversarial weights, and for each part of a batch."""
    model = models.from_linen(toys.Dropping())
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(6, *SHAPE)), jnp.float32)
    y = jnp.asarray(rng.integers(3, size=6), jnp.int32)
    cfg = toys.recipe(
      batch_size=6, schedule="constant", momentum=0.0, weight_decay=0.0
    )
    begin = train_step.init_state(model, cfg, 1, SHAPE, jax.random.key(0))
    key = jax.random.key(1)

    @jax.jit
    def gradients(params, x, y, key):
      def loss(params):
        return train_objectives.descended(
          model, {"params": params}, x, x, y, key, trades_beta=0.0,
          loss_fn=lambda outputs: losses.cross_entropy(outputs.logits, y),
        ).loss.mean()  # fmt: skip

      return jax.grad(loss)(params)

    up = gradients(begin.params, x, y, jax.random.fold_in(key, 0))
    up = train_objectives.worst_weights(begin.params, up, 0.5)
    parts = [
      gradients(begin.params, x[j::3], y[j::3], jax.random.fold_in(key, j))
      for j in range(3)
    ]
    for changes, wanted in (
      ({"awp_gamma": 0.5}, gradients(up, x, y, key)),
      ({"accumulate_steps": 3},
       jax.tree.map(lambda *g: sum(g) / 3, *parts)),
    ):  # fmt: skip
      step = compiled(model, dataclasses.replace(cfg, **changes))
      found = step(begin, x, y, toys.keys(6), model_key=key).params
      jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(
          new, old - 0.05 * g, rtol=1e-5, atol=1e-6
        ),
        found,
        begin.params,
        wanted,
      )


class Centred(nn.Module):
  """Three pixels are the logits, less the batch's means if it is normalised."""

  def __call__(self, x, *, bn_mode="running", fake_relu=False):
    del fake_relu
    flat = x.reshape(x.shape[0], -1)
    if bn_mode == "batch":
      flat = flat - flat.mean(axis=0, keepdims=True)
    return Outputs(flat, flat)


class ObjectivesTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.5)
  def test_what_is_climbed(self, beta):
    """With the batch's statistics; the divergence is from the images'."""
    rng = np.random.default_rng(0)
    x, z = jnp.asarray(rng.uniform(size=(2, 6, 1, 1, 3)), jnp.float32)
    y = jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32)
    model, variables = Centred(), {}
    clean, there = (
      models.apply(model, variables, at, "batch").logits for at in (x, z)
    )
    want = losses.cross_entropy(there, y)
    if beta:
      want = train_objectives.divergence(clean, there)
    found = train_objectives.climbed(model, variables, x, y, "batch", beta)(z)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(0.0, 0.5)
  def test_correct_is_of_what_is_attacked(self, beta):
    model = toys.Linear(2)
    variables = toys.linear_variables([[1.0, -1.0]], [-0.5, 0.5])
    x = jnp.asarray([0.9, 0.9, 0.1]).reshape(3, 1, 1, 1)  # 0, 0, 1.
    x_adv = jnp.asarray([0.9, 0.1, 0.9]).reshape(3, 1, 1, 1)
    found = train_objectives.descended(
      model, variables, x, x_adv, jnp.asarray([0, 1, 1], jnp.int32), None,
      loss_fn=lambda outputs: outputs.logits[:, 1], trades_beta=beta,
    )  # fmt: skip
    np.testing.assert_array_equal(found.correct, [True, True, False])

  def test_divergence_has_no_gradient_where_predictions_agree(self):
    z = jnp.asarray([[1.0, -2.0, 0.5]])
    slope = jax.grad(lambda q: train_objectives.divergence(z, q).sum())(z)
    np.testing.assert_allclose(slope, np.zeros((1, 3)), atol=1e-7)
    self.assertAlmostEqual(float(train_objectives.divergence(z, z)[0]), 0.0)

  def test_representations_are_compared_by_their_cosine(self):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 3, 5)).astype(np.float32)
    ours[1] *= 0.01  # A cosine has no scale.
    ours[2] = 0.0  # Every unit is off.

    def total(z):
      return train_objectives.distillation(
        Outputs(z, z), Outputs(z, jnp.asarray(theirs)), "representation", 1.0
      )

    norm = np.linalg.norm
    cosine = (ours * theirs).sum(1)[:2] / norm(ours[:2], axis=1)
    cosine /= norm(theirs[:2], axis=1)
    found = total(jnp.asarray(ours))
    np.testing.assert_allclose(found[:2], 1 - cosine, rtol=1e-5)
    self.assertEqual(float(found[2]), 1.0)
    slope = jax.grad(lambda z: total(z).sum())(jnp.asarray(ours))
    self.assertTrue(np.isfinite(slope).all())

  def test_weights_move_by_a_share_of_their_length(self):
    rng = np.random.default_rng(0)
    w, g = (jnp.asarray(rng.normal(size=(3, 4)), jnp.float32) for _ in "wg")
    params = {"kernel": w, "bias": w[0], "still": w}
    grads = {"kernel": g, "bias": g[0], "still": jnp.zeros_like(g)}
    found = train_objectives.worst_weights(params, grads, 0.25)
    step = np.asarray(found["kernel"] - w)
    self.assertAlmostEqual(
      np.linalg.norm(step) / np.linalg.norm(w), 0.25, places=5
    )
    cosine = (step * g).sum() / np.linalg.norm(step) / np.linalg.norm(g)
    self.assertAlmostEqual(float(cosine), 1.0, places=5)
    for name in ("bias", "still"):
      np.testing.assert_array_equal(found[name], params[name])

  def test_the_average_of_a_constant_and_of_counters(self):
    average = {"w": jnp.zeros(()), "count": jnp.int32(0)}
    for step in range(1, 4):
      now = {"w": jnp.ones(()), "count": jnp.int32(step)}
      average = train_objectives.moved_average(
        average, now, 0.25, jnp.int32(step)
      )
    # What is left of the start: 2/11, then 3/12, 4/13 cut to 1/4.
    self.assertAlmostEqual(
      float(average["w"]), 1 - (2 / 11) * 0.25 * 0.25, places=6
    )
    self.assertEqual(int(average["count"]), 3)


if __name__ == "__main__":
  absltest.main()
