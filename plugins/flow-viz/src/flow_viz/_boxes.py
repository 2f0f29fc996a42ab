"""What an SVG is made of: boxes and frames with text in them, labels, and the points where ways part."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from flow_viz._drawing import Drawing, kind_of, label_of
from flow_viz._geometry import Axis, Block, Line, Rect, Shape, Sign, Words
from flow_viz._graph import is_choice
from flow_viz._hints import Shape as Look
from flow_viz._nodes import Node
from flow_viz._states import SIGNS, State
from flow_viz._wording import columns, cut, visible

# Letters of a monospaced font are 0.6 of its size wide; a little more is reckoned, for fonts that are wider.
NAME_SIZE, TEXT_SIZE = 13.0, 11.0
_WIDTH = 0.62
_NAME_LINE, _TEXT_LINE = 18.0, 15.0
GAP = 28.0
_PAD, _EDGE = 10.0, 6.0
_ICON = 18.0
_CHOOSER = 24
_LONGEST_TITLE = 60


def width_of(text: str, size: float = TEXT_SIZE) -> float:
    """Return the most that a line of text takes."""
    return columns(text) * size * _WIDTH


@attrs.frozen
class Text:
    """Lines of text at a top left corner, and the room they take."""

    words: tuple[Words, ...]
    width: float
    height: float


def lines_of_text(head: Sequence[tuple[str, str]], details: Sequence[str]) -> Text:
    """Return text in lines: the words of `head`, each with a style, in the first, and `details` below."""
    words: list[Words] = []
    right, widest = 0.0, 0.0
    for number, (text, style) in enumerate(head):
        wide = width_of(text, TEXT_SIZE if number else NAME_SIZE)
        words.append(Words(x=right, y=13, text=text, style=style, width=wide))
        widest, right = right + wide, right + wide + 8
    for number, text in enumerate(details):
        y = _NAME_LINE + number * _TEXT_LINE + 11
        words.append(Words(x=0, y=y, text=text, style="text", width=width_of(text)))
        widest = max(widest, width_of(text))
    return Text(tuple(words), widest, _NAME_LINE + len(details) * _TEXT_LINE)


class Boxes:
    """Makes the parts of one drawing."""

    def __init__(self, drawing: Drawing, axis: Axis) -> None:
        self._drawing = drawing
        self._axis = axis

    def box(self, node: Node) -> Block:
        """Return a step that nothing is inside of."""
        human, each = node.hint.shape is Look.HUMAN, node.hint.shape is Look.EACH
        kind = kind_of(node)
        text = lines_of_text(
            [(self._signed(node), self._style("name", node))],
            [*([kind] if kind else []), *self._drawing.details(node)],
        )
        left = _PAD + (_ICON if human else 0)
        width, height = left + text.width + _PAD, text.height + 2 * _EDGE
        rect = self._rect(node, "box", width, height, min(height / 2, 20) if human else 6)
        icon = [Sign(name="person", x=_PAD + 5, y=17, size=7, style=self._style("sign", node))] if human else []
        behind = _behind(rect) if each else []
        along, across = self._axis.along_across(width + 4 * each, height + 4 * each)
        return Block(
            along=along,
            across=across,
            spine=across / 2,
            ran=self._drawing.reached(node),
            shapes=(*behind, rect, *icon, *(line.moved(left, _EDGE) for line in text.words)),
        )

    def nothing(self, around: Node) -> Block:
        """Return what stands for a pipeline without steps."""
        text = "no steps"
        width, height = width_of(text) + 2 * _PAD, 24.0
        along, across = self._axis.along_across(width, height)
        rect = Rect(x=0, y=0, width=width, height=height, style="box empty", radius=12)
        words = Words(x=_PAD, y=16, text=text, style="text", width=width - 2 * _PAD)
        return Block(
            along=along, across=across, spine=across / 2, ran=self._drawing.reached(around), shapes=(rect, words)
        )

    def frame(self, node: Node, inner: Block) -> Block:
        """Return a frame with a title around what is inside a step; `ways` in it are drawn by the caller."""
        told = " · ".join([*node.notes, *self._drawing.happened(node)])
        head = [(self._signed(node), self._style("name", node)), (kind_of(node), "kind")]
        text = lines_of_text(head, [cut(told, _LONGEST_TITLE)] if told else [])
        before = self._axis.along_across(_PAD + 2, text.height + 10)
        behind = self._axis.along_across(_PAD + 2, 0)
        least = self._axis.along_across(text.width + 2 * _PAD + 4, 0)
        enter = GAP * 0.75
        along = max(before[0] + 2 * enter + inner.along + behind[0], least[0])
        across = before[1] + inner.across + _PAD + 2
        spare = max(0.0, least[1] - across) / 2
        width, height = self._axis.xy(along, across + 2 * spare)
        rect = self._rect(node, "frame", width, height, 10)
        room = 5 if node.hint.shape is Look.EACH else 0
        return Block(
            along=along + room,
            across=across + 2 * spare + room,
            spine=before[1] + spare + inner.spine,
            ran=self._drawing.reached(node),
            shapes=(*(_behind(rect) if room else []), rect, *(line.moved(_PAD + 2, _EDGE) for line in text.words)),
            placed=((before[0] + enter, before[1] + spare, inner),),
        )

    def opening(self, node: Node) -> Block:
        """Return where ways part: a sign where something is decided, a dot where all are taken."""
        if not is_choice(node):
            return Block(along=8, across=8, spine=4, shapes=(self.sign("dot", 4, 4, 4, self.way(True, node)),))
        name = "person" if node.hint.shape is Look.HUMAN else "diamond"
        text, size = cut(visible(node.chooser), _CHOOSER), 9.0
        wide = width_of(text) if text else 0.0
        along = max(2 * size, wide) if self._axis.horizontal else 2 * size
        way = Line(
            points=(self._axis.xy(0, size), self._axis.xy(along - size, size)), style=self.way(True, node), arrow=False
        )
        sign = self.sign(name, along - size, size, size, self._style("sign", node))
        if not text:
            return Block(along=along, across=2 * size, spine=size, shapes=(way, sign))
        x, y = (0.0, -5.0) if self._axis.horizontal else (2 * size + 5, size + 4)
        words = Words(x=x, y=y, text=text, style="label", width=wide)
        across = 2 * size if self._axis.horizontal else 2 * size + 5 + wide
        return Block(along=along, across=across, spine=size, shapes=(way, sign, words))

    # -- ways and their labels

    def way(self, ran: bool, node: Node | None = None) -> str:
        """Return the style of a way: in a run those that were gone stand out, and the others are faint."""
        if self._drawing.story is None:
            return "way"
        return "way ran" if ran and (node is None or self._drawing.reached(node)) else "way faint"

    def sign(self, name: str, along: float, across: float, size: float, style: str) -> Sign:
        """Return a sign around a place."""
        x, y = self._axis.xy(along, across)
        return Sign(name=name, x=x, y=y, size=size, style=style)

    def gap(self, label: str) -> float:
        """Return how long a way must be to carry its label."""
        if not label:
            return GAP
        return max(GAP, width_of(_label(label)) + 18) if self._axis.horizontal else GAP + 6

    def label(self, label: str, along: float, across: float) -> list[Shape]:
        """Return the label of a way that begins at a place."""
        if not label:
            return []
        x, y = self._axis.xy(along, across)
        right, down = (6, -5) if self._axis.horizontal else (6, 15)
        text = _label(label)
        return [Words(x=x + right, y=y + down, text=text, style="label", width=width_of(text))]

    def aside(self, along: float, across: float, text: str) -> Words:
        """Return a text at the beginning of a way that leads aside from a place."""
        x, y = self._axis.xy(along, across)
        return Words(
            x=x + 6, y=y + (14 if self._axis.horizontal else -5), text=text, style="text", width=width_of(text)
        )

    def room_behind(self, label: str) -> float:
        """Return how much room a label takes across, behind its way."""
        return 0.0 if not label or self._axis.horizontal else width_of(_label(label)) + 8

    def room_before(self, label: str) -> float:
        """Return how much room a label takes across, before its way."""
        return 18.0 if label and self._axis.horizontal else 0.0

    # -- styles

    def _rect(self, node: Node, what: str, width: float, height: float, radius: float) -> Rect:
        shape = {Look.HUMAN: "human", Look.FOLDED: "folded"}.get(node.hint.shape, "")
        return Rect(
            x=0,
            y=0,
            width=width,
            height=height,
            style=f"{self._style(what, node)} {shape}".rstrip(),
            radius=radius,
            tooltip=self._drawing.tooltip(node),
        )

    def _signed(self, node: Node) -> str:
        state = self._drawing.state_of(node)
        return label_of(node) if state is None else f"{SIGNS[state]} {label_of(node)}"

    def _style(self, what: str, node: Node) -> str:
        return styled(what, self._drawing.state_of(node))


def styled(what: str, state: State | None) -> str:
    """Return the classes of something that may have a state."""
    return what if state is None else f"{what} {state.name.lower()}"


def _behind(rect: Rect) -> list[Rect]:
    """Return the edge of a second box behind one that stands for many."""
    return [attrs.evolve(rect, x=4, y=4, tooltip="", style=f"{rect.style} behind")]


def _label(label: str) -> str:
    return cut(visible(label))
