"""How far a step is, drawn into the room there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.text import Text

from flow_console._format import pace, time_left
from flow_console._progress import Gauge


@dataclass(frozen=True, slots=True)
class _Form:
    """How much is drawn: cells of the bar, and which of the words."""

    bar: int = 0
    extra: bool = False
    unit: bool = False
    rate: bool = False
    left: bool = False
    failed: bool = False


_OBVIOUS = "item"

_WANTED = _Form(5, unit=True, rate=True, left=True, failed=True)

# What gives way first: at last only the count is left. The bar changes its length in steps, so that it does not jump
# with every digit.
_FORMS = (
    _Form(20, extra=True, unit=True, rate=True, left=True, failed=True),
    *(_Form(bar, unit=True, rate=True, left=True, failed=True) for bar in (20, 16, 12, 8)),
    _WANTED,
    _Form(unit=True, rate=True, left=True, failed=True),
    _Form(rate=True, left=True, failed=True),
    _Form(left=True, failed=True),
    _Form(failed=True),
    _Form(),
)
_LEAST = _FORMS[-1]


def draw_gauge(gauge: Gauge, room: int, ascii_only: bool) -> Text:
    """Return the most that fits into `room` cells, or the least there is to say where nothing does.

    >>> draw_gauge(Gauge(30, "page", 120, rate=2.0, left_s=45.0), 60, False).plain
    '━━━━━───────────────   30/120 pages · 2.0/s · 45 s left'
    >>> draw_gauge(Gauge(30, "page", 120, rate=2.0, left_s=45.0), 20, False).plain
    ' 30/120 · 45 s left'
    """
    text = Text()
    for form in _FORMS:
        text = _drawn(gauge, form, ascii_only)
        if text.cell_len <= room:
            break
    return text


def least(gauge: Gauge) -> int:
    """Return the cells that the shortest form takes."""
    return _drawn(gauge, _LEAST, ascii_only=False).cell_len


def wanted(gauge: Gauge) -> int:
    """Return the cells that are worth more than columns of tokens and cost: for a short bar and all that is told."""
    return _drawn(gauge, _WANTED, ascii_only=False).cell_len


def _drawn(gauge: Gauge, form: _Form, ascii_only: bool) -> Text:
    line = Text()
    if form.bar and gauge.has_bar:
        line.append_text(_bar(gauge, form.bar, ascii_only)).append("  ")
    named = form.unit and (gauge.unit != _OBVIOUS or gauge.total is None)
    line.append(gauge.counted(named=named, padded=form != _LEAST))
    separator = " - " if ascii_only else " · "
    for word, style in _words(gauge, form):
        line.append(separator, style="dim").append(word, style=style)
    return line


def _words(gauge: Gauge, form: _Form) -> Iterator[tuple[str, str]]:
    if form.failed and gauge.failed:
        yield f"{gauge.failed:,} failed", "red"
    if form.rate and gauge.rate is not None:
        yield pace(gauge.rate), "dim"
    if form.left and gauge.left_s is not None:
        yield f"{time_left(gauge.left_s)} left", "dim"
    if form.extra and gauge.extra:
        yield gauge.extra, "dim"


def _bar(gauge: Gauge, width: int, ascii_only: bool) -> Text:
    """Return a line whose done part is heavier, so that it can be told apart without colours."""
    halves = min(2 * width, 2 * width * gauge.done // (gauge.total or 1))
    whole, half = divmod(halves, 2)
    full, both, empty = ("#", "#", "-") if ascii_only else ("━", "╾", "─")
    bar = Text().append(full * whole + both * half, style="cyan")
    return bar.append(empty * (width - whole - half), style="dim")
