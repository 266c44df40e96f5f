"""Runs a study: `python -m robust_features.main --config=FILE`.

A finished part is skipped and an interrupted one goes on where it stopped; the
same command serves for both.
"""

import errno
import os
import pathlib
import re
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from robust_features.runtime import files, preemption, processes

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File of configs/, such as configs/quickstart.py."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where everything is written; default runs/<config's name>."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several processes, in a cluster that JAX knows."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where JAX knows no cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "How many there are; with --coordinator."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which of them this is, from 0; with --coordinator."
)
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.path.expanduser("~/.cache/robust_features/jax"),
  "Folder of compiled programs, trusted when read; empty for none.",
)


def _fractions(argv: list[str]) -> list[str]:
  """Lets a radius be written as the field writes it: eps=8/255."""
  ratio = re.compile(r"(--config\.[^=]+)=(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")

  def number(arg: str) -> str:
    found = ratio.fullmatch(arg)
    if not found or not float(found[3]):
      return arg
    return f"{found[1]}={float(found[2]) / float(found[3])!r}"

  return [number(arg) for arg in argv]


def _parse(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(_fractions(argv))
    if _CONFIG.value is None:
      raise ValueError("--config is missing, such as configs/quickstart.py")
    # A file that could not be loaded says so only when a field is read.
    _ = _CONFIG.value.stages
  except (AttributeError, KeyError) as error:
    _fail(ValueError(f"the config has no field {error.args[0]}"))
  except (flags.Error, TypeError, ValueError, OSError) as error:
    _fail(error)
  return rest


def _fail(error: BaseException) -> None:
  """Prints one line and exits with status 1."""
  text = str(error).strip()
  if "Traceback" in text:  # ml_collections quotes it; its end says it all.
    text = text.splitlines()[-1]
  processes.fail_alone()
  sys.exit(f"error: {' '.join(text.split())}")


def _explained(error: Exception, workdir: pathlib.Path) -> Exception:
  """Returns an error with its remedy where the libraries do not tell it."""
  if os.strerror(errno.ENOSPC) in str(error):
    return OSError(
      f"no space left on the disk of {workdir}; free some and run the same "
      "command again: it goes on from what is saved"
    )
  return error


def _use_cache(directory: str) -> None:
  if directory:
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _join() -> None:
  """Meets the other processes, if this run has any."""
  given = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  if _DISTRIBUTED.value or any(value is not None for value in given):
    processes.join(*given)


def main(argv: list[str]) -> None:
  """Runs the study of `--config`."""
  if len(argv) > 1:
    _fail(ValueError(f"unknown argument {argv[1]!r}"))
  logging.set_verbosity(logging.ERROR)  # Orbax warns of what is so on purpose.
  config = _CONFIG.value
  name = config.name
  workdir = pathlib.Path(_WORKDIR.value or f"runs/{name}")
  _use_cache(_CACHE.value)
  try:
    _join()
    preemption.install()
    files.require_shared(workdir)
    from robust_features.study import run

    run.run(config, workdir)
  except preemption.Stopped as stopped:
    sys.stderr.write(f"stopped by {stopped}; run the same command to go on\n")
    sys.exit(processes.STOPPED)
  except jax.errors.JaxRuntimeError as error:
    processes.end_if_lost(error)
    processes.fail_alone()
    raise
  except (ValueError, OSError) as error:
    _fail(_explained(error, workdir))


if __name__ == "__main__":
  app.run(main, flags_parser=_parse)
