"""Small models and data that several test files share."""

import contextlib
import dataclasses
import io
import pathlib
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from robust_features import models, train_step
from robust_features.attacks import AttackConfig
from robust_features.data import augment
from robust_features.data import dataset as ds
from robust_features.models import small
from robust_features.models.layers import Outputs
from robust_features.runtime import checkpoint

NO_ATTACK = AttackConfig("l2", 0.0, 0.0, 0)
NO_AUGMENTATION = augment.AugmentConfig(0, False, 0.0, 0.0)


class Linear(nn.Module):
  """Logits x W + b; the representation is the flattened image."""

  num_classes: int = 2

  @nn.compact
  def __call__(self, x, *, bn_mode="running", fake_relu=False):
    del bn_mode, fake_relu
    flat = x.reshape(x.shape[0], -1)
    init = nn.initializers.normal(0.1)
    kernel = self.param("kernel", init, (flat.shape[1], self.num_classes))
    bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
    return Outputs(flat @ kernel + bias[None], flat)


class Dropping(nn.Module):
  """A linear network with dropout."""

  @nn.compact
  def __call__(self, x, train=False):
    flat = x.reshape(x.shape[0], -1)
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(flat))


def linear_variables(kernel, bias=None):
  """Returns variables of `Linear` from a `[D, K]` kernel."""
  kernel = np.asarray(kernel, np.float32)
  bias = np.zeros(kernel.shape[1]) if bias is None else bias
  return {
    "params": {
      "kernel": jnp.asarray(kernel),
      "bias": jnp.asarray(bias, jnp.float32),
    }
  }


def small_cnn(num_classes=3):
  """Returns a network with BatchNorm that compiles in a moment."""
  return small.CNN(num_classes=num_classes, width=4, strides=(2, 2, 1))


def dataset(num, seed=0, num_classes=3, size=8, noise=0.15, dtype=np.uint8):
  """Returns images of a bright stripe, one place a class, under noise."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(num_classes, size=num)
  images = rng.normal(0.4, noise, (num, size, size, 3))
  for i, y in enumerate(labels):
    images[i, 2 * y : 2 * y + 2] += 0.3
  images = np.clip(images, 0, 1)
  if dtype == np.uint8:
    images = np.round(images * 255)
  return ds.make(images.astype(dtype), labels, num_classes)


def recipe(**changes):
  """Returns two epochs of standard training at batch 8."""
  fields = {
    "num_epochs": 2, "batch_size": 8, "learning_rate": 0.05,
    "schedule": "cosine", "drop_every_epochs": 1, "drop_factor": 0.1,
    "warmup_epochs": 0.0, "momentum": 0.9, "weight_decay": 5e-4,
    "augment": NO_AUGMENTATION, "adversary": NO_ATTACK,
    "eps_ramp_epochs": 0.0, "attack_bn_mode": "running",
    "eval_every_epochs": 1,
  }  # fmt: skip
  return train_step.TrainConfig(**(fields | changes))


def keys(num, seed=0):
  """Returns `[num]` PRNG keys."""
  return jax.random.split(jax.random.key(seed), num)


def command(main, *args):
  """Returns the exit status and the text written to stdout and stderr."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      status = main([str(arg) for arg in args])
    except SystemExit as error:
      status = error.code
  return status, out.getvalue(), err.getvalue()


def folder(test):
  """Returns a folder that goes away with the test."""
  return pathlib.Path(
    test.enterContext(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
  )


def class_folder(cls):
  """Returns a folder that goes away with a test class."""
  return pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))


def write_wnids(folder, wnids, size=(9, 6)):
  """Writes an image for each wnid; its pixels tell the wnid's place."""
  for i, wnid in enumerate(wnids):
    (folder / wnid).mkdir(parents=True)
    pixels = np.full((*size, 3), i % 256, np.uint8)
    PIL.Image.fromarray(pixels).save(folder / wnid / "one.png")


def write_checkpoint(folder):
  """Writes a small network for CIFAR-10 as `import_checkpoint` does."""
  mean, std = (0.5,) * 3, (0.25,) * 3
  cfg = models.ModelConfig("cnn", width=4, mean=mean, std=std)
  net = models.make_model(cfg)
  variables = models.init_variables(net, jax.random.key(0), (32, 32, 3))
  metadata = {"model": dataclasses.asdict(cfg), "source": "toy.pt"}
  checkpoint.save_variables(folder, variables, metadata)
  return folder


def write_tfds(data_dir, num_train=90, num_test=40):
  """Writes a prepared "cifar10" of made-up images, without TensorFlow."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import registered

  from robust_features.data import pixels

  tfds.disable_progress_bar()

  def examples(split, num):
    data = dataset(num, seed=len(split), num_classes=10, size=32)
    for i, image in enumerate(data.images):
      png = pixels.encode_png(image)
      yield i, {"id": str(i), "image": png, "label": int(data.labels[i])}

  base = tfds.builder_cls("cifar10")  # Registers it; must come first.
  with registered.skip_registration():

    class Cifar10(base):
      def _split_generators(self, dl_manager):
        del dl_manager
        sizes = {"train": num_train, "test": num_test}
        return {split: examples(split, num) for split, num in sizes.items()}

  Cifar10(data_dir=data_dir, file_format="array_record").download_and_prepare()
