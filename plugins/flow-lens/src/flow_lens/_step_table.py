"""The steps of a run as a table: a line per step, and below it what else is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from flow.cli import columns, one_line
from flow_lens._content import UNKNOWN, Contents, decoded, in_one_line
from flow_lens._rows import MOST, Row, folded_in_words, rows_of
from flow_lens._screen import Line, Screen, labelled, line, width_of
from flow_lens._trace import Trace, TraceStep
from flow_lens._words import decisions, failures, money, status_of, tokens, took, tries

_INDENT = "    "
_TITLES = ("KIND", "STATUS", "TOOK", "TRIES", "COST", "TOKENS")
_WORDS = 2
"""So many of the first columns are words and no figures."""


@attrs.frozen(kw_only=True)
class Wanted:
    """What of a run is to be shown beside its facts."""

    inputs: bool = False
    outputs: bool = False
    context: bool = False
    everything: bool = False


@attrs.frozen(eq=False)
class StepTable:
    """The steps of one run as lines. On a terminal a sign tells how a step stands, elsewhere a word."""

    trace: Trace
    screen: Screen
    contents: Contents
    wanted: Wanted = attrs.field(factory=Wanted)

    def lines(self) -> Iterator[Line]:
        """Yield the table; on a terminal long fan-outs and loops are folded unless everything is wanted."""
        fold = self.screen.terminal and not self.wanted.everything
        rows = [row for row in rows_of(self.trace, most=MOST if fold else None) if row.step is None or row.step.is_step]
        if not rows:
            yield line(("no step has finished yet", "dim"))
            return
        cells = [self._cells(row.step) for row in rows]
        shape = _shape(cells)
        paths = [self._path(row) for row in rows]
        room = self._room(paths, shape)
        yield line((f"{self._lead + 'PATH':<{room}}{_joined(_TITLES, shape)}".rstrip(), "dim"))
        for row, path, texts in zip(rows, paths, cells, strict=True):
            yield from _row(path, _joined(texts, shape), room)
            if row.step is not None:
                yield from labelled(self.remarks(row.step), self.screen, _INDENT)

    @property
    def _lead(self) -> str:
        return "  " if self.screen.terminal else ""

    def _room(self, paths: Sequence[Line], shape: Sequence[tuple[int, int]]) -> int:
        widest = max(map(width_of, paths))
        figures = sum(width + 2 for _, width in shape)
        return max(8, min(widest, self.screen.width - figures)) if self.screen.terminal else widest

    def _path(self, row: Row) -> Line:
        if row.step is None:
            return line((self.screen.say(f"… {folded_in_words(row.folded)} (--all)"), "dim"))
        path = self.screen.say(one_line(row.step.path))
        if not self.screen.terminal:
            return line(path)
        return line(self.screen.sign(status_of(row.step, self.trace.run)), " ", path)

    def _cells(self, step: TraceStep | None) -> tuple[str, ...]:
        if step is None:
            return ("",) * len(_TITLES)
        status = "" if self.screen.terminal else status_of(step, self.trace.run)
        cost, used = money(step.usage.cost_usd), tokens(step.usage.total_tokens)
        return one_line(step.kind, 12), status, took(step), self.screen.say(tries(step)), cost, used

    def remarks(self, step: TraceStep) -> Iterator[tuple[str, str, str]]:
        """Yield what belongs below a step: label, text and style of the text."""
        if decided := decisions(step):
            yield "decided", one_line(decided, 300), "dim"
        for label, text in failures(step, self.contents):
            yield label, text, "bad"
        if step.answer is not None:
            yield "answered", self.screen.moment(step.answer.at), ""
        if self.wanted.inputs and (value := self.contents.input_of(step)) is not UNKNOWN:
            yield "input", in_one_line(value), ""
        if self.wanted.outputs:
            if step.answer is not None:
                yield "answer", in_one_line(decoded(step.answer.text)), ""
            if (value := self.contents.output_of(step)) is not UNKNOWN:
                yield "output", in_one_line(value), ""


def _shape(cells: Sequence[tuple[str, ...]]) -> list[tuple[int, int]]:
    """Return number and width of the columns in which something stands."""
    used = [index for index in range(len(_TITLES)) if any(row[index] for row in cells)]
    return [(index, max(columns(row[index]) for row in [_TITLES, *cells])) for index in used]


def _joined(cells: Sequence[str], shape: Sequence[tuple[int, int]]) -> str:
    return "".join(_cell(cells[index], width, index) for index, width in shape)


def _cell(text: str, width: int, index: int) -> str:
    gap = " " * (width - columns(text))
    return f"  {text}{gap}" if index < _WORDS else f"  {gap}{text}"


def _row(path: Line, figures: str, room: int) -> Iterator[Line]:
    """Yield a path and its figures; below each other when the path is too long."""
    gap = room - width_of(path)
    if gap < 0:
        yield path
        yield line(" " * room, (figures.rstrip(), "dim"))
    else:
        yield (*path, (" " * gap, ""), (figures.rstrip(), "dim"))
