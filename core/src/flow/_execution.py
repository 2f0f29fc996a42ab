"""Executing one run: from its first step to its result, whatever ends it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import attrs

from ._events import EventKind
from ._protocols import Execute
from ._results import Pending, RunResult, RunStatus, StepResult, describe_error
from ._run import Run
from ._structure import fingerprint
from .errors import (
    CancelSignal,
    ControlSignal,
    DeadlineExceeded,
    FlowError,
    InterruptSignal,
    PauseSignal,
    StateError,
    StepFailed,
    UsageLimitExceeded,
)


@attrs.frozen
class Ending:
    """How a run ended."""

    status: RunStatus
    output: Any = None
    error: BaseException | None = None
    failed: StepResult | None = None
    pending: tuple[Pending, ...] = ()


async def execute_run(execute: Execute, data: Any, run: Run) -> RunResult[Any]:
    """Run the bound pipeline in the current task and return the result.

    Failures, pauses, `Run.interrupt` and the deadline become results; cancellation of the task from outside is
    recorded and raised, as asyncio users expect.
    """
    started_at, started = time.time(), time.perf_counter()
    if run.observers is not None:
        await run.publish(EventKind.RUN_STARTED, data=data)
        if run.resumed:
            await run.publish(EventKind.RUN_RESUMED)
    try:
        ending = await _run_to_end(execute, data, run)
    except asyncio.CancelledError:
        await _finish(
            run, Ending(RunStatus.CANCELLED, error=CancelSignal("the awaiting task was cancelled")), started_at, started
        )
        raise
    return await _finish(run, ending, started_at, started)


async def _run_to_end(execute: Execute, data: Any, run: Run) -> Ending:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    if run.interruption is not None:  # cancelled before it began
        run.end()
        return _interrupted(run.interruption, run)
    run.attach(task)
    timer = None
    if run.deadline is not None:
        loop = asyncio.get_running_loop()
        reason = DeadlineExceeded(f"run {run.run_id} has passed its deadline")
        if run.deadline <= loop.time():
            run.end()
            return Ending(RunStatus.DEADLINE_EXCEEDED, error=reason)
        timer = loop.call_at(run.deadline, run.interrupt, reason)
    try:
        result = await execute(data, run.root)
        ending = _ending_of(result, run)
    except asyncio.CancelledError:
        if run.interruption is None:
            raise
        ending = _interrupted(run.interruption, run)
    except (PauseSignal, CancelSignal) as signal:
        ending = _interrupted(signal, run)
    finally:
        run.end()
        if timer is not None:
            timer.cancel()
        if run.interruption is not None:
            await _absorb_cancellation(run, task)
    return ending


async def _absorb_cancellation(run: Run, task: asyncio.Task[Any]) -> None:
    """Take back our own cancellation of the task; one from outside stays."""
    before = task.cancelling()
    try:
        await asyncio.sleep(0)  # a cancellation that was sent but not delivered arrives here, not in the caller
    except asyncio.CancelledError:
        if task.cancelling() > before:
            raise
    run.detach()


def _ending_of(result: StepResult, run: Run) -> Ending:
    if run.interruption is not None:  # an agent may swallow a cancellation, but that the run is cancelled was said
        return _interrupted(run.interruption, run)
    if result.success:
        return Ending(RunStatus.COMPLETED, result.output)
    status = RunStatus.FAILED
    if isinstance(result.error, UsageLimitExceeded):
        status = RunStatus.LIMIT_EXCEEDED
    elif isinstance(result.error, DeadlineExceeded):
        status = RunStatus.DEADLINE_EXCEEDED
    return Ending(status, error=result.error, failed=result)


def _interrupted(signal: BaseException, run: Run) -> Ending:
    if isinstance(signal, DeadlineExceeded):
        return Ending(RunStatus.DEADLINE_EXCEEDED, error=signal)
    if isinstance(signal, PauseSignal):
        return Ending(RunStatus.PAUSED, pending=tuple(_pending(asked, run) for asked in signal.questions()))
    if isinstance(signal, InterruptSignal):
        return Ending(RunStatus.INTERRUPTED, error=signal)
    if isinstance(signal, CancelSignal):
        return Ending(RunStatus.CANCELLED, error=signal)
    if isinstance(signal, (ControlSignal, StateError)):
        raise signal
    raise TypeError(f"a run cannot be interrupted by {signal!r}")


def _pending(asked: PauseSignal, run: Run) -> Pending:
    before = run.questions.get(asked.path)
    return Pending(
        path=asked.path,
        message=asked.message,
        schema=asked.schema,
        since=time.time() if before is None else before.since,
        deadline=asked.deadline if before is None else before.deadline,
        step=fingerprint(asked.step) if asked.step is not None else "",
    )


async def _finish(run: Run, ending: Ending, started_at: float, started: float) -> RunResult[Any]:
    history = list(run.root.history)
    failed = _deepest_failure(history, ending)
    result: RunResult[Any] = RunResult(
        run_id=run.run_id,
        trace_id=run.trace_id,
        pipeline=run.pipeline,
        status=ending.status,
        step_history=history,
        usage=run.usage,
        final_pipeline_context=run.context,
        output=ending.output,
        error=_run_error(ending, failed),
        failed_path=failed.path if failed else None,
        pending=list(ending.pending),
        started_at=started_at,
        latency_s=time.perf_counter() - started,
    )
    run.result = result
    if run.journal is not None:
        await run.journal.finish(result, run.metadata if run.metadata != run.kept_metadata else None)
    if run.observers is not None:
        if ending.status in (RunStatus.CANCELLED, RunStatus.INTERRUPTED):
            took_s = time.time() - (run.interrupted_at or time.time())
            detail = {"status": ending.status.value, "took_s": max(0.0, took_s)}
            await run.publish(EventKind.RUN_CANCELLED, error=ending.error, detail=detail)
        await run.publish(EventKind.RUN_FINISHED, result=result)
    return result


def _deepest_failure(history: list[StepResult], ending: Ending) -> StepResult | None:
    if ending.failed is None:
        return None
    results, found = history, None
    while True:
        failing = [result for result in results if not result.success and result.error is ending.error]
        if not failing:
            return found
        found = failing[-1]
        results = list(found.children)


def _run_error(ending: Ending, failed: StepResult | None) -> BaseException | None:
    """Return a `FlowError` that names the step, with the agent's exception as its cause."""
    error = ending.error
    if error is None or isinstance(error, (FlowError, ControlSignal)):
        if isinstance(error, FlowError) and error.path is None and failed is not None:
            error.path = failed.path
        return error
    path = failed.path if failed else None
    feedback = (failed.feedback if failed else None) or describe_error(error)
    return StepFailed(f"step {path!r} failed: {feedback}", path=path, cause=error)
