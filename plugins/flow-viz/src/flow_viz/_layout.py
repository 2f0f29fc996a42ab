"""Where everything stands in an SVG: boxes inside boxes, series in a row, branches side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs

from flow_viz._boxes import Boxes, lines_of_text, styled, width_of
from flow_viz._drawing import Drawing
from flow_viz._geometry import Axis, Block, Line, Shape
from flow_viz._nodes import Layout, Node, Part
from flow_viz._states import SIGNS

_MARGIN, _BESIDE = 18.0, 20.0
_DOT, _BEFORE_FIRST = 5.0, 22.0
_FAN, _MEET = 20.0, 4.0
_ROOM, _LANE = 12.0, 14.0
_ON_FAILURE = "on failure"


def lay_out(drawing: Drawing, axis: Axis) -> Block:
    """Return the whole picture, its margins included."""
    return _Layout(drawing, axis).page()


class _Layout:
    def __init__(self, drawing: Drawing, axis: Axis) -> None:
        self._drawing = drawing
        self._axis = axis
        self._make = Boxes(drawing, axis)

    def page(self) -> Block:
        """Return the pipeline below its name and what there is to say about it."""
        drawing = self._drawing
        state = drawing.story.state if drawing.story is not None else None
        title = drawing.title if state is None else f"{SIGNS[state]} {drawing.title}"
        text = lines_of_text([(title, styled("name", state))], drawing.remarks)
        body = self._between(self._series(list(drawing.root.lines()), drawing.root))
        down = self._axis.along_across(0, text.height + 12)
        wide = self._axis.along_across(text.width, 0)
        return Block(
            along=max(wide[0], down[0] + body.along) + 2 * _MARGIN,
            across=max(wide[1], down[1] + body.across) + 2 * _MARGIN,
            spine=0,
            shapes=tuple(line.moved(_MARGIN, _MARGIN) for line in text.words),
            placed=((down[0] + _MARGIN, down[1] + _MARGIN, body),),
        )

    def _between(self, body: Block) -> Block:
        """Put a dot before the first step, and a ring behind the last."""
        begin = 2 * _DOT + _BEFORE_FIRST
        end = begin + body.along
        last = [part.node for part in self._drawing.root.lines()][-1:]
        came, left = self._make.way(body.ran), self._make.way(body.ran and all(map(self._drawing.led_on, last)))
        shapes: tuple[Shape, ...] = (
            self._line(came, (2 * _DOT, body.spine), (begin, body.spine)),
            self._line(left, (end, body.spine), (end + _BEFORE_FIRST, body.spine)),
            self._make.sign("dot", _DOT, body.spine, _DOT, came),
            self._make.sign("ring", end + _BEFORE_FIRST + _DOT, body.spine, _DOT, left),
        )
        return attrs.evolve(
            body, along=end + begin, across=max(body.across, 2 * _DOT), shapes=shapes, placed=((begin, 0.0, body),)
        )

    # -- what follows one another

    def _series(self, parts: Sequence[Part], around: Node) -> Block:
        """Return steps one after another, the way through them in one line."""
        if not parts:
            return self._make.nothing(around)
        blocks = [self._with_fallback(part.node) for part in parts]
        spine = max(block.spine for block in blocks)
        placed = [(0.0, spine - blocks[0].spine, blocks[0])]
        shapes: list[Shape] = []
        end = blocks[0].along
        for part, (before, block) in zip(parts[1:], pairwise(blocks), strict=True):
            begin = end + self._make.gap(part.shown)
            way = self._make.way(before.ran and block.ran)
            shapes += [self._line(way, (end, spine), (begin, spine)), *self._make.label(part.shown, end, spine)]
            placed.append((begin, spine - block.spine, block))
            end = begin + block.along
        behind = [block.across - block.spine for block in blocks]
        behind += [self._make.room_behind(part.shown) for part in parts[1:]]
        return Block(
            along=end,
            across=spine + max(behind),
            spine=spine,
            ran=blocks[0].ran,
            shapes=tuple(shapes),
            placed=tuple(placed),
        )

    def _with_fallback(self, node: Node) -> Block:
        """Return a step, and beside it what is executed when it fails."""
        main = self._step(node)
        if node.fallback is None:
            return main
        instead = self._with_fallback(node.fallback)
        turn = min(main.along / 2, 22.0)
        begin = turn + 30.0
        end = max(main.along, begin + instead.along) + 18.0
        aside = main.across + max(36.0, width_of(_ON_FAILURE) + 14 - instead.spine)
        lane = aside + instead.spine
        led_on = self._make.way(main.ran and not self._drawing.always_falls_back(node))
        fell = f"{self._make.way(main.ran and instead.ran)} failure"
        shapes = (
            self._line(led_on, (main.along, main.spine), (end, main.spine), arrow=False),
            self._line(fell, (turn, main.across), (turn, lane), (begin, lane)),
            self._line(fell, (begin + instead.along, lane), (end, lane), (end, main.spine), arrow=False),
            self._make.aside(turn, main.across, _ON_FAILURE),
        )
        return Block(
            along=end,
            across=aside + instead.across,
            spine=main.spine,
            ran=main.ran,
            shapes=shapes,
            placed=((0.0, 0.0, main), (begin, aside, instead)),
        )

    # -- what is inside one step

    def _step(self, node: Node) -> Block:
        if node.layout is Layout.LEAF:
            return self._make.box(node)
        if node.layout is Layout.BRANCHES:
            return self._framed(node, self._branches(node))
        inner = self._series(list(node.lines()), node)
        return self._framed(node, self._repeated(node, inner) if node.hint.repeats else inner)

    def _framed(self, node: Node, inner: Block) -> Block:
        frame = self._make.frame(node, inner)
        ((begin, _, _),) = frame.placed
        spine, end = frame.spine, begin + inner.along
        came, left = self._make.way(inner.ran), self._make.way(inner.ran and self._drawing.led_on(node))
        ways = (
            self._line(came, (max(0.0, begin - 20), spine), (begin, spine)),
            self._line(left, (end, spine), (frame.along, spine), arrow=False),
        )
        return attrs.evolve(frame, shapes=(*frame.shapes, *ways))

    def _repeated(self, node: Node, inner: Block) -> Block:
        """Lead a way from the end of `inner` back to its beginning, on a lane beside it."""
        story, spine = self._drawing.story, inner.spine
        end, lane = inner.along + 2 * _ROOM, inner.across + _LANE
        came, left = self._make.way(inner.ran), self._make.way(inner.ran and self._drawing.led_on(node))
        again = self._make.way(inner.ran and (story is None or story.tally(node).rounds > 1))
        back = ((end - 2, spine), (end - 2, lane), (1.0, lane), (1.0, spine + 3))
        shapes = (
            self._line(came, (0.0, spine), (_ROOM, spine)),
            self._line(left, (_ROOM + inner.along, spine), (end, spine), arrow=False),
            self._line(f"{again} again", *back),
        )
        return attrs.evolve(inner, along=end, across=lane + 4, shapes=shapes, placed=((_ROOM, 0.0, inner),))

    # -- branches

    def _branches(self, node: Node) -> Block:
        """Return ways side by side, with the points where they part and where they meet."""
        ways = [(part.shown, self._branch(part)) for part in node.parts]
        if node.hint.passes:
            ways.insert(0, (node.hint.passes, self._past(node)))
        opening = self._make.opening(node)
        offsets, across = self._side_by_side(ways)
        middle = (offsets[0] + ways[0][1].spine + offsets[-1] + ways[-1][1].spine) / 2
        spine = max(middle, opening.spine)
        begin = opening.along + _FAN + max(self._make.gap(label) for label, _ in ways)
        meet = begin + max(block.along for _, block in ways) + _FAN
        shapes: list[Shape] = [self._make.sign("dot", meet, spine, _MEET, self._make.way(True, node))]
        placed = [(0.0, spine - opening.spine, opening)]
        for (label, block), offset in zip(ways, offsets, strict=True):
            lane = spine - middle + offset + block.spine
            shapes += self._lane(block, (opening.along, spine), (begin, lane), (meet, spine))
            shapes += self._make.label(label, opening.along + _FAN, lane)
            placed.append((begin, lane - block.spine, block))
        return Block(
            along=meet + _MEET,
            across=max(spine - middle + across, spine + opening.across - opening.spine),
            spine=spine,
            ran=self._drawing.reached(node),
            shapes=tuple(sorted(shapes, key=lambda shape: "faint" not in shape.style)),  # they share their beginnings
            placed=tuple(placed),
        )

    def _lane(
        self, block: Block, parting: tuple[float, float], begin: tuple[float, float], meeting: tuple[float, float]
    ) -> list[Shape]:
        """Return the way into one branch, and out of it."""
        way, turn = self._make.way(block.ran), parting[0] + _FAN / 2
        end = begin[0] + block.along
        return [
            self._line(way, parting, (turn, parting[1]), (turn, begin[1]), begin, arrow=block.along > 0),
            self._line(way, (end, begin[1]), (meeting[0], begin[1]), meeting, arrow=False),
        ]

    def _side_by_side(self, ways: Sequence[tuple[str, Block]]) -> tuple[list[float], float]:
        offsets, across = [], 0.0
        for label, block in ways:
            across += max(0.0, self._make.room_before(label) - block.spine)
            offsets.append(across)
            across += max(block.across, block.spine + self._make.room_behind(label)) + _BESIDE
        return offsets, across - _BESIDE

    def _branch(self, part: Part) -> Block:
        node = part.node
        return self._with_fallback(node) if node.framed else self._series(list(node.lines()), node)

    def _past(self, node: Node) -> Block:
        """Return a way that nothing stands on."""
        return Block(along=0, across=16, spine=8, ran=self._drawing.reached(node))

    def _line(self, style: str, *places: tuple[float, float], arrow: bool = True) -> Line:
        return Line(points=tuple(self._axis.xy(*place) for place in places), style=style, arrow=arrow)
