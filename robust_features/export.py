"""Takes a constructed data set away, in a form that others open.

  python -m robust_features.export --dataset=runs/quickstart/d_det \
    --format=parquet --out=d_det

  parquet       Hugging Face: datasets.load_dataset("d_det")
  tfds          tfds.builder_from_directory("d_det").as_data_source()
  npz           d_det.npz, which the data source "npz" reads
  image_folder  PNG files in train/<class>/, which "image_folder" reads
  madry         the authors' own layout: torch.load of two lists of tensors

Each holds the same pixels, labels and class names, in the same order, and the
label of every original image; README.md, the card, has the lines that load it.
"""

import contextlib
import csv
import io
import json
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from robust_features.data import (
  card,
  classes_file,
  constructed,
  pixels,
  released,
)
from robust_features.data.dataset import DataError, Dataset
from robust_features.runtime import command, files, paths

_CHUNK = 1_000  # Images encoded at a time.
_ORIGINAL = "original_labels"


class Format(NamedTuple):
  """One way to write a data set.

  Attributes:
    write: (data set, its name, folder) fills the folder.
    loading: Lines of Python that load it; {out} stands for the folder, {name}
      for the data set's name.
    yaml: Lines of the card's header.
  """

  write: Callable[[Dataset, str, pathlib.Path], None]
  loading: tuple[str, ...]
  yaml: tuple[str, ...] = ()


def export(
  dataset_dir: str | pathlib.Path, fmt: str, out: str | pathlib.Path
) -> None:
  """Writes a constructed data set in another format, whole or not at all.

  Args:
    dataset_dir: Folder of the set, or of the stage that made it.
    fmt: A name in `FORMATS`.
    out: Folder to write; must not exist, or be empty.

  Raises:
    ValueError: If the set is missing or damaged, `out` is there already, or the
      format cannot hold the set.
  """
  source = constructed.find(dataset_dir)
  manifest = constructed.read_manifest(source)
  dataset = constructed.load(source)
  name = re.sub(r"\W", "_", f"d_{manifest['kind']}".lower())
  out = paths.resolve(out, "out")
  chosen = FORMATS[fmt]
  with command.new_folder(out) as folder:
    chosen.write(dataset, name, folder)
    loading = [line.format(out=out.name, name=name) for line in chosen.loading]
    text = card.render(manifest, loading, chosen.yaml)
    files.write_text(folder / "README.md", text)
    files.write_json(folder / "origin.json", manifest["origin"])


def _write_npz(dataset: Dataset, name: str, folder: pathlib.Path) -> None:
  np.savez(
    folder / f"{name}.npz",
    train_images=dataset.images,
    train_labels=dataset.labels,
    train_original_labels=dataset.extras[_ORIGINAL],
    class_names=np.array(dataset.class_names),
  )


def _write_image_folder(
  dataset: Dataset, name: str, folder: pathlib.Path
) -> None:
  del name
  if dataset.images.dtype != np.uint8:
    raise DataError(
      "format image_folder holds 8 bits and this set float32; choose npz,"
      " parquet, tfds or madry"
    )
  for class_name in dataset.class_names:
    if "/" in class_name or class_name.startswith(".") or not class_name:
      raise DataError(
        f"format image_folder needs class names that can be folders, got"
        f" {class_name!r}; choose npz, parquet, tfds or madry"
      )
  rows = [("file", "label", "original_label")]
  originals = dataset.extras[_ORIGINAL]
  for i, (image, label) in enumerate(
    zip(dataset.images, dataset.labels, strict=True)
  ):
    path = f"train/{dataset.class_names[label]}/{i:06d}.png"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(pixels.encode_png(image))
    rows.append((path, label, originals[i]))
  classes_file.write(folder, dataset.class_names)
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(rows)
  files.write_text(folder / "original_labels.csv", text.getvalue())


def _write_madry(dataset: Dataset, name: str, folder: pathlib.Path) -> None:
  del name
  released.save(folder, dataset)
  originals = dataset.extras[_ORIGINAL].astype(np.int64)
  np.save(folder / "original_labels.npy", originals, allow_pickle=False)


def _write_tfds(dataset: Dataset, name: str, folder: pathlib.Path) -> None:
  import tensorflow_datasets as tfds

  is_uint8 = dataset.images.dtype == np.uint8
  if is_uint8:
    # tfds's own encoder needs TensorFlow; bytes pass through it.
    encode = pixels.encode_png
    image_feature = tfds.features.Image(shape=dataset.image_shape)
  else:
    encode = np.asarray
    image_feature = tfds.features.Tensor(
      shape=dataset.image_shape, dtype=np.float32
    )
  label = tfds.features.ClassLabel(names=list(dataset.class_names))

  def examples():
    for i, (image, y, original) in enumerate(
      zip(
        dataset.images, dataset.labels, dataset.extras[_ORIGINAL], strict=True
      )
    ):
      yield (
        i,
        {
          "image": encode(image),
          "label": int(y),
          "original_label": int(original),
        },
      )

  features = {"image": image_feature, "label": label, "original_label": label}
  with tempfile.TemporaryDirectory(dir=folder) as scratch:
    builder = _tfds_builder(name, features, examples)(
      data_dir=scratch, file_format="array_record"
    )
    if not sys.stderr.isatty():
      tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # It names the scratch.
      builder.download_and_prepare()
    for path in pathlib.Path(builder.data_path).iterdir():
      shutil.move(path, folder / path.name)


def _tfds_builder(dataset_name: str, features: dict[str, Any], examples) -> Any:
  """Returns a class that writes examples as tfds does, in their order."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import registered

  with registered.skip_registration():

    class Constructed(tfds.core.GeneratorBasedBuilder):
      """A training set alone."""

      name = dataset_name
      VERSION = tfds.core.Version("1.0.0")

      def _info(self):
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict(features),
          supervised_keys=("image", "label"),
          disable_shuffling=True,
        )

      def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": examples()}

      def _generate_examples(self):
        return examples()

  return Constructed


def _write_parquet(dataset: Dataset, name: str, folder: pathlib.Path) -> None:
  del name
  import pyarrow as pa
  from pyarrow import parquet

  is_uint8 = dataset.images.dtype == np.uint8
  label = {"names": list(dataset.class_names), "_type": "ClassLabel"}
  nested = [[[{"dtype": "float32", "_type": "Value"}]]]
  features = {
    "image": {"_type": "Image"} if is_uint8 else nested,
    "label": label,
    "original_label": label,
  }
  image_type = pa.list_(pa.list_(pa.list_(pa.float32())))
  if is_uint8:
    image_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
  schema = pa.schema(
    {"image": image_type, "label": pa.int64(), "original_label": pa.int64()},
    metadata={"huggingface": json.dumps({"info": {"features": features}})},
  )
  path = folder / "data" / "train-00000-of-00001.parquet"
  path.parent.mkdir()
  with parquet.ParquetWriter(path, schema) as writer:
    for start in range(0, dataset.num_examples, _CHUNK):
      part = slice(start, start + _CHUNK)
      images = dataset.images[part].tolist()
      if is_uint8:
        encoded = map(pixels.encode_png, dataset.images[part])
        images = [{"bytes": png, "path": None} for png in encoded]
      columns = {
        "image": pa.array(images, image_type),
        "label": pa.array(dataset.labels[part], pa.int64()),
        "original_label": pa.array(dataset.extras[_ORIGINAL][part], pa.int64()),
      }
      writer.write_table(pa.table(columns, schema))


FORMATS: dict[str, Format] = {
  "parquet": Format(
    _write_parquet,
    (
      "import datasets",
      "",
      'dataset = datasets.load_dataset("{out}", split="train")',
    ),
    ("configs:", "- config_name: default", "  data_files:",
     "  - split: train", "    path: data/train-*"),
  ),
  "tfds": Format(
    _write_tfds,
    (
      "import tensorflow_datasets as tfds",
      "",
      'builder = tfds.builder_from_directory("{out}")',
      'dataset = builder.as_data_source(split="train")',
    ),
  ),
  "npz": Format(
    _write_npz,
    (
      "import numpy as np",
      "",
      'dataset = np.load("{out}/{name}.npz")',
      'images, labels = dataset["train_images"], dataset["train_labels"]',
    ),
  ),
  "image_folder": Format(
    _write_image_folder,
    (
      "# The order of the labels is that of classes.txt; libraries that sort",
      "# the folders may number the classes otherwise.",
      "from robust_features.data import image_folder",
      "",
      'dataset, _ = image_folder.load("{out}")',
    ),
    ("configs:", "- config_name: default", "  data_files:",
     "  - split: train", "    path: train/**"),
  ),
  "madry": Format(
    _write_madry,
    (
      "import torch",
      "",
      'images = torch.cat(torch.load("{out}/CIFAR_ims"))  # [N, C, H, W]',
      'labels = torch.cat(torch.load("{out}/CIFAR_lab"))',
    ),
  ),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  parser = command.Parser(prog="export", description=__doc__)
  parser.add_argument("--dataset", required=True, help="a set's folder")
  parser.add_argument("--format", required=True, choices=sorted(FORMATS))
  parser.add_argument("--out", required=True, help="folder to write")
  args = parser.parse_args(argv)

  def work() -> str:
    export(args.dataset, args.format, args.out)
    return f"{args.out}: {args.format}; see README.md there"

  return command.run(work)


if __name__ == "__main__":
  sys.exit(main())
