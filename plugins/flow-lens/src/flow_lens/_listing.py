"""``flow lens list``: which runs are stored, the newest first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import attrs

from flow import RunRecord
from flow.cli import ago, aligned, columns, duration, fitted_rows, iso, one_line, quoted, remark_on, short_ids
from flow.privacy import mask
from flow_lens._screen import Line, Screen, fitted, line
from flow_lens._words import money, tokens

_WIDEST_PIPELINE = 28
_FIGURES = (4, 5, 6)
_PIPELINE = 1
_STATUS = 2
HEADERS = ("RUN", "PIPELINE", "STATUS", "STARTED", "TOOK", "COST", "TOKENS")


@attrs.frozen(eq=False)
class Listing:
    """Stored runs as lines."""

    runs: Sequence[RunRecord]
    screen: Screen

    def lines(self) -> Iterator[Line]:
        """Yield a line per run, and below it its error or question; elsewhere than on a terminal in the same line."""
        if not self.runs:
            return
        yield from self._on_a_terminal() if self.screen.terminal else self._plain()

    def _plain(self) -> Iterator[Line]:
        rows = [[run.run_id, *self._cells(run, iso(run.created_at) or ""), mask(remark_on(run))] for run in self.runs]
        for text in aligned([[*HEADERS, "REMARK"], *rows], to_the_right=_FIGURES):
            yield line(self.screen.say(text))

    def _on_a_terminal(self) -> Iterator[Line]:
        ids = short_ids([run.run_id for run in self.runs])
        rows = [[one, *self._cells(run, ago(run.created_at))] for one, run in zip(ids, self.runs, strict=True)]
        width = self.screen.width - 2  # the sign stands in front
        rows, figures = fitted_rows([list(HEADERS), *rows], width, names=_PIPELINE, figures=_FIGURES)
        head, *texts = aligned(rows, to_the_right=figures)
        yield fitted(line("  ", (head, "dim")), self.screen.width)
        before = sum(max(columns(row[index]) for row in rows) + 2 for index in range(_STATUS))
        for text, row, run in zip(texts, rows[1:], self.runs, strict=True):
            sign = self.screen.sign(run.status)
            yield fitted((sign, (" ", ""), *_coloured(text, before, row[_STATUS], sign[1])), self.screen.width)
            if remark := mask(remark_on(run)):
                yield fitted(line("    ", (self.screen.say(remark), "dim")), self.screen.width)

    def _cells(self, run: RunRecord, started: str) -> list[str]:
        until = time.time() if run.status == "running" else run.updated_at
        return [
            self.screen.say(one_line(run.pipeline, _WIDEST_PIPELINE)),
            one_line(run.status),
            started,
            duration(max(until - run.created_at, 0.0)),
            money(run.usage.cost_usd) or "-",
            tokens(run.usage.total_tokens) or "-",
        ]


def _coloured(text: str, before: int, status: str, style: str) -> Line:
    """Return a line of the table with its status in colour; `before` are the columns in front of that."""
    start = before
    while start and columns(text[:start]) > before:  # names with wide characters
        start -= 1
    end = start + len(status)
    return ((text[:start], ""), (text[start:end], style), (text[end:], ""))


def next_page(options: Sequence[tuple[str, str | None]], offset: int) -> str:
    """Return the command that shows what follows: the same options with another offset."""
    words = ["flow lens list"]
    for name, value in options:
        if value is not None:
            words += [name, quoted(value)]
    return " ".join([*words, "--offset", str(offset)])
