"""One run from the command line: executed, interruptible, shown as it goes, reported, and turned into an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import typer

from .._flow import Flow, run_sync
from .._results import RunResult, RunStatus
from .._stream import StreamChunk
from ..errors import FlowError
from . import report
from .interruption import Interruption, leave_threads_behind
from .main import exit_code


@attrs.frozen(kw_only=True)
class Session:
    """How a run is shown: chunks as they come, one JSON object, or the output and a line about the run.

    :param watched: a tracer that ends with such a line itself is on.
    """

    stream: bool = False
    as_json: bool = False
    quiet: bool = False
    watched: bool = False

    @property
    def wants_progress(self) -> bool:
        """True when somebody watches who has not asked for something else."""
        return not (self.stream or self.as_json or self.quiet) and sys.stderr.isatty()

    def own_stdout(self) -> contextlib.AbstractContextManager[Any]:
        """Keep what modules and steps print away from standard output when that is to hold one JSON object."""
        return contextlib.redirect_stdout(sys.stderr) if self.as_json else contextlib.nullcontext()

    def run(self, flow: Flow[Any, Any], data: Any, *, run_id: str, **options: Any) -> None:
        """Run `flow` on `data` and print what comes of it.

        Raises `RunFailed` when the run failed, `typer.Exit` with 128 and the signal's number when it was interrupted,
        and what `Flow.run_async` raises.
        """
        with Interruption() as interruption:
            try:
                run_sync(self._execute(flow, data, run_id, options, interruption), "run", "run_async")
            except FlowError as error:
                leave_threads_behind(exit_code(error))
                raise
        leave_threads_behind(0)

    async def _execute(
        self, flow: Flow[Any, Any], data: Any, run_id: str, options: dict[str, Any], interruption: Interruption
    ) -> None:
        chunks = report.ChunkPrinter()
        with self.own_stdout():
            async with flow:
                interruption.cancels(_canceller(flow, run_id))
                if self.stream:
                    result = await _streamed(flow.stream_async(data, run_id=run_id, **options), chunks)
                else:
                    result = await flow.run_async(data, run_id=run_id, **options)
        resume = report.resume_command(flow, run_id)
        if interruption.signal is not None and result.status is RunStatus.CANCELLED:
            self._report_interruption(result, interruption, resume)
        self._report(result, chunks.text, resume)

    def _report(self, result: RunResult[Any], streamed: str, resume: str | None) -> None:
        if self.as_json:
            report.print_result(result)
        elif result.success:
            report.print_output(result.output, streamed)
        if result.status is RunStatus.PAUSED:
            report.print_questions(result, resume)
        if not (self.quiet or self.as_json or self.watched):
            typer.echo(report.summary(result), err=True)
        if not result.success and result.status is not RunStatus.PAUSED:
            raise report.failure_of(result, resume)

    def _report_interruption(self, result: RunResult[Any], interruption: Interruption, resume: str | None) -> None:
        assert interruption.signal is not None  # noqa: S101  that is why this is called
        if self.as_json:
            report.print_result(result)
        report.print_interruption(result, interruption.signal.name, resume)
        # Now and not when the loop is closed: that waits for threads which agents started with asyncio.to_thread.
        leave_threads_behind(interruption.exit_code)
        raise typer.Exit(interruption.exit_code)


async def _streamed(
    items: AsyncIterator[StreamChunk | RunResult[Any]], show: Callable[[StreamChunk], None]
) -> RunResult[Any]:
    async for item in items:
        if isinstance(item, RunResult):
            return item
        show(item)
    raise AssertionError("a stream ends with its result")


def _canceller(flow: Flow[Any, Any], run_id: str) -> Callable[[], object]:
    """Return a function that cancels the run, to be called in its loop."""
    tasks: list[asyncio.Task[bool]] = []  # the loop itself keeps no task alive
    return lambda: tasks.append(asyncio.ensure_future(flow.cancel(run_id)))
