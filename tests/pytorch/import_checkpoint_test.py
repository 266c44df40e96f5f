"""PyTorch checkpoints in and out: wrappers, refusals, round trips."""

import dataclasses
import json
import pathlib
import tempfile
import unittest
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
import toys
from absl.testing import absltest, parameterized

from robust_features import models, trained
from robust_features.pytorch import (
  export_checkpoint,
  import_checkpoint,
  model_card,
  state_dict,
)
from robust_features.runtime import checkpoint, files

try:
  import torch
except ImportError:  # The [torch] extra.
  torch = None

needs_torch = unittest.skipIf(torch is None, "needs the [torch] extra")
ARCH, WIDTH = "small_resnet", 4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def tiny(seed=0):
  """Returns the config and random variables (statistics too) of a network."""
  cfg = models.ModelConfig(ARCH, width=WIDTH, mean=MEAN, std=STD)
  model = models.make_model(cfg)
  variables = models.init_variables(model, jax.random.key(seed), (32, 32, 3))
  rng = np.random.default_rng(seed)
  variables["batch_stats"] = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32),
    variables["batch_stats"],
  )
  return cfg, variables


def tiny_state():
  return state_dict.to_torch(ARCH, tiny()[1])


def robustness_state(parallel=True):
  """The layout of MadryLab's library: wrapper, second copy, normaliser."""
  head = "module." if parallel else ""
  state = {}
  for part in ("normalizer", "attacker.normalize"):
    state[f"{head}{part}.new_mean"] = np.float32(MEAN).reshape(3, 1, 1)
    state[f"{head}{part}.new_std"] = np.float32(STD).reshape(3, 1, 1)
  for name, tensor in tiny_state().items():
    state[f"{head}model.{name}"] = tensor
    state[f"{head}attacker.model.{name}"] = tensor
  return state


def robustbench_state():
  constants = {
    "mu": np.float32(MEAN).reshape(1, 3, 1, 1),
    "sigma": np.float32(STD).reshape(1, 3, 1, 1),
  }
  return {**constants, **tiny_state()}


def compiled_state():
  """`torch.compile` around DataParallel around a network, in either order."""
  return {f"_orig_mod.module.{k}": t for k, t in robustbench_state().items()}


def sequential_state():
  """A normaliser and a network in a Sequential, compiled."""
  state = {
    "0.mean": np.float32(MEAN).reshape(3, 1, 1),
    "0.std": np.float32(STD).reshape(3, 1, 1),
  }
  return state | {f"1._orig_mod.{k}": t for k, t in tiny_state().items()}


def tensors(state):
  return {name: torch.as_tensor(np.array(t)) for name, t in state.items()}


def trees_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, dict(a), dict(b))


run = toys.command


class ConvertTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("robustness", robustness_state),
    ("robustness_one_device", lambda: robustness_state(parallel=False)),
    ("robustbench", robustbench_state),
    ("compiled", compiled_state),
    ("sequential", sequential_state),
  )
  def test_wrappers_are_stripped(self, make_state):
    cfg, variables = import_checkpoint.convert(ARCH, make_state(), width=WIDTH)
    self.assertEqual(cfg, tiny()[0])
    trees_equal(variables, tiny()[1])

  def test_unused_sub_block_of_wide_resnets_is_dropped(self):
    state = {"module.sub_block1.layer.0.bn1.weight": np.ones(3), "fc.bias": 0}
    self.assertEqual(set(state_dict.tidy(state)[0]), {"fc.bias"})

  def test_number_of_classes_is_read_off(self):
    state = robustbench_state()
    state["linear.weight"] = state["linear.weight"][:7]
    state["linear.bias"] = state["linear.bias"][:7]
    cfg, _ = import_checkpoint.convert(ARCH, state, width=WIDTH)
    self.assertEqual(cfg.num_classes, 7)

  def test_missing_normaliser_must_be_given(self):
    with self.assertRaisesRegex(ValueError, "--mean and --std"):
      import_checkpoint.convert(ARCH, tiny_state(), width=WIDTH)
    cfg, _ = import_checkpoint.convert(
      ARCH, tiny_state(), width=WIDTH, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    self.assertEqual((cfg.mean, cfg.std), ((0.0,) * 3, (1.0,) * 3))

  def test_one_number_for_every_channel(self):
    cfg, variables = import_checkpoint.convert(
      ARCH, tiny_state(), width=WIDTH, mean=(0.5,), std=(0.25,)
    )
    self.assertEqual(cfg.mean, (0.5,))
    trees_equal(variables, tiny()[1])

  def test_other_architecture_names_the_first_tensors(self):
    with self.assertRaisesRegex(
      ValueError,
      r"not a resnet18: conv1.weight is \[4, 3, 3, 3\], should be"
      r" \[64, 3, 3, 3\]; .* and \d+ more",
    ):
      import_checkpoint.convert("resnet18", robustbench_state())

  @parameterized.parameters(
    ("bn1.bias", None, "bn1.bias is missing"),
    ("bn1.bias", np.full(4, np.nan), "bn1.bias holds NaN or infinity"),
    ("bn1.bias", np.full(4, -np.inf), "bn1.bias holds NaN or infinity"),
    ("extra.weight", np.ones(3), "extra.weight is unknown"),
  )
  def test_single_wrong_tensor_is_named(self, name, value, message):
    state = robustbench_state()
    state.pop(name, None)
    if value is not None:
      state[name] = value
    with self.assertRaisesRegex(ValueError, f"not a {ARCH}: {message}$"):
      import_checkpoint.convert(ARCH, state, width=WIDTH)

  def test_without_a_head_ten_classes_are_looked_for(self):
    state = robustbench_state()
    del state["linear.bias"]
    state["linear.weight"] = state["linear.weight"][:7]
    with self.assertRaisesRegex(
      ValueError,
      r"linear.weight is \[7, 16\], should be \[10, 16\]; .*linear.bias is mis",
    ):
      import_checkpoint.convert(ARCH, state, width=WIDTH)
    # A network of one logit is none: two are looked for.
    state = robustbench_state()
    for name in ("linear.weight", "linear.bias"):
      state[name] = state[name][:1]
    with self.assertRaisesRegex(
      ValueError, r"linear.weight is \[1, 16\], sh.*2"
    ):
      import_checkpoint.convert(ARCH, state, width=WIDTH)

  @parameterized.parameters(
    ("cnn", (32, 32, 3)), ("mlp", (32, 32, 3)), ("mlp", (8, 8, 1)),
    ("cnn", (28, 28, 1)),
  )  # fmt: skip
  def test_own_architectures_round_trip(self, arch, shape):
    cfg = models.ModelConfig(arch, width=4)
    model = models.make_model(cfg)
    variables = models.init_variables(model, jax.random.key(0), shape)
    state = state_dict.to_torch(arch, variables)
    constants = {"width": 4, "mean": cfg.mean, "std": cfg.std}
    back, again = import_checkpoint.convert(arch, state, **constants)
    self.assertEqual(back, cfg)
    trees_equal(again, variables)


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("vgg16", "conv1", "features.0"), ("vgg16", "bn1", "features.1"),
    ("vgg16", "conv2", "features.3"), ("vgg16", "conv3", "features.7"),
    ("vgg16", "conv13", "features.40"), ("vgg16", "bn13", "features.41"),
    ("vgg16", "linear", "classifier"), ("resnet50_imagenet", "linear", "fc"),
    ("wrn_28_10", "block2_3", "block2.layer.3"), ("mlp", "hidden1", "hidden1"),
  )  # fmt: skip
  def test_names(self, arch, ours, theirs):
    for leaf, name in (
      ("kernel", "weight"), ("scale", "weight"), ("bias", "bias"),
      ("mean", "running_mean"), ("var", "running_var"),
    ):  # fmt: skip
      found = state_dict.torch_name(arch, (ours, leaf))
      self.assertEqual(found, f"{theirs}.{name}")
    found = state_dict.torch_name("resnet18", ("layer1_0", "conv1", "kernel"))
    self.assertEqual(found, "layer1.0.conv1.weight")

  def test_layouts_orders_and_counters(self):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    weights = rng.normal(size=(6, 7)).astype(np.float32)
    one = np.ones(5, np.float32)
    variables = {
      "batch_stats": {"bn10": {"var": one}, "bn2": {"var": 2 * one}},
      "params": {
        "conv10": {"kernel": kernel}, "conv2": {"kernel": kernel + 1},
        "linear": {"kernel": weights, "bias": one},
      },
    }  # fmt: skip
    state = state_dict.to_torch("mlp", variables)
    self.assertEqual(
      list(state),
      ["conv2.weight", "conv10.weight", "linear.weight", "linear.bias",
       "bn2.running_var", "bn2.num_batches_tracked", "bn10.running_var",
       "bn10.num_batches_tracked"],
    )  # fmt: skip
    np.testing.assert_array_equal(
      state["conv10.weight"], np.einsum("hwio->oihw", kernel)
    )
    np.testing.assert_array_equal(state["linear.weight"], weights.T)
    counter = state["bn2.num_batches_tracked"]
    self.assertEqual((counter.shape, counter.dtype, counter), ((), np.int64, 0))
    self.assertTrue(all(t.flags["C_CONTIGUOUS"] for t in state.values()))
    bare, mean, std = state_dict.tidy(state)
    self.assertEqual((mean, std), (None, None))
    self.assertNotIn("bn2.num_batches_tracked", bare)
    again = state_dict.from_torch("mlp", bare, variables)
    trees_equal(again["params"]["conv10"], variables["params"]["conv10"])
    trees_equal(again["params"]["linear"], variables["params"]["linear"])
    trees_equal(again["batch_stats"]["bn2"], variables["batch_stats"]["bn2"])

  def test_how_many_problems_are_told(self):
    """Three by name and the number of the rest."""
    bias = {"bias": np.zeros(1, np.float32)}
    for num, tail in ((3, "$"), (4, " and 1 more$"), (5, " and 2 more$")):
      template = {"params": {f"a{i}": bias for i in range(num)}}
      names = "; ".join(f"a{i}.bias is missing" for i in range(3))
      with self.assertRaisesRegex(ValueError, f"^not a mlp: {names}{tail}"):
        state_dict.from_torch("mlp", {}, template)

  def test_constants_of_any_shape_are_their_shortest_decimals(self):
    for mean, std in (("mu", "sigma"), ("normalize.mean", "normalize.std")):
      state = {
        mean: np.float32(MEAN).reshape(1, 3, 1, 1), std: np.float32([0.25]),
        "fc.bias": np.ones(2),
      }  # fmt: skip
      bare, *found = state_dict.tidy(state)
      self.assertEqual(found, [MEAN, (0.25,)])
      self.assertEqual(list(bare), ["fc.bias"])

  def test_numbers_before_all_names_are_a_sequentials(self):
    state = {"0.a": np.ones(1), "1.b.c": np.ones(1)}
    self.assertEqual(list(state_dict.tidy(state)[0]), ["a", "b.c"])
    state["model.d"] = np.ones(1)
    self.assertEqual(list(state_dict.tidy(state)[0]), ["0.a", "1.b.c", "d"])


class ReadTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def assert_refused(self, path, message):
    with self.assertRaisesRegex(ValueError, message):
      import_checkpoint.read_state(path)

  def test_missing_file(self):
    self.assert_refused(self.folder / "none.pt", "none.pt does not exist")

  def test_truncated_safetensors(self):
    path = self.folder / "a.safetensors"
    content = safetensors.numpy.save(tiny_state())
    path.write_bytes(content[: len(content) // 2])
    self.assert_refused(path, "a.safetensors is truncated")

  @parameterized.parameters(("BF16", jnp.bfloat16), ("F16", np.float16))
  def test_weights_of_sixteen_bits(self, name, dtype):
    state = {k: np.asarray(t, dtype) for k, t in robustbench_state().items()}
    header, content = {}, b""
    for key, tensor in state.items():
      end = len(content) + tensor.nbytes
      header[key] = {"dtype": name, "shape": list(tensor.shape),
                     "data_offsets": [len(content), end]}  # fmt: skip
      content += tensor.tobytes()
    text = json.dumps(header).encode()
    path = self.folder / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    found = import_checkpoint.read_state(path)
    _, variables = import_checkpoint.convert(ARCH, found, width=WIDTH)
    wanted = {k: t.astype(np.float32) for k, t in state.items()}
    _, other = import_checkpoint.convert(ARCH, wanted, width=WIDTH)
    trees_equal(variables, other)
    for leaf in jax.tree.leaves(variables):
      self.assertEqual(leaf.dtype, np.float32)

  def test_where_checkpoints_keep_their_tensors(self):
    """Without PyTorch: what it would have read stands in for it."""

    class Tensor:
      def detach(self):
        return self

      float = detach

      def numpy(self):
        return np.float32([7])

    path, state = self.folder / "a.pt", {"fc.bias": Tensor(), "epoch": 3}
    for content in (state, {"model": state}, {"net": state, "epoch": 3},
                    {"model": "resnet18", "state_dict": state}):  # fmt: skip
      found = import_checkpoint._find_state(path, content)
      self.assertEqual(found, {"fc.bias": np.float32([7])})
    for content in ([Tensor()], {"epoch": 3}, {"model": {}}, None):
      with self.assertRaisesRegex(ValueError, "a.pt holds no state dict"):
        import_checkpoint._find_state(path, content)

  @needs_torch
  @parameterized.parameters("model", "state_dict", None)
  def test_entries_of_checkpoints(self, entry):
    path = self.folder / "a.pt"
    content = tensors(robustness_state())
    if entry:
      content = {entry: content, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, path)
    state = import_checkpoint.read_state(path)
    self.assertEqual(set(state), set(robustness_state()))

  @needs_torch
  @parameterized.parameters(0, 10, 0.5, 0.99)
  def test_truncated_pickle(self, where):
    path = self.folder / "a.pt"
    torch.save(tensors(tiny_state()), path)
    content = path.read_bytes()
    end = where if isinstance(where, int) else int(where * len(content))
    path.write_bytes(content[:end])
    self.assert_refused(path, "a.pt is truncated or no such file")

  @needs_torch
  def test_code_is_not_run(self):
    path, witness = self.folder / "a.pt", self.folder / "witness"

    class Bomb:
      def __reduce__(self):
        return pathlib.Path.touch, (witness,)

    torch.save({"model": tensors(tiny_state()), "args": Bomb()}, path)
    self.assert_refused(path, r"running code that it holds \(\w+.*refused")
    self.assertFalse(witness.exists())

  @needs_torch
  def test_file_without_tensors(self):
    path = self.folder / "a.pt"
    torch.save({"epoch": 3}, path)
    self.assert_refused(path, "holds no state dict")


class CommandTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_import_then_export_gives_the_file_back(self):
    source = self.folder / "source.safetensors"
    source.write_bytes(safetensors.numpy.save(robustness_state()))
    flags = (f"--arch={ARCH}", f"--width={WIDTH}")
    status, out, err = run(
      import_checkpoint.main,
      *flags,
      f"--checkpoint={source}",
      f"--out={self.folder / 'imported'}",
    )
    self.assertEqual((status, err), (0, ""))
    self.assertIn("parameters, sha256 ", out)

    cfg, variables = tiny()
    like = jax.eval_shape(lambda: variables)
    found, metadata = checkpoint.load_variables(self.folder / "imported", like)
    trees_equal(found, variables)
    self.assertEqual(models.ModelConfig(**metadata["model"]), cfg)
    self.assertIn(metadata["source_sha256"], out)

    row = {
      "title": "a row", "accuracy": 0.5, "robust_accuracy": {"0.25": 0.125},
      "attack": {"name": "pgd", "norm": "l2", "num_steps": 7},
      "num_examples": 20, "model_digest": checkpoint.digest(variables),
    }  # fmt: skip
    other = row | {"title": "another", "model_digest": "0"}
    files.write_json(self.folder / "results.json", {"rows": [row, other]})
    target = self.folder / "target.safetensors"
    status, out, err = run(
      export_checkpoint.main,
      f"--checkpoint={self.folder / 'imported'}",
      f"--out={target}",
    )
    self.assertEqual((status, err), (0, ""))
    exported = safetensors.numpy.load_file(target)
    trees_equal(exported, tiny_state())
    self.assertEqual(import_checkpoint.described(target), cfg)
    self.assertIsNone(import_checkpoint.described(source))
    card = target.with_suffix(".md").read_text()
    self.assertRegex(card, r"\A---\nlicense: \w+\n(?:.+\n)+---\n")
    for text in (
      'load_file("target.safetensors")', row["model_digest"],
      "| a row | 20 | none | 50.00% |", metadata["source_sha256"],
      "| a row | 20 | pgd, l2, 7 steps, eps 0.25 | 12.50% |",
    ):  # fmt: skip
      self.assertIn(text, card)
    self.assertNotIn("another", card)
    self.assertNotIn(str(self.folder), card)

    # The export says how it is to be read.
    again = self.folder / "again"
    status, _, err = run(
      import_checkpoint.main, f"--arch={ARCH}", f"--checkpoint={target}",
      f"--out={again}",
    )  # fmt: skip
    self.assertEqual((status, err), (0, ""))
    found, metadata = checkpoint.load_variables(again, like)
    trees_equal(found, variables)
    self.assertEqual(models.ModelConfig(**metadata["model"]), cfg)

  def test_a_card_tells_every_setting_and_no_folder(self):
    cfg, variables = tiny()
    found = trained.Trained(cfg, variables, {"source": "/home/me/a.pt", "n": 1})
    folder = self.folder / "stage"

    def lines():
      text = model_card.render(found, "a.safetensors", folder, "best")
      return text.splitlines()

    digest = checkpoint.digest(variables)
    head = ["- weights: best", f"- sha256 of the variables: `{digest}`"]
    for told, want in (
      (None, ["- source: `a.pt`", "- n: `1`"]),
      ({"n": 2, "rate": 0.5, "data": "/home/me/photos", "name": "x/y",
        "stage": {"kind": "train"}, "sizes": [1]},
       ["- source: `a.pt`", "- n: `2`", "- rate: `0.5`", "- data: `photos`",
        "- name: `x/y`"]),
    ):  # fmt: skip
      if told:
        files.write_json(folder / "config.json", told)
      at = lines().index("## Origin")
      self.assertEqual(lines()[at + 2 : at + 4 + len(want)], head + want)
      self.assertNotIn("## Measured", lines())
    num = models.num_params(variables["params"])
    self.assertIn(f"{num:,} parameters, 10 classes.", " ".join(lines()))
    self.assertIn(f"# {ARCH}", lines())
    (normal,) = (line for line in lines() if line.startswith("mean, std"))
    self.assertEqual(
      normal,
      "mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), "
      "torch.tensor([0.2023, 0.1994, 0.201])",
    )

  def test_what_a_command_prints_and_records(self):
    source = self.folder / "source.safetensors"
    source.write_bytes(safetensors.numpy.save(robustness_state()))
    out = self.folder / "imported"
    status, text, err = run(
      import_checkpoint.main, f"--arch={ARCH}", f"--width={WIDTH}",
      f"--checkpoint={source}", f"--out={out}", "--mean=0.5", "--std=0.25",
    )  # fmt: skip
    self.assertEqual((status, err), (0, ""))
    cfg, variables = tiny()
    num = models.num_params(variables["params"])
    sha256 = files.sha256(source.read_bytes())
    self.assertIn(f"{num:,} parameters", text)
    # What is given goes before what the file says.
    given = dataclasses.replace(cfg, mean=(0.5,), std=(0.25,))
    found = trained.load(out)
    self.assertEqual(found.config, given)
    self.assertEqual(found.origin["source"], "source.safetensors")
    self.assertEqual(found.origin["source_sha256"], sha256)
    target = self.folder / "a.safetensors"
    status, text, err = run(
      export_checkpoint.main, f"--checkpoint={out}", f"--out={target}"
    )
    self.assertEqual((status, err), (0, ""))
    self.assertEqual(
      text, f"{target} and its card: {ARCH}, {num:,} parameters\n"
    )
    self.assertIn("- weights: last", target.with_suffix(".md").read_text())
    with safetensors.safe_open(target, "numpy") as file:
      metadata = file.metadata()
    self.assertEqual(metadata["format"], "pt")
    self.assertEqual(models.ModelConfig(**json.loads(metadata["model"])), given)
    # An export of one architecture is not believed of another.
    status, _, err = run(
      import_checkpoint.main, "--arch=cnn", f"--checkpoint={target}",
      f"--out={self.folder / 'other'}",
    )  # fmt: skip
    self.assertEqual(status, 1)
    self.assertIn("--mean and --std", err)
    # A width that is given goes before the file's.
    status, _, err = run(
      import_checkpoint.main, f"--arch={ARCH}", "--width=8",
      f"--checkpoint={target}", f"--out={self.folder / 'other'}",
    )  # fmt: skip
    self.assertEqual(status, 1)
    self.assertIn("conv1.weight is [4, 3, 3, 3], should be [8, 3, 3, 3]", err)

  def test_errors_are_one_line_and_leave_nothing(self):
    source = self.folder / "source.safetensors"
    source.write_bytes(safetensors.numpy.save(robustness_state()))
    out = self.folder / "out"
    cases = (
      ((f"--checkpoint={source}", "--arch=resnet50"), "not a resnet50: conv1"),
      ((f"--checkpoint={source}", "--arch=resnet51"), "invalid choice"),
      (("--checkpoint=none.pt", "--arch=resnet50"), "none.pt does not exist"),
      (
        (f"--checkpoint={source}", f"--arch={ARCH}", "--width=-1"),
        "width must",
      ),
      (
        (f"--checkpoint={source}", f"--arch={ARCH}", "--std=1,x"),
        "argument --std: must be numbers between commas, got '1,x'",
      ),
    )
    for args, message in cases:
      status, stdout, err = run(import_checkpoint.main, *args, f"--out={out}")
      self.assertEqual((status, stdout), (1, ""))
      self.assertEqual(err.count("\n"), 1, err)
      self.assertRegex(err, f"^error: .*{message}")
      self.assertFalse(out.exists())

  def test_full_folder_is_not_overwritten(self):
    status, _, err = run(
      import_checkpoint.main,
      f"--arch={ARCH}",
      "--checkpoint=x.pt",
      f"--out={pathlib.Path(__file__).parent}",
    )
    self.assertEqual(status, 1)
    self.assertRegex(err, "is not empty; choose another")

  def test_the_weights_that_were_asked_for(self):
    for asked, which in (((), "last"), (("--which=best",), "best")):
      with unittest.mock.patch.object(
        export_checkpoint.trained, "load", side_effect=ValueError("enough")
      ) as load:
        status, _, _ = run(
          export_checkpoint.main, "--checkpoint=a", "--out=b", *asked
        )
      self.assertEqual(status, 1)
      load.assert_called_once_with(pathlib.Path("a"), which)

  def test_export_errors(self):
    cfg, variables = tiny()
    unnamed = self.folder / "unnamed"
    checkpoint.save_variables(unnamed, variables, {})
    for args, message in (
      (
        ("--checkpoint=none", "--out=a.safetensors"),
        "none does not exist; give",
      ),
      ((f"--checkpoint={unnamed}", "--out=a"), "not say its architecture"),
      (("--checkpoint=none", "--which=first", "--out=a"), "invalid choice"),
    ):
      status, _, err = run(export_checkpoint.main, *args)
      self.assertEqual(status, 1)
      self.assertRegex(err, f"^error: .*{message}[^\n]*\n$")
    with self.assertRaisesRegex(ValueError, "must end in .safetensors"):
      export_checkpoint.write(self.folder / "a.pt", cfg, variables)

  @needs_torch
  def test_pytorch_loads_the_export_and_agrees(self):
    import safetensors.torch
    from torch_nets import networks

    cfg, variables = tiny()
    path = self.folder / "a.safetensors"
    export_checkpoint.write(path, cfg, variables)
    network = networks.ResNet((1, 1, 1), width=WIDTH)
    network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    network.eval()
    x = np.random.default_rng(0).uniform(size=(3, 32, 32, 3))
    x = x.astype(np.float32)
    ours = jax.jit(models.make_model(cfg).apply)(variables, x).logits
    normal = (x - np.float32(MEAN)) / np.float32(STD)
    with torch.no_grad():
      theirs = network(torch.from_numpy(normal.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
  absltest.main()
