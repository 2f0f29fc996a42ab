"""A drawing as boxes, frames and arrows: what Mermaid and DOT are written from."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import attrs

from flow_viz._drawing import Drawing
from flow_viz._hints import Shape
from flow_viz._nodes import Layout, Node, Part


class Role(enum.StrEnum):
    """What a box stands for: a step, or a point where ways part, meet, or lead past nothing."""

    STEP = "step"
    PART = "part"
    MEET = "meet"
    NOTHING = "nothing"


class Way(enum.StrEnum):
    """Why an arrow is followed."""

    NEXT = "next"
    AGAIN = "again"
    FAILURE = "failure"


@attrs.frozen(kw_only=True)
class Box:
    """A box of its own; `node` is the step, or the one whose inside it belongs to."""

    id: str
    role: Role
    node: Node


@attrs.frozen(kw_only=True)
class Frame:
    """A frame around what is inside a step."""

    id: str
    node: Node
    items: tuple[Item, ...]


Item = Box | Frame


@attrs.frozen(kw_only=True)
class Arrow:
    """An arrow; `ran` tells whether the run went along it."""

    source: str
    target: str
    label: str = ""
    way: Way = Way.NEXT
    ran: bool = True


@attrs.frozen
class Graph:
    """All there is to write. `arrows` are in the order in which they were met."""

    items: tuple[Item, ...]
    arrows: tuple[Arrow, ...]

    def frames(self) -> Iterator[Frame]:
        """Yield all frames, outermost first."""
        return (item for item in _walk(self.items) if isinstance(item, Frame))

    def boxes(self) -> Iterator[Box]:
        """Yield all boxes."""
        return (item for item in _walk(self.items) if isinstance(item, Box))


def _walk(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        if isinstance(item, Frame):
            yield from _walk(item.items)


@attrs.frozen
class _Exit:
    id: str
    ran: bool
    label: str = ""
    way: Way = Way.NEXT


@attrs.frozen
class _Ends:
    """Where arrows enter something and leave it."""

    entry: str
    exits: tuple[_Exit, ...]
    ran: bool
    items: tuple[Item, ...]


def graph_of(drawing: Drawing) -> Graph:
    """Return the boxes, frames and arrows of a drawing; equal drawings have equal ids."""
    maker = _Maker(drawing)
    ends = maker.series(list(drawing.root.lines()), drawing.root)
    return Graph(ends.items, tuple(maker.arrows))


class _Maker:
    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._made = 0
        self.arrows: list[Arrow] = []

    def series(self, parts: list[Part], around: Node) -> _Ends:
        if not parts:
            box = self._box(Role.NOTHING, around)
            ran = self._drawing.reached(around)
            return _Ends(box.id, (_Exit(box.id, ran),), ran, (box,))
        items: list[Item] = []
        before: _Ends | None = None
        entry, ran = "", False
        for part in parts:
            ends = self._step(part.node)
            items.extend(ends.items)
            if before is None:
                entry, ran = ends.entry, ends.ran
            else:
                self._join(before.exits, ends, part.shown)
            before = ends
        assert before is not None  # noqa: S101  there is at least one part
        return _Ends(entry, before.exits, ran, tuple(items))

    def _step(self, node: Node) -> _Ends:
        main, anchor = self._main(node)
        if node.fallback is None:
            return main
        instead = self._step(node.fallback)
        self._arrow(anchor, instead.entry, "on failure", Way.FAILURE, main.ran and instead.ran)
        regular = main.exits
        if self._drawing.always_falls_back(node):
            regular = tuple(attrs.evolve(way, ran=False) for way in regular)
        exits = (*regular, *(attrs.evolve(way, way=Way.FAILURE) for way in instead.exits))
        return _Ends(main.entry, exits, main.ran, (*main.items, *instead.items))

    def _main(self, node: Node) -> tuple[_Ends, str]:
        """Return a step without its fallback, and where the way to that begins."""
        ran = self._drawing.reached(node)
        if node.layout is Layout.LEAF:
            box = self._box(Role.STEP, node)
            return _Ends(box.id, (_Exit(box.id, ran),), ran, (box,)), box.id
        frame = self._id()
        inside = self._branches(node) if node.layout is Layout.BRANCHES else self.series(list(node.lines()), node)
        if node.hint.repeats:
            self._repeat(node, inside)
        framed = Frame(id=frame, node=node, items=inside.items)
        return _Ends(inside.entry, inside.exits, ran, (framed,)), frame

    def _repeat(self, node: Node, inside: _Ends) -> None:
        story = self._drawing.story
        ran = story is None or story.tally(node).rounds > 1
        for way in inside.exits:
            self._arrow(way.id, inside.entry, "again", Way.AGAIN, ran)

    def _branches(self, node: Node) -> _Ends:
        begin, end = self._box(Role.PART, node), self._box(Role.MEET, node)
        ran = self._drawing.reached(node)
        items: list[Item] = [begin]
        if node.hint.passes:
            self._arrow(begin.id, end.id, node.hint.passes, Way.NEXT, ran)
        for part in node.parts:
            ends = self._branch(part)
            items.extend(ends.items)
            self._arrow(begin.id, ends.entry, part.shown, Way.NEXT, ends.ran)
            for way in ends.exits:
                self._arrow(way.id, end.id, way.label, way.way, way.ran)
        return _Ends(begin.id, (_Exit(end.id, ran),), ran, (*items, end))

    def _branch(self, part: Part) -> _Ends:
        node = part.node
        if node.framed:
            return self._step(node)
        return self.series(list(node.lines()), node)

    def _join(self, exits: Sequence[_Exit], target: _Ends, label: str) -> None:
        for way in exits:
            self._arrow(way.id, target.entry, label or way.label, way.way, way.ran and target.ran)

    def _arrow(self, source: str, target: str, label: str, way: Way, ran: bool) -> None:
        self.arrows.append(Arrow(source=source, target=target, label=label, way=way, ran=ran))

    def _box(self, role: Role, node: Node) -> Box:
        return Box(id=self._id(), role=role, node=node)

    def _id(self) -> str:
        self._made += 1
        return f"n{self._made}"


def is_choice(node: Node) -> bool:
    """Tell whether ways part here because something is decided."""
    return node.hint.shape in (Shape.CHOICE, Shape.HUMAN)
