"""The card of a constructed data set, as the Hugging Face hub reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = {
  "robust": "Training images rebuilt from noise or other images until a robust"
  " model represents them alike: what is left is what it uses.",
  "nonrobust": "Training images rebuilt from noise or other images until a"
  " standard model represents them alike: what is left is what it uses.",
  "rand": "Training images moved within a small ball until the source model"
  " sees a random class, and labelled as that class: to people, wrongly.",
  "det": "Training images moved within a small ball until the source model"
  " sees the next class, and labelled as that class: to people, wrongly.",
}
_OTHER_KIND = (
  "Training images, changed and labelled as origin.json says, of no kind that"
  " the paper has."
)
# Source of the original images: (licence as the hub names it, what they are).
_ORIGINALS = {
  "cifar10": (
    "unknown",
    "CIFAR-10, A. Krizhevsky, 2009,"
    " https://www.cs.toronto.edu/~kriz/cifar.html; states no licence",
  ),
  "digits": (
    "cc-by-4.0",
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak,"
    " 1998, UCI Machine Learning Repository, doi:10.24432/C50P49, as"
    " scikit-learn ships it; CC BY 4.0",
  ),
  "planted": (
    "apache-2.0",
    "drawn by robust_features, the `planted` set; Apache-2.0",
  ),
}
_MEASURED = {
  "success": "source model predicts the label, of images as stored",
  "success_augmented": "the same under a crop and a flip",
  "success_before_rounding": "the same, before rounding to the stored pixels",
  "met_zero_gradient": "examples that met a zero gradient",
  "moved_from_original": "l2 distance from the original, pixels in [0, 1]",
  "moved_from_start": "l2 distance from where the climb started",
  "objective_start": "objective at the start",
  "objective_end": "objective at the end",
  "objective_stored": "objective as stored",
}
_RATES = (
  "success", "success_augmented", "success_before_rounding",
  "met_zero_gradient",
)  # fmt: skip
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"),
          (10**6, "100K<n<1M"))  # fmt: skip


def render(
  manifest: Mapping[str, Any],
  loading: Sequence[str],
  yaml: Sequence[str] = (),
  picture: str = "",
) -> str:
  """Returns a card in Markdown: a header of YAML, then what people ask for.

  Args:
    manifest: Of the data set; see `constructed`.
    loading: Lines of Python that load the set.
    yaml: More lines of the header.
    picture: File name of the grid, beside the card; "" for none.
  """
  kind, origin = manifest["kind"], manifest["origin"]
  licence, originals = describe_originals(
    origin.get("originals", "not recorded")  # A library user may not know.
  )
  size = next((n for most, n in _SIZES if manifest["num_examples"] < most),
              "1M<n<10M")  # fmt: skip
  lines = [
    "---",
    f"pretty_name: D_{kind}",
    f"license: {licence}",
    "task_categories:",
    "- image-classification",
    "tags:",
    "- adversarial-examples",
    "- robustness",
    "size_categories:",
    f"- {size}",
    *yaml,
    "---",
    "",
    f"# D_{kind}",
    "",
    _KINDS.get(kind, _OTHER_KIND),
    "Ilyas et al., *Adversarial Examples Are Not Bugs, They Are Features*,"
    " arXiv:1905.02175, section 3.",
    "",
  ]
  if picture:
    lines += [f"![originals above, constructed below]({picture})", ""]
  lines += ["```python", *loading, "```", "", *_contents(manifest)]
  lines += [
    "",
    "## Origin",
    "",
    f"- Original images: {originals}",
    *(f"- {name}: `{value}`" for name, value in sorted(origin.items())
      if isinstance(value, (str, int, float)) and name != "originals"),
    "- Every setting: `origin.json`, beside this file",
    f"- sha256 of the set as it was made: `{manifest['sha256']}`",
    "",
  ]  # fmt: skip
  return "\n".join(lines)


def describe_originals(name: str) -> tuple[str, str]:
  """Returns (licence as the hub names it, source) of the original images.

  Args:
    name: A source's or tfds's name, as `origin["originals"]` has it.
  """
  bare = name.partition(":")[0].partition("/")[0]
  if bare in _ORIGINALS:
    return _ORIGINALS[bare]
  return (
    "unknown",
    f"`{name}`; whoever passes this set on says where they are from and under"
    " which licence",
  )


def _contents(manifest: Mapping[str, Any]) -> list[str]:
  """Returns sections on shape, classes and what was measured."""
  height, width, channels = manifest["image_shape"]
  steps = "0 to 255" if manifest["pixels"] == "uint8" else "0 to 1"
  counts = zip(manifest["class_names"], manifest["class_counts"], strict=True)
  rows = [f"| {label} | {name} | {count:,} |"
          for label, (name, count) in enumerate(counts)]  # fmt: skip
  return [
    "## Contents",
    "",
    f"{manifest['num_examples']:,} training images,"
    f" {height}x{width}x{channels}, {manifest['pixels']}, {steps}, each with"
    " its label and the label of the original image. Test on the original test"
    " set.",
    "",
    "| label | class | images |",
    "| --- | --- | --- |",
    *rows,
    "",
    "## Measured",
    "",
    "| mean | value |",
    "| --- | --- |",
    *(
      f"| {text} | {_number(name, manifest['mean'][name])} |"
      for name, text in _MEASURED.items()
      if name in manifest["mean"]
    ),
    "| held-out examples whose label a linear classifier tells by their"
    f" perturbations | {manifest['separability']:.2%} |",
    "",
    f"Images left as they are: {manifest['num_spared']}",
  ]


def _number(name: str, value: float) -> str:
  return f"{value:.2%}" if name in _RATES else f"{value:.4f}"
