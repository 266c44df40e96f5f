"""Too little memory, of a device or the machine, as an error that says so."""

import jax


class OutOfMemoryError(ValueError):
  """Something that does not fit; the message says what, and what to do."""


def is_short(error: BaseException) -> bool:
  """Returns whether an error means that there was too little memory."""
  # As gRPC calls it, whatever the device.
  exhausted = isinstance(error, jax.errors.JaxRuntimeError) and str(
    error
  ).startswith("RESOURCE_EXHAUSTED")
  return exhausted or isinstance(error, MemoryError)


def explained(error: BaseException, what: str, remedy: str) -> OutOfMemoryError:
  """Returns the error that a user reads.

  Args:
    error: One that `is_short`.
    what: What needed the memory.
    remedy: What makes it need less.
  """
  reason = str(error).removeprefix("RESOURCE_EXHAUSTED: ").partition("\n")[0]
  reason = reason[:200].rstrip(". ") or "none is left"
  return OutOfMemoryError(
    f"{what} needs more memory than there is ({reason}); {remedy}"
  )
