"""How much of a run's time went into compiling."""

from jax import monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"
_durations: list[float] = []
_listening: list[bool] = []


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
