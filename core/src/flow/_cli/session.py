"""One run from the command line: executed, interruptible, shown as it goes, reported, and turned into an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import typer

from .._blocking import run_sync
from .._flow import Flow
from .._results import RunResult, RunStatus
from .._run import Run
from .._stream import StreamChunk
from .._usage import UsageLimits
from ..errors import FlowError, PipelineChanged
from . import report
from .interruption import Interruption, leave_threads_behind
from .main import exit_code
from .store import stored_in, without_secrets

_Item = StreamChunk | RunResult[Any]


@attrs.frozen(kw_only=True)
class Session:
    """How a run is shown: chunks as they come, one JSON object, or the output and a line about the run.

    :param watched: a tracer that ends with such a line itself is on.
    :param app: what to name in the command that continues the run, when the run does not find it by itself.
    """

    stream: bool = False
    as_json: bool = False
    quiet: bool = False
    watched: bool = False
    app: str | None = None

    @property
    def wants_progress(self) -> bool:
        """True when somebody watches who has not asked for something else."""
        return not (self.stream or self.as_json or self.quiet) and sys.stderr.isatty()

    def own_stdout(self) -> AbstractContextManager[Any]:
        """Keep what modules and steps print away from standard output when that is to hold one JSON object."""
        return contextlib.redirect_stdout(sys.stderr) if self.as_json else nullcontext()

    def say(self, text: str) -> None:
        """Print what is good to know but not asked for."""
        if not self.quiet:
            typer.echo(text, err=True)

    def run(self, flow: Flow[Any, Any], data: Any, *, run_id: str, **options: Any) -> None:
        """Run `flow` on `data` and print what comes of it.

        Raises `RunFailed` when the run failed, `typer.Exit` with 128 and the signal's number when it was interrupted,
        and what `Flow.run_async` raises.
        """
        url = stored_in(flow)
        if url is not None and not self.quiet:
            note = _Announcement(f"run {run_id} is stored in {without_secrets(url)}")
            flow = flow.evolve(policies=[note, *flow._policies])
        if self.stream:
            self._go(flow, run_id, lambda show: _streamed(flow.stream_async(data, run_id=run_id, **options), show))
        else:
            self._go(flow, run_id, lambda _: flow.run_async(data, run_id=run_id, **options))

    def resume(
        self, flow: Flow[Any, Any], run_id: str, deadline: float | None, limits: UsageLimits | None, **how: Any
    ) -> None:
        """Continue a stored run of `flow` and print what comes of it; raises as `run` does.

        :param how: ``answers`` and ``on_change`` of `Flow.resume_async`.
        """
        try:
            if self.stream:
                chunks = flow.resume_stream_async(run_id, deadline=deadline, usage_limits=limits, **how)
                self._go(flow, run_id, lambda show: _streamed(chunks, show))
            else:
                own: dict[str, Any] = {"deadline": deadline, "usage_limits": limits}
                self._go(flow, run_id, lambda _: flow.resume_async(run_id, **own, **how))
        except PipelineChanged as changed:
            raise report.typed_hint(changed) from changed

    def _go(self, flow: Flow[Any, Any], run_id: str, work: _Work) -> None:
        with Interruption() as interruption:
            try:
                run_sync(self._execute(flow, run_id, work, interruption), "run", "run_async")
            except FlowError as error:
                leave_threads_behind(exit_code(error))
                raise
        leave_threads_behind(0)

    async def _execute(self, flow: Flow[Any, Any], run_id: str, work: _Work, interruption: Interruption) -> None:
        chunks = report.ChunkPrinter()
        with self.own_stdout():
            async with flow:
                stopper = _Stopper(flow, run_id)
                interruption.cancels(stopper)
                try:
                    result = await work(chunks)
                except asyncio.CancelledError:
                    if interruption.signal is None:
                        raise
                    typer.echo(f"interrupted by {interruption.signal.name}: run {run_id} did not go on", err=True)
                    raise typer.Exit(interruption.exit_code) from None
                finally:
                    stopper.task = None
        resume = report.resume_command(flow, run_id, self.app)
        if interruption.signal is not None and result.status is RunStatus.INTERRUPTED:
            self._report_interruption(result, interruption, resume)
        self._report(result, chunks.text, resume)

    def _report(self, result: RunResult[Any], streamed: str, resume: str | None) -> None:
        if self.as_json:
            report.print_result(result)
        elif result.success:
            report.print_output(result.output, streamed)
        if result.status is RunStatus.PAUSED:
            report.print_questions(result.pending, resume)
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


_Work = Callable[[Callable[[StreamChunk], None]], Awaitable[RunResult[Any]]]


class _Announcement:
    """Says where a run is stored when that is so, and before its first step: it may be the last word of a program.

    A policy of the flow: those go around a run when it has been stored.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def around_run(self, run: Run) -> AbstractContextManager[Any]:
        """Say it."""
        typer.echo(self._text, err=True)
        return nullcontext()


class _Stopper:
    """Interrupts the run, to be called in its loop; one that is still being opened is not begun."""

    def __init__(self, flow: Flow[Any, Any], run_id: str) -> None:
        self.task = asyncio.current_task()
        self._flow, self._run_id = flow, run_id
        self._stopping: list[asyncio.Task[None]] = []  # the loop itself keeps no task alive

    def __call__(self) -> None:
        self._stopping.append(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> None:
        if self._run_id in self._flow._active:
            await self._flow.interrupt(self._run_id)
        elif self.task is not None:
            self.task.cancel()


async def _streamed(items: AsyncIterator[_Item], show: Callable[[StreamChunk], None]) -> RunResult[Any]:
    async for item in items:
        if isinstance(item, RunResult):
            return item
        show(item)
    raise AssertionError("a stream ends with its result")
