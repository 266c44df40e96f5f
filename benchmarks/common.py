"""What the benchmarks share: fair timing, rates, operation counts, tables."""

import math
import os
import platform
import re
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax

from robust_features.runtime import xla_flags

xla_flags.use_all_cores()  # As `main` does.

Contender = Callable[[], Any]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


# Cores that other programs may take while wall time is measured.
MOST_FOREIGN = 0.1


class Foreign:
  """How many cores other processes used since it was made; Linux alone.

  Attributes:
    children: Numbers of processes that are this program's, and still run.
  """

  def __init__(self, children: Sequence[int] = ()):
    self.children = children
    self._begun = time.monotonic(), _machine_seconds(), self.own_seconds()

  def own_seconds(self) -> float:
    """Returns the processor time of this program and its children."""
    return _own_seconds() + sum(map(process_seconds, self.children))

  def cores(self) -> float:
    """Returns the mean number; not a number where the system does not say."""
    begun, machine_then, own_then = self._begun
    wall = max(time.monotonic() - begun, 1e-9)
    busy = _machine_seconds() - machine_then
    # Both clocks tick in hundredths of a second.
    return max(0.0, busy - (self.own_seconds() - own_then)) / wall

  def require_quiet(self) -> None:
    """Ends the program if others took more than a tenth of a core."""
    if (found := self.cores()) > MOST_FOREIGN:
      sys.exit(
        f"error: other programs used {found:.2f} cores meanwhile, so that wall"
        " times mean nothing; stop them, or measure one core's processor time:"
        " taskset -c 0 ... --threads=1 --clock=cpu"
      )


def _machine_seconds() -> float:
  """Returns the seconds that all cores have worked, of /proc/stat."""
  try:
    with open("/proc/stat") as file:
      user, nice, system, _, _, irq, softirq, *_ = map(
        int, file.readline().split()[1:]
      )
  except OSError:
    return math.nan
  return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def process_seconds(number: int) -> float:
  """Returns the processor time of a process that runs; Linux alone."""
  with open(f"/proc/{number}/stat") as file:
    user, system = file.read().rpartition(")")[2].split()[11:13]
  return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
  """Returns a port of this machine that nobody listens on."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def _own_seconds() -> float:
  times = os.times()
  return sum(times[:4])  # Finished children's too.


def interleave(
  contenders: dict[str, Contender], repeats: int, clock: str = "wall"
) -> dict[str, list[float]]:
  """Returns seconds of every call, the contenders taking turns.

  What else the machine does then hits all of them alike. Each is called once
  beforehand, untimed; every round begins with another one.

  Ends the program if wall time is measured on a CPU that others use as well.

  Args:
    contenders: By name, functions that return when their work is done.
    repeats: Timed calls of each.
    clock: "wall", or "cpu" for the processor time of all threads: what is
      left to measure on a machine with much else to do. Threads that wait
      actively count as working, so give everybody a single one.
  """
  now = CLOCKS[clock]
  for run in contenders.values():
    run()
  seconds: dict[str, list[float]] = {name: [] for name in contenders}
  names = list(contenders)
  foreign = Foreign()
  for turn in range(repeats):
    first = turn % len(names)
    for name in names[first:] + names[:first]:
      start = now()
      contenders[name]()
      seconds[name].append(now() - start)
  if clock == "wall" and jax.default_backend() == "cpu":
    foreign.require_quiet()
  return seconds


def median_rate(work: float, seconds: list[float]) -> float:
  """Returns units of work per second by the median call."""
  return work / statistics.median(seconds)


def ratio(ours: list[float], theirs: list[float]) -> float:
  """Returns how many times faster we are: the median over the rounds.

  The two calls of one round lie next to each other in time, so a load that
  comes and goes falls out of their quotient.
  """
  return statistics.median(_ratios(ours, theirs))


def spread(ours: list[float], theirs: list[float]) -> str:
  """Returns `ratio` and, in brackets, its least and largest round."""
  found = _ratios(ours, theirs)
  return f"{ratio(ours, theirs):.2f}x ({min(found):.2f} to {max(found):.2f})"


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
  return [other / own for own, other in zip(ours, theirs, strict=True)]


def fastest(seconds: dict[str, list[float]], names: list[str]) -> str:
  """Returns whose median call is the shortest."""
  return min(names, key=lambda name: statistics.median(seconds[name]))


def matmul_rate(
  dtype: str, size: int = 0, repeats: int = 10, clock: str = "wall"
) -> float:
  """Returns this device's measured matrix product rate in FLOP/s.

  The best of `repeats` chains of square products, as XLA runs them.

  Args:
    dtype: "float32" or "bfloat16".
    size: Side of the matrices; 0 chooses by the kind of device.
    repeats: Timed chains.
    clock: See `interleave`.
  """
  on_cpu = jax.default_backend() == "cpu"
  size = size or (2048 if on_cpu else 8192)
  length = 2 if on_cpu else 20
  x, y = jax.random.normal(jax.random.key(0), (2, size, size)).astype(dtype)

  @jax.jit
  def chain(x, y):
    for _ in range(length):
      # Keeps the numbers of order one: a GPU multiplies zeros faster.
      x = (x @ y) * size**-0.5
    return x

  run = {"chain": lambda: chain(x, y).block_until_ready()}
  seconds = interleave(run, repeats, clock)["chain"]
  return length * 2 * size**3 / min(seconds)


def forward_flops(apply: Callable, *args) -> int:
  """Returns the operations of a function's convolutions and products.

  A multiplication and an addition are two; everything else counts nothing, and
  neither do loops, which a forward pass does not have.

  Args:
    apply: The function.
    *args: Arrays or shapes that it is called with.
  """
  return _count(jax.make_jaxpr(apply)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    out = equation.outvars[0].aval
    if equation.primitive.name == "conv_general_dilated":
      numbers = equation.params["dimension_numbers"]
      kernel = equation.invars[1].aval.shape
      depth = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
      total += 2 * math.prod(out.shape) * depth
    elif equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      depth = math.prod(shape[axis] for axis in contracted)
      total += 2 * math.prod(out.shape) * depth
    for value in equation.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        total += _count(inner)
  return total


def compile_seconds(fn: Any, *args, **kwargs) -> tuple[Any, float]:
  """Returns (compiled, seconds to trace and compile) of a jitted function."""
  start = time.perf_counter()
  compiled = fn.lower(*args, **kwargs).compile()
  return compiled, time.perf_counter() - start


def xla_flops(compiled: Any) -> float:
  """Returns XLA's count of a compiled program's operations.

  The body of a loop is counted once, so give it programs without loops.
  """
  analysis = compiled.cost_analysis()
  if isinstance(analysis, list):  # Older jaxlib: one entry a device.
    analysis = analysis[0]
  return float(analysis["flops"])


def temp_bytes(compiled: Any) -> int:
  """Returns the bytes of temporaries that XLA reserves for a program."""
  return int(compiled.memory_analysis().temp_size_in_bytes)


def machine(packages: tuple[str, ...] = ()) -> list[str]:
  """Returns lines that say where the numbers come from."""
  device = jax.devices()[0]
  names = ("jax", "jaxlib", *packages)
  lines = [
    f"device: {device.device_kind} ({device.platform})",
    f"cpu: {_cpu_name()}, {os.cpu_count()} cores,"
    f" load {os.getloadavg()[0]:.1f} at the start",
    "versions: python "
    + platform.python_version()
    + "".join(f", {name} {metadata.version(name)}" for name in names),
  ]
  if os.environ.get("XLA_FLAGS"):
    lines.append(f"XLA_FLAGS: {os.environ['XLA_FLAGS']}")
  return lines


def _cpu_name() -> str:
  try:
    with open("/proc/cpuinfo") as file:
      found = re.search(r"model name\s*:\s*(.+)", file.read())
  except OSError:
    found = None
  return found[1].strip() if found else platform.processor() or "unknown"


def table(rows: list[list[str]]) -> str:
  """Returns a markdown table; the first row is its header."""
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
  lines = []
  for row in [rows[0], rule, *rows[1:]]:
    cells = [row[0].ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)
