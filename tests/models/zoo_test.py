"""Every model: parameter count, shapes, BatchNorm modes, types, configs."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from flax import traverse_util

from robust_features import models

# Name -> (parameters, representation size) at 32x32x3 and 10 classes. The
# large ones are the published counts of the PyTorch networks.
SIZES = {
  "cnn": (33_946, 1024),
  "cnn4": (246_314, 512),
  "strided_cnn4": (246_314, 512),
  "densenet121": (6_956_298, 1024),
  "densenet_cifar": (1_000_618, 384),
  "inception_v3": (22_133_738, 2048),
  "mlp": (855_050, 256),
  "plain_cnn": (33_834, 1024),
  "preact_resnet18": (11_172_170, 512),
  "resnet18": (11_173_962, 512),
  "resnet34": (21_282_122, 512),
  "resnet50": (23_520_842, 2048),
  "resnet50_imagenet": (23_528_522, 2048),
  "resnet9": (2_274_880, 128),
  "small_resnet": (78_042, 64),
  "plain_strided_cnn": (33_834, 1024),
  "vgg16": (14_728_266, 512),
  "wrn_28_10": (36_479_194, 640),
  "wrn_28_10_silu": (36_479_194, 640),
}
# Small enough to run here; the others share their layers and are run by the
# parity tests.
SMALL = ("cnn", "plain_cnn", "mlp", "small_resnet")


@functools.cache
def shapes(name, width=0, norm="own"):
  """Returns the shapes of an architecture's variables, from its own init."""
  model = models.make_model(models.ModelConfig(name, width=width, norm=norm))
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  return dict(jax.eval_shape(model.init, jax.random.key(0), x))


@functools.cache
def build(name, **fields):
  """Returns a tiny (model, variables, images) of an architecture."""
  fields = {"width": 4, "num_classes": 5, **fields}
  model = models.make_model(models.ModelConfig(name, **fields))
  variables = models.init_variables(model, jax.random.key(0), (8, 8, 3))
  x = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
  return model, variables, x


@functools.cache
def results(name):
  """Returns everything asked of a tiny model below, compiled at once."""
  model, variables, x = build(name)

  def everything(variables, x):
    apply = functools.partial(model.apply, variables)

    def slopes(fake):
      def total(x):
        return jnp.sum(apply(x, fake_relu=fake).representation, axis=0)

      # [D, B, H, W, C]: one row for each unit.
      return jax.vmap(jax.vjp(total, x)[1])(jnp.eye(total(x).size))[0]

    return {
      "running": apply(x),
      "fake": apply(x, fake_relu=True),
      "batch": apply(x, bn_mode="batch"),
      "train": apply(x, bn_mode="train", mutable=["batch_stats"]),
      "single": jnp.concatenate([apply(v[None]).logits for v in x[:2]]),
      "slopes": slopes(False),
      "fake_slopes": slopes(True),
    }

  return jax.jit(everything)(variables, jnp.asarray(x))


class SizeTest(parameterized.TestCase):
  def test_table_is_complete(self):
    self.assertEqual(set(SIZES), set(models.MODELS))

  @parameterized.parameters(*SIZES)
  def test_parameters_and_representation(self, name):
    num, representation = SIZES[name]
    variables = shapes(name)
    self.assertEqual(models.num_params(variables["params"]), num)
    kernel = variables["params"]["linear"]["kernel"]
    self.assertEqual(kernel.shape, (representation, 10))

  def test_how_the_small_ones_are_built(self):
    """What a parameter count does not tell; others: `parity_test`."""
    for name, strides, norm, pool in (
      ("cnn", (1, 2, 2), "batch", 2), ("cnn4", (2, 2, 1, 2), "batch", 2),
      ("plain_cnn", (1, 2, 2), "none", 2),
      ("plain_strided_cnn", (2, 2, 1), "none", 2),
      ("strided_cnn4", (2, 2, 2, 1), "batch", 2),
    ):  # fmt: skip
      net = models.make_model(models.ModelConfig(name))
      self.assertEqual((net.strides, net.norm, net.pool), (strides, norm, pool))
      wide = models.make_model(models.ModelConfig(name, width=7))
      self.assertEqual((wide.width, wide.strides), (7, strides))
    net = models.make_model(models.ModelConfig("mlp", width=7))
    self.assertEqual(net.hidden, (7, 7))

  @parameterized.parameters("cnn", "mlp", "plain_strided_cnn")
  def test_the_small_ones_by_numpy(self, name):
    """Convolutions of nine shifted products, means of squares, no JAX."""
    cfg = models.ModelConfig(
      name, width=2, num_classes=3, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)
    )
    net = models.make_model(cfg)
    x = np.random.default_rng(1).uniform(size=(2, 8, 8, 3))
    variables = models.init_variables(net, jax.random.key(1), x.shape[1:])
    found = net.apply(variables, jnp.asarray(x, jnp.float32))
    params = jax.tree.map(np.asarray, variables["params"])
    y = (x - np.array(cfg.mean)) / np.array(cfg.std)
    if name == "mlp":
      y = y.transpose(0, 3, 1, 2).reshape(2, -1)
      for layer in ("hidden1", "hidden2"):
        y = y @ params[layer]["kernel"] + params[layer]["bias"]
        y = np.maximum(y, 0)
    else:
      for i, stride in enumerate(net.strides, 1):
        kernel, size = params[f"conv{i}"]["kernel"], y.shape[1]
        padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = sum(
          padded[:, a : a + size, b : b + size] @ kernel[a, b]
          for a in range(3)
          for b in range(3)
        )[:, ::stride, ::stride]
        if name == "cnn":
          y = y / np.sqrt(1 + 1e-5)  # Of the fresh statistics.
        else:
          y = y + params[f"conv{i}"]["bias"]
        y = np.maximum(y, 0)
      size = y.shape[1] // 2
      y = y.reshape(2, size, 2, size, 2, -1).mean(axis=(2, 4))
      y = y.transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_allclose(found.representation, y, atol=1e-5)
    linear = params["linear"]
    np.testing.assert_allclose(
      found.logits, y @ linear["kernel"] + linear["bias"], atol=1e-5
    )

  @parameterized.parameters(
    "cnn4",
    "densenet_cifar",
    "mlp",
    "preact_resnet18",
    "resnet18",
    "resnet9",
    "vgg16",
    "wrn_28_10",
  )
  def test_width_changes_the_size(self, name):
    variables = shapes(name, width=6)
    self.assertLess(models.num_params(variables["params"]), SIZES[name][0])

  @parameterized.parameters(*SIZES)
  def test_bfloat16_keeps_parameters_and_outputs_float32(self, name):
    model = models.make_model(models.ModelConfig(name, dtype="bfloat16"))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    train = functools.partial(
      model.apply, bn_mode="train", mutable=["batch_stats"]
    )
    jaxpr, results = jax.make_jaxpr(train, return_shape=True)(shapes(name), x)
    for leaf in jax.tree.leaves(results):
      self.assertEqual(leaf.dtype, jnp.float32)
    self.assertEqual(results[0].logits.shape, (2, 10))
    self.assertEqual(results[0].representation.shape, (2, SIZES[name][1]))
    # Whatever has weights computes in bfloat16.
    lines = str(jaxpr).splitlines()
    weighted = [x for x in lines if "conv_general" in x or "dot_general" in x]
    self.assertNotEmpty(weighted)
    for line in weighted:
      self.assertIn("bf16", line)


class ForwardTest(parameterized.TestCase):
  @parameterized.parameters(*SMALL)
  def test_logits_are_linear_in_the_representation(self, name):
    logits, representation = results(name)["running"]
    linear = build(name)[1]["params"]["linear"]
    want = np.asarray(representation) @ linear["kernel"] + linear["bias"][None]
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)
    self.assertGreaterEqual(representation.min(), 0)

  @parameterized.parameters(*SMALL)
  def test_examples_do_not_see_each_other(self, name):
    whole = results(name)["running"].logits[:2]
    np.testing.assert_allclose(
      whole, results(name)["single"], rtol=1e-5, atol=1e-5
    )

  @parameterized.parameters("cnn", "small_resnet")
  def test_batch_norm_modes(self, name):
    out, (train, updated) = results(name), results(name)["train"]
    np.testing.assert_allclose(out["batch"].logits, train.logits, atol=1e-6)
    change = np.abs(out["running"].logits - out["batch"].logits)
    self.assertGreater(change.max(), 1e-3)
    moved = jax.tree.map(
      lambda a, b: bool(np.any(a != b)),
      updated["batch_stats"],
      build(name)[1]["batch_stats"],
    )
    self.assertTrue(all(jax.tree.leaves(moved)))

  @parameterized.parameters("cnn", "mlp", "small_resnet")
  def test_modes_are_checked(self, name):
    model, variables, x = build(name)
    with self.assertRaisesRegex(ValueError, "bn_mode"):
      jax.eval_shape(
        functools.partial(model.apply, bn_mode="eval"), variables, x
      )

  @parameterized.parameters(*SMALL)
  def test_fake_relu_revives_dead_units_only_in_the_gradient(self, name):
    out = results(name)
    real, fake = out["running"].representation, out["fake"].representation
    np.testing.assert_allclose(fake, real, atol=1e-6)
    slopes, fake_slopes = (
      np.abs(out[k]).max(axis=(2, 3, 4)) for k in ("slopes", "fake_slopes")
    )
    # [D, B] units that are off for an image.
    off = np.asarray(real).T == 0
    self.assertTrue(off.any())
    self.assertEqual(slopes[off].max(), 0)
    self.assertGreater(np.median(fake_slopes[off]), 1e-6)

  @parameterized.parameters(("plain_cnn", "conv3"), ("mlp", "hidden2"))
  def test_fake_relu_is_the_last_one_alone(self, name, last):
    """Where that is open everywhere, others being closed, it is the real."""
    model, variables, x = build(name)
    bias = variables["params"][last]["bias"] + 100.0
    params = variables["params"] | {
      last: variables["params"][last] | {"bias": bias}
    }

    @functools.partial(jax.jit, static_argnums=0)
    def slope(fake):
      def total(x):
        found = model.apply({"params": params}, x, fake_relu=fake)
        return jnp.sum(found.representation[:, ::3])

      return jax.grad(total)(x[:2])

    np.testing.assert_allclose(slope(True), slope(False), rtol=1e-5, atol=1e-7)

  @parameterized.parameters("cnn", "mlp", "small_resnet")
  def test_bfloat16_is_close_to_float32(self, name):
    half, _, _ = build(name, dtype="bfloat16")
    _, variables, x = build(name)
    rough = jax.jit(half.apply)(variables, x).logits
    exact = results(name)["running"].logits
    self.assertGreater(np.abs(exact - rough).max(), 0)
    np.testing.assert_allclose(rough, exact, atol=0.03)

  def test_one_channel_images(self):
    model = models.make_model(models.ModelConfig("mlp", mean=(0.1,), std=(1,)))
    variables = models.init_variables(model, jax.random.key(0), (8, 8, 1))
    outputs = jax.eval_shape(model.apply, variables, jnp.zeros((2, 8, 8, 1)))
    self.assertEqual(outputs.logits.shape, (2, 10))
    self.assertEqual(set(variables), {"params"})


class WithoutNormTest(parameterized.TestCase):
  @parameterized.parameters(*models._NORM)
  def test_what_can_be_without_says_so(self, name):
    cfg = models.ModelConfig(name, norm="none")
    self.assertEqual(models.make_model(cfg).norm, "none")

  # One of each kind of block.
  @parameterized.parameters(
    "cnn", "preact_resnet18", "resnet18", "small_resnet"
  )
  def test_a_bias_for_each_convolution_is_all_there_is(self, name):
    own = traverse_util.flatten_dict(shapes(name)["params"])
    variables = shapes(name, norm="none")
    self.assertEqual(set(variables), {"params"})
    found = traverse_util.flatten_dict(variables["params"])
    kernels = {
      path: leaf.shape for path, leaf in own.items() if path[-1] == "kernel"
    }
    self.assertEqual(
      kernels, {path: found[path].shape for path in found if path in kernels}
    )
    biases = {
      (*path[:-1], "bias"): shape[-1:]
      for path, shape in kernels.items()
      if path[0] != "linear" or ("linear", "bias") in own
    }
    self.assertEqual(
      biases, {path: found[path].shape for path in set(found) - set(kernels)}
    )

  @parameterized.parameters("cnn", "resnet9", "small_resnet")
  def test_it_is_the_network_whose_norms_only_shift(self, name):
    size = 12 if name == "resnet9" else 8
    fields = {"width": 4, "num_classes": 5}
    own, bare = (
      models.make_model(models.ModelConfig(name, norm=norm, **fields))
      for norm in ("own", "none")
    )
    x = np.random.default_rng(0).uniform(size=(3, size, size, 3))
    x = jnp.asarray(x, jnp.float32)
    biased = models.init_variables(bare, jax.random.key(0), x.shape[1:])
    flat = dict(traverse_util.flatten_dict(biased["params"]))
    with_norm = {}
    for path, leaf in flat.items():
      layer = path[-2].replace("conv", "bn")
      if path[-1] == "bias" and layer != path[-2]:
        norm = (*path[:-2], layer)
        with_norm[*norm, "bias"] = leaf
        # Divided by sqrt(var + 1e-5), of the variance 1.
        with_norm[*norm, "scale"] = jnp.full_like(leaf, (1 + 1e-5) ** 0.5)
      else:
        with_norm[path] = leaf
    fresh = models.init_variables(own, jax.random.key(1), x.shape[1:])
    fresh["params"] = traverse_util.unflatten_dict(with_norm)
    want, found = (
      jax.jit(net.apply)(variables, x)
      for net, variables in ((own, fresh), (bare, biased))
    )
    np.testing.assert_allclose(found.logits, want.logits, rtol=1e-4, atol=1e-5)
    self.assertGreater(float(jnp.abs(found.logits).max()), 1e-3)

  def test_bn_mode_is_checked_all_the_same(self):
    cfg = models.ModelConfig("small_resnet", norm="none", width=4)
    with self.assertRaisesRegex(ValueError, "bn_mode"):
      jax.eval_shape(
        functools.partial(models.make_model(cfg).apply, bn_mode="eval"),
        shapes("small_resnet", 4, "none"),
        jnp.zeros((1, 8, 8, 3)),
      )


class InitTest(parameterized.TestCase):
  @parameterized.parameters("plain_cnn", "resnet18")
  def test_variables_are_distributed_as_the_models_own(self, name):
    # The layers' own initialisers are tested with the layers.
    model = models.make_model(models.ModelConfig(name))
    variables = models.init_variables(model, jax.random.key(0), (32, 32, 3))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, shapes(name))
    flat = traverse_util.flatten_dict(variables)
    for path, leaf in flat.items():
      kernel = flat.get((*path[:-1], "kernel"))
      if kernel is None:
        want = float(path[-1] in ("scale", "var"))
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, want))
      else:
        bound = np.prod(kernel.shape[:-1]) ** -0.5
        self.assertLess(np.abs(leaf).max(), 1.00001 * bound)
        spread = np.std(leaf) / (bound / 3**0.5)
        self.assertLess(abs(spread - 1), 3 / leaf.size**0.5, path)
        self.assertLess(abs(np.mean(leaf)), 4 * bound / leaf.size**0.5, path)

  def test_keys_decide(self):
    model, variables, _ = build("mlp")
    again, other = (
      models.init_variables(model, jax.random.key(seed), (8, 8, 3))
      for seed in (0, 1)
    )
    chex.assert_trees_all_equal(again, variables)
    for a, b in zip(*map(jax.tree.leaves, (other, again)), strict=True):
      self.assertTrue((a != b).any())


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"name": "resnet51"}, "name.*resnet50.*'resnet51'"),
    ({"name": "mlp", "num_classes": 1}, "num_classes.*got 1"),
    ({"name": "mlp", "num_classes": "10"}, "num_classes.*got '10'"),
    ({"name": "mlp", "width": -1}, "width.*got -1"),
    ({"name": "mlp", "width": 1.5}, "width.*got 1.5"),
    ({"name": "mlp", "dtype": "float16"}, "dtype.*'float16'"),
    ({"name": "mlp", "norm": "layer"}, "norm must be 'own' or 'none'.*'layer'"),
    ({"name": "vgg16", "norm": "none"}, "norm can be.*set it to 'own' for vgg"),
    ({"name": "mlp", "mean": ()}, "mean"),
    ({"name": "mlp", "mean": 0.5}, "mean.*got 0.5"),
    ({"name": "mlp", "std": (0.0,)}, "std must be positive"),
    ({"name": "mlp", "std": (float("nan"),)}, "std.*finite"),
    ({"name": "mlp", "std": (1.0, 1.0, 1.0)}, "equal lengths"),
  )
  def test_errors_name_the_field(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      models.ModelConfig(**fields)

  def test_what_is_not_told(self):
    cfg = models.ModelConfig("mlp")
    want = ("mlp", 10, 0, "float32", models.DEFAULT_MEAN, models.DEFAULT_STD,
            (), False, "own")  # fmt: skip
    self.assertEqual(dataclasses.astuple(cfg), want)
    # The least of each is taken, and so are two classes and no width.
    models.ModelConfig("mlp", num_classes=2, width=0)
    models.ModelConfig("mlp", num_classes=0, mean=(), std=())

  def test_the_data_tell_what_was_left_to_them(self):
    left = models.ModelConfig("mlp", num_classes=0, mean=(), std=())
    found = models.fitted(left, 7, (0.5,), (0.25,))
    self.assertEqual(
      (found.num_classes, found.mean, found.std), (7, (0.5,), (0.25,))
    )
    told = models.ModelConfig("mlp", 7, mean=(0.1,), std=(0.2,))
    self.assertEqual(models.fitted(told, 7, (0.5,), (0.25,)), told)
    with self.assertRaisesRegex(ValueError, "num_classes is 7, but .* have 8"):
      models.fitted(told, 8, (0.5,), (0.25,))
    for field, value in (("num_classes", 0), ("mean", ()), ("std", ())):
      cfg = dataclasses.replace(left, num_classes=2, mean=(1.0,), std=(1.0,))
      object.__setattr__(cfg, field, value)
      with self.assertRaisesRegex(ValueError, f"^{field} is .* the data's"):
        models.make_model(cfg)

  @parameterized.parameters(
    ({"name": "mlp", "kwargs": {"a": 1}}, "kwargs are for .*; mlp takes none"),
    (
      {"name": "a.b:C", "kwargs": {"a": {}}},
      r"kwargs.a must be a number.*\{\}",
    ),
    ({"name": "mlp", "remat": True}, "remat is for resnet18.* False for mlp"),
    ({"name": "a.b"}, "'package.module:factory', got 'a.b'"),
  )
  def test_what_does_not_go_together(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      models.ModelConfig(**fields)

  def test_kwargs_are_sorted_pairs(self):
    cfg = models.ModelConfig("a.b:C", kwargs={"b": [1, [2.5]], "a": None})
    self.assertEqual(cfg.kwargs, (("a", None), ("b", (1, (2.5,)))))
    hash(cfg)

  def test_lists_become_tuples(self):
    cfg = models.ModelConfig("mlp", mean=[0, 0, 0], std=[1, 1, 1])
    self.assertEqual(cfg.mean, (0.0, 0.0, 0.0))
    self.assertEqual(hash(cfg), hash(models.ModelConfig(**vars(cfg))))

  def test_inception_has_no_width(self):
    with self.assertRaisesRegex(ValueError, "width must be 0"):
      models.make_model(models.ModelConfig("inception_v3", width=8))


if __name__ == "__main__":
  absltest.main()
