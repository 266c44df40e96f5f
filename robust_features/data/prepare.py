"""Downloads a tfds data set and writes it as array_record, without TensorFlow.

    python -m robust_features.data.prepare --dataset=cifar10 --data_dir=D

The data set's own builder downloads, checks the SHA-256 and generates its
examples; numpy images are turned into PNG here, because tfds's own encoder is
TensorFlow's. Then the source "tfds" reads it from the same `data_dir`.

Without a network, get the archive elsewhere and hand it over:

    python -m robust_features.data.prepare --dataset=cifar10 --data_dir=D \\
      --from_archive=cifar-10-binary.tar.gz

The archive must be the one that the builder would download. CIFAR's "python"
archives are refused: they hold pickles, and loading one can run any code.

Whatever goes wrong, one line says so and what to do, the exit status is 1, and
nothing is left behind in `data_dir`.
"""

import contextlib
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import download_manager, extractor

from robust_features.data import pixels
from robust_features.data.dataset import DataError
from robust_features.runtime import command, paths

# tfds itself retries for minutes before it gives up on a missing network.
_PROBE_SECONDS = 15

# All that tfds's extractor and its CIFAR and MNIST builders use of TensorFlow.
_TENSORFLOW_STAND_IN = types.SimpleNamespace(
  compat=types.SimpleNamespace(as_text=os.fsdecode),
  io=types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=open)),
)


def prepare(
  dataset: str, data_dir: str, from_archive: str | None = None
) -> pathlib.Path:
  """Downloads and writes a data set, or finds it there already.

  Args:
    dataset: The tfds name, with "/config" if it has configs.
    data_dir: Folder to write to, made if need be.
    from_archive: The archive to read instead of downloading it; None for none.

  Returns:
    The folder of the prepared data set.

  Raises:
    ValueError: One line that says what is wrong and the remedy. Nothing is
      left behind then.
  """
  name, _, config = dataset.partition("/")
  try:
    builder_cls = tfds.builder_cls(name)
  except tfds.core.DatasetNotFoundError as error:
    raise DataError(f"dataset: tfds knows no {name!r}") from error
  root = paths.folder(data_dir, "data_dir")
  if from_archive:
    from_archive = str(paths.resolve(from_archive, "from_archive"))
  with _clean_up(root, name), _explain(dataset, builder_cls):
    root.mkdir(parents=True, exist_ok=True)
    with _without_tensorflow(builder_cls):
      builder = _encoding(builder_cls)(
        data_dir=str(root), config=config or None, file_format="array_record"
      )
      if not pathlib.Path(builder.data_path).exists():
        _write(builder, root, from_archive)
      elif not builder.is_prepared():
        raise DataError(
          f"{builder.data_path}: is incomplete; delete it and run again"
        )
  return pathlib.Path(builder.data_path)


def _write(builder: Any, root: pathlib.Path, from_archive: str | None) -> None:
  """Runs the builder with its downloads in a folder that goes away again."""
  with tempfile.TemporaryDirectory(prefix=".downloads-", dir=root) as downloads:
    manual_dir = None
    if from_archive is None:
      _probe(builder.url_infos or {})
    else:
      manual_dir = _place(from_archive, downloads, builder.url_infos or {})
    builder.download_and_prepare(
      download_dir=downloads,
      download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    )


def _probe(url_infos: dict[str, Any]) -> None:
  """Raises at once if the first address cannot be reached."""
  for url in list(url_infos)[:1]:
    requests.head(url, timeout=_PROBE_SECONDS, allow_redirects=True)


def _place(
  from_archive: str, folder: str, url_infos: dict[str, Any]
) -> pathlib.Path:
  """Puts the archive where, and under the name by which, tfds looks for it."""
  archive = pathlib.Path(from_archive).resolve()
  if not archive.is_file():
    raise DataError(f"from_archive: {from_archive!r} is not a file")
  if len(url_infos) != 1:
    raise DataError(
      "from_archive serves data sets of one archive, this one has"
      f" {len(url_infos)}; run without it on a machine with a network and copy"
      " data_dir"
    )
  (expected,) = url_infos.values()
  if "-python" in archive.name:
    raise DataError(
      f"from_archive: {archive.name} holds pickles, which are never loaded;"
      f" get {expected.filename}"
    )
  manual_dir = pathlib.Path(folder) / "manual"
  manual_dir.mkdir()
  (manual_dir / expected.filename).symlink_to(archive)
  return manual_dir


def _encoding(builder_cls: type) -> type:
  """Returns the builder with its numpy images encoded as PNG."""
  with registered.skip_registration():

    class Encoding(builder_cls):
      """The builder, handing tfds PNG bytes in place of arrays."""

      name = builder_cls.name
      # tfds finds these through the module's path, which is ours here.
      url_infos = builder_cls.url_infos
      pkg_dir_path = builder_cls.pkg_dir_path

      def _split_generators(self, dl_manager):
        splits = super()._split_generators(dl_manager)
        return {
          split: _encode_examples(examples, self.info.features)
          for split, examples in splits.items()
        }

  return Encoding


def _encode_examples(examples: Any, features: Any) -> Iterator[tuple]:
  """Yields the examples with every numpy image as PNG bytes."""
  keys = [
    key
    for key, feature in features.items()
    if isinstance(feature, tfds.features.Image)
  ]
  for name, example in examples:
    encoded = {
      key: pixels.encode_png(example[key])
      for key in keys
      if isinstance(example[key], np.ndarray)
    }
    yield name, {**example, **encoded}


@contextlib.contextmanager
def _without_tensorflow(builder_cls: type) -> Iterator[None]:
  """Lets tfds open files as Python does while it extracts and generates."""
  modules = [extractor, sys.modules[builder_cls.__module__]]
  with contextlib.ExitStack() as stack:
    for module in modules:
      if hasattr(module, "tf"):
        stack.callback(setattr, module, "tf", module.tf)
        setattr(module, "tf", _TENSORFLOW_STAND_IN)  # noqa: B010
    yield


@contextlib.contextmanager
def _clean_up(root: pathlib.Path, name: str) -> Iterator[None]:
  """Removes on failure the folders that were made and are empty again."""
  made = [
    path for path in (root / name, root, *root.parents) if not path.exists()
  ]
  try:
    yield
  except BaseException:
    for path in made:
      with contextlib.suppress(OSError):  # Not there, or not empty.
        path.rmdir()
    raise


@contextlib.contextmanager
def _explain(dataset: str, builder_cls: Any) -> Iterator[None]:
  """Turns what tfds raises into one line with a remedy."""
  try:
    yield
  except DataError:
    raise
  except requests.exceptions.RequestException as error:
    raise DataError(
      f"{dataset}: no network, or its server does not answer;"
      f" {_by_hand(builder_cls.url_infos or {})}"
    ) from error
  except download_manager.NonMatchingChecksumError as error:
    raise DataError(
      f"{dataset}: wrong checksum, the archive is damaged or another one;"
      f" {_by_hand(builder_cls.url_infos or {})}"
    ) from error
  except OSError as error:
    raise DataError(
      f"{dataset}: cannot be written ({error}); free some disk or choose"
      " another data_dir"
    ) from error
  except Exception as error:  # Builders raise nearly anything.
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    raise DataError(
      f"{dataset}: could not be prepared without TensorFlow ({reason}); prepare"
      " it on a machine with TensorFlow, file_format='array_record', and copy"
      " data_dir"
    ) from error


def _by_hand(url_infos: dict[str, Any]) -> str:
  """Returns how to supply the data without this machine's network."""
  if len(url_infos) != 1:
    return "prepare it on a machine with a network and copy data_dir"
  ((url, info),) = url_infos.items()
  return (
    f"get {url} (sha256 {info.checksum}) elsewhere and pass"
    f" --from_archive={info.filename}"
  )


def main(argv: list[str] | None = None) -> int:
  """Runs the command and returns its exit status."""
  parser = command.Parser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--dataset", required=True, help="tfds name: cifar10")
  parser.add_argument("--data_dir", required=True, help="folder to write to")
  parser.add_argument("--from_archive", help="archive to use, not the network")
  args = parser.parse_args(argv)

  def work() -> str:
    path = prepare(args.dataset, args.data_dir, args.from_archive)
    return f"prepared: {path}"

  return command.run(work)


if __name__ == "__main__":
  sys.exit(main())
