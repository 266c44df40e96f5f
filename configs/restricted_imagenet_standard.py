"""The standard ResNet-50 on Restricted ImageNet, and how far it stands.

Command: python -m robust_features.main \\
  --config=configs/restricted_imagenet_standard.py --config.data.D.data_dir=DIR
  DIR holds train/<wnid>/ and val/<wnid>/ of ImageNet; or, where tfds has
  prepared it there, with --config.data.D.name=imagenet2012. `:balanced` keeps
  three wnids of every super-class; otherwise 58% of the images are dogs.
Hardware: several GPUs or a TPU slice; images are streamed.
Time: not measured at full size; `python -m benchmarks.cost` counts operations.
Expect: 96.6% (table 1) or 98.0% (figure 12, and 18.5% at l2 0.5).
Reference: arXiv:1905.02175, tables 1 and 2, figure 12, appendix C.
"""

from robust_features import recipes


def get_config(variant: str = ""):
  """Returns the study; `:smoke` is tiny, `:balanced` has classes of a size."""
  config = recipes.imagenet_study("restricted_imagenet_standard")
  recipes.add_row(
    config, "standard", "standard training", recipes.imagenet_evaluation(),
    paper="imagenet_standard",
  )  # fmt: skip
  return recipes.imagenet_variant(config, variant)
