"""Many runs through a fixed number of workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def each(inputs: Iterable[T] | AsyncIterator[T], run: Callable[[T], Awaitable[R]], concurrency: int) -> list[R]:
    """Return what `run` returns for each input, in the order of the inputs, which are taken when a worker is free."""
    results: dict[int, R] = {}
    source = _numbered(inputs)
    taking = asyncio.Lock()

    async def worker() -> None:
        while True:
            async with taking:
                item = await anext(source, None)
            if item is None:
                return
            results[item[0]] = await run(item[1])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(inputs)) if isinstance(inputs, Sequence) else concurrency):
            group.create_task(worker())
    return [results[index] for index in sorted(results)]


async def _numbered(inputs: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[tuple[int, T]]:
    index = 0
    if isinstance(inputs, AsyncIterator):
        async for item in inputs:
            yield index, item
            index += 1
        return
    for item in inputs:
        yield index, item
        index += 1
