"""Our l2 PGD beside foolbox's and torchattacks', on the same weights and batch.

Every contender takes the same number of gradient steps of the same length in
the same ball from the same images, in float32 and on the same threads. They
take turns, so that whatever else the machine does hits all alike; ours has two
rows, the plain climb that the peers do and the one that keeps the best iterate
(one more forward pass), which this project uses.

First it is checked that both frameworks compute the same logits and that all
attacks reach the same loss. The peers are given their best case: parameters
that want no gradient, and a second try in PyTorch's channels-last layout.

Command: python -m benchmarks.attack_throughput
One thread, processor time: taskset -c 0 python -m benchmarks.attack_throughput
  --threads=1 --clock=cpu
"""

import functools
import os
import sys
from typing import Any, NamedTuple

import foolbox
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchattacks
from absl import app, flags, logging

from benchmarks import common, torch_recipe
from robust_features import attacks
from robust_features.attacks import losses

_MODELS = flags.DEFINE_list(
  "models", ["resnet18", "cnn"], "Networks to attack."
)
_BATCHES = flags.DEFINE_list("batches", ["32", "128"], "Images, one a network.")
_STEPS = flags.DEFINE_integer("steps", 10, "Gradient steps.")
_EPS = flags.DEFINE_float("eps", 0.5, "Radius, l2, in units of [0, 1].")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Timed rounds.")
_THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "Of PyTorch.")
_SIZE = flags.DEFINE_integer("size", 32, "Height and width of the images.")
_CLOCK = flags.DEFINE_enum(
  "clock", "wall", list(common.CLOCKS), "Wall time, or processor time."
)

LOGIT_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-2  # Relative, of the mean adversarial loss.


class Problem(NamedTuple):
  """What every contender is given; images are channels-last here."""

  model: Any
  variables: Any
  twin: Any
  x: Any
  y: Any
  eps: float
  step_size: float
  num_steps: int


def make_problem(name: str, batch: int, size: int, eps: float, steps: int):
  """Returns a `Problem` on random images, step size 2.5 eps / steps."""
  shape = (size, size, 3)
  model, variables, twin = torch_recipe.make_pair(name, shape, seed=0)
  twin.requires_grad_(False)
  generator = np.random.default_rng(0)
  x = generator.uniform(size=(batch, *shape)).astype(np.float32)
  y = generator.integers(0, 10, batch).astype(np.int32)
  return Problem(model, variables, twin, x, y, eps, 2.5 * eps / steps, steps)


def ours(problem: Problem, keep_best: bool):
  """Returns (contender, seconds to compile)."""
  cfg = attacks.AttackConfig(
    norm="l2",
    eps=problem.eps,
    step_size=problem.step_size,
    num_steps=problem.num_steps,
    keep_best=keep_best,
  )

  @jax.jit
  def attack(variables, x, y, cfg):
    def objective(z):
      return losses.cross_entropy(problem.model.apply(variables, z).logits, y)

    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
    return attacks.maximize(objective, x, keys, cfg).x_adv

  args = (problem.variables, problem.x, problem.y, cfg)
  compiled, seconds = common.compile_seconds(attack, *args)
  return lambda: np.asarray(compiled(*args)), seconds


def peers(problem: Problem) -> dict[str, Any]:
  """Returns foolbox's and torchattacks' attacks, in both memory layouts."""
  y = torch.from_numpy(problem.y).long()
  steps, size = problem.num_steps, problem.step_size
  found = {}
  for layout in (torch.contiguous_format, torch.channels_last):
    # A twin each: changing a network's layout costs time.
    twin = torch_recipe.make_twin(
      problem.model, problem.variables, problem.x.shape[1:], layout
    ).requires_grad_(False)
    x = torch_recipe.to_tensor(problem.x).contiguous(memory_format=layout)
    fb = foolbox.attacks.L2BasicIterativeAttack(
      abs_stepsize=size, steps=steps, random_start=False
    )
    run_foolbox = functools.partial(
      fb.run, foolbox.PyTorchModel(twin, bounds=(0, 1)), x,
      foolbox.criteria.Misclassification(y), epsilon=problem.eps,
    )  # fmt: skip
    ta = torchattacks.PGDL2(
      twin, eps=problem.eps, alpha=size, steps=steps, random_start=False
    )
    run_torchattacks = functools.partial(ta, x, y)
    last = "" if layout is torch.contiguous_format else ", channels last"
    found[f"foolbox{last}"] = run_foolbox
    found[f"torchattacks{last}"] = run_torchattacks
  return {
    name: lambda run=run: torch_recipe.from_tensor(run())
    for name, run in found.items()
    if _runs(name, run)
  }


def _runs(name: str, run) -> bool:
  """Returns whether a peer can attack this layout at all."""
  try:
    run()
  except RuntimeError as error:
    print(f"{name} is left out: {str(error).splitlines()[0]}")
    return False
  return True


def check(problem: Problem, contenders: dict[str, Any]) -> dict[str, float]:
  """Returns the mean loss that every contender reaches.

  Raises:
    ValueError: If frameworks or attacks disagree.
  """

  def logits(x):
    return problem.model.apply(problem.variables, x).logits

  with torch.no_grad():
    theirs = problem.twin(torch_recipe.to_tensor(problem.x)).numpy()
  gap = float(np.abs(np.asarray(logits(problem.x)) - theirs).max())
  print(f"largest difference of logits: {gap:.1e}")
  if gap > LOGIT_TOLERANCE:
    raise ValueError(f"the frameworks' logits differ by {gap:.1e}")
  reached = {}
  for name, run in contenders.items():
    x_adv = run()
    moved = np.sqrt(np.square(x_adv - problem.x).sum((1, 2, 3))).max()
    if moved > problem.eps * (1 + 1e-4):
      raise ValueError(f"{name} moved an image by {moved}, beyond eps")
    loss = losses.cross_entropy(logits(x_adv), problem.y)
    reached[name] = float(loss.mean())
  spread = max(reached.values()) - min(reached.values())
  if spread > LOSS_TOLERANCE * max(reached.values()):
    raise ValueError(f"the attacks reach different losses: {reached}")
  return reached


def measure(problem: Problem, title: str, repeats: int) -> float:
  """Prints a network's table; returns our speed over the fastest peer's."""
  contenders, compiling = {}, {}
  for name, keep_best in (("ours", False), ("ours, keeping the best", True)):
    contenders[name], compiling[name] = ours(problem, keep_best)
  rivals = peers(problem)
  contenders |= rivals
  reached = check(problem, contenders)
  seconds = common.interleave(contenders, repeats, _CLOCK.value)
  fastest = common.fastest(seconds, list(rivals))
  work = len(problem.x) * problem.num_steps
  rows = [["attack", "image-steps/s", "ours is faster by", "loss reached"]]
  for name in contenders:
    rate = common.median_rate(work, seconds[name])
    times = "-"
    if name in rivals:
      times = common.spread(seconds["ours"], seconds[name])
    rows.append([name, f"{rate:.0f}", times, f"{reached[name]:.5f}"])
  print(f"\n## {title}\n\n{common.table(rows)}\n")
  print(
    "compile time, not counted above: "
    + ", ".join(f"{name} {value:.1f} s" for name, value in compiling.items())
  )
  times = common.ratio(seconds["ours"], seconds[fastest])
  print(f"ratio to the fastest peer ({fastest}): {times:.2f}x")
  return times


def main(argv: list[str]) -> None:
  """Measures every network; fails if a check does."""
  if len(argv) > 1:
    sys.exit(f"error: unknown argument {argv[1]!r}")
  if len(_MODELS.value) != len(_BATCHES.value):
    sys.exit("error: --batches needs a number for each of --models")

  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(_THREADS.value)
  print("\n".join(common.machine(("torch", "foolbox", "torchattacks"))))
  print(f"threads of PyTorch: {torch.get_num_threads()}, {_CLOCK.value} time")
  for name, batch in zip(_MODELS.value, _BATCHES.value, strict=True):
    problem = make_problem(
      name, int(batch), _SIZE.value, _EPS.value, _STEPS.value
    )
    title = f"{name}, batch {batch}, {_STEPS.value} steps, float32"
    try:
      measure(problem, title, _REPEATS.value)
    except ValueError as error:
      sys.exit(f"error: {error}")


if __name__ == "__main__":
  app.run(main)
