"""Lists of tensors as `torch.save` writes them, read and written without it.

A `torch.save` file is a pickle, and unpickling can run any code. So nothing is
unpickled here: the few opcodes that lists of tensors need are interpreted, and
any other, or any name but those of tensors and their storages, is refused. Both
formats are read: the zip archive of today, and that of PyTorch before 1.6, in
which the paper's authors released their data sets.
"""

import copy
import io
import math
import mmap
import pathlib
import pickletools
import struct
import zipfile
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy as np

_STORAGES = {
  "FloatStorage": np.dtype("<f4"),
  "DoubleStorage": np.dtype("<f8"),
  "HalfStorage": np.dtype("<f2"),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ByteStorage": np.dtype("u1"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What a corrupt stream makes Python raise while it is interpreted.
_DAMAGE = (
  AttributeError, EOFError, IndexError, KeyError, OSError, TypeError,
  ValueError, struct.error, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip


class _Global(NamedTuple):
  """A name that the stream mentions; never imported."""

  module: str
  name: str


class _Tensor(NamedTuple):
  """A view of a storage, before the storage is read."""

  storage: tuple[Any, ...]
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]


_MARK = object()
_EMPTY: dict[str, Any] = {
  "EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()
}  # fmt: skip
_REBUILD = _Global("torch._utils", "_rebuild_tensor_v2")
_ORDERED_DICT = _Global("collections", "OrderedDict")


def read(path: pathlib.Path) -> list[np.ndarray]:
  """Returns the tensors of a file that holds one, or a list of them.

  Raises:
    ValueError: If it is no such file, is damaged, or holds anything else.
  """
  try:
    with path.open("rb") as file:
      if zipfile.is_zipfile(file):
        return _read_zip(file)
      # Mapped, a length that damage made enormous allocates nothing.
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _read_legacy(content)
  except _DAMAGE as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"{path}: no list of tensors ({reason})") from error


def _read_zip(file: IO[bytes]) -> list[np.ndarray]:
  with zipfile.ZipFile(file) as archive:
    (index,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
    root = index.removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
      raise ValueError("written on a big-endian machine")
    tensors = _as_list(_interpret(io.BytesIO(archive.read(index))))
    return [
      _view(t, archive.read(f"{root}data/{t.storage[2]}")) for t in tensors
    ]


def _read_legacy(file: mmap.mmap) -> list[np.ndarray]:
  """Reads five pickles and, in the order of the last, the storages' bytes."""
  if _interpret(file) != _LEGACY_MAGIC:
    raise ValueError("not written by torch.save")
  _interpret(file)  # Protocol's version.
  if not _interpret(file)["little_endian"]:
    raise ValueError("written on a big-endian machine")
  tensors = _as_list(_interpret(file))
  types = {t.storage[2]: _dtype(t) for t in tensors}
  storages = {}
  for key in _interpret(file):
    (count,) = struct.unpack("<q", file.read(8))
    storages[key] = file.read(count * types[key].itemsize)
  return [_view(t, storages[t.storage[2]]) for t in tensors]


def _as_list(value: Any) -> list[_Tensor]:
  """Returns the tensors of a stream's value, all checked to be tensors."""
  tensors = [value] if isinstance(value, _Tensor) else value
  if not isinstance(tensors, list) or not all(
    isinstance(tensor, _Tensor) for tensor in tensors
  ):
    raise ValueError("it holds something else")
  return tensors


def _dtype(tensor: _Tensor) -> np.dtype:
  storage = tensor.storage[1]
  if storage.module not in ("torch", "torch.cuda"):
    raise ValueError(f"refused name {storage.module}.{storage.name}")
  return _STORAGES[storage.name]


def _view(tensor: _Tensor, content: bytes) -> np.ndarray:
  """Returns the array that a tensor is of its storage's bytes."""
  values = np.frombuffer(content, _dtype(tensor))
  if min((tensor.offset, *tensor.shape, *tensor.stride)) < 0:
    raise ValueError("a tensor runs backwards")
  pairs = zip(tensor.shape, tensor.stride, strict=True)
  last = tensor.offset + sum((n - 1) * step for n, step in pairs)
  size = math.prod(tensor.shape)
  if size > len(values) or (size and last >= len(values)):
    raise ValueError("a tensor is larger than its storage")
  strides = tuple(step * values.itemsize for step in tensor.stride)
  view = np.lib.stride_tricks.as_strided(
    values[tensor.offset :], tensor.shape, strides, writeable=False
  )
  return np.ascontiguousarray(view)


def _interpret(file: Any) -> Any:
  """Returns the value of a file's next pickle, of plain values and tensors."""
  stack: list[Any] = []
  memo: dict[Any, Any] = {}

  def to_mark() -> list[Any]:
    at = max(i for i, value in enumerate(stack) if value is _MARK)
    found = stack[at + 1 :]
    del stack[at:]
    return found

  for opcode, argument, _ in pickletools.genops(file):
    match opcode.name:
      case "PROTO" | "FRAME":
        pass
      case "STOP":
        return stack.pop()
      case "MARK":
        stack.append(_MARK)
      case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
        stack.append(copy.copy(_EMPTY[opcode.name]))
      case "NONE":
        stack.append(None)
      case "NEWTRUE" | "NEWFALSE":
        stack.append(opcode.name == "NEWTRUE")
      case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
        stack.append(argument)
      case "BINPUT" | "LONG_BINPUT":
        memo[argument] = stack[-1]
      case "MEMOIZE":
        memo[len(memo)] = stack[-1]
      case "BINGET" | "LONG_BINGET":
        stack.append(memo[argument])
      case "TUPLE":
        stack.append(tuple(to_mark()))
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        count = int(opcode.name[-1])
        stack[-count:] = [tuple(stack[-count:])]
      case "APPEND":
        value = stack.pop()
        stack[-1].append(value)
      case "APPENDS":
        values = to_mark()
        stack[-1].extend(values)
      case "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
      case "SETITEMS":
        values = to_mark()
        stack[-1].update(zip(values[::2], values[1::2], strict=True))
      case "GLOBAL":
        stack.append(_Global(*str(argument).split(" ")))
      case "BINPERSID":
        stack.append(
          tuple(stack.pop())
        )  # A storage: what it is, not its bytes.
      case "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_reduce(function, arguments))
      case other:
        raise ValueError(f"refused opcode {other}")
  raise EOFError("it ends early")


def _reduce(function: Any, arguments: tuple[Any, ...]) -> Any:
  """Returns what the two functions that are allowed would return."""
  if function == _ORDERED_DICT and arguments == ():
    return {}  # A tensor's backward hooks.
  if function == _REBUILD:
    storage, offset, shape, stride = arguments[:4]
    return _Tensor(storage, offset, shape, stride)
  raise ValueError(f"refused call of {'.'.join(function)}")


def write(path: pathlib.Path, tensors: Sequence[np.ndarray]) -> None:
  """Writes what `torch.load` reads as a list of tensors.

  Args:
    path: The file.
    tensors: Arrays of float32 or int64.
  """
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    archive.writestr("archive/data.pkl", _list_opcodes(tensors))
    archive.writestr("archive/byteorder", "little")
    for i, tensor in enumerate(tensors):
      values = np.ascontiguousarray(tensor).astype(
        tensor.dtype.newbyteorder("<")
      )
      archive.writestr(f"archive/data/{i}", values.tobytes())
    archive.writestr("archive/version", "3\n")


def _list_opcodes(tensors: Sequence[np.ndarray]) -> bytes:
  """Returns the pickle of a list of tensors, as `torch.save` writes it."""
  names = {dtype: name for name, dtype in _STORAGES.items()}
  parts = [b"\x80\x02]("]
  for i, tensor in enumerate(tensors):
    itemsize = tensor.itemsize
    stride = np.empty(tensor.shape, tensor.dtype).strides
    parts += [
      b"ctorch._utils\n_rebuild_tensor_v2\n((", _text("storage"),
      f"ctorch\n{names[tensor.dtype]}\n".encode(), _text(str(i)), _text("cpu"),
      _integer(tensor.size), b"tQ", _integer(0), b"(",
      *(_integer(n) for n in tensor.shape), b"t(",
      *(_integer(step // itemsize) for step in stride),
      b"t\x89ccollections\nOrderedDict\n)RtR",
    ]  # fmt: skip
  return b"".join([*parts, b"e."])


def _text(text: str) -> bytes:
  return b"X" + struct.pack("<I", len(text)) + text.encode()


def _integer(value: int) -> bytes:
  return b"J" + struct.pack("<i", value)
