"""Where lines are printed: spans of text with a meaning, turned into plain text or coloured text for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import attrs
import typer

from flow.cli import columns, cut, iso, moment, terminal_width

Span: TypeAlias = tuple[str, str]
"""Text and what it means: a key of `_STYLES`, or nothing."""
Line: TypeAlias = tuple[Span, ...]

# The terminal's own colours, so that they fit light and dark themes. Nothing is said by colour alone.
_STYLES = {
    "": "",
    "title": "1",
    "dim": "2",
    "good": "32",
    "bad": "1;31",
    "waits": "1;33",
    "stopped": "33",
    "runs": "36",
    "note": "35",
    "bar": "34",
    "bar critical": "1;36",
    "bar bad": "31",
    "added": "32",
    "removed": "31",
}
_NARROWEST = 40


@attrs.frozen
class Sign:
    """How a state is shown: a sign, its stand-in where only ASCII can be shown, and a style."""

    sign: str
    ascii: str
    style: str


SIGNS = {
    "completed": Sign("✓", "+", "good"),
    "failed": Sign("✗", "x", "bad"),
    "dead": Sign("✗", "x", "bad"),
    "limit_exceeded": Sign("✗", "x", "bad"),
    "deadline_exceeded": Sign("✗", "x", "bad"),
    "paused": Sign("‖", "?", "waits"),
    "cancelled": Sign("∅", "-", "stopped"),
    "interrupted": Sign("∅", "-", "stopped"),
    "running": Sign("»", ">", "runs"),
    "open": Sign("»", ">", "runs"),
}
_OTHER = Sign("·", ".", "dim")


@attrs.frozen(kw_only=True)
class Screen:
    """What lines are printed on.

    :ivar width: columns there are.
    :ivar terminal: somebody looks at it; otherwise lines are for other programs: nothing is cut, folded or drawn.
    :ivar redraws: what stands there can be replaced.
    """

    width: int = 80
    terminal: bool = True
    redraws: bool = False
    colour: bool = False
    ascii: bool = False

    @classmethod
    def of_stdout(cls, width: int | None = None, ascii_only: bool = False) -> Screen:
        """Return standard output as it is; ``NO_COLOR``, ``TERM=dumb`` and its encoding are respected."""
        terminal = sys.stdout.isatty()
        redraws = terminal and os.environ.get("TERM") != "dumb"
        colour = redraws and not os.environ.get("NO_COLOR")
        return cls(
            width=max(_NARROWEST, width or terminal_width()),
            terminal=terminal,
            redraws=redraws,
            colour=colour,
            ascii=ascii_only or not _can_draw(sys.stdout.encoding),
        )

    def as_terminal(self) -> Screen:
        """Return the screen on which is drawn although nobody may be looking."""
        return attrs.evolve(self, terminal=True)

    def moment(self, at: float) -> str:
        """Return an epoch second as clocks here show it; in ISO 8601 for other programs."""
        return moment(at) if self.terminal else iso(at) or ""

    def sign(self, status: str) -> Span:
        """Return the sign of a status."""
        look = SIGNS.get(status, _OTHER)
        return look.ascii if self.ascii else look.sign, look.style

    def say(self, text: str) -> str:
        """Return one of our own texts as this screen can show it."""
        if not self.ascii:
            return text
        for drawn, instead in (("…", "..."), ("·", "-"), ("×", "x"), ("→", "->"), ("–", "-")):
            text = text.replace(drawn, instead)
        return text.encode("ascii", "backslashreplace").decode()

    def text(self, line: Line) -> str:
        """Return a line as this screen shows it."""
        pieces = [_painted(self.say(text), style) if self.colour else self.say(text) for text, style in line]
        return "".join(pieces) if self.colour else "".join(pieces).rstrip()

    def print(self, lines: Iterable[Line]) -> None:
        """Print lines."""
        for line in lines:
            typer.echo(self.text(line), color=self.colour)


def _can_draw(encoding: str | None) -> bool:
    try:
        "✓█├│".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _painted(text: str, style: str) -> str:
    code = _STYLES[style]
    return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text


def line(*spans: Span | str) -> Line:
    """Return a line of spans; texts without a style are plain."""
    return tuple(span if isinstance(span, tuple) else (span, "") for span in spans)


def width_of(spans: Iterable[Span]) -> int:
    """Return how many columns spans take."""
    return sum(columns(text) for text, _ in spans)


def fitted(spans: Iterable[Span], width: int) -> Line:
    """Return spans cut to `width` columns; the one at the edge ends with dots."""
    kept: list[Span] = []
    for text, style in spans:
        room = width - width_of(kept)
        if room <= 0:
            break
        kept.append((_cut(text, room), style))
        if columns(text) > room:
            break
    return tuple(kept)


def _cut(text: str, room: int) -> str:
    if columns(text) <= room:
        return text
    return cut(text, room) if room >= 3 else "." * room


def padded(spans: Iterable[Span], width: int) -> Line:
    """Return spans that take exactly `width` columns."""
    kept = fitted(spans, width)
    return (*kept, (" " * (width - width_of(kept)), ""))


def labelled(
    rows: Iterable[tuple[str, str] | tuple[str, str, str]], screen: Screen, indent: str = "  "
) -> Iterator[Line]:
    """Yield a line per row, its label in front; texts are wrapped on a terminal, whole elsewhere.

    :param rows: label, text, and perhaps the style of the text.
    """
    cells = [(screen.say(row[0]), screen.say(row[1]), row[2] if len(row) == 3 else "") for row in rows]
    wide = len(indent) + max((columns(label) for label, *_ in cells), default=0) + 2
    for label, text, style in cells:
        pieces = wrapped(text, screen.width - wide) if screen.terminal else [text]
        for index, piece in enumerate(pieces):
            head = "" if index else label
            yield line((f"{indent}{head}{' ' * (wide - len(indent) - columns(head))}", "dim"), (piece, style))


def wrapped(text: str, width: int) -> list[str]:
    """Return `text` in pieces of at most `width` columns, broken between words where there are any.

    >>> wrapped("one two three", 8)
    ['one two', 'three']
    """
    pieces, rest = [], text
    while columns(rest) > width > 0:
        end = _longest(rest, width)
        space = rest.rfind(" ", 1, end + 1)
        if space > width // 3:
            pieces.append(rest[:space])
            rest = rest[space + 1 :]
        else:
            pieces.append(rest[:end])
            rest = rest[end:]
    return [*pieces, rest]


def _longest(text: str, width: int) -> int:
    end = min(len(text), width)
    while end > 1 and columns(text[:end]) > width:
        end -= 1
    return end
