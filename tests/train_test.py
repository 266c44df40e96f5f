"""Training against numpy; interrupted equals straight, bit for bit."""

import dataclasses
import functools
import json
import signal
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toys
from absl.testing import absltest, parameterized

from robust_features import (
  attacks,
  evaluate,
  models,
  recipes,
  train,
  train_step,
)
from robust_features.attacks import AttackConfig
from robust_features.data import augment
from robust_features.data import dataset as ds
from robust_features.runtime import checkpoint, preemption, sharding
from robust_features.study import settings
from robust_features.train import RunConfig

STRAIGHT = RunConfig(chunk_steps=50, checkpoint_every_seconds=1e9)
ATTACK = AttackConfig("l2", 0.5, 0.2, 2)
TRADES = {
  "adversary": dataclasses.replace(ATTACK, start="random"), "trades_beta": 3.0,
  "awp_gamma": 0.01, "ema_decay": 0.9, "label_smoothing": 0.1,
  "nesterov": True,
}  # fmt: skip
# Everything that could depend on where a run was interrupted.
HARD = {
  "num_epochs": 3, "eval_every_epochs": 2, "adversary": ATTACK,
  "eps_ramp_epochs": 2.0, "schedule": "linear", "warmup_epochs": 0.5,
  "augment": augment.AugmentConfig(1, True, 0.1, 0.0),
}  # fmt: skip


def run(test, cfg, run_config=STRAIGHT, *, model=None, workdir=None, data=None):
  """Trains on 44 images: five steps an epoch at batch 8, four left over."""
  return train.train(
    cfg,
    run_config,
    model or toys.small_cnn(),
    data or toys.dataset(44),
    toys.dataset(30, seed=1),
    workdir or toys.folder(test),
    jax.random.key(3),
  )


def saved(workdir, which="last"):
  """Returns the variables that a run's newest checkpoint holds."""
  found, _ = checkpoint.load_variables(workdir / "checkpoints")
  if which == "best":
    return found["best"]
  state = found["state"]
  if "average" in state:
    return state["average"]
  return {"params": state["params"], **state["model_state"]}


class DefaultsTest(parameterized.TestCase):
  @parameterized.parameters(
    (train_step.TrainConfig, recipes.train()),
    (evaluate.EvaluateConfig, recipes.evaluation()),
    (train.RunConfig, recipes.study("any").run),
  )
  def test_what_is_left_out_is_as_in_the_recipes(self, cls, section):
    self.assertEqual(cls(), settings.build(cls, section, "section"))


class ScheduleTest(parameterized.TestCase):
  @parameterized.parameters(
    # With 10 steps an epoch and 4 epochs.
    ("constant", 0.0, {0: 0.2, 39: 0.2}),
    ("step", 0.0, {0: 0.2, 19: 0.2, 20: 0.02, 39: 0.02}),
    ("cosine", 0.0, {0: 0.2, 10: 0.1 * (1 + np.sqrt(0.5)), 20: 0.1, 40: 0.0}),
    ("linear", 0.0, {0: 0.2, 10: 0.15, 30: 0.05, 40: 0.0}),
    ("linear", 1.0, {0: 0.02, 4: 0.1, 9: 0.2, 10: 0.2, 25: 0.1, 40: 0.0}),
    ("constant", 0.5, {0: 0.04, 4: 0.2, 30: 0.2}),
    ("step", 1.0, {0: 0.02, 9: 0.2, 20: 0.02}),
    ("step", 2.0, {0: 0.01, 19: 0.2, 20: 0.02, 39: 0.02}),
    # 3.8 steps are four.
    ("constant", 0.38, {0: 0.05, 3: 0.2, 4: 0.2}),
  )
  def test_learning_rate(self, schedule, warmup, points):
    cfg = toys.recipe(
      num_epochs=4, learning_rate=0.2, schedule=schedule, warmup_epochs=warmup,
      drop_every_epochs=2, drop_factor=0.1,
    )  # fmt: skip
    rate = train_step.learning_rate_fn(cfg, 10)
    for step, want in points.items():
      found = float(rate(jnp.int32(step)))
      self.assertAlmostEqual(found, want, places=6, msg=f"step {step}")

  def test_the_adversary_grows(self):
    cfg = toys.recipe(adversary=ATTACK, eps_ramp_epochs=2.0)
    for step, part in ((0, 0.05), (9, 0.5), (19, 1.0), (70, 1.0)):
      found = train_step.adversary_at(cfg, jnp.int32(step), 10)
      np.testing.assert_allclose(found.eps, 0.5 * part, rtol=1e-6)
      np.testing.assert_allclose(found.step_size, 0.2 * part, rtol=1e-6)
      self.assertEqual(found.num_steps, 2)
    cfg = dataclasses.replace(cfg, eps_ramp_epochs=0.0)
    self.assertEqual(train_step.adversary_at(cfg, jnp.int32(0), 10), ATTACK)


def softmax_gradients(w, b, x, y):
  """Returns d mean CE / d(w, b) and d CE_i / d x_i, in float64 numpy."""
  z = x @ w + b
  p = np.exp(z - z.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  p[np.arange(len(y)), y] -= 1
  return x.T @ p / len(y), p.mean(0), p @ w.T


class TrainStepTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_against_numpy(self, adversarial):
    """SGD as PyTorch's: v = 0.9 v + (g + wd p), p = p - lr v."""
    cfg = toys.recipe(
      num_epochs=3, learning_rate=0.3, schedule="linear", weight_decay=0.02
    )
    eps = 0.05
    adversary = AttackConfig("linf", eps, eps, 1) if adversarial else None
    model, tx = toys.Linear(3), train_step.make_optimizer(cfg, 1)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, (3, 4, 2, 2, 3))  # Three batches of four.
    y = rng.integers(3, size=(3, 4))
    state = train_step.init_state(model, cfg, 1, (2, 2, 3), jax.random.key(0))
    w, b = (np.asarray(state.params[k], np.float64) for k in ("kernel", "bias"))
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for i in range(3):
      state = train_step.train_step(
        state, jnp.asarray(x[i], jnp.float32), jnp.asarray(y[i], jnp.int32),
        toys.keys(4), model=model, tx=tx, cfg=cfg, adversary=adversary,
      )  # fmt: skip
      flat = x[i].reshape(4, -1)
      if adversarial:
        flat = flat + eps * np.sign(softmax_gradients(w, b, flat, y[i])[2])
      gw, gb, _ = softmax_gradients(w, b, flat, y[i])
      vw, vb = 0.9 * vw + gw + 0.02 * w, 0.9 * vb + gb + 0.02 * b
      rate = 0.3 * (1 - i / 3)
      w, b = w - rate * vw, b - rate * vb
    np.testing.assert_allclose(state.params["kernel"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.params["bias"], b, rtol=1e-5, atol=1e-6)
    self.assertEqual(int(state.step), 3)
    self.assertEqual(float(state.sums.count), 12)

  def test_sums(self):
    cfg, model = toys.recipe(learning_rate=0.0), toys.Linear(3)
    data = toys.dataset(8)
    x, y = jnp.asarray(data.images, jnp.float32) / 255, jnp.asarray(data.labels)
    state = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))
    logits = np.asarray(model.apply(state.variables, x).logits, np.float64)
    for _ in range(2):
      state = train_step.train_step(
        state, x, y, toys.keys(8), model=model,
        tx=train_step.make_optimizer(cfg, 1), cfg=cfg, adversary=None,
      )  # fmt: skip
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    want = -2 * log_p[np.arange(8), data.labels].sum()
    np.testing.assert_allclose(state.sums.loss, want, rtol=1e-5)
    hits = (logits.argmax(1) == data.labels).sum()
    self.assertEqual(float(state.sums.correct), 2 * hits)
    self.assertEqual(float(state.sums.count), 16)

  @parameterized.parameters("running", "batch")
  def test_batch_norm_sees_the_adversarial_batch_once(self, attack_bn_mode):
    """New statistics are 0.9 old + 0.1 of the attacked batch, whatever the
    attack's own mode; its steps leave no trace."""
    cfg = toys.recipe(adversary=ATTACK, attack_bn_mode=attack_bn_mode)
    data, model = toys.dataset(8), toys.small_cnn()
    x, y = jnp.asarray(data.images, jnp.float32) / 255, jnp.asarray(data.labels)
    state = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))
    rng = np.random.default_rng(0)
    old = jax.tree.map(
      lambda v: v + jnp.asarray(rng.uniform(0, 0.1, v.shape), jnp.float32),
      state.model_state,
    )
    state = state._replace(model_state=old)
    old = old["batch_stats"]

    def objective(z):
      logits = models.apply(model, state.variables, z, attack_bn_mode).logits
      return -jax.nn.log_softmax(logits)[jnp.arange(8), y]

    keys = toys.keys(8)
    x_adv = attacks.maximize(objective, x, keys, ATTACK).x_adv
    self.assertGreater(float(jnp.abs(x_adv - x).max()), 0.01)
    _, seen = model.apply(
      state.variables, x_adv, bn_mode="batch", capture_intermediates=True,
      mutable=["intermediates"],
    )  # fmt: skip
    conv = np.asarray(seen["intermediates"]["conv1"]["__call__"][0], np.float64)
    conv = conv.reshape(-1, conv.shape[-1])
    new = train_step.train_step(
      state, x, y, keys, model=model, tx=train_step.make_optimizer(cfg, 1),
      cfg=cfg, adversary=ATTACK,
    ).model_state["batch_stats"]["bn1"]  # fmt: skip
    mean = 0.9 * np.asarray(old["bn1"]["mean"]) + 0.1 * conv.mean(0)
    np.testing.assert_allclose(new["mean"], mean, rtol=1e-4, atol=1e-5)
    # PyTorch's running variance is the unbiased one.
    var = 0.9 * np.asarray(old["bn1"]["var"]) + 0.1 * conv.var(0, ddof=1)
    np.testing.assert_allclose(new["var"], var, rtol=1e-4, atol=1e-5)


class AccumulationTest(absltest.TestCase):
  def step(self, model, x, y, **changes):
    """Returns the state after one attacked step of twelve images."""
    cfg = toys.recipe(batch_size=len(x), adversary=ATTACK, **changes)
    state = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))
    return train_step.train_step(
      state, x, y, toys.keys(len(x)), model=model,
      tx=train_step.make_optimizer(cfg, 1), cfg=cfg, adversary=ATTACK,
    )  # fmt: skip

  def setUp(self):
    super().setUp()
    data = toys.dataset(12)
    self.x = jnp.asarray(data.images, jnp.float32) / 255
    self.y = jnp.asarray(data.labels)

  def test_the_step_is_that_of_the_whole_batch(self):
    whole, parts = (
      self.step(toys.Linear(3), self.x, self.y, accumulate_steps=n)
      for n in (1, 3)
    )
    for found, want in zip(
      jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True
    ):
      np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-7)
    self.assertEqual(float(parts.sums.count), 12)

  def test_batch_norm_sees_one_part_after_the_other(self):
    """Part j is the rows j, j + 3, ...: every device has some of each."""
    model = toys.small_cnn()
    found = self.step(model, self.x, self.y, accumulate_steps=3).model_state
    cfg = toys.recipe(batch_size=4, learning_rate=0.0)
    first = train_step.init_state(model, cfg, 1, (8, 8, 3), jax.random.key(0))

    def objective(z):
      logits = models.apply(model, first.variables, z).logits
      return attacks.losses.cross_entropy(logits, self.y)

    x_adv = attacks.maximize(objective, self.x, toys.keys(12), ATTACK).x_adv
    state = first
    for j in range(3):
      state = train_step.train_step(
        state, x_adv[j::3], self.y[j::3], toys.keys(4), model=model,
        tx=train_step.make_optimizer(cfg, 1), cfg=cfg, adversary=None,
      )  # fmt: skip
    for name, want in state.model_state["batch_stats"]["bn1"].items():
      np.testing.assert_allclose(
        found["batch_stats"]["bn1"][name], want, rtol=1e-5, atol=1e-6
      )


class Interrupted:
  """Asks for a stop after each of some chunks, and starts again."""

  def __init__(self, test, after, send):
    self.test, self.after, self.send, self.calls = test, after, send, 0
    self.chunk = train._train_chunk

  def __call__(self, *args, **kwargs):
    found = self.chunk(*args, **kwargs)
    self.calls += 1
    if self.calls in self.after:
      self.send()
    return found

  def run(self, cfg, run_config, workdir):
    stops = 0
    with mock.patch.object(train, "_train_chunk", self):
      while True:
        try:
          return run(self.test, cfg, run_config, workdir=workdir), stops
        except preemption.Stopped:
          stops += 1
          preemption.reset()


class ResumeTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.cfg = toys.recipe(**HARD)

  def setUp(self):
    super().setUp()
    self.addCleanup(preemption.reset)

  def straight(self):
    cls = type(self)
    if not hasattr(cls, "_straight"):
      cls._straight = run(self, self.cfg)
    return cls._straight

  def assert_same(self, found):
    want = self.straight()
    self.assertEqual(found.digest, want.digest)
    self.assertEqual(found.history, want.history)
    self.assertEqual(
      checkpoint.digest(found.best_variables),
      checkpoint.digest(want.best_variables),
    )

  @parameterized.parameters(
    # Chunks of 2, 2 and 1 steps an epoch: the third ends it.
    (2, (1,)),
    (2, (3,)),
    (2, (1, 2, 3, 4, 5, 6, 7, 8, 9)),
    (1, (4, 10)),
    # One chunk an epoch: every request comes with its last step.
    (50, (1, 2, 3)),
  )
  def test_interrupted_equals_straight(self, chunk_steps, after):
    workdir = toys.folder(self)
    interrupted = Interrupted(self, after, preemption.request)
    found, stops = interrupted.run(
      self.cfg, RunConfig(chunk_steps, 1e9), workdir
    )
    self.assertEqual(stops, len(after))
    # Nothing was computed twice: a stop saves first.
    chunks = 3 * -(-5 // chunk_steps)
    self.assertEqual(interrupted.calls, chunks)
    self.assert_same(found)
    steps = [json.loads(line)["step"] for line in
             (workdir / "metrics.jsonl").read_text().splitlines()]  # fmt: skip
    self.assertEqual(steps, sorted(steps))
    self.assertEqual(steps[-1], 15)

  def test_a_signal(self):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    self.addCleanup(signal.signal, signal.SIGTERM, before[0])
    self.addCleanup(signal.signal, signal.SIGINT, before[1])
    preemption.install()
    found, stops = Interrupted(
      self, (2,), lambda: signal.raise_signal(signal.SIGTERM)
    ).run(self.cfg, RunConfig(2, 1e9), toys.folder(self))
    self.assertEqual(stops, 1)
    self.assert_same(found)

  def test_a_crash_costs_only_what_was_not_saved(self):
    workdir = toys.folder(self)

    def crash():
      raise KeyboardInterrupt

    with self.assertRaises(KeyboardInterrupt):
      Interrupted(self, (5,), crash).run(self.cfg, RunConfig(2, 0.0), workdir)
    again = Interrupted(self, (), crash)
    found, _ = again.run(self.cfg, RunConfig(2, 0.0), workdir)
    self.assertEqual(again.calls, 5)  # Of nine, four had been saved.
    self.assert_same(found)

  def test_trades_with_an_average(self):
    """What is kept is the average; it too goes on to the same bits."""
    cfg = toys.recipe(**HARD | TRADES)
    straight, workdir = run(self, cfg), toys.folder(self)
    found, stops = Interrupted(self, (2, 5), preemption.request).run(
      cfg, RunConfig(2, 1e9), workdir
    )
    self.assertEqual(stops, 2)
    self.assertEqual(found.digest, straight.digest)
    self.assertEqual(found.best_digest, straight.best_digest)
    for which, want in (("last", found.digest), ("best", found.best_digest)):
      self.assertEqual(checkpoint.digest(saved(workdir, which)), want)
    content, _ = checkpoint.load_variables(workdir / "checkpoints")
    params = content["state"]["params"]
    self.assertNotEqual(
      checkpoint.digest(params), checkpoint.digest(found.variables["params"])
    )

  def test_a_checkpoint_holds_no_average_that_there_is_not(self):
    workdir = toys.folder(self)
    run(self, toys.recipe(), model=toys.Linear(3), workdir=workdir)
    content, _ = checkpoint.load_variables(workdir / "checkpoints")
    self.assertNotIn("average", content["state"])

  def test_cadences_change_nothing(self):
    self.assert_same(run(self, self.cfg, RunConfig(3, 0.0)))

  def test_a_finished_run_is_read_back(self):
    workdir = toys.folder(self)
    first = run(self, self.cfg, workdir=workdir)
    never = Interrupted(self, (), None)
    restore = checkpoint.Checkpoints.restore

    def long_ago(checkpoints, like):
      state, metadata = restore(checkpoints, like)
      return state, metadata | {"seconds": 1e6, "input_seconds": 1e5}

    with mock.patch.object(checkpoint.Checkpoints, "restore", long_ago):
      again, _ = never.run(self.cfg, STRAIGHT, workdir)
    self.assertEqual(never.calls, 0)
    # Time is that of all sittings.
    self.assertBetween(again.seconds, 1e6, 1e6 + 600)
    self.assertBetween(again.input_seconds, 1e5, 1e5 + 600)
    self.assertEqual(again.history, first.history)
    self.assert_same(again)

  def on_one_device(self, cfg, run_config):
    """Returns what training on one device finds."""
    mesh = jax.make_mesh(
      (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:1],
    )  # fmt: skip
    jax.clear_caches()  # A trace knows its mesh.
    self.addCleanup(jax.clear_caches)
    with mock.patch.object(sharding, "_mesh", return_value=mesh):
      return run(self, cfg, run_config)

  def test_one_device_equals_two(self):
    """Up to the order of summation, as BatchNorm is that of the whole batch."""
    want = self.straight()
    # Saves before the first evaluation: the best variables so far must not
    # be the buffers that the next chunk takes over.
    found = self.on_one_device(self.cfg, RunConfig(2, 0.0))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
      found.variables,
      want.variables,
    )
    for ours, theirs in zip(found.history, want.history, strict=True):
      self.assertAlmostEqual(ours["train_loss"], theirs["train_loss"], places=4)

  def test_two_devices_share_an_odd_batch(self):
    """One step on 43 images, 22 and 21 of them."""
    cfg = toys.recipe(batch_size=43, num_epochs=1)
    two, one = run(self, cfg), self.on_one_device(cfg, STRAIGHT)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      one.variables,
      two.variables,
    )

  def test_a_chunk_is_traced_once_whatever_its_length(self):
    before = train._train_chunk._cache_size()
    cfg = dataclasses.replace(self.cfg, learning_rate=0.04)  # A new program.
    run(self, cfg, RunConfig(2, 1e9))
    run(self, cfg, RunConfig(3, 1e9))
    self.assertEqual(train._train_chunk._cache_size(), before + 1)


class PromisesTest(absltest.TestCase):
  """Which example, which key, which step: the driver against its rule."""

  @jax.debug_key_reuse(False)  # It counts what a loop outside jit does twice.
  def test_order_and_keys(self):
    cfg = toys.recipe(
      num_epochs=3, batch_size=8, eval_every_epochs=2, ema_decay=0.5,
      augment=augment.AugmentConfig(2, True, 0.2, 2.0),
      adversary=AttackConfig("l2", 0.4, 0.1, 2, start="random"),
    )  # fmt: skip
    data, key = toys.dataset(20), jax.random.key(7)
    model = models.from_linen(toys.Dropping())
    held_out = toys.dataset(30, seed=1)
    whole = evaluate.evaluate
    with mock.patch.object(evaluate, "evaluate", wraps=whole) as validate:
      found = train.train(
        cfg, STRAIGHT, model, data, held_out, toys.folder(self), key
      )
    steps = 20 // 8  # The last four of every epoch are left out.
    init, order, step_key, _, model_key = (
      jax.random.fold_in(key, i) for i in range(5)
    )
    state = train_step.init_state(model, cfg, steps, (8, 8, 3), init)
    self.assertEqual(
      checkpoint.digest(train.initial_variables(model, (8, 8, 3), key)),
      checkpoint.digest(state.variables),
    )
    take = jax.jit(
      functools.partial(
        train_step.train_step, model=model, adversary=cfg.adversary,
        tx=train_step.make_optimizer(cfg, steps), cfg=cfg,
      )
    )  # fmt: skip

    @jax.jit
    def keys_of(step, indices):
      of_step = jax.random.fold_in(step_key, step)
      split = [
        jax.random.split(jax.random.fold_in(of_step, i)) for i in indices
      ]
      return [jnp.stack([pair[j] for pair in split]) for j in range(2)]

    changed = jax.jit(lambda x, keys: augment.augment(x, keys, cfg.augment))
    sums = []
    for step in range(3 * steps):
      if step % steps == 0:
        state = state._replace(sums=train_step.no_sums())
      epoch_key = jax.random.fold_in(order, step // steps)
      shuffled = jax.random.permutation(epoch_key, 20)
      at = 8 * (step % steps)
      indices = np.asarray(shuffled[at : at + 8])
      augments, attacks_ = keys_of(jnp.int32(step), indices)
      x = ds.to_float(data.images[indices])
      x = changed(x, augments)
      state = take(
        state, x, jnp.asarray(data.labels[indices]), attacks_,
        model_key=jax.random.fold_in(model_key, step),
      )  # fmt: skip
      sums.append(state.sums)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      found.variables,
      state.evaluated,
    )
    # Every second epoch and the last one are told, each of itself alone.
    self.assertEqual([record["epoch"] for record in found.history], [2, 3])
    for record in found.history:
      seen = sums[record["epoch"] * steps - 1]
      self.assertEqual(float(seen.count), 8 * steps)
      self.assertAlmostEqual(
        record["train_loss"], float(seen.loss / seen.count), places=5
      )
      self.assertAlmostEqual(
        record["train_accuracy"], float(seen.correct / seen.count)
      )
    self.check_validation(found, validate, model, held_out)

  def check_validation(self, found, validate, model, held_out):
    """The average is judged, by the training's attack from the image."""
    self.assertEqual(validate.call_count, 2)
    _, variables, data, cfg, *_ = validate.call_args.args
    self.assertEqual(checkpoint.digest(variables), found.digest)
    self.assertIs(data, held_out)
    want = evaluate.EvaluateConfig(
      "l2", (0.4,), 2, 0.5, 1, "cross_entropy", "running", 250
    )
    self.assertEqual(cfg, want)
    last = found.history[-1]
    seen = evaluate.predict(model, variables, held_out.images, 30).argmax(1)
    shifted = [(seen == (held_out.labels + s) % 3).mean() for s in range(3)]
    self.assertLen(set(shifted), 3)
    np.testing.assert_allclose(last["validation_shifted"], shifted)
    self.assertEqual(last["validation_accuracy"], shifted[0])


class DriverTest(parameterized.TestCase):
  def test_it_learns_and_says_so(self):
    cfg = toys.recipe(num_epochs=6, learning_rate=0.1)
    workdir = toys.folder(self)
    found = run(self, cfg, workdir=workdir, data=toys.dataset(80))
    self.assertEqual([r["epoch"] for r in found.history], [1, 2, 3, 4, 5, 6])
    self.assertGreater(found.history[-1]["validation_accuracy"], 0.9)
    self.assertLess(
      found.history[-1]["train_loss"], found.history[0]["train_loss"] / 2
    )
    self.assertNotIn("validation_robust_accuracy", found.history[0])
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    names = {name for line in lines for name in json.loads(line)}
    self.assertContainsSubset(
      {"step", "train/loss", "epoch/validation_accuracy"}, names
    )

  def test_best_and_last_are_both_kept(self):
    """The best is what training only so far would have given."""
    # The rate leaps in the last epochs and spoils what was learnt.
    cfg = toys.recipe(
      num_epochs=5, schedule="step", drop_every_epochs=3, drop_factor=100.0
    )
    model, workdir = toys.small_cnn(), toys.folder(self)
    found = run(self, cfg, model=model, workdir=workdir)
    scores = [r["validation_accuracy"] for r in found.history]
    best = int(np.argmax(scores)) + 1
    self.assertLess(best, 5)
    self.assertLess(scores[-1], max(scores))
    short = run(self, dataclasses.replace(cfg, num_epochs=best), model=model)
    best_digest = checkpoint.digest(found.best_variables)
    self.assertEqual(best_digest, short.digest)
    self.assertNotEqual(best_digest, found.digest)
    for which, want in (("last", found.digest), ("best", best_digest)):
      self.assertEqual(checkpoint.digest(saved(workdir, which)), want)

  def test_of_equal_epochs_the_first_is_the_best(self):
    cfg = toys.recipe(num_epochs=3, learning_rate=1e-4, schedule="constant")
    model, data = toys.Linear(3), toys.dataset(44)
    one = ds.take(data, np.arange(1))

    def trained(cfg):
      return train.train(
        cfg, STRAIGHT, model, data, one, toys.folder(self), jax.random.key(0)
      )

    found = trained(cfg)
    self.assertLen({r["validation_accuracy"] for r in found.history}, 1)
    first = trained(dataclasses.replace(cfg, num_epochs=1))
    self.assertEqual(found.best_digest, first.digest)
    self.assertNotEqual(found.best_digest, found.digest)

  def test_without_a_criterion_the_best_is_the_last(self):
    model, workdir = toys.small_cnn(), toys.folder(self)
    nothing = toys.dataset(4, seed=1)
    nothing = ds.take(nothing, np.arange(0))
    found = train.train(
      toys.recipe(), STRAIGHT, model, toys.dataset(44), nothing, workdir,
      jax.random.key(0),
    )  # fmt: skip
    self.assertEqual(found.best_digest, found.digest)
    self.assertEqual(checkpoint.digest(saved(workdir, "best")), found.digest)

  def test_robust_accuracy_chooses_the_best_of_adversarial_training(self):
    cfg = toys.recipe(num_epochs=3, adversary=ATTACK, learning_rate=0.1)
    found = run(self, cfg)
    scores = [r["validation_robust_accuracy"] for r in found.history]
    robust = evaluate.evaluate(
      toys.small_cnn(), found.best_variables, toys.dataset(30, seed=1),
      evaluate.EvaluateConfig("l2", (0.5,), 2, 0.8, 1, "cross_entropy",
                              "running", 250),
      jax.random.key(0),
    )  # fmt: skip
    self.assertAlmostEqual(robust.robust_accuracy[0.5], max(scores))

  def test_every_epoch_sees_every_example_once_in_another_order(self):
    key = jax.random.key(0)
    orders = [np.asarray(train._epoch_order(key, e, 44)) for e in (0, 1)]
    for order in orders:
      np.testing.assert_array_equal(np.sort(order), np.arange(44))
    self.assertGreater((orders[0] != orders[1]).sum(), 30)

  def test_the_key_decides(self):
    cfg, data = toys.recipe(num_epochs=1), toys.dataset(44)
    digests = [
      train.train(cfg, STRAIGHT, toys.small_cnn(), data, data,
                  toys.folder(self), jax.random.key(seed)).digest
      for seed in (0, 0, 1)
    ]  # fmt: skip
    self.assertEqual(digests[0], digests[1])
    self.assertNotEqual(digests[0], digests[2])

  def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(self):
    cfg = toys.recipe(
      num_epochs=3, schedule="step", drop_every_epochs=1, drop_factor=1e36
    )
    workdir, model = toys.folder(self), toys.Linear(3)
    with self.assertRaisesRegex(
      ValueError,
      "loss is not finite at step 10; the checkpoint of step 5 is kept; lower "
      "learning_rate",
    ) as caught:
      run(self, cfg, RunConfig(50, 0.0), model=model, workdir=workdir)
    self.assertNotIn("\n", str(caught.exception))
    kept = saved(workdir)
    one = dataclasses.replace(cfg, num_epochs=1)
    want = run(self, one, model=model)
    self.assertEqual(checkpoint.digest(kept), want.digest)

  def test_a_loss_that_is_not_finite_from_the_start(self):
    cfg = toys.recipe(learning_rate=1e37)
    with self.assertRaisesRegex(
      ValueError, "not finite at step 5; lower learning_rate"
    ):
      run(self, cfg, model=toys.Linear(3))

  def test_without_validation(self):
    data = toys.dataset(16)
    empty = dataclasses.replace(
      data, images=data.images[:0], labels=data.labels[:0]
    )
    found = train.train(
      toys.recipe(), STRAIGHT, toys.Linear(3), data, empty,
      toys.folder(self), jax.random.key(0),
    )  # fmt: skip
    self.assertEqual(
      list(found.history[0]), ["epoch", "train_loss", "train_accuracy"]
    )


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"batch_size": 46}, "batch_size is 46, more than the 44 training images"),
    (
      {"adversary": AttackConfig("l2", 80.0, 1.0, 1)},
      r"adversary.eps is 80, larger than the l2 diameter .*80/255",
    ),
  )
  def test_recipes_that_do_not_fit_the_data(self, changes, message):
    workdir = toys.folder(self) / "new"
    with self.assertRaisesRegex(ValueError, message):
      run(self, toys.recipe(**changes), workdir=workdir)
    self.assertFalse(workdir.exists())

  @parameterized.parameters(
    ({"schedule": "poly"}, "schedule must be one of .*got 'poly'"),
    ({"attack_bn_mode": "train"}, "attack_bn_mode must be .*got 'train'"),
    ({"num_epochs": 0}, "num_epochs must be at least 1, got 0"),
    ({"batch_size": -8}, "batch_size must be at least 1, got -8"),
    ({"eval_every_epochs": 0}, "eval_every_epochs must be at least 1"),
    ({"drop_every_epochs": 0}, "drop_every_epochs must be at least 1"),
    ({"learning_rate": -0.1}, "learning_rate must be a finite number >= 0"),
    ({"learning_rate": float("nan")}, "learning_rate must be a finite"),
    ({"weight_decay": float("inf")}, "weight_decay must be a finite number"),
    ({"momentum": -1.0}, "momentum must be a finite number >= 0, got -1"),
    ({"eps_ramp_epochs": -1.0}, "eps_ramp_epochs must be a finite number"),
    ({"ema_decay": 1.0}, "ema_decay must be below 1, got 1"),
    ({"label_smoothing": 1.5}, "label_smoothing must be below 1, got 1.5"),
    ({"awp_gamma": float("inf")}, "awp_gamma must be a finite number"),
    ({"batch_size": 9, "accumulate_steps": 2}, "accumulate_steps must divide"),
    ({"accumulate_steps": 2, "awp_gamma": 0.1}, "awp_gamma must be 0 with acc"),
    ({"nesterov": True, "momentum": 0.0}, "momentum must be above 0 with nest"),
    ({"trades_beta": 6.0}, "adversary.eps must be above 0 with trades_beta"),
    ({"distil_target": "features"}, "distil_target must be one of"),
    ({"distil_weight": 1.5}, "distil_weight must be at most 1, got 1.5"),
    ({"distil_temperature": 0.0}, "distil_temperature must be above 0"),
    (
      {"distil_target": "representation", "distil_temperature": 30.0},
      "distil_temperature must be 1 with distil_target 'representation'",
    ),
    (
      {"distil_weight": 0.5, "adversary": ATTACK},
      "distil_weight must be 0 in adversarial training",
    ),
    (
      {"trades_beta": 6.0, "adversary": ATTACK},
      "adversary.start must be 'random' with trades_beta.*got 'x'",
    ),
  )
  def test_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      toys.recipe(**changes)

  def test_a_teacher_of_other_classes_is_refused_before_a_step(self):
    teacher = toys.Linear(4)
    variables = toys.linear_variables(np.zeros((192, 4)))
    with self.assertRaisesRegex(ValueError, "the teacher tells 4 classes"):
      train.train(
        toys.recipe(distil_weight=0.5), STRAIGHT, toys.Linear(3),
        toys.dataset(44), toys.dataset(8), toys.folder(self),
        jax.random.key(0), teacher=(teacher, variables),
      )  # fmt: skip

  @parameterized.parameters(
    ({"chunk_steps": 0}, "chunk_steps must be at least 1, got 0"),
    ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, got 0"),
    ({"checkpoint_every_seconds": -1.0}, "checkpoint_every_seconds must be a"),
    ({"checkpoint_every_seconds": float("nan")}, "must be a number >= 0, got"),
  )
  def test_cadences(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      RunConfig(**changes)


if __name__ == "__main__":
  absltest.main()
