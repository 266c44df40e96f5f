"""How programs are compiled, and how much of a run's time goes into it."""

import contextlib
from collections.abc import Iterator

import jax
from jax import monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"
_durations: list[float] = []
_listening: list[bool] = []


@contextlib.contextmanager
def optimized(optimize: bool) -> Iterator[None]:
  """Has XLA leave out most optimisations inside, unless `optimize`.

  What JAX's own `jax_disable_most_optimizations` asks for stays asked for.
  """
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", before or not optimize)
  try:
    yield
  finally:
    jax.config.update("jax_disable_most_optimizations", before)


def listen() -> None:
  """Counts every program that is compiled, or read from the cache, from now."""
  if not _listening:
    monitoring.register_event_duration_secs_listener(_record)
    _listening.append(True)


def _record(event: str, duration_secs: float, **unused) -> None:
  del unused
  if event == _EVENT:
    _durations.append(duration_secs)


def mark() -> int:
  """Returns where the count stands, for `since`."""
  return len(_durations)


def since(begin: int) -> tuple[int, float]:
  """Returns (programs, seconds) of compiling since a `mark`."""
  return len(_durations) - begin, sum(_durations[begin:])
