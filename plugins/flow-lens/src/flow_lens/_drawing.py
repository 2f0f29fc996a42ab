"""``flow lens trace``: what is drawn on a terminal, what stands in a pipe, and a drawing that is redrawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs

from flow.cli import aligned, duration, moment, one_line
from flow_lens._axis import axis_of
from flow_lens._content import Contents
from flow_lens._critical import critical_steps
from flow_lens._following import goes_on
from flow_lens._plain import trace_in_json
from flow_lens._rows import MOST, rows_of
from flow_lens._screen import Line, Screen, fitted, line
from flow_lens._show import Show
from flow_lens._trace import Trace
from flow_lens._waterfall import Waterfall
from flow_lens._words import cause, counted, money, status_of, tokens

Draw = Callable[[Trace], None]


@attrs.frozen(eq=False)
class Drawing:
    """How runs are drawn."""

    screen: Screen
    depth: int | None = None
    everything: bool = False

    def lines(self, trace: Trace) -> Iterator[Line]:
        """Yield what is drawn of a run, or its table when nobody looks."""
        return self._drawn(trace) if self.screen.terminal else self._table(trace)

    def _drawn(self, trace: Trace) -> Iterator[Line]:
        contents = Contents(trace)
        yield fitted(Show(trace, self.screen, contents).heading(), self.screen.width)
        yield fitted(line((self.screen.say(f"  {_in_sum(trace)}"), "dim")), self.screen.width)
        if not trace.steps:
            yield line(("no step has finished yet", "dim"))
            return
        yield ()
        now = time.time() if goes_on(trace.run) else None
        most = None if self.everything else MOST
        yield from Waterfall(trace, self.screen, contents, self.depth, most, now).lines()

    def _table(self, trace: Trace) -> Iterator[Line]:
        """Yield a line per step: its path first, times in seconds from the beginning of the axis."""
        axis, contents = axis_of(trace), Contents(trace)
        critical = {step.path for step in critical_steps(trace)}
        rows = [["PATH", "STATUS", "START", "TOOK", "TRIES", "COST", "TOKENS", "CRITICAL", "ERROR"]]
        for row in rows_of(trace, depth=self.depth, most=None):
            step = row.step
            if step is None or not step.is_step:
                continue
            rows.append(
                [
                    one_line(step.path),
                    status_of(step, trace.run),
                    f"{axis.offset(step.started_at):.3f}",
                    f"{step.took_s:.3f}",
                    str(step.tries),
                    money(step.usage.cost_usd) or "-",
                    tokens(step.usage.total_tokens) or "-",
                    "yes" if step.path in critical else "-",
                    cause(step, contents) or "-",
                ]
            )
        for text in aligned(rows, to_the_right=(2, 3, 4, 5, 6)):
            yield line(self.screen.say(text))

    def live(self) -> AbstractContextManager[Draw]:
        """Return what redraws a run until it ends; elsewhere than on a terminal nothing is drawn before."""
        return _redrawn(self) if self.screen.redraws else nullcontext(_nothing)


def _nothing(trace: Trace) -> None:
    """Draw nothing."""


@contextmanager
def _redrawn(drawing: Drawing) -> Iterator[Draw]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(width=drawing.screen.width, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:

        def draw(trace: Trace) -> None:
            text = "\n".join(drawing.screen.text(one) for one in drawing.lines(trace))
            live.update(Text.from_ansi(text, no_wrap=True), refresh=True)

        yield draw


def _in_sum(trace: Trace) -> str:
    run = trace.run
    parts = [moment(run.created_at)[:16], duration(axis_of(trace).length), counted(len(trace.executed), "step")]
    if run.epoch > 1:
        parts.append(counted(run.epoch, "execution"))
    if run.usage.cost_usd:
        parts.append(money(run.usage.cost_usd))
    if run.usage.total_tokens:
        parts.append(f"{run.usage.total_tokens:,} tokens")
    return " · ".join(parts)


def drawing_in_json(trace: Trace) -> dict[str, Any]:
    """Return a run with its steps and where they lie on its axis, in seconds."""
    axis = axis_of(trace)
    critical = {step.path for step in critical_steps(trace)}
    values = trace_in_json(trace, Contents(trace))
    for step, plain in zip(trace.executed, values["steps"], strict=True):
        plain["offset_s"] = axis.offset(step.started_at)
        plain["critical"] = step.path in critical
    cuts = [{"offset_s": cut.offset, "seconds": cut.seconds, "answered": cut.answered} for cut in axis.cuts]
    return {**values, "axis_s": axis.length, "cuts": cuts}
