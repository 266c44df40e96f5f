"""Package metadata; `make .venv` installs it with pinned requirements."""

import pathlib
import re

import setuptools
from setuptools.command.build_py import build_py

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
  r'__version__ = "(.+)"', (_ROOT / "robust_features/__init__.py").read_text()
)[1]


class _BuildWithConfigs(build_py):
  """Puts configs/ inside the package, where `--config=NAME` finds them."""

  def run(self):
    super().run()
    if not self.editable_mode:
      where = pathlib.Path(self.build_lib, "robust_features", "configs")
      self.copy_tree(str(_ROOT / "configs"), str(where))


setuptools.setup(
  name="robust_features",
  version=_VERSION,
  description=(
    "Robust and non-robust features in JAX: adversarial training, data set "
    "construction, attacks and theory after Ilyas et al. 2019"
  ),
  long_description=(_ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  package_data={"robust_features.study.report": ["templates/*.html"]},
  packages=setuptools.find_packages(include=["robust_features*"]),
  cmdclass={"build_py": _BuildWithConfigs},
  entry_points={
    "console_scripts": ["robust-features=robust_features.main:run"]
  },
  python_requires=">=3.11",
  install_requires=[
    "absl-py",
    "array_record",
    "chex",
    "cycler",
    "etils",
    "flax>=0.12",
    "grain",
    "importlib_resources",  # tfds 4.9.10 imports but does not declare it.
    "jax>=0.10,<0.13",
    "jaxlib",
    "jinja2",
    "matplotlib",
    "ml-collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "pillow",
    "pyarrow",
    "requests",
    "scikit-learn",
    "scipy",
    "tensorflow-datasets",
    "tqdm",
  ],
  extras_require={
    "test": ["hypothesis", "ipykernel", "nbclient", "nbformat",
             "pyright[nodejs]", "pytest", "pytest-xdist", "ruff",
             "safetensors", "scipy", "setuptools>=71", "tensorboardX"],
    "tensorboard": ["tensorboard", "tensorboardX"],
    "torch": ["foolbox", "safetensors", "torch==2.13.0", "torchattacks"],
    "notebooks": ["ipywidgets", "jupyterlab"],
  },
)  # fmt: skip
