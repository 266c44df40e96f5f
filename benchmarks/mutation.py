"""How many small faults in the code its own tests find.

A mutant is the package with one place changed: a comparison, an operator, a
number, a truth value, a condition turned round, two arguments swapped, a
keyword or a statement left out. Places are drawn with a seed, the rooms in
turn. The tests that mirror the file, or stand for it in `RELATED`, run on a
copy of the tree: first on the file as it is, when they must pass.

A mutant is killed only where pytest ends with status 1, tests that failed. What
cannot be imported any more, or runs into the time limit, is counted apart.

Every run is a fork of one process that has imported JAX, so it costs little
more than its tests; a cache of compiled programs (`JAX_COMPILATION_CACHE_DIR`)
halves that. Results go to a file as they come; the same command goes on where
it stopped. docs/testing.md has the last score and its survivors.

Command: nice -n 10 python -m benchmarks.mutation --num=120 --seed=0
"""

import argparse
import ast
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "robust_features"
# Followed by the place in its ARCHS; all of them take minutes.
_PARITY = "models/parity_test.py::ParityTest::test_logits_and_gradients"
# Tests of what has no mirror, by the longest prefix; a whole name comes before
# the mirror.
RELATED = {
  "attacks/__init__": "attacks/pgd_test.py",
  "attacks/autoattack/": "attacks/autoattack/ensemble_test.py",
  "attacks/autoattack/machine": (
    "attacks/autoattack/pool_test.py attacks/autoattack/ensemble_test.py"
  ),
  "attacks/autoattack/pool": (
    "attacks/autoattack/pool_test.py attacks/autoattack/ensemble_test.py"
  ),
  "attacks/autoattack/progress": (
    "attacks/autoattack/progress_test.py attacks/autoattack/ensemble_test.py"
  ),
  "attacks/autoattack/result": "attacks/autoattack/progress_test.py",
  "attacks/geometry": "attacks/geometry_test.py attacks/pgd_test.py",
  "construct_step": "construct_test.py",
  "data/card": "data/constructed_test.py export_test.py",
  "data/classes_file": "data/image_folder_test.py",
  "data/image_file": "data/image_folder_test.py",
  "data/lazy": "data/streaming_test.py",
  "data/pixels": "data/pixels_test.py data/image_folder_test.py",
  "data/released": "data/torch_file_test.py",
  "main": "bad_input_test.py",
  "models/": "models/zoo_test.py",
  "models/densenet": f"models/zoo_test.py {_PARITY}1",
  "models/inception": f"models/zoo_test.py {_PARITY}2",
  "models/protocol": "models/protocol_test.py models/adapters_test.py",
  "models/resnet": f"models/zoo_test.py {_PARITY}4 {_PARITY}6",
  "models/resnet9": f"models/zoo_test.py {_PARITY}7",
  "models/vgg": f"models/zoo_test.py {_PARITY}9",
  "models/wide_resnet": f"models/zoo_test.py {_PARITY}3 {_PARITY}11",
  "pytorch/": "pytorch/import_checkpoint_test.py",
  "pytorch/state_dict": f"pytorch/import_checkpoint_test.py {_PARITY}9",
  "recipes/": "configs_test.py",
  "report": "study/report/page_test.py",
  "runtime/board": "study/report/events_test.py",
  "runtime/command": "bad_input_test.py export_test.py",
  "study/": "study/graph_test.py",
  "study/config_text": "study/graph_test.py",
  "study/folder": "study/folder_test.py study/graph_test.py",
  "study/kinds/": (
    "study/kinds/reckoning_test.py study/kinds/asked_test.py "
    "study/kinds/smoke_test.py study/derived_test.py"
  ),
  "study/kinds/carlini_wagner": (
    "study/kinds/reckoning_test.py strong_attacks_test.py"
  ),
  "study/kinds/compared": "study/compared_kinds_test.py",
  "study/kinds/curve": (
    "study/compared_kinds_test.py study/kinds/curve_test.py"
  ),
  "study/kinds/error_minimising": "error_minimising_test.py",
  "study/kinds/evaluate": (
    "study/kinds/evaluate_test.py study/kinds/asked_test.py "
    "study/kinds/reckoning_test.py study/kinds/smoke_test.py "
    "study/report/report_test.py"
  ),
  "study/kinds/fourier_map": (
    "study/kinds/changes_test.py study/kinds/asked_test.py "
    "study/kinds/smoke_test.py study/compared_kinds_test.py fourier_test.py"
  ),
  "study/kinds/imported": "study/kinds/reckoning_test.py trained_test.py",
  "study/kinds/pictures": (
    "study/kinds/asked_test.py study/kinds/smoke_test.py "
    "study/pictures_kind_test.py"
  ),
  "study/kinds/spatial": (
    "study/kinds/changes_test.py study/kinds/asked_test.py "
    "study/kinds/smoke_test.py study/compared_kinds_test.py"
  ),
  "study/kinds/statements": "study/theory_kinds_test.py",
  "study/kinds/step_sweep": (
    "study/report/report_test.py study/kinds/subject_test.py"
  ),
  "study/kinds/train": "study/derived_test.py study/train_kind_test.py",
  "study/kinds/transfer": "transfer_test.py",
  "study/kinds/usefulness": "study/theory_kinds_test.py",
  "study/parse": "study/parse_test.py bad_input_test.py study/graph_test.py",
  "study/run": "study/run_test.py study/graph_test.py study/outlook_test.py",
  "study/report/": "study/report/report_test.py",
  "study/report/change_figures": "study/compared_kinds_test.py",
  "study/report/comparison": "study/report/page_test.py",
  "study/report/curve_figures": "study/compared_kinds_test.py",
  "study/report/features_figure": "study/theory_kinds_test.py",
  "study/report/grids": "study/report/figures_test.py",
  "study/report/picture_": "study/pictures_kind_test.py",
  "study/report/stage_graph": "study/report/page_test.py",
  "study/report/tables": (
    "study/report/tables_test.py study/report/report_test.py"
  ),
  "train_step": "train_test.py",
  "usefulness": "study/theory_kinds_test.py",
}
_COMPARE = {
  ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
  ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
  ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_BINARY = {
  ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
  ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
  ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip


# Changes that leave the program as it was: arguments whose order is no matter;
# the default, spelt out; a guard that nothing reaches.
_SYMMETRIC = ("min", "max", "minimum", "maximum", "array_equal")
_NO_EFFECT = ("allow_pickle=False", "strict=True")


class Mutant(NamedTuple):
  """One change of one file: bytes `begin` to `end` become `text`."""

  file: str
  line: int
  kind: str
  begin: int
  end: int
  old: str
  text: str


def mutants(file: str, source: str) -> Iterator[Mutant]:
  """Yields every mutant of a file that this program knows to make."""
  starts = [0]
  for line in source.encode().splitlines(keepends=True):
    starts.append(starts[-1] + len(line))
  for node, kind, text in _changes(ast.parse(source)):
    begin = starts[node.lineno - 1] + node.col_offset
    end = starts[node.end_lineno - 1] + node.end_col_offset
    old = source.encode()[begin:end].decode()
    if isinstance(node, ast.expr):
      text = f"({text})" if not isinstance(node, ast.Constant) else text
    yield Mutant(file, node.lineno, kind, begin, end, old, text)


def _changes(tree: ast.Module) -> Iterator[tuple[Any, str, str]]:
  """Yields (node, kind of change, its new text)."""
  for node in _walk(tree):
    match node:
      case ast.Compare(ops=[op]) if type(op) in _COMPARE:
        changed = ast.Compare(node.left, [_COMPARE[type(op)]()],
                              node.comparators)  # fmt: skip
        yield node, "comparison", ast.unparse(changed)
      case ast.BinOp() if type(node.op) in _BINARY and not _is_text(node):
        changed = ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)
        yield node, "arithmetic", ast.unparse(changed)
      case ast.BoolOp():
        op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, "boolean", ast.unparse(ast.BoolOp(op, node.values))
      case ast.UnaryOp(op=ast.Not() | ast.USub()):
        yield node, "sign or not", ast.unparse(node.operand)
      case ast.Constant(value=bool()):
        yield node, "truth", str(not node.value)
      case ast.Constant(value=int()):
        yield node, "off by one", str(node.value + 1)
      case ast.Constant(value=float()):
        yield node, "number", repr(2 * node.value or 1.0)
      case ast.Call(args=[first, second, *_]) if not (
        isinstance(first, ast.Starred)
        or isinstance(second, ast.Starred)
        or ast.unparse(node.func).split(".")[-1] in _SYMMETRIC
      ):
        changed = [second, first, *node.args[2:]]
        text = ast.unparse(ast.Call(node.func, changed, node.keywords))
        yield node, "swapped arguments", text
    if (
      isinstance(node, ast.Call)
      and node.keywords
      and ast.unparse(node.keywords[-1]) not in _NO_EFFECT
    ):
      text = ast.unparse(ast.Call(node.func, node.args, node.keywords[:-1]))
      yield node, "dropped keyword", text
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
      yield node.test, "condition", f"not ({ast.unparse(node.test)})"
    if isinstance(node, (ast.AugAssign, ast.Raise)) or (
      isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
      yield node, "dropped statement", "pass"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
  """Yields what runs and can be wrong: no annotations, no messages."""
  if isinstance(node, ast.keyword) and ast.unparse(node) == "strict=True":
    return
  yield node
  if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
    return
  for name, value in ast.iter_fields(node):
    if name in ("annotation", "returns", "decorator_list"):
      continue
    for child in value if isinstance(value, list) else [value]:
      if isinstance(child, ast.AST):
        yield from _walk(child)


def _is_text(node: ast.BinOp) -> bool:
  return any(
    isinstance(part, ast.JoinedStr)
    or (isinstance(part, ast.Constant) and isinstance(part.value, str))
    for part in ast.walk(node)
  )


def tests_of(file: str) -> tuple[str, ...]:
  """Returns the test files of a file of the package."""
  stem = file.removeprefix(f"{PACKAGE}/").removesuffix(".py")
  found = f"{stem}_test.py"
  prefixes = [prefix for prefix in RELATED if stem.startswith(prefix)]
  if stem in RELATED or not (ROOT / "tests" / found).exists():
    found = RELATED[max(prefixes, key=len)] if prefixes else ""
  return tuple(f"tests/{name}" for name in found.split())


def drawn(num: int, seed: int, skip: str) -> list[Mutant]:
  """Returns mutants of all rooms in turn, of a random file and place each."""
  rng, rooms = random.Random(seed), {}
  for path in sorted((ROOT / PACKAGE).rglob("*.py")):
    file = str(path.relative_to(ROOT))
    room = file.split("/")[1] if file.count("/") > 1 else "verbs"
    if room == "theory" or (skip and re.search(skip, file)):
      continue
    found = list(mutants(file, path.read_text())) if tests_of(file) else []
    if found:
      rooms.setdefault(room, []).append(found)
  result: list[Mutant] = []
  while len(result) < num:
    for room in sorted(rooms):
      mutant = rng.choice(rng.choice(rooms[room]))
      if mutant not in result:
        result.append(mutant)
  return result[:num]


def copy_tree(folder: pathlib.Path) -> pathlib.Path:
  """Copies what git tracks or would; returns the copy's root."""
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"],
    cwd=ROOT, check=True, capture_output=True, text=True,
  )  # fmt: skip
  for name in listed.stdout.splitlines():
    if (ROOT / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(ROOT / name, folder / name)
  return folder


def run_tests(
  tree: pathlib.Path, tests: tuple[str, ...], timeout: float
) -> tuple[str, str]:
  """Runs tests in a fork.

  Returns:
    "passed", "failed", "timed out" or "status N" of pytest, and the first line
    that names a failed test.
  """
  log = tree / "log.txt"
  child = os.fork()
  if not child:
    _become_pytest(tree, tests, log)
  begin = time.monotonic()
  while True:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
      break
    if time.monotonic() - begin > timeout:
      os.killpg(child, signal.SIGKILL)
      os.waitpid(child, 0)
      return "timed out", ""
    time.sleep(0.05)
  code = os.waitstatus_to_exitcode(status)
  text = log.read_text(errors="replace")
  lines = [x for x in text.splitlines() if re.match("(FAILED|ERROR) ", x)]
  verdict = {0: "passed", 1: "failed"}.get(code, f"status {code}")
  return verdict, (lines or text.splitlines()[-1:] or [""])[0][:300]


def _become_pytest(tree, tests, log) -> None:
  """Ends this process with pytest's status."""
  status = 70
  try:
    os.setpgrp()
    with log.open("w") as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    # A changed file of the same size and second would be run as it was.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path[:] = [
      str(tree),
      *(p for p in sys.path if p not in ("", str(ROOT))),
    ]
    for name in [n for n in sys.modules if n.split(".")[0] == "benchmarks"]:
      del sys.modules[name]
    import pytest

    status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    found = pathlib.Path(sys.modules[PACKAGE].__file__ or "")
    status = status if found.is_relative_to(tree) else 71
  finally:
    sys.stdout.flush()
    os._exit(status)


def judge(mutant: Mutant, tree: pathlib.Path, limit: float) -> dict[str, Any]:
  """Returns what became of a mutant; the tree is as before."""
  path = tree / mutant.file
  whole = path.read_bytes()
  text = mutant.text.encode()
  changed = whole[: mutant.begin] + text + whole[mutant.end :]
  begin = time.monotonic()
  try:
    path.write_bytes(changed)
    verdict, line = run_tests(tree, tests_of(mutant.file), limit)
  finally:
    path.write_bytes(whole)
  return mutant._asdict() | {
    "verdict": verdict, "by": line, "seconds": time.monotonic() - begin,
  }  # fmt: skip


def summary(results: list[dict[str, Any]]) -> str:
  """Returns the score, and every survivor in a line."""
  verdicts = [result["verdict"] for result in results]
  killed, survived = verdicts.count("failed"), verdicts.count("passed")
  lines = [
    f"{len(results)} mutants: {killed} killed, {survived} survived, "
    f"{verdicts.count('timed out')} timed out, "
    f"{len(results) - killed - survived - verdicts.count('timed out')} "
    "could not be run",
    f"score: {100 * killed / max(killed + survived, 1):.1f}%",
  ]
  for result in results:
    if result["verdict"] == "passed":
      old, new = (" ".join(result[k].split())[:90] for k in ("old", "text"))
      lines.append(
        f"{result['file']}:{result['line']} {result['kind']}: {old} -> {new}"
      )
  return "\n".join(lines)


def main() -> None:
  """Draws, judges and sums up."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--num", type=int, default=120)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--skip", default="", help="regex of files to leave out")
  parser.add_argument("--out", default="/tmp/mutation.jsonl")
  parser.add_argument("--minutes", type=float, default=float("inf"))
  args = parser.parse_args()
  out = pathlib.Path(args.out)
  lines = out.read_text().splitlines() if out.exists() else []
  results = [json.loads(line) for line in lines]
  done = {(r["file"], r["begin"], r["text"]) for r in results}
  # Imported, but no device is asked for: a fork must be the first to do that.
  import flax.nnx
  import jax
  import optax
  import orbax.checkpoint
  import pytest

  del flax, jax, optax, orbax, pytest
  passed: dict[tuple[str, ...], float] = {}
  stop = time.monotonic() + 60 * args.minutes
  with tempfile.TemporaryDirectory() as folder:
    tree = copy_tree(pathlib.Path(folder))
    for mutant in drawn(args.num, args.seed, args.skip):
      if (mutant.file, mutant.begin, mutant.text) in done:
        continue
      if time.monotonic() > stop:
        break
      tests = tests_of(mutant.file)
      if tests not in passed:
        begin = time.monotonic()
        verdict, line = run_tests(tree, tests, 3600)
        if verdict != "passed":
          raise SystemExit(f"{tests} fail as they are: {verdict}, {line}")
        passed[tests] = time.monotonic() - begin
      found = judge(mutant, tree, 60 + 10 * passed[tests])
      results.append(found)
      with out.open("a") as file:
        file.write(json.dumps(found) + "\n")
      print(found["verdict"], found["file"], found["line"], flush=True)
  print(summary(results))


if __name__ == "__main__":
  main()
