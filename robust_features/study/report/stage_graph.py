"""Where the stages of a run go in a drawing of what each works on."""

from typing import Any, NamedTuple

WIDTH, HEIGHT = 226, 36  # Of a stage, in CSS pixels.
_GAP_X, _GAP_Y = 40, 12


class Box(NamedTuple):
  """One stage; x and y are those of its upper left corner."""

  name: str
  about: str
  x: int
  y: int


class Drawing(NamedTuple):
  """Boxes, and arrows (x1, y1, x2, y2) from what a stage works on to it."""

  width: int
  height: int
  boxes: list[Box]
  arrows: list[tuple[int, int, int, int]]


def layout(stages: list[dict[str, Any]]) -> Drawing:
  """Returns a drawing: a column holds what can be done after the one before.

  Args:
    stages: "name", "kind", "parents" and "seconds", parents first.
  """
  depth: dict[str, int] = {}
  for stage in stages:
    depth[stage["name"]] = 1 + max((depth[p] for p in stage["parents"]),
                                   default=-1)  # fmt: skip
  place: dict[str, int] = {}  # Of each in its column.
  for column in range(1 + max(depth.values())):
    inside = [stage for stage in stages if depth[stage["name"]] == column]
    # Beside what it works on, so that few arrows cross.
    inside.sort(
      key=lambda s: (
        sum(place[p] for p in s["parents"]) / max(len(s["parents"]), 1)
      )
    )
    place |= {stage["name"]: i for i, stage in enumerate(inside)}
  boxes = {
    stage["name"]: Box(
      stage["name"],
      f"{stage['kind']}, {stage['seconds']:.0f} s",
      1 + depth[stage["name"]] * (WIDTH + _GAP_X),
      1 + place[stage["name"]] * (HEIGHT + _GAP_Y),
    )
    for stage in stages
  }
  arrows = [
    (boxes[p].x + WIDTH, boxes[p].y + HEIGHT // 2,
     boxes[stage["name"]].x, boxes[stage["name"]].y + HEIGHT // 2)
    for stage in stages
    for p in stage["parents"]
  ]  # fmt: skip
  return Drawing(
    max(box.x for box in boxes.values()) + WIDTH + 1,
    max(box.y for box in boxes.values()) + HEIGHT + 1,
    list(boxes.values()),
    arrows,
  )
