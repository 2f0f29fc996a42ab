"""``flow lens trace``: the steps of a run as a tree beside bars on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from flow.cli import columns, duration, one_line, questions_of
from flow_lens._axis import Axis, axis_of
from flow_lens._content import Contents
from flow_lens._critical import critical_steps
from flow_lens._rows import MOST, Row, folded_in_words, rows_of
from flow_lens._screen import Line, Screen, Span, fitted, line, padded, width_of, wrapped
from flow_lens._trace import Trace, TraceStep
from flow_lens._words import cause, counted, money, status_of, took, tries

_WIDEST_LABEL = 0.45
_NARROWEST_LABEL = 18
_NARROWEST_BAR = 10
_WIDEST = 160  # further apart, the eye loses the line between a name and its bar
_SLOWEST = 3
_LINES = 3


@attrs.frozen(eq=False)
class Bar:
    """Where a bar lies: columns of the axis, the first and the one after the last."""

    begin: int
    end: int
    is_short: bool = False

    @classmethod
    def of(cls, begin_s: float, end_s: float, axis: Axis, width: int) -> Bar:
        """Return the bar of a time (epoch seconds) on an axis that is `width` columns wide; at least one column."""
        scale = width / axis.length if axis.length > 0 else 0.0
        left, right = axis.offset(begin_s) * scale, axis.offset(end_s) * scale
        begin = min(round(left), width - 1)  # where one step ends the next one begins: both are rounded alike
        end = min(max(begin + 1, round(right)), width)
        return cls(begin, end, is_short=right - left < 0.5)


@attrs.frozen(eq=False)
class Waterfall:
    """The tree and the bars of one run at one moment.

    :ivar now: the moment (epoch seconds) until which a run that goes on is shown.
    """

    trace: Trace
    screen: Screen
    contents: Contents
    depth: int | None = None
    most: int | None = MOST
    now: float | None = None
    axis: Axis = attrs.field(init=False)
    rows: Sequence[Row] = attrs.field(init=False)
    critical: frozenset[str] = attrs.field(init=False)
    slowest: Mapping[str, float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        found = critical_steps(self.trace)
        self._set("axis", axis_of(self.trace, self.now))
        self._set("rows", rows_of(self.trace, depth=self.depth, most=self.most))
        self._set("critical", frozenset(step.path for step in found))
        self._set("slowest", _slowest(found, self.axis.length))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def lines(self) -> Iterator[Line]:
        """Yield the axis, a line per row, and what has to be said about the whole; never wider than the screen."""
        width = min(self.screen.width, _WIDEST)
        left = [self._label(row) for row in self.rows]
        right = _aligned([self._figures(row) for row in self.rows])
        figures = max(map(width_of, right), default=0)
        label = _room_for_labels(left, width - figures)
        bar = max(_NARROWEST_BAR, width - label - figures - 2)
        if self.rows:
            yield line(" " * (label + 1), (self._ruler(bar), "dim"))
        for row, name, numbers in zip(self.rows, left, right, strict=True):
            yield fitted((*padded(name, label), (" ", ""), *self._bar(row, bar), (" ", ""), *numbers), width)
            if row.step is not None and row.step.failed and row.step.is_step:
                yield from self._why(row, width)
        for remark in self._remarks():
            for piece in wrapped(self.screen.say(remark), width):
                yield line((piece, "dim"))

    # -- left of the bars

    def _label(self, row: Row) -> Line:
        guide = _guide(row.lasts, self.screen.ascii)
        if row.step is None:
            return (guide, (self.screen.say(f"… {folded_in_words(row.folded)}"), "dim"))
        step = row.step
        label = self.screen.say(one_line(step.label))
        inside = self.screen.say(f" (+{row.hidden:,} inside)") if row.hidden else ""
        sign = self.screen.sign(status_of(step, self.trace.run))
        style = "dim" if not step.is_step else "title" if step.path in self.slowest else ""
        return (guide, sign, (" ", ""), (label, style), (inside, "dim"))

    # -- right of them

    def _figures(self, row: Row) -> tuple[str, str, str]:
        if row.step is None:
            return (duration(max(step.took_s for step in row.folded)), "", "")
        step = row.step
        cost = money(step.usage.cost_usd)
        return (took(step), self.screen.say(tries(step)), cost)

    # -- the bars

    def _bar(self, row: Row, width: int) -> Iterator[Span]:
        cells: list[Span] = [(" ", "")] * width
        for cut in self.axis.cuts:
            cells[min(width - 1, self._column(cut.offset, width))] = (":" if self.screen.ascii else "┊", "dim")
        steps = row.folded if row.step is None else (row.step,)
        for step in steps:
            bar = Bar.of(step.started_at, step.ended_at, self.axis, width)
            glyph, style = self._look(row, step, bar)
            for column in range(bar.begin, bar.end):
                cells[column] = (glyph, style)
        return _joined(cells)

    def _column(self, offset: float, width: int) -> int:
        return int(offset / self.axis.length * width) if self.axis.length > 0 else 0

    def _look(self, row: Row, step: TraceStep, bar: Bar) -> Span:
        if row.step is None:
            return (":" if self.screen.ascii else "░", "dim")
        critical = not self._beside(row)
        style = "bar bad" if step.failed else "bar critical" if critical else "bar"
        if bar.is_short:
            return ("|" if self.screen.ascii else "▏", style)
        if step.children and not row.hidden:
            return ("-" if self.screen.ascii else "─", style)
        ascii_glyph, glyph = ("#", "█") if critical else ("=", "▒")
        return (ascii_glyph if self.screen.ascii else glyph, style)

    def _beside(self, row: Row) -> bool:
        """Tell whether neither the step of a row nor one that is hidden inside it is on the critical path."""
        assert row.step is not None  # noqa: S101  the callers have looked
        path = row.step.path
        hidden = row.hidden and any(known.startswith(f"{path}/") for known in self.critical)
        return path not in self.critical and not hidden

    def _ruler(self, width: int) -> str:
        """Return the axis: its beginning, and its end where there is room."""
        end = duration(self.axis.length)
        gap = width - 1 - columns(end)
        return f"0{' ' * gap}{end}" if gap > 0 else "0"

    def _why(self, row: Row, width: int) -> Iterator[Line]:
        assert row.step is not None  # noqa: S101  the caller has looked
        if any(child.failed for child in row.step.children):
            return  # said there
        guide = _guide((*row.lasts, True), self.screen.ascii, under=True)
        text = self.screen.say(cause(row.step, self.contents))
        for piece in _short(text, width - columns(guide[0])):
            yield fitted((guide, (piece, "bad")), width)

    # -- below

    def _remarks(self) -> Iterator[str]:
        if self.trace.run.status == "paused":
            yield from (f"{one_line(path)} waits for an answer" for path in questions_of(self.trace.run))
        for cut in self.axis.cuts:
            why = f", {one_line(cut.answered)} was answered" if cut.answered else ""
            yield f"{duration(cut.seconds)} between two executions left out at {duration(cut.offset)}{why}"
        shares = [f"{one_line(path)} {share:.0%}" for path, share in self.slowest.items()]
        if shares:
            yield f"slowest: {', '.join(shares)}"
        solid = [row for row in self.rows if row.step is not None and (row.hidden or not row.step.children)]
        if any(self._beside(row) for row in solid):
            yield "# critical path, = beside it" if self.screen.ascii else "█ critical path, ▒ beside it"
        if self.trace.superseded:
            yield f"{counted(self.trace.superseded, 'record')} of given up attempts left out"


def _short(text: str, width: int) -> list[str]:
    """Return a text in a few lines."""
    pieces = wrapped(text, max(width, 8)) if text else []
    return pieces if len(pieces) <= _LINES else [*pieces[: _LINES - 1], f"{pieces[_LINES - 1]}..."]


def _slowest(steps: Sequence[TraceStep], length: float) -> Mapping[str, float]:
    """Return the share of the longest steps on the critical path in the time of the run."""
    if length <= 0:
        return {}
    longest = sorted(steps, key=lambda step: -step.took_s)[:_SLOWEST]
    return {step.path: step.took_s / length for step in longest if step.took_s >= 0.1 * length}


def _room_for_labels(labels: Sequence[Line], width: int) -> int:
    widest = max(map(width_of, labels), default=0)
    most = max(_NARROWEST_LABEL, int(width * _WIDEST_LABEL), 0)
    return min(widest, most)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[Line]:
    wide = [max(map(columns, column), default=0) for column in zip(*rows, strict=True)]
    return [tuple((f" {cell:>{width}}", "dim") for cell, width in zip(row, wide, strict=True) if width) for row in rows]


def _guide(lasts: tuple[bool, ...], ascii_only: bool, under: bool = False) -> Span:
    through, branch, end = ("| ", "|-", "`-") if ascii_only else ("│ ", "├╴", "└╴")
    outer = "".join("  " if last else through for last in lasts[1:-1])
    if len(lasts) < 2:
        return ("  " if under else "", "dim")
    return (outer + ("  " if under else end if lasts[-1] else branch), "dim")


def _joined(cells: Sequence[Span]) -> Iterator[Span]:
    """Yield the cells with those of one style put together."""
    text, style = "", ""
    for glyph, look in cells:
        if look != style and text:
            yield (text, style)
            text = ""
        style = look
        text += glyph
    if text:
        yield (text, style)
