"""Where the steps of a flow are drawn: in layers from left to right, in the flow's own order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 180, 74
"""Pixels of a step."""
GAP_X, GAP_Y, THIN, MARGIN = 42, 34, 14, 8
LOOP = 22
"""Pixels above a step that a way back to it takes."""
_SWEEPS = 6


@dataclass(frozen=True)
class Edge:
    """A way from a step to another: a path in the language of SVG.

    ``taken`` is None unless the step is a switch that has decided; ``count`` is how often it was taken, 0 if that is not known.
    """

    begin: str
    end: str
    path: str
    taken: bool | None
    count: int


@dataclass(frozen=True)
class Drawing:
    """The places of steps, each the left upper corner, and the ways between them."""

    width: int
    height: int
    places: dict[str, tuple[int, int]]
    edges: list[Edge]


def drawn(steps: Sequence[dict[str, Any]]) -> Drawing:
    """Lay out what :meth:`RunModel.steps` says."""
    order = {step["name"]: number for number, step in enumerate(steps)}
    ways = [(step["name"], to) for step in steps for to in dict.fromkeys(step["next"]) if to in order]
    forward = [(a, b) for a, b in ways if order[a] < order[b]]
    layer = _layers(list(order), forward)
    chains = {(a, b): [(a, b, at) for at in range(layer[a] + 1, layer[b])] for a, b in forward}
    rows = _ordered(list(order), layer, forward, chains)
    tops = _tops(rows, LOOP if len(ways) > len(forward) else 0)
    places = {name: (MARGIN + layer[name] * (WIDTH + GAP_X), tops[name]) for name in order}
    height = max(
        [tops[each] + (HEIGHT if each in order else THIN) for row in rows for each in row], default=0
    )
    taken = {step["name"]: step["taken"] for step in steps if step["type"] == "switch"}
    edges = []
    for a, b in ways:
        points = [
            (MARGIN + at * (WIDTH + GAP_X), tops[each] + THIN // 2)
            for each in chains.get((a, b), ())
            for at in each[2:]
        ]
        path = _path(places[a], points, places[b]) if (a, b) in chains else _loop(places[a], places[b])
        ways_taken = taken.get(a)
        edges.append(Edge(a, b, path, b in ways_taken if ways_taken else None, (ways_taken or {}).get(b, 0)))
    width = MARGIN + (max(layer.values(), default=-1) + 1) * (WIDTH + GAP_X) - GAP_X + MARGIN
    return Drawing(width, height + MARGIN, places, edges)


def _layers(names: list[str], forward: list[tuple[str, str]]) -> dict[str, int]:
    layer = dict.fromkeys(names, 0)
    before: dict[str, list[str]] = {}
    for a, b in forward:
        before.setdefault(b, []).append(a)
    for name in names:  # in the flow's order: what comes before is placed
        layer[name] = max((layer[a] + 1 for a in before.get(name, ())), default=0)
    return layer


def _ordered(
    names: list[str],
    layer: dict[str, int],
    forward: list[tuple[str, str]],
    chains: dict[tuple[str, str], list[tuple[str, str, int]]],
) -> list[list[Any]]:
    """The steps of each layer, and where ways pass it, from top to bottom, so that few ways cross."""
    rows: list[list[Any]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in names:
        rows[layer[name]].append(name)
    left: dict[Any, list[Any]] = {}
    right: dict[Any, list[Any]] = {}
    for way in forward:
        stops = [way[0], *chains[way], way[1]]
        for each in chains[way]:
            rows[each[2]].append(each)
        for a, b in pairwise(stops):
            right.setdefault(a, []).append(b)
            left.setdefault(b, []).append(a)
    for sweep in range(_SWEEPS):
        beside, walk = (left, rows) if sweep % 2 == 0 else (right, rows[::-1])
        for previous, row in pairwise(walk):
            place = {each: number for number, each in enumerate(previous)}
            own = {each: number for number, each in enumerate(row)}

            def centre(
                each: Any,
                place: dict[Any, int] = place,
                own: dict[Any, int] = own,
                beside: dict[Any, list[Any]] = beside,
            ) -> float:
                found = [place[other] for other in beside.get(each, ()) if other in place]
                return sum(found) / len(found) if found else own[each]

            row.sort(key=centre)
    return rows


def _tops(rows: list[list[Any]], above: int) -> dict[Any, int]:
    heights = [sum(_height(each) for each in row) + GAP_Y * (len(row) - 1) for row in rows]
    whole = max(heights, default=0)
    tops = {}
    for row, height in zip(rows, heights, strict=True):
        top = MARGIN + above + (whole - height) // 2
        for each in row:
            tops[each] = top
            top += _height(each) + GAP_Y
    return tops


def _height(each: Any) -> int:
    return HEIGHT if isinstance(each, str) else THIN


def _path(begin: tuple[int, int], points: list[tuple[int, int]], end: tuple[int, int]) -> str:
    """A curve from the right side of a step by way of points to the left side of another."""
    x, y = begin[0] + WIDTH, begin[1] + HEIGHT // 2
    text = f"M{x} {y}"
    for px, py in [*points, (end[0] - 8, end[1] + HEIGHT // 2)]:
        half = (px - x) // 2
        text += f" C{x + half} {y} {px - half} {py} {px} {py}"
        x, y = px, py
        if (px, py) in points:
            x = px + WIDTH
            text += f" L{x} {y}"
    return text


def _loop(begin: tuple[int, int], end: tuple[int, int]) -> str:
    """A way back, above the steps."""
    x, y = begin[0] + WIDTH - 34, begin[1]
    to_x, to_y = end[0] + 34, end[1]
    top = min(y, to_y) - LOOP
    return f"M{x} {y} C{x} {top} {to_x} {top} {to_x} {to_y - 8}"
