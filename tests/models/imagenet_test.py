"""ImageNet's stem by hand, torchvision's names, and blocks computed again."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from flax import traverse_util

from robust_features import models
from robust_features.models import resnet
from robust_features.pytorch import state_dict


def stem_by_hand(x, kernel):
  """Returns a 7x7 convolution and a max-pool, each of stride 2, `[B, h, w]`.

  Args:
    x: `[B, 11, 11, 1]`, normalised.
    kernel: `[7, 7, 1, 1]`.
  """
  padded = np.pad(x[..., 0], ((0, 0), (3, 3), (3, 3)))
  conv = np.stack(
    [
      np.stack(
        [
          (padded[:, i : i + 7, j : j + 7] * kernel[..., 0, 0]).sum((1, 2))
          for j in range(0, 11, 2)
        ]
      )
      for i in range(0, 11, 2)
    ]
  )
  conv = np.maximum(conv.transpose(2, 0, 1) / np.sqrt(1 + 1e-5), 0)
  conv = np.pad(conv, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
  return np.stack(
    [
      conv[:, i : i + 3, j : j + 3].max((1, 2))
      for i in range(0, 6, 2)
      for j in range(0, 6, 2)
    ],
    axis=1,
  )


class ImageNetTest(absltest.TestCase):
  def test_stem(self):
    model = resnet.ResNet(
      num_classes=2, width=1, stage_sizes=(), imagenet=True, mean=(0.0,),
      std=(1.0,),
    )  # fmt: skip
    x = np.random.default_rng(0).uniform(size=(2, 11, 11, 1))
    variables = model.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    found = model.apply(variables, jnp.asarray(x, jnp.float32)).representation
    want = stem_by_hand(x, np.asarray(variables["params"]["conv1"]["kernel"]))
    np.testing.assert_allclose(found[:, 0], want.mean(1), rtol=1e-5)

  def test_names_are_torchvisions(self):
    bn = ("weight", "bias", "running_mean", "running_var")
    want = {"conv1.weight", "fc.weight", "fc.bias"}
    want |= {f"bn1.{leaf}" for leaf in bn}
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
      for i in range(blocks):
        name = f"layer{layer}.{i}"
        for j in (1, 2, 3):
          want |= {f"{name}.conv{j}.weight"}
          want |= {f"{name}.bn{j}.{leaf}" for leaf in bn}
        if i == 0:
          want |= {f"{name}.downsample.0.weight"}
          want |= {f"{name}.downsample.1.{leaf}" for leaf in bn}
    model = models.make_model(models.ModelConfig("resnet50_imagenet"))
    shapes = jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
    found = {
      state_dict.torch_name("resnet50_imagenet", path[1:])
      for path in traverse_util.flatten_dict(dict(shapes))
    }
    self.assertEqual(found, want)


class RematTest(absltest.TestCase):
  def test_same_gradient_from_less(self):
    x = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
    found = []
    for remat in (False, True):
      cfg = models.ModelConfig("small_resnet", width=4, remat=remat)
      model = models.make_model(cfg)
      variables = models.init_variables(model, jax.random.key(0), (8, 8, 3))

      def total(params, model=model, variables=variables):
        kept = variables | {"params": params}
        outputs, _ = models.apply_in_training(model, kept, x, None)
        return outputs.logits.sum()

      _, backward = jax.vjp(total, variables["params"])
      nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(backward))
      (gradient,) = backward(jnp.float32(1.0))
      found.append((nbytes, gradient))
    (kept, want), (less, gradient) = found
    self.assertLess(less, 0.7 * kept)
    jax.tree.map(
      lambda one, other: np.testing.assert_allclose(
        one, other, rtol=1e-4, atol=1e-5
      ),
      gradient, want,
    )  # fmt: skip

  def test_other_networks_refuse(self):
    with self.assertRaisesRegex(ValueError, "remat is for .*False for cnn"):
      models.ModelConfig("cnn", remat=True)


if __name__ == "__main__":
  absltest.main()
