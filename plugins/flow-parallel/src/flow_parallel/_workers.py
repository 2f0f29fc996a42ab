"""Bounded fan-out: a fixed set of workers that pull work, and what follows when some of it fails or pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from flow import ControlSignal, PauseSignal

T = TypeVar("T")


class Stop(Exception):
    """Raised by the work on one item to end the whole fan-out: nothing further starts, the rest is cancelled."""


class _Cancelled(BaseException):
    """Work was cancelled from inside, not by us: asyncio would take the task for one that is simply done."""


async def run_bounded(source: AsyncGenerator[T], work: Callable[[T], Awaitable[None]], limit: int) -> None:
    """Do `work` on what `source` yields, `limit` at a time; returns when all of it has ended, and closes `source`.

    No task is made per item: the workers take the next one when they are free. A pause of one item lets the others
    finish and is raised then, joined with further pauses in the order of the items; any other signal or exception
    cancels the rest at once, waits for their end, and is raised.
    """
    pauses: dict[int, PauseSignal] = {}
    taking = asyncio.Lock()
    taken = 0
    stopped = False

    async def worker() -> None:
        nonlocal taken, stopped
        while True:
            async with taking:
                item = _END if stopped else await anext(source, _END)
                number = taken = taken + 1
            if item is _END:
                return
            try:
                await work(item)
            except PauseSignal as pause:
                pauses[number] = pause
            except BaseException as error:
                stopped = True  # work that never waits would take all items before it could be cancelled
                if isinstance(error, asyncio.CancelledError) and not _is_being_cancelled():
                    raise _Cancelled from error
                raise

    async with aclosing(source):
        await _all_or_none([asyncio.create_task(worker()) for _ in range(limit)])
    if pauses:
        raise PauseSignal.join([pauses[number] for number in sorted(pauses)])


_END: Any = object()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _all_or_none(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all tasks; when one raises, or this task is cancelled, cancel the others and wait for their end."""
    pending: set[asyncio.Task[None]] = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            errors = _errors(done)
            if errors:
                raise _worst(errors)
    except _Cancelled as error:
        raise asyncio.CancelledError from error
    finally:
        await _cancel(pending)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end, whatever happens meanwhile."""
    for task in tasks:
        task.cancel()
    pending, cancelled = tasks, None
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:  # of this task, once more
            cancelled = error
    _errors(tasks)  # looked at, or asyncio complains that nobody did
    if cancelled is not None:
        raise cancelled


def _errors(done: set[asyncio.Task[None]]) -> list[BaseException]:
    return [error for task in done if not task.cancelled() and (error := task.exception()) is not None]


def _worst(errors: list[BaseException]) -> BaseException:
    """Return the exception that says most: a control signal before an error, an error before `Stop`."""
    return min(errors, key=lambda error: (not isinstance(error, ControlSignal), isinstance(error, Stop)))
