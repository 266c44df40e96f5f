"""Logits and input gradients equal PyTorch's for the same weights.

The golden file was recorded by `torch_nets/make_golden.py` from PyTorch
networks, running statistics randomised too. Weights are made from their
PyTorch names, so wrong names, layouts or shapes show as wrong logits.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from torch_nets import numbers_by_name

from robust_features import models
from robust_features.pytorch import import_checkpoint, state_dict

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "models_parity.npz"
CIFAR = {"mean": models.CIFAR_MEAN, "std": models.CIFAR_STD}
# Each program runs once, on one small image: compiling is all the time.
COMPILE_FAST = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}
ARCHS = (
  "densenet121",
  "densenet_cifar",
  "inception_v3",
  "preact_resnet18",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet9",
  "small_resnet",
  "vgg16",
  "wrn_28_10",
  "wrn_28_10_silu",
)


def golden(arch):
  """Returns the recorded arrays, and the shapes of PyTorch's tensors."""
  with np.load(GOLDEN, allow_pickle=False) as content:
    arrays = {
      key: content[f"{arch}/{key}"]
      for key in ("logits", "gradient", "shapes", "seed")
    }
  shapes = json.loads(str(arrays.pop("shapes")))
  return arrays, {name: tuple(shape) for name, shape in shapes.items()}


def relative_error(ours, theirs):
  """Returns the largest difference in units of the largest value."""
  return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def forward_and_gradient(cfg, variables, seed):
  model = models.make_model(cfg)
  weights = jnp.asarray(numbers_by_name.cotangent())

  def total(x, variables):
    logits = model.apply(variables, x).logits
    return jnp.sum(logits * weights), logits

  x = jnp.asarray(numbers_by_name.image(cfg.name, seed))
  step = jax.jit(jax.grad(total, has_aux=True)).lower(x, variables)
  gradient, logits = step.compile(compiler_options=COMPILE_FAST)(x, variables)
  return logits, gradient


class ParityTest(parameterized.TestCase):
  def test_every_architecture_is_recorded(self):
    with np.load(GOLDEN, allow_pickle=False) as content:
      recorded = {key.split("/")[0] for key in content.files}
    self.assertEqual(recorded, set(ARCHS))
    own = {
      "cnn",
      "cnn4",
      "mlp",
      "plain_cnn",
      "plain_strided_cnn",
      "strided_cnn4",
    }
    own |= {"resnet50_imagenet"}  # See `imagenet_test`.
    self.assertEqual(set(models.MODELS) - recorded, own)

  @parameterized.parameters(*ARCHS)
  def test_logits_and_gradients(self, arch):
    arrays, shapes = golden(arch)
    state = {
      name: numbers_by_name.tensor(name, shape)
      for name, shape in shapes.items()
    }
    cfg, variables = import_checkpoint.convert(arch, state, **CIFAR)
    logits, gradient = forward_and_gradient(cfg, variables, int(arrays["seed"]))
    self.assertLess(relative_error(logits, arrays["logits"]), 1e-4)
    self.assertLess(relative_error(gradient, arrays["gradient"]), 1e-4)
    # Back again: every tensor and counter that PyTorch has, bit for bit.
    exported = state_dict.to_torch(arch, variables)
    self.assertEqual(set(exported), set(state))
    for name, tensor in state.items():
      np.testing.assert_array_equal(exported[name], tensor, err_msg=name)


if __name__ == "__main__":
  absltest.main()
