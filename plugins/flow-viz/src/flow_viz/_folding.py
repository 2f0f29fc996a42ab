"""Large pipelines made readable: deep levels closed, long chains and many branches folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product

import attrs

from flow_viz._hints import Hint, Shape
from flow_viz._nodes import Layout, Node, Part
from flow_viz._wording import counted

_CHAINS = (80, 40, 24, 16, 12, 8, 6, 4, 3)
_FOLDED = Hint(shape=Shape.FOLDED)


@attrs.frozen
class Folded:
    """A drawing's nodes: all of them, or as many as are readable. ``steps`` counts all, ``drawn`` those shown."""

    root: Node
    steps: int
    drawn: int

    @property
    def remark(self) -> str:
        """What was left out, in words; empty when nothing was."""
        left_out = self.steps - self.drawn
        return f"{self.drawn:,} of {counted(self.steps, 'step')} drawn, {left_out:,} folded" if left_out else ""


def fold(root: Node, *, depth: int | None, max_nodes: int, keep: Callable[[Node], bool]) -> Folded:
    """Return as much of `root` as `max_nodes` allow.

    Long chains are folded first, because their middle says least; only then deep levels are closed.

    :param depth: how many levels of steps inside steps are opened at most.
    :param keep: says which steps are worth keeping among many: those that failed.
    """
    steps = root.steps()
    levels = _levels(root)
    opened = levels if depth is None else min(depth, levels)
    best = _shortened(_closed(root, opened), None, keep)
    if _weight(best) > max_nodes:
        for level, chain in product(range(opened, 0, -1), _CHAINS):
            best = _shortened(_closed(root, level), chain, keep)
            if _weight(best) <= max_nodes:
                break
    return Folded(best, steps, best.steps())


def _weight(root: Node) -> int:
    return sum(node.framed for node in root.walk())


def _levels(root: Node) -> int:
    """Return how many levels of steps inside steps there are."""
    deepest, pending = 1, [(root, 0)]
    while pending:
        node, level = pending.pop()
        level += node.framed
        deepest = max(deepest, level)
        pending.extend((inner, level) for inner in node.inside())
    return deepest


def _closed(node: Node, levels: int) -> Node:
    """Return a node with at most `levels` levels of steps; those at the last are closed."""
    left = levels - node.framed
    fallback = None if node.fallback is None else _closed(node.fallback, levels)
    if node.framed and left < 1 and node.parts:
        hidden = sum(part.node.steps() for part in node.parts)
        remark = f"{counted(hidden, 'step')} inside"
        notes = (*node.notes, remark)
        return attrs.evolve(node, parts=(), layout=Layout.LEAF, notes=notes, hidden=hidden, fallback=fallback)
    parts = tuple(Part(part.label, _closed(part.node, left)) for part in node.parts)
    return attrs.evolve(node, parts=parts, fallback=fallback)


def _shortened(node: Node, longest: int | None, keep: Callable[[Node], bool]) -> Node:
    """Return a node in which no chain and no set of branches is longer than about `longest`."""
    if longest is None:
        return node
    shown = _kept(node.parts, longest, keep) if len(node.parts) > longest else set(range(len(node.parts)))
    parts: list[Part] = []
    for is_shown, some in groupby(enumerate(node.parts), key=lambda item: item[0] in shown):
        run = [part for _, part in some]
        if is_shown or len(run) == 1:
            parts.extend(Part(part.label, _shortened(part.node, longest, keep)) for part in run)
        else:
            parts.append(_placeholder(node, run))
    fallback = None if node.fallback is None else _shortened(node.fallback, longest, keep)
    return attrs.evolve(node, parts=tuple(parts), fallback=fallback)


def _kept(parts: Sequence[Part], longest: int, keep: Callable[[Node], bool]) -> set[int]:
    """Choose what stays of many: the first, the last, and between them those that matter, as far as there is room."""
    # Each that is kept for its own sake parts a fold in two, so that it costs two places.
    bad = [index for index, part in enumerate(parts) if keep(part.node)][: longest // 3]
    room = max(2, longest - 2 * len(bad))
    head = (room + 1) // 2
    return {*range(head), *range(len(parts) - (room - head), len(parts)), *bad}


def _placeholder(node: Node, parts: Sequence[Part]) -> Part:
    hides = tuple(inner for part in parts for inner in _steps_of(part.node))
    in_series = node.layout is Layout.SERIES
    noun, number = ("step", len(hides)) if in_series else ("branche", len(parts))
    name = f"… {number:,} more {noun}s"
    place = f"{parts[0].node.place}…"
    folded = Node(place=place, name=name, kind="", hint=_FOLDED, hidden=len(hides), hides=hides, tooltip=(name,))
    return Part("", folded)


def _steps_of(node: Node) -> Iterator[Node]:
    return (inner for inner in node.walk() if inner.framed)
