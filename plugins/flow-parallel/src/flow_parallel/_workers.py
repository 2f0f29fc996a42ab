"""Bounded fan-out: a fixed set of workers that pull work, and what follows when some of it fails or pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from flow import ControlSignal, PauseSignal

T = TypeVar("T")


class Stop(Exception):
    """Raised by the work on one item to end the whole fan-out: nothing further starts, the rest is cancelled."""


async def run_bounded(source: AsyncIterator[T], work: Callable[[T], Awaitable[None]], limit: int) -> None:
    """Do `work` on what `source` yields, `limit` at a time; returns when all of it has ended.

    No task is made per item: the workers take the next one when they are free. A pause of one item lets the others
    finish and is raised then, joined with further pauses; any other signal or exception cancels the rest at once, waits
    for their end, and is raised.
    """
    pauses: list[PauseSignal] = []
    taking = asyncio.Lock()

    async def worker() -> None:
        while True:
            async with taking:
                item = await anext(source, _END)
            if item is _END:
                return
            try:
                await work(item)
            except PauseSignal as pause:
                pauses.append(pause)

    await _all_or_none([asyncio.create_task(worker()) for _ in range(limit)])
    if pauses:
        raise PauseSignal.join(pauses)


_END: Any = object()


async def _all_or_none(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all tasks; when one raises, or this task is cancelled, cancel the others and wait for their end."""
    pending: set[asyncio.Task[None]] = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            failed = next((task for task in done if not task.cancelled() and task.exception() is not None), None)
            if failed is not None:
                raise _worst(done)
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


def _worst(done: set[asyncio.Task[None]]) -> BaseException:
    """Return the exception that says most: a control signal before an error, an error before `Stop`."""
    errors = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
    return min(errors, key=lambda error: (not isinstance(error, ControlSignal), isinstance(error, Stop)))
