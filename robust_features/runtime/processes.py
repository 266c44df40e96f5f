"""One run of many processes: how they meet, who writes, what they agree on.

Every process runs the same program on the same arguments. What its own clock,
signals or disk tell it may differ, so whatever follows from these is decided
by `agree`, once for all. The first process writes; the others wait and read.

Exit statuses are a contract with whoever restarts a run: 0 for finished, 1 for
a user's error, which no restart mends, 143 for stopped by a signal and saved,
128 and above for a lost process.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

# JAX waits 100 s for a silent process and 5 minutes for one that will not end.
_HEARTBEAT_SECONDS = 30
_SHUTDOWN_SECONDS = 10
_GLANCE_SECONDS = 0.1  # Between two looks at signals while processes meet.
# Exit statuses.
STOPPED = 143
LOST = 134  # As where JAX itself notices and aborts.
# How errors begin that collectives and barriers end in, of whatever type.
_LOSSES = tuple(
  f"{status}:"
  for status in (
    "ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION", "INTERNAL", "UNAVAILABLE", "UNKNOWN",
  )
)  # fmt: skip


def join(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  wait_seconds: float = 60.0,
  asked: Callable[[], bool] = lambda: False,
) -> None:
  """Meets the other processes of this run; must come before JAX is used.

  Where not all are there in time the process says so in one line and ends with
  status 1; JAX would abort with a stack dump.

  Args:
    coordinator: HOST:PORT of process 0. By default JAX finds this and the two
      others itself, on a TPU slice, under Slurm, Open MPI or Kubernetes.
    num_processes: How many there are.
    process_id: Which one this is, from 0.
    wait_seconds: How long the others may take to appear.
    asked: Whether this process was asked to stop; it then ends with status 143
      without waiting for the others.

  Raises:
    ValueError: If the three do not fit together, if JAX knows no cluster here,
      or if the processes were told different numbers of them.
  """
  given = (coordinator, num_processes, process_id)
  if None in given and given != (None, None, None):
    raise ValueError(
      "--coordinator, --num_processes and --process_id go together, got "
      f"{coordinator!r}, {num_processes!r} and {process_id!r}"
    )
  if coordinator is not None:
    _check(coordinator, num_processes, process_id)
  # JAX's own handler would take SIGTERM from ours, or ours from it, whichever
  # is set later.
  jax.config.update("jax_enable_preemption_service", False)
  failed: list[Exception] = []
  meeting = threading.Thread(
    target=_meet, args=(given, wait_seconds, failed), daemon=True
  )
  meeting.start()
  deadline = time.monotonic() + wait_seconds
  while meeting.is_alive() and time.monotonic() < deadline:
    meeting.join(_GLANCE_SECONDS)
    if asked():
      end("stopped before all processes met; run them again to go on", STOPPED)
  if meeting.is_alive():
    end(_in_vain(given, wait_seconds), 1)
  if failed:
    raise ValueError(_no_cluster(coordinator, failed[0]))
  if num_processes is not None:
    counts = multihost_utils.process_allgather(np.int32(num_processes))
    if len(set(counts.tolist())) > 1:
      raise ValueError(
        "--num_processes must be the same for every process, got "
        f"{' and '.join(str(count) for count in counts)}"
      )


def _meet(given: tuple, wait_seconds: float, failed: list[Exception]) -> None:
  """Runs in a thread: JAX, once it waits, hears neither signals nor clocks."""
  try:
    jax.distributed.initialize(
      *given,
      initialization_timeout=int(wait_seconds) + 30,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
  except (ValueError, RuntimeError, OSError) as error:
    failed.append(error)


def _check(coordinator: str, num_processes, process_id) -> None:
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise ValueError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
  if num_processes < 1:
    raise ValueError(f"--num_processes must be at least 1, got {num_processes}")
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"--process_id must be in [0, {num_processes}), the number of "
      f"processes, got {process_id}"
    )


def _no_cluster(coordinator: str | None, error: Exception) -> str:
  if coordinator is None:
    return (
      f"JAX knows no cluster here ({error}); give --coordinator=HOST:PORT, "
      "--num_processes=N and --process_id=I"
    )
  return f"--coordinator={coordinator} cannot be used ({error})"


def _in_vain(given: tuple, wait_seconds: float) -> str:
  coordinator, num_processes, process_id = given
  who, where = "a process", "their coordinator"
  if coordinator is not None:
    who, where = f"process {process_id} of {num_processes}", coordinator
  return (
    f"error: {who} waited {wait_seconds:g} s in vain for the others at {where};"
    " start them all, with the same --coordinator and --num_processes and each "
    "with a --process_id of its own"
  )


def fail_alone(seconds: float = 5.0) -> None:
  """Lets a process that fails end with its own status, in time.

  JAX waits at the end for the other processes, which is over at once if they
  fail for the same reason. A process that fails alone would be aborted there,
  with the status of a lost one, which whoever started the run restarts.
  """
  if several():
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def is_loss(error: Exception) -> bool:
  """Returns whether an error of JAX means that another process is gone."""
  return several() and str(error).startswith(_LOSSES)


def end_if_lost(error: Exception) -> None:
  """Ends with status 134 where another process is gone."""
  if is_loss(error):
    end(
      f"process {jax.process_index()} lost another one "
      f"({str(error).splitlines()[0][:200]}); run the same command on all of "
      "them to go on",
      LOST,
    )


def end(line: str, status: int) -> None:
  """Prints a line and ends at once, without waiting for any other process."""
  sys.stdout.flush()
  sys.stderr.write(line + "\n")
  sys.stderr.flush()
  os._exit(status)


def several() -> bool:
  """Returns whether this run has more than one process."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Returns whether this process is the one that writes."""
  return not several() or jax.process_index() == 0


def agree(value: int) -> int:
  """Returns the largest value that any process gives: True if any says so.

  All processes call it together.
  """
  if not several():
    return int(value)
  return int(multihost_utils.process_allgather(np.int32(value)).max())


def wait(name: str) -> None:
  """Returns once every process is here; `name` tells which place it is."""
  if several():
    multihost_utils.sync_global_devices(name)
