"""``flow lens stats``: what was observed of runs and steps, as lines and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from flow.cli import columns, cut, duration, one_line
from flow_lens._screen import Line, Screen, Span, fitted, line
from flow_lens._statistics import Statistics, StepStatistics, in_order
from flow_lens._words import counted, money, tokens

_STEP_HEADERS = ("STEP", "COUNT", "P50", "P95", "FAILED", "TRIES", "COST", "TOKENS")
_RUN_HEADERS = ("RUNS", "COUNT", "P50", "P95", "COST", "TOKENS")
_NARROWEST = 12
_BAR = 10


@attrs.frozen(eq=False)
class StatisticsView:
    """Statistics as lines."""

    found: Statistics
    screen: Screen
    order: str = "path"

    def lines(self) -> Iterator[Line]:
        """Yield the table of runs by status and the table of steps."""
        yield from self._runs()
        if self.found.steps:
            if self.screen.terminal:
                yield ()
            yield from self._steps(in_order(self.found.steps, self.order))

    def _runs(self) -> Iterator[Line]:
        rows = [
            [one_line(item.status), *_figures(item.count, item.p50_s, item.p95_s, item.cost_usd, item.tokens)]
            for item in self.found.runs
        ]
        signs = [self.screen.sign(item.status) for item in self.found.runs]
        styles = [["", *[""] * 5] for _ in rows]
        for style, sign in zip(styles, signs, strict=True):
            style[0] = sign[1]
        yield from self._table(_RUN_HEADERS, rows, styles, [(sign, f"{text} ") for text, sign in signs])

    def _steps(self, steps: Sequence[StepStatistics]) -> Iterator[Line]:
        rows = [_cells(step) for step in steps]
        styles = [["", "", "", "", "bad" if step.failures else "dim", "", "", ""] for step in steps]
        yield from self._table(_STEP_HEADERS, rows, styles, [])

    def _table(
        self, headers: Sequence[str], rows: list[list[str]], styles: list[list[str]], signs: Sequence[tuple[str, str]]
    ) -> Iterator[Line]:
        rows = [[self.screen.say(cell) for cell in row] for row in rows]
        keep = self._that_fit([list(headers), *rows])
        lead = 2 if signs and self.screen.terminal else 0
        wide = [max(columns(row[index]) for row in [list(headers), *rows]) for index in keep]
        if self.screen.terminal:
            room = self.screen.width - lead - sum(wide[1:]) - 2 * (len(wide) - 1)
            wide[0] = max(_NARROWEST, min(wide[0], room))
        yield line(((" " * lead + _joined([headers[index] for index in keep], wide)).rstrip(), "dim"))
        for number, (row, looks) in enumerate(zip(rows, styles, strict=True)):
            spans: list[Span] = [(signs[number][1], signs[number][0])] if lead else []
            for place, (index, width) in enumerate(zip(keep, wide, strict=True)):
                spans.append((_cell(row[index], width, place), looks[index]))
            yield fitted(spans, self.screen.width) if self.screen.terminal else tuple(spans)

    def _that_fit(self, rows: list[list[str]]) -> list[int]:
        """Return the numbers of the columns that have something to say and fit; the last ones go first."""
        keep = [
            index for index in range(len(rows[0])) if index < 4 or any(row[index] not in ("", "-") for row in rows[1:])
        ]
        if not self.screen.terminal:
            return list(range(len(rows[0])))
        while len(keep) > 4:
            wide = [max(columns(row[index]) for row in rows) for index in keep]
            if self.screen.width - sum(wide[1:]) - 2 * len(wide) >= min(wide[0], 2 * _NARROWEST):
                break
            keep.pop()
        return keep


def _cells(step: StepStatistics) -> list[str]:
    count, p50, p95, cost, used = _figures(step.count, step.p50_s, step.p95_s, step.cost_usd, step.tokens)
    failed = f"{step.failures:,} ({step.failure_rate:.0%})" if step.failures else "-"
    tried = f"{step.attempts:,}" if step.retried else "-"
    return [one_line(step.step), count, p50, p95, failed, tried, cost, used]


def _figures(count: int, p50: float, p95: float, cost: float, used: int) -> list[str]:
    return [f"{count:,}", duration(p50), duration(p95), money(cost) or "-", tokens(used) or "-"]


def _joined(cells: Sequence[str], wide: Sequence[int]) -> str:
    return "".join(_cell(cell, width, place) for place, (cell, width) in enumerate(zip(cells, wide, strict=True)))


def _cell(text: str, width: int, place: int) -> str:
    text = cut(text, width)
    gap = " " * (width - columns(text))
    return f"{text}{gap}" if place == 0 else f"  {gap}{text}"


def statistics_in_json(found: Statistics, order: str) -> dict[str, Any]:
    """Return statistics as plain values."""
    return {
        "count": found.count,
        "runs": [attrs.asdict(item) for item in found.runs],
        "steps": [
            {**attrs.asdict(step), "failure_rate": step.failure_rate, "tokens": step.tokens}
            for step in in_order(found.steps, order)
        ],
    }


def looked_at(found: Statistics, more: bool) -> str:
    """Say how many runs the figures are from."""
    newest = "the newest " if more else ""
    return f"from {newest}{counted(found.count, 'run')}{'; --limit N looks at more' if more else ''}"
