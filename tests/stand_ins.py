"""Small made-up data in place of what a config reads, and a checkpoint."""

import numpy as np
import toys

from robust_features.data import restricted_imagenet


def write(config, folder):
  """Returns overrides that lead every source of a config into a folder."""
  overrides = {}
  for section, cfg in config.data.items():
    if cfg.source == "tfds":
      toys.write_tfds(folder)
    elif cfg.source == "npz":
      _write_pair(folder, cfg.name)
    elif cfg.source == "restricted_imagenet":
      wnids = restricted_imagenet.groups(balanced=False)
      toys.write_wnids(folder / "train", wnids, (40, 36))
    else:
      continue
    overrides[f"data.{section}.data_dir"] = str(folder)
  for stage, cfg in config.stages.items():
    if cfg.kind == "imported":
      checkpoint = toys.write_checkpoint(folder / stage)
      overrides[f"stages.{stage}.checkpoint"] = str(checkpoint)
  return overrides


def _write_pair(folder, name):
  """Writes a test set as CIFAR-10.1 comes."""
  data = toys.dataset(40, num_classes=10, size=32)
  np.save(folder / f"{name}_data.npy", data.images)
  np.save(folder / f"{name}_labels.npy", np.arange(40) % 10)
