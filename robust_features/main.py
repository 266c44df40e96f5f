"""Runs a study: `python -m robust_features.main --config=FILE`.

A finished stage is skipped and an interrupted one goes on where it stopped; the
same command serves for both. Instead of running it, `--dry_run` tells what it
would do and cost, `--status` how far it is, `--help_config` what every field of
the config means; `--list_configs` names the configs that come with the package.
"""

import errno
import functools
import os
import sys
import warnings
from typing import NoReturn

import jax
from absl import app, flags, logging

from robust_features.recipes import config_file
from robust_features.runtime import (
  command,
  files,
  memory,
  paths,
  preemption,
  processes,
  xla_flags,
)

_STREAM = (
  "set data.NAME.streamed to True for a large set, which then stays on the disk"
)
_CONFIG = flags.DEFINE_string(
  "config", None,
  "FILE, FILE:variant or the name of a shipped config, such as quickstart; "
  "--config.FIELD=VALUE changes a field.",
)  # fmt: skip
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
_ONLY = flags.DEFINE_string(
  "only", None, "Name of a stage: it and what it needs, nothing else."
)
_REUSE = flags.DEFINE_string(
  "reuse", None,
  "Another --workdir, or a folder of such: finished stages that do not differ "
  "are linked to instead of made again.",
)  # fmt: skip
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  "~/.cache/robust_features/jax",
  "Folder of compiled programs, trusted when read; empty for none.",
)
_LIST_CONFIGS = flags.DEFINE_bool(
  "list_configs", False, "Names the shipped configs and ends."
)
_HELP_CONFIG = flags.DEFINE_bool(
  "help_config", False, "Tells what every field of the config means and ends."
)
_STATUS = flags.DEFINE_bool(
  "status", False, "Tells which stages are done and ends."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Tells what each stage would cost on this machine and ends."
)


def _parse(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _fail(error)


def _fail(error: Exception) -> NoReturn:
  """Prints one line and exits with status 1."""
  processes.fail_alone()
  sys.exit(f"error: {' '.join(str(error).split())}")


def _explained(error: Exception) -> Exception:
  """Returns an error with its remedy where the libraries do not tell it."""
  if os.strerror(errno.ENOSPC) in str(error):
    return OSError(
      "no space left on the disk of --workdir; free some and run the same "
      "command again: it goes on from what is saved"
    )
  return error


def _warn(message: Warning | str, *unused, **also_unused) -> None:
  """Prints a warning as one line, without the place in the code."""
  sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")


def _use_cache(directory: str) -> None:
  if directory:
    path = paths.folder(directory, "--compilation_cache")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _join() -> None:
  """Meets the other processes, if this run has any."""
  given = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  if _DISTRIBUTED.value or any(value is not None for value in given):
    processes.join(*given, asked=preemption.pending)


def _require_device() -> None:
  """Raises ValueError where JAX finds no device of the kind asked for."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    asked = os.environ.get("JAX_PLATFORMS", "")
    raise ValueError(
      f"JAX finds no device for JAX_PLATFORMS={asked!r} "
      f"({str(error).partition(chr(10))[0] or 'none is there'}); unset it, or "
      "install the jax that knows it"
    ) from None


def _act(overrides: dict[str, str]) -> None:
  """Does what the flags say."""
  if _LIST_CONFIGS.value:
    found = config_file.listing()
    command.show("\n".join(f"{name:16} {about}" for name, about in found))
    return
  if _CONFIG.value is None:
    raise ValueError(
      "--config is missing, such as --config=quickstart; --list_configs names "
      "what there is"
    )
  if _REUSE.value and (_STATUS.value or _DRY_RUN.value):
    raise ValueError(
      "--reuse takes stages where a study runs; leave it out here"
    )
  config = config_file.load(_CONFIG.value, overrides)
  not_set = xla_flags.use_all_cores()
  preemption.install()
  # Late: who only mistyped need not wait for it.
  from robust_features.study import fields, graph, outlook, parse, run

  plan = parse.parse(config)
  if not plan.run.optimize:
    xla_flags.compile_quickly()
  _join()
  _require_device()
  if not_set and jax.default_backend() == "cpu":
    sys.stderr.write(f"{not_set}\n")
  folder = paths.folder(_WORKDIR.value or f"runs/{config.name}", "--workdir")
  study = graph.Study(plan, folder)
  if _HELP_CONFIG.value:
    command.show(fields.describe(plan))
  elif _STATUS.value:
    command.show(outlook.status(study, _ONLY.value))
  elif _DRY_RUN.value:
    command.show(outlook.dry_run(study, _ONLY.value))
  else:
    files.require_shared(folder)
    reuse = paths.folder(_REUSE.value, "--reuse") if _REUSE.value else None
    run.complete(study, _ONLY.value, reuse)


def main(overrides: dict[str, str], argv: list[str]) -> None:
  """Does what the flags say; ends in one line where it cannot."""
  if argv[1:]:
    _fail(ValueError(f"unknown argument {argv[1]!r}"))
  # Orbax warns of every restore on one host, harmlessly.
  logging.set_verbosity(logging.ERROR)
  warnings.showwarning = _warn
  try:
    _use_cache(_CACHE.value)
    _act(overrides)
  except preemption.Stopped as stopped:
    sys.stderr.write(f"stopped by {stopped}; run the same command to go on\n")
    sys.exit(processes.STOPPED)
  except (
    jax.errors.JaxRuntimeError, MemoryError, ValueError, OSError
  ) as error:  # fmt: skip
    processes.end_if_lost(error)
    if memory.is_short(error):
      _fail(memory.explained(error, "the study", _STREAM))
    if isinstance(error, jax.errors.JaxRuntimeError):
      processes.fail_alone()
      raise
    _fail(_explained(error))


def run() -> None:
  """The console script `robust-features`."""
  try:
    overrides, argv = config_file.split_overrides(sys.argv)
  except ValueError as error:
    _fail(error)
  # As `python -m` does: configs may import what lies beside.
  sys.path.insert(0, os.getcwd())
  app.run(functools.partial(main, overrides), argv, flags_parser=_parse)


if __name__ == "__main__":
  run()
