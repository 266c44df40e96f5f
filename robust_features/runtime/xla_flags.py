"""XLA's flags, which it reads once, when a process first uses a device."""

import mmap
import os
import pathlib

import jaxlib

_FLAG = "xla_cpu_experimental_ynn_fusion_type"
_VALUE = "-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
# Its older emitters, and one module a program.
_QUICK = {
  "xla_cpu_use_fusion_emitters": "false",
  "xla_cpu_parallel_codegen_split_count": "1",
}


def use_all_cores() -> str:
  """Has XLA's convolutions on a CPU use every core; call before any device is.

  The library that jaxlib hands them to runs on one thread: two cores attack 1.5
  times as fast without it (docs/performance.md). A flag that XLA does not know
  ends the process, so it is set only where the installed jaxlib holds its name.

  Returns:
    Why the flag was not set, in one line; empty if it is.
  """
  if _add(_FLAG, _VALUE):
    return ""
  return (
    f"jaxlib {jaxlib.__version__} does not know --{_FLAG}: convolutions on a "
    "CPU may use one core only"
  )


def compile_quickly() -> None:
  """Has XLA compile for a CPU in half of the time; call before any device is.

  With `compilation.optimized(False)` in a quarter of it. Programs run slower.
  """
  for flag, value in _QUICK.items():
    _add(flag, value)


def _add(flag: str, value: str) -> bool:
  """Returns whether a flag is set, to what the user has set it to if so."""
  flags = os.environ.get("XLA_FLAGS", "")
  if flag not in flags:
    if not is_known(flag):
      return False
    os.environ["XLA_FLAGS"] = f"{flags} --{flag}={value}".strip()
  return True


def is_known(flag: str) -> bool:
  """Returns whether XLA, wherever it may be loaded from, knows a flag."""
  try:
    import libtpu  # noqa: F401  # pyright: ignore[reportMissingImports]
  except ImportError:
    pass
  else:
    return False  # It has an XLA of its own.
  libraries = pathlib.Path(jaxlib.__file__).parent.rglob("*.so")
  # A C string of its own: a flag that has gone lives on in names of messages.
  name = b"\0" + flag.encode() + b"\0"
  return any(_holds(path, name) for path in libraries)


def _holds(path: pathlib.Path, text: bytes) -> bool:
  if not path.stat().st_size:
    return False
  with (
    path.open("rb") as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
  ):
    return content.find(text) >= 0
