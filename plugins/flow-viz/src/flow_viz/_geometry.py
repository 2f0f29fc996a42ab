"""Shapes and blocks of a picture that is drawn along one axis and laid out across the other."""

from __future__ import annotations

from collections.abc import Iterator

import attrs


@attrs.frozen
class Axis:
    """Turns places along and across the way of a drawing into x and y; sizes likewise."""

    horizontal: bool

    def xy(self, along: float, across: float) -> tuple[float, float]:
        """Return x and y of a place."""
        return (along, across) if self.horizontal else (across, along)

    def along_across(self, x: float, y: float) -> tuple[float, float]:
        """Return how much `x` and `y` are along and across."""
        return (x, y) if self.horizontal else (y, x)


@attrs.frozen(kw_only=True)
class Rect:
    """A rectangle; `tooltip` is shown when the mouse rests on it."""

    x: float
    y: float
    width: float
    height: float
    style: str
    radius: float = 6
    tooltip: str = ""

    def moved(self, x: float, y: float) -> Rect:
        """Return it elsewhere."""
        return attrs.evolve(self, x=self.x + x, y=self.y + y)


@attrs.frozen(kw_only=True)
class Words:
    """A line of text; `y` is that of its baseline, `width` what it takes at most."""

    x: float
    y: float
    text: str
    style: str
    width: float = 0

    def moved(self, x: float, y: float) -> Words:
        """Return it elsewhere."""
        return attrs.evolve(self, x=self.x + x, y=self.y + y)


@attrs.frozen(kw_only=True)
class Line:
    """A line through points, its corners rounded, perhaps with the head of an arrow at its end."""

    points: tuple[tuple[float, float], ...]
    style: str
    arrow: bool = True

    def moved(self, x: float, y: float) -> Line:
        """Return it elsewhere."""
        return attrs.evolve(self, points=tuple((left + x, top + y) for left, top in self.points))


@attrs.frozen(kw_only=True)
class Sign:
    """A small sign by name around a centre: a diamond, a dot, a person."""

    name: str
    x: float
    y: float
    size: float
    style: str

    def moved(self, x: float, y: float) -> Sign:
        """Return it elsewhere."""
        return attrs.evolve(self, x=self.x + x, y=self.y + y)


Shape = Rect | Words | Line | Sign


@attrs.frozen(kw_only=True)
class Block:
    """Part of a picture: how much room it takes, and where the way enters and leaves it.

    :ivar spine: how far across the way runs.
    :ivar ran: whether the run came here.
    :ivar placed: the blocks inside it, at their places.
    """

    along: float
    across: float
    spine: float
    ran: bool = True
    shapes: tuple[Shape, ...] = ()
    placed: tuple[tuple[float, float, Block], ...] = ()

    def flat(self, axis: Axis, along: float = 0, across: float = 0) -> Iterator[Shape]:
        """Yield all shapes at their final places, those below others first."""
        x, y = axis.xy(along, across)
        yield from (shape.moved(x, y) for shape in self.shapes)
        for inner_along, inner_across, block in self.placed:
            yield from block.flat(axis, along + inner_along, across + inner_across)
