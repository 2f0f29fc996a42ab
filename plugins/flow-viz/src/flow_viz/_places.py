"""Where in a pipeline a path of a run belongs: iterations, items and attempts of a step are all that step."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from flow_viz._nodes import Node

_ITERATION = re.compile(r"i\d+")
_FALLBACK = "fallback"


class Places:
    """Finds the step of a pipeline that a path means.

    :ivar rounds: by place, how many iterations or items of a step were met on the paths so far.
    """

    def __init__(self, root: Node) -> None:
        self.rounds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._outer: dict[str, str] = {}
        self._inside: dict[str, dict[str, Node]] = {}
        for node in root.walk():
            self._inside[node.place] = {part.label: part.node for part in node.parts}
            if node.fallback is not None:
                self._inside[node.place].setdefault(_FALLBACK, node.fallback)
            self._outer |= {inner.place: node.place for inner in node.inside()}
        self._known: dict[str, Node | None] = {"": root}

    def find(self, path: str) -> str | None:
        """Return the place of the step that a path means; ``None`` when there is none."""
        node = self._find(path)
        return None if node is None or not path else node.place

    def around(self, place: str) -> Iterator[str]:
        """Yield the places around a place, innermost first."""
        while place in self._outer:
            place = self._outer[place]
            yield place

    def _find(self, path: str) -> Node | None:
        if path not in self._known:  # one level at a time: paths of stores may have any depth
            known = ""
            for segment in path.split("/"):
                outer, known = known, f"{known}/{segment}" if known else segment
                if known not in self._known:
                    above = self._known[outer]
                    self._known[known] = None if above is None else self._step(above, segment)
        return self._known[path]

    def _step(self, node: Node, segment: str) -> Node | None:
        inside = self._inside[node.place]
        if segment in inside:
            return inside[segment]
        for inner in inside.values():  # a body has no segment of its own: 1:loop/i2/0:write
            if not inner.framed and segment in self._inside[inner.place]:
                return self._inside[inner.place][segment]
        if _ITERATION.fullmatch(segment):
            self.rounds[node.place]["iteration"] += 1
        elif segment.isdecimal():
            self.rounds[node.place]["item"] += 1
        else:
            return None
        return node
