"""Rows drawn as lines of text: a tree on the left, tokens, cost and time in columns on the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from flow_console._format import count, duration, money
from flow_console._gauge import draw_gauge, least, wanted
from flow_console._progress import Gauge
from flow_console._rows import Row
from flow_console._states import LOOKS, State, sign_of

_WIDEST = 100  # further apart, the eye loses the line between a name and its time
_GAP = 2
_NARROWEST_LABEL = 24
_SHORTEST_NAME = 12  # cells that are left of it beside a count


@dataclass(frozen=True, slots=True)
class Frame:
    """A rich renderable: the rows of a tree as they stand at a moment (seconds)."""

    rows: Sequence[Row]
    at: float = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield a line for each row, never wider than the console."""
        yield from lines_of(self.rows, self.at, options.max_width, options.ascii_only)


def lines_of(rows: Sequence[Row], at: float, width: int, ascii_only: bool) -> list[Text]:
    """Return the rows as texts of at most `width` cells; columns are dropped from the left where it is narrow."""
    width = min(width, _WIDEST)
    columns = [_column(rows, cell) for cell in (_tokens, _cost, _time)]
    while columns and width - sum(_GAP + wide for wide, _ in columns) < _NARROWEST_LABEL:
        columns.pop(0)
    columns = [(wide, cells) for wide, cells in columns if wide]
    lines = []
    for index, row in enumerate(rows):
        cells = [f"{'':{_GAP}}{cells[index]:>{wide}}" for wide, cells in columns]
        while cells and not cells[0].strip():
            cells.pop(0)  # a row without tokens or cost has more room for what it says
        line = _head(row, at, ascii_only)
        room = width - sum(map(len, cells))
        while row.gauge is not None and len(cells) > 1 and line.cell_len + _GAP + wanted(row.gauge) > room:
            room += len(cells.pop(0))
        _tell(line, row, ascii_only, room)
        line.truncate(room, overflow="crop" if ascii_only else "ellipsis", pad=True)
        line.append("".join(cells), style="dim")
        line.rstrip()
        lines.append(line)
    return lines


def _column(rows: Sequence[Row], cell: Callable[[Row], str]) -> tuple[int, list[str]]:
    cells = [cell(row) for row in rows]
    return max(map(len, cells), default=0), cells


def _tokens(row: Row) -> str:
    return count(row.usage.total_tokens, "token") if row.usage and row.usage.total_tokens else ""


def _cost(row: Row) -> str:
    return money(row.usage.cost_usd) if row.usage and row.usage.cost_usd else ""


def _time(row: Row) -> str:
    return "" if row.seconds is None else duration(row.seconds)


def _head(row: Row, at: float, ascii_only: bool) -> Text:
    """Return where the row stands in the tree, its sign and its name."""
    line = Text(no_wrap=True, overflow="ellipsis", end="\n")
    say = as_ascii if ascii_only else str
    line.append(_guide(row.lasts, ascii_only), style="dim")
    if row.state is None:
        return line.append(say(row.label), style="dim")
    line.append(sign_of(row.state, at, ascii_only), style=LOOKS[row.state].style)
    line.append(" ")
    return line.append(say(row.label), style="bold" if not row.lasts else "dim" if row.faint else "")


def _tell(line: Text, row: Row, ascii_only: bool, room: int) -> None:
    """Add what there is to say of the row in at most `room` cells, the name included."""
    say = as_ascii if ascii_only else str
    note = say(f"  {row.note}") if row.note else ""
    if row.gauge is not None:
        indent = line.cell_len - cell_len(say(row.label))
        _measure(line, row.gauge, room - len(note), indent + _SHORTEST_NAME, ascii_only)
    line.append(note, style="yellow" if row.state is State.PAUSED else "dim")
    if row.reason:
        line.append(say(f"  {row.reason}"), style="red")


def _measure(line: Text, gauge: Gauge, room: int, shortest: int, ascii_only: bool) -> None:
    """Add how far the step is; a long name is cut before the count is, but never below `shortest` cells."""
    line.truncate(max(shortest, room - _GAP - least(gauge)), overflow="crop" if ascii_only else "ellipsis")
    line.append(f"{'':{_GAP}}").append_text(draw_gauge(gauge, room - line.cell_len - _GAP, ascii_only))


def _guide(lasts: tuple[bool, ...], ascii_only: bool) -> str:
    if not lasts:
        return ""
    through, branch, end = ("|  ", "|- ", "`- ") if ascii_only else ("│  ", "├─ ", "└─ ")
    return "".join("   " if last else through for last in lasts[:-1]) + (end if lasts[-1] else branch)


def as_ascii(text: str) -> str:
    """Return `text` for a terminal that shows nothing else: our signs by others, the rest as escapes."""
    for sign, instead in (("…", "~"), ("·", "-"), ("›", ">")):
        text = text.replace(sign, instead)
    return text.encode("ascii", "backslashreplace").decode()
