"""A pipeline as a tree in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from flow import ConfigurationError
from flow_viz._drawing import MAX_NODES, Drawing, draw, kind_of, label_of
from flow_viz._nodes import Layout, Node, Part
from flow_viz._states import ASCII_SIGNS, SIGNS, State
from flow_viz._wording import columns, cut, visible

_WIDTH = 80
_NARROWEST = 20
_WIDEST = 110  # further apart, the eye loses the line between a name and its figures
_DEEPEST_SHARE = 0.4
_ASCII = str.maketrans({"…": "~", "·": "-", "→": ">"})
_COLOURS = {
    State.FAILED: "1;31",
    State.PAUSED: "1;33",
    State.STOPPED: "33",
    State.BEGUN: "36",
    State.DONE: "32",
    State.CACHED: "34",
    State.REPLAYED: "34",
    State.IDLE: "2",
}
_DIM, _BOLD = "2", "1"


def to_text(
    pipeline: Any,
    *,
    run: Any = None,
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    types: bool = True,
    width: int = _WIDTH,
    ascii: bool = False,
    color: bool = False,
) -> str:
    """Return a pipeline as a tree of lines.

    Steps follow one another from top to bottom; what stands behind a label, such as ``yes:``, is a branch.

    :param width: columns a line may take.
    :param ascii: draw with ASCII only; other letters of names become escapes.
    :param color: colour it with the codes that terminals know.

    The other parameters and the errors are those of `to_mermaid`.

    >>> from flow import Flow, Step
    >>> result = Flow(Step("fetch", str.strip)).run(" x ")
    >>> to_text(Step("fetch", str.strip), run=result).splitlines()[-1].split()[:3]
    ['└─', '✓', 'fetch']
    """
    if width < _NARROWEST:
        raise ConfigurationError(f"width must be at least {_NARROWEST} columns, got {width}")
    drawing = draw(pipeline, run=run, depth=depth, max_nodes=max_nodes, types=types)
    return "\n".join(_Tree(drawing, min(width, _WIDEST), ascii=ascii, color=color).lines())


@attrs.frozen
class _Piece:
    text: str
    style: str = ""


class _Tree:
    def __init__(self, drawing: Drawing, width: int, *, ascii: bool, color: bool) -> None:
        self._drawing = drawing
        self._width = width
        self._ascii = ascii
        self._color = color
        signs = ("|- ", "`- ", "|  ", "`~ ", "|~ ") if ascii else ("├─ ", "└─ ", "│  ", "└╌ ", "├╌ ")
        self._branch, self._end, self._through, self._last_instead, self._instead = signs
        self._signs = ASCII_SIGNS if ascii else SIGNS

    def lines(self) -> Iterator[str]:
        """Yield the lines of the tree, what there is to say about the whole first."""
        drawing = self._drawing
        state = drawing.story.state if drawing.story is not None else None
        yield self._line([*self._sign(state), _Piece(drawing.title, _BOLD)], [])
        for remark in drawing.remarks:
            yield self._line([_Piece(remark, _DIM)], [])
        parts = list(drawing.root.lines())
        if not parts:
            yield self._line([_Piece(f"{self._end}no steps", _DIM)], [])
        yield from self._below([(part, False) for part in parts], "")

    def _below(self, entries: Sequence[tuple[Part, bool]], guide: str) -> Iterator[str]:
        """Yield the lines of what is inside something; the second of an entry tells a fallback."""
        shown = self._deep_enough(guide, entries)
        if shown is not None:
            yield shown
            return
        for number, (part, instead) in enumerate(entries):
            last = number == len(entries) - 1
            here = (self._last_instead if last else self._instead) if instead else (self._end if last else self._branch)
            yield from self._entry(part, guide + here, guide + ("   " if last else self._through), instead)

    def _deep_enough(self, guide: str, entries: Sequence[tuple[Part, bool]]) -> str | None:
        """Return a line that stands for `entries` where names have no room any more."""
        if not entries or columns(guide) <= self._width * _DEEPEST_SHARE:
            return None
        hidden = sum(part.node.steps() for part, _ in entries)
        return self._line([_Piece(f"{guide}{self._end}", _DIM), _Piece(f"… {hidden:,} more inside", _DIM)], [])

    def _entry(self, part: Part, guide: str, below: str, instead: bool) -> Iterator[str]:
        node = part.node
        label = "on failure" if instead else visible(part.shown)
        lead = (
            [_Piece(f"{cut(label, 24)}: ", _DIM if instead or not self._drawing.reached(node) else "36")]
            if label
            else []
        )
        if node.framed:
            yield self._step(node, guide, lead)
            yield from self._below(self._inside(node), below)
            return
        parts = list(node.lines())
        if len(parts) == 1:  # one step in a branch needs no line for the branch
            yield self._step(parts[0].node, guide, lead)
            yield from self._below(self._inside(parts[0].node), below)
            return
        sign = self._sign(self._drawing.worst_inside(node))
        yield self._line([_Piece(guide, _DIM), *sign, *lead, *([] if parts else [_Piece("no steps", _DIM)])], [])
        yield from self._below([(inner, False) for inner in parts], below)

    def _sign(self, state: State | None) -> list[_Piece]:
        return [] if state is None else [_Piece(f"{self._signs[state]} ", _COLOURS[state])]

    def _inside(self, node: Node) -> list[tuple[Part, bool]]:
        inner = node.parts if node.layout is Layout.BRANCHES else node.lines()
        entries = [(part, False) for part in inner]
        return entries if node.fallback is None else [*entries, (Part("", node.fallback), True)]

    def _step(self, node: Node, guide: str, lead: list[_Piece]) -> str:
        state = self._drawing.state_of(node)
        faint = state is State.IDLE
        pieces = [_Piece(guide, _DIM), *self._sign(state), *lead]
        sign = node.hint.ascii_sign if self._ascii else node.hint.sign
        if sign:
            pieces.append(_Piece(f"{sign} ", _DIM if faint else "36"))
        pieces.append(_Piece(label_of(node), _DIM if faint or node.is_fold else _BOLD))
        kind = kind_of(node)
        if kind:
            pieces.append(_Piece(f" {kind}", _DIM))
        figures = [] if faint else list(self._drawing.happened(node))
        return self._line([*pieces, *self._asides(node, pieces, figures)], figures, state)

    def _asides(self, node: Node, pieces: Sequence[_Piece], figures: Sequence[str]) -> list[_Piece]:
        """Return types and settings as far as there is room for them."""
        room = self._width - sum(columns(piece.text) for piece in pieces)
        room -= columns(" · ".join(figures)) + 3 if figures else 0
        types = cut(node.types, 40) if self._drawing.types else ""
        chooser = [f"{visible(node.chooser)}?"] if node.chooser else []
        notes = " · ".join(cut(note) for note in (*chooser, *node.notes))
        for text in (" · ".join(filter(None, [types, notes])), notes):
            if text and columns(text) + 2 <= room:
                return [_Piece(f"  {text}", _DIM)]
        return [_Piece(f"  {cut(notes, room - 2)}", _DIM)] if notes and room > 12 else []

    def _line(self, pieces: Sequence[_Piece], figures: Sequence[str], state: State | None = None) -> str:
        right = self._plain(" · ".join(figures))
        room = self._width - (columns(right) + 2 if right else 0)
        if room < min(self._width // 2, sum(columns(piece.text) for piece in pieces)):  # the name comes first
            right, room = "", self._width
        kept: list[_Piece] = []
        for piece in pieces:
            text = self._plain(cut(self._plain(piece.text), room)) if room > 0 else ""
            room -= columns(text)
            kept.append(_Piece(text, piece.style))
        if right:
            kept.append(_Piece(" " * (room + 2)))
            kept.append(_Piece(right, _COLOURS[state] if state is State.FAILED else _DIM))
        while kept and not kept[-1].text.strip():
            kept.pop()
        return "".join(map(self._painted, [*kept[:-1], _Piece(kept[-1].text.rstrip(), kept[-1].style)]))

    def _plain(self, text: str) -> str:
        if not self._ascii:
            return text
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode()

    def _painted(self, piece: _Piece) -> str:
        return f"\x1b[{piece.style}m{piece.text}\x1b[0m" if self._color and piece.style and piece.text else piece.text
