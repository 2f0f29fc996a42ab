"""A run in the background, and a run as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, Generic, TypeVar

from ._results import RunResult
from ._run import Run
from ._stream import Channel, StreamChunk

T = TypeVar("T")
OutT = TypeVar("OutT", covariant=True)


class RunHandle(Generic[OutT]):
    """A run in the background: ``await handle`` for its result.

    :ivar run_id: the run's id.
    """

    def __init__(self, run: Run, task: asyncio.Task[RunResult[OutT]]) -> None:
        self.run_id = run.run_id
        self._run = run
        self._task = task

    def __await__(self) -> Generator[Any, None, RunResult[OutT]]:
        return self._task.__await__()

    def cancel(self) -> bool:
        """Cancel the run; False when it has ended or is being cancelled already."""
        return False if self._task.done() else self._run.cancel()

    def done(self) -> bool:
        """True when the run has ended."""
        return self._task.done()


async def streamed(
    channel: Channel, task: asyncio.Task[RunResult[T]]
) -> AsyncGenerator[StreamChunk | RunResult[T], None]:
    """Yield the chunks of a run as they come, then its result; who stops listening cancels the run."""
    task.add_done_callback(lambda _: channel.close())
    try:
        async for chunk in channel.drain():
            yield chunk
        yield await task
    finally:
        channel.close()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
