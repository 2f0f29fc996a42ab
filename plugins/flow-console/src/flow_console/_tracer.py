"""The tracer: takes events, keeps a view of each run, and hands lines and trees to the screen."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

from rich.console import Group, RenderableType

from flow import Event, EventKind, Run, RunResult, Tracer
from flow_console._batch import DETAILED_RUNS, LISTED_RUNS, PAUSE_S, Batch
from flow_console._format import count
from flow_console._lines import Lines
from flow_console._options import Options
from flow_console._paint import Frame
from flow_console._report import Ending, Report, Safe, draw, reasons_of, report_of, safe_for
from flow_console._rows import Row, layout, row_of
from flow_console._screen import Screen, screen_on
from flow_console._view import Facts, RunView

_ROWS_FOR_A_TREE = 5
_LOST_AFTER_S = 10.0  # the kernel delivers the last events within 5 seconds of the end of a run


class ConsoleTracer(Tracer):
    """Shows runs in the terminal while they run: a live tree where it can be drawn, plain lines everywhere else.

    :param level: ``"info"``, or ``"debug"`` to add starts, failed attempts and decisions.
    :param log_inputs: print a short form of what goes into each step; secrets that are recognised are masked.
    :param log_outputs: the same for what comes out.
    :param colorized: colours or none; by default on a terminal unless ``NO_COLOR`` is set.
    :param stream: where to write; standard error when ``None``, so that the program's output stays clean.
    :param width: columns to use; those of the terminal when ``None``.
    :param clock: the time in epoch seconds, for tests.

    By default no input and no output of any step is printed. Raises `ConfigurationError` for a wrong option.

    >>> import sys
    >>> from flow import Flow, Step
    >>> tracer = ConsoleTracer(stream=sys.stdout)
    >>> Flow(Step("upper", str.upper), local_tracer=tracer).run("hello").output  # doctest: +ELLIPSIS
        0.00s  done      upper  ... ms
        0.00s  completed pipeline  in ... ms, 1 step
               run       ...
    'HELLO'
    """

    def __init__(
        self,
        level: str = "info",
        log_inputs: bool = False,
        log_outputs: bool = False,
        colorized: bool | None = None,
        stream: IO[str] | None = None,
        width: int | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = Options(level, log_inputs, log_outputs, colorized)
        self._stream = stream
        self._width = width
        self._clock = clock
        self._lock = threading.RLock()  # one tracer may serve flows in several threads
        self._facts: dict[str, Facts] = {}
        self._views: dict[str, RunView] = {}
        self._batch: Batch | None = None
        self._screen: Screen | None = None
        self._lines = Lines(self._options, everything=True)

    @classmethod
    def with_options(cls, options: Options) -> Self:
        """Make a tracer from checked options."""
        return cls(options.level, options.log_inputs, options.log_outputs, options.colorized)

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        """Learn what events do not tell: the pipeline's name and whether the run can be resumed."""
        facts = Facts(run.pipeline, run.stored)
        with self._lock:
            self._forget_lost()
            self._facts[run.run_id] = facts
        try:
            yield
        finally:
            facts.ended_at = self._clock()

    def on_event(self, event: Event) -> None:
        """Take one event and show what follows from it."""
        try:
            with self._lock:
                screen, printed = self._take(event)
                idle = not self._views
            if idle:
                self._leave()
            screen.print(*printed)
            screen.update()
        except BaseException:
            self._views.pop(event.run_id, None)
            self._leave()  # the kernel goes on without this tracer, and the terminal must be usable
            raise

    async def aclose(self) -> None:
        """Give the terminal back; runs that have not ended are shown no longer."""
        with self._lock:
            self._views.clear()
            self._facts.clear()
            batch = self._batch
        if batch is not None and batch.overlapping:
            self._sum_up(batch)
        self._batch = None
        self._leave()

    # -- what the screen asks ------------------------------------------------------------------------------------------

    def frame(self, height: int) -> RenderableType:
        """Return the trees of the active runs in at most `height` lines; a line for each where there are too many."""
        now = self._clock()
        with self._lock:
            views = list(self._views.values())
            each = height // max(1, len(views))
            if len(views) == 1 or (len(views) <= DETAILED_RUNS and each >= _ROWS_FOR_A_TREE):
                return Group(*(Frame(layout(view.root, now, each), now) for view in views))
            shown = views if len(views) <= height else views[: height - 1]
            rows = [row_of(view.root, view.run_id[-6:], now) for view in shown]
        if len(shown) < len(views):
            rows.append(Row((), None, f"… {count(len(views) - len(shown), 'more run')}"))
        return Frame(rows, now)

    def is_idle(self) -> bool:
        """Say whether no run is being shown, after forgetting those whose end was lost."""
        with self._lock:
            self._forget_lost()
            return not self._views

    # -- events --------------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> tuple[Screen, list[RenderableType]]:
        """Return the screen and what is to be printed on it."""
        screen = self._open()
        if event.kind is EventKind.RUN_FINISHED and isinstance(event.result, RunResult):
            return screen, list(self._end(event, event.result, screen))
        before, view = self._batch, self._views.get(event.run_id)
        if view is None or event.kind is EventKind.RUN_STARTED:
            view = self._begin(event)
        printed: list[RenderableType] = []
        if before is not None and before is not self._batch:
            printed.append(before.report())
        if event.kind is not EventKind.RUN_STARTED:
            trail = view.apply(event)
            printed += self._lines.of(view, event, trail) if self._is_detailed(view) else ()
        return screen, printed

    def _is_detailed(self, view: RunView) -> bool:
        return view.rank < (LISTED_RUNS if self._options.detailed else DETAILED_RUNS)

    def _open(self) -> Screen:
        if self._screen is None:
            self._screen = self._on_stream()
            self._lines = Lines(self._options, everything=not self._screen.is_live)
            self._screen.join(self)
        return self._screen

    def _on_stream(self) -> Screen:
        return screen_on(self._stream, colorized=self._options.colorized, width=self._width)

    def _begin(self, event: Event) -> RunView:
        if self._batch is None or not (self._views or self._batch.goes_on_at(event.at)):
            self._batch = Batch(event.at)
        facts = self._facts.setdefault(event.run_id, Facts())
        view = RunView(event, facts, self._options, self._batch.begin(len(self._views)))
        self._views[event.run_id] = view
        if len(self._views) > 1:
            for active in self._views.values():
                active.tagged = True
        return view

    def _end(self, event: Event, result: RunResult[Any], screen: Screen) -> Iterator[RenderableType]:
        view = self._views.get(event.run_id) or self._begin(event)
        batch = self._batch or Batch(event.at)
        del self._views[event.run_id]
        facts = self._facts.pop(event.run_id, view.facts)
        batch.end(result, event.at)
        if self._is_detailed(view) or batch.lists(result.success):
            safe = safe_for(result, view.input, secrets_only=self._options.shows_content)
            report = report_of(result, safe, resumable=facts.stored)
            yield from self._ending(view, result, report, safe, screen, event.at)
        if self._views or (batch.overlapping and self._sum_up_later(batch)):
            return
        self._batch = None
        if batch.overlapping:
            yield batch.report()

    def _sum_up_later(self, batch: Batch) -> bool:
        """Print the sum of several runs unless more follow at once; at the latest when the program ends."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # events without a loop: a test, or a replay of stored events
            return False
        atexit.unregister(self._sum_up)
        atexit.register(self._sum_up, batch)
        loop.call_later(PAUSE_S, self._sum_up, batch)
        return True

    def _sum_up(self, batch: Batch) -> None:
        with self._lock:
            if self._batch is not batch or self._views:
                return
            self._batch = None
        atexit.unregister(self._sum_up)
        self._on_stream().print(batch.report())

    def _ending(
        self, view: RunView, result: RunResult[Any], report: Report, safe: Safe, screen: Screen, at: float
    ) -> Iterator[RenderableType]:
        if not screen.is_live:
            yield from self._lines.ending(view, at, report, result.pipeline)
        elif self._is_detailed(view):
            yield draw(result, reasons_of(result.walk(), safe, view.reasons), report)
        else:
            yield Ending(report.among_others(result.pipeline, result.run_id))

    # -- tidying up ----------------------------------------------------------------------------------------------------

    def _forget_lost(self) -> None:
        """Forget runs that ended without saying so: their last event was dropped."""
        late = self._clock() - _LOST_AFTER_S
        for run_id in [run_id for run_id, facts in self._facts.items() if facts.ended_at and facts.ended_at < late]:
            del self._facts[run_id]
            self._views.pop(run_id, None)

    def _leave(self) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.leave(self)
