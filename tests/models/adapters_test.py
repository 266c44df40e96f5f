"""Networks of one's own: Linen, nnx, functions, and by name in a config."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import toys
from absl.testing import absltest, parameterized
from flax import nnx

from robust_features import evaluate, models, train
from robust_features.models import adapters

X = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
NAMES = ("kernel", "bias")
VIT = own_networks.ViT(3, patch=4)


def init(model):
  return models.init_variables(model, jax.random.key(3), (8, 8, 3))


class LinenTest(parameterized.TestCase):
  def test_variables_are_those_of_its_own_initialisers(self):
    """A position embedding once became zero, and training stayed at chance."""
    variables = init(models.from_linen(VIT))
    own = VIT.init(jax.random.key(3), X[:1])
    self.assertEqual(
      jax.tree.structure(dict(own)), jax.tree.structure(variables)
    )
    spread = np.std(variables["params"]["position"])
    self.assertAlmostEqual(spread, 0.5, delta=0.15)

  def test_apply_is_the_modules_own(self):
    model, variables = (
      models.from_linen(VIT),
      VIT.init(jax.random.key(3), X[:1]),
    )
    want = VIT.apply(variables, X)
    found = models.apply(model, variables, jnp.asarray(X))
    np.testing.assert_array_equal(found.logits, want.logits)
    np.testing.assert_array_equal(found.representation, want.representation)

  def test_dropout_is_on_in_training_only_and_by_key(self):
    model, variables = (
      models.from_linen(VIT),
      VIT.init(jax.random.key(3), X[:1]),
    )
    x = jnp.asarray(X)
    train = [
      models.apply_in_training(model, variables, x, jax.random.key(seed))[0]
      for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(train[0].logits, train[1].logits)
    self.assertGreater(np.abs(train[0].logits - train[2].logits).max(), 1e-4)
    np.testing.assert_array_equal(
      models.apply(model, variables, x, "batch").logits,
      models.apply(model, variables, x).logits,
    )

  def test_every_collection_moves_in_training(self):
    model = models.from_linen(own_networks.Counted())
    variables = init(model)
    self.assertEqual(set(variables), {"params", "batch_stats", "counts"})
    _, new = models.apply_in_training(
      model, variables, jnp.asarray(X), jax.random.key(3)
    )
    self.assertEqual(float(new["counts"]["batches"]), 1.0)
    self.assertEqual(set(new), {"batch_stats", "counts"})
    with self.assertRaisesRegex(ValueError, "'batch' is not for a network"):
      models.apply(model, variables, jnp.asarray(X), "batch")

  def test_what_it_must_not_return(self):
    for module, message in (
      (
        own_networks.WrongShape(),
        r"its logits for 1 images are \(1, 8, 8, 3\)",
      ),
      (Pair(), "its representation for 1 images are str"),
    ):
      model = models.from_linen(module)
      with self.assertRaisesRegex(ValueError, message):
        variables = init(model)
        models.apply(model, variables, jnp.asarray(X[:1]))

  def test_training_by_either_name(self):
    class Trains(nn.Module):
      def __call__(self, x, training=False):
        return x[:, 0, 0] + float(training)

    model = models.from_linen(Trains())
    x = jnp.zeros((2, 1, 1, 3))
    found = models.apply(model, {}, x).logits
    np.testing.assert_array_equal(found, np.zeros((2, 3)))
    found = models.apply_in_training(model, {}, x, None)[0].logits
    np.testing.assert_array_equal(found, np.ones((2, 3)))

  def test_no_representation(self):
    model = models.from_linen(own_networks.Counted())
    with self.assertRaisesRegex(ValueError, "Counted returns logits alone"):
      models.represent(model, init(model), jnp.asarray(X))


class Pair(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x.reshape(x.shape[0], -1)), "representation"


class Drops(nnx.Module):
  """The difference of two dropouts' outputs."""

  def __init__(self, a=0, b=0, *, rngs):
    del a, b
    self.first = nnx.Dropout(0.5, rngs=rngs)
    self.second = nnx.Dropout(0.5, rngs=rngs)
    self.scale = nnx.Param(jnp.ones(()))

  def __call__(self, x):
    x = x.reshape(x.shape[0], -1) * self.scale[...]
    return self.first(x) - self.second(x)


class NnxTest(parameterized.TestCase):
  MODEL = models.from_nnx(own_networks.CNN, num_classes=3)

  def test_a_module_at_hand(self):
    net = own_networks.CNN(3, rngs=nnx.Rngs(5))
    variables = self.MODEL.variables(net)
    self.assertIn("convs/0/kernel", variables["params"])
    self.assertEqual(set(variables["state"]), {"norm/mean", "norm/var"})
    found = models.apply(self.MODEL, variables, jnp.asarray(X))
    net.eval()
    logits, representation = net(X)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.representation, representation, atol=1e-6)

  def test_init_is_the_classes_own(self):
    found = init(self.MODEL)
    self.assertEqual(found["params"]["convs/1/kernel"].shape, (3, 3, 4, 4))
    np.testing.assert_array_equal(found["state"]["norm/var"], np.ones(4))
    self.assertGreater(np.std(found["params"]["head/kernel"]), 0.1)

  def test_training_moves_statistics_and_draws_dropout_by_key(self):
    variables, x = init(self.MODEL), jnp.asarray(X)
    out = [
      models.apply_in_training(self.MODEL, variables, x, jax.random.key(seed))
      for seed in range(8)
    ]
    new = out[0][1]["state"]
    hidden = jnp.asarray(X)
    for i in range(2):
      kernel, bias = (variables["params"][f"convs/{i}/{n}"] for n in NAMES)
      conv = nnx.Conv(*kernel.shape[2:], (3, 3), strides=2, rngs=nnx.Rngs(0))
      conv.kernel[...], conv.bias[...] = kernel, bias
      hidden = nnx.relu(conv(hidden - 0.5))
    want = 0.01 * np.asarray(hidden).mean((0, 1, 2))
    np.testing.assert_allclose(new["norm/mean"], want, rtol=1e-4)
    distinct = {np.asarray(o.logits).tobytes() for o, _ in out}
    self.assertGreater(len(distinct), 3)

  def test_two_dropouts_do_not_draw_the_same(self):
    model = models.from_nnx(Drops)
    found = models.apply_in_training(
      model, {"params": {"scale": jnp.ones(())}}, jnp.asarray(X),
      jax.random.key(0),
    )[0].logits  # fmt: skip
    self.assertBetween(float((found != 0).mean()), 0.4, 0.6)

  def test_the_order_of_keywords_is_of_no_account(self):
    self.assertEqual(
      models.from_nnx(Drops, a=1, b=2), models.from_nnx(Drops, b=2, a=1)
    )

  def test_equal_models_are_one_program(self):
    again = models.from_nnx(own_networks.CNN, num_classes=3)
    self.assertEqual(again, self.MODEL)
    self.assertEqual(hash(again), hash(self.MODEL))


class FunctionTest(absltest.TestCase):
  def test_parameters_at_hand(self):
    model = models.from_function(own_networks._logits)
    w = np.random.default_rng(1).normal(size=(192, 3)).astype(np.float32)
    found = models.apply(model, {"params": {"w": w}}, jnp.asarray(X))
    np.testing.assert_allclose(found.logits, X.reshape(4, -1) @ w, rtol=1e-5)
    with self.assertRaisesRegex(ValueError, "no initial parameters"):
      init(model)

  def test_what_it_returns(self):
    """In float32 whatever it computed in; two results, of these images."""
    x, given = jnp.asarray(X), {"params": None}
    half = models.from_function(lambda _, x: x[:, 0, 0].astype(jnp.bfloat16))
    self.assertEqual(models.apply(half, given, x).logits.dtype, jnp.float32)
    three = models.from_function(lambda _, x: (x[:, 0, 0],) * 3)
    with self.assertRaisesRegex(ValueError, "logits, representation., got 3"):
      models.apply(three, given, x)
    one = models.from_function(lambda _, x: x[:1, 0, 0])
    with self.assertRaisesRegex(ValueError, r"logits for 4 images are \(1, 3"):
      models.apply(one, given, x)


class EverywhereTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("linen", models.from_linen(own_networks.Counted())),
    ("nnx", NnxTest.MODEL),
    ("function", own_networks.linear(3)),
  )
  def test_trained_and_evaluated(self, model):
    data = toys.dataset(24)
    run = train.RunConfig(chunk_steps=3, checkpoint_every_seconds=60.0)
    found = train.train(
      toys.recipe(), run, model, data, toys.dataset(8, 1), toys.folder(self),
      jax.random.key(3),
    )  # fmt: skip
    before = init(model)
    for name in before:
      moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        before[name], found.variables[name],
      )  # fmt: skip
      self.assertTrue(any(jax.tree.leaves(moved)), name)
    accuracy = evaluate.accuracy(model, found.variables, data, 8)
    self.assertGreaterEqual(accuracy, 0.0)


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    (own_networks.Counted(), "Counted does not take bn_mode; .*from_linen"),
    (own_networks._logits, "function has no init and apply; .*from_function"),
  )
  def test_bare_networks(self, model, message):
    with self.assertRaisesRegex(ValueError, message):
      models.apply(model, {"params": {}}, jnp.asarray(X))

  def test_images(self):
    model = own_networks.linear(3)
    for x, message in (
      (jnp.zeros((8, 8, 3)), r"\[B, H, W, C\], got shape \(8, 8, 3\)"),
      (jnp.zeros((1, 8, 8, 3), jnp.uint8), "got uint8; divide by 255"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        models.apply(model, {"params": {"w": jnp.zeros((192, 3))}}, x)

  def test_classes(self):
    with self.assertRaisesRegex(ValueError, "3 logits, but the data have 4"):
      models.check(own_networks.linear(3), (8, 8, 3), 4)

  @parameterized.parameters(
    ("none_such:net", {}, "none_such:net' cannot be imported .*install"),
    ("own_networks:none", {}, "cannot be imported .*no attribute 'none'"),
    (
      "own_networks:ViT",
      {"dpth": 2},
      "kwargs do not fit own_networks:ViT.*dpth",
    ),
    (
      "own_networks:CNN",
      {"wdth": 2},
      "kwargs do not fit own_networks:CNN.*wdth",
    ),
    ("own_networks:nothing", {}, "makes a int, which is no model"),
  )
  def test_names(self, name, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      models.make_model(models.ModelConfig(name, kwargs=kwargs))


class NamedTest(parameterized.TestCase):
  @parameterized.parameters(
    ("own_networks:ViT", {"patch": 4}, adapters.LinenModel),
    ("own_networks:CNN", {"width": 5}, adapters.NnxModel),
    ("own_networks:linear", {}, adapters.FunctionModel),
  )
  def test_a_factory_gets_what_it_names(self, name, kwargs, kind):
    cfg = models.ModelConfig(name, num_classes=3, kwargs=kwargs)
    model = models.make_model(cfg)
    self.assertIsInstance(model, kind)
    self.assertEqual(model, models.make_model(cfg))
    models.check(model, (8, 8, 3), 3)

  def test_kwargs_of_every_origin(self):
    want = models.ModelConfig("a:b", kwargs={"x": (1, 2), "a": "t"})
    self.assertEqual(want.kwargs, (("a", "t"), ("x", (1, 2))))
    pairs = models.ModelConfig("a:b", kwargs=[["x", [1, 2]], ["a", "t"]])
    self.assertEqual(pairs, want)
    self.assertEqual(hash(pairs), hash(want))
    with self.assertRaisesRegex(ValueError, "kwargs.f must be a number"):
      models.ModelConfig("a:b", kwargs={"f": object()})
    with self.assertRaisesRegex(ValueError, "mlp takes none"):
      models.ModelConfig("mlp", kwargs={"depth": 3})

  def test_what_is_left_to_the_data(self):
    cfg = models.ModelConfig("mlp", num_classes=0, mean=(), std=())
    with self.assertRaisesRegex(ValueError, "num_classes is 0, which stands"):
      models.make_model(cfg)
    found = models.fitted(cfg, 4, (0.1,), (0.2,))
    self.assertEqual((found.num_classes, found.mean, found.std),
                     (4, (0.1,), (0.2,)))  # fmt: skip
    kept = models.fitted(models.ModelConfig("mlp", 4), 4, (0.1,), (0.2,))
    self.assertEqual(kept.mean, models.DEFAULT_MEAN)
    with self.assertRaisesRegex(ValueError, "is 10, but the data have 4"):
      models.fitted(models.ModelConfig("mlp"), 4, (), ())


if __name__ == "__main__":
  absltest.main()
