"""What a streamed chunk costs, and how far a writer may run ahead of a slow reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from flow import Flow, Step, StepRun, StreamChunk
from tests.benchmarks._measure import Figure, Pair, Plan, Scenario, Work, versus_bare

CHUNKS = 1000


async def write(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "token"


async def emit(count: int, *, run: StepRun) -> int:
    for _ in range(count):
        await run.emit("token")
    return count


def reading(agent: Any) -> Work:
    """The work of reading everything that a run of one step streams."""
    flow = Flow(Step("write", agent))

    async def read() -> None:
        async for _ in flow.stream_async(CHUNKS):
            pass

    return read


async def reading_bare() -> None:
    async for _ in write(CHUNKS):
        pass


@versus_bare("streamed chunk of 1,000", per="chunk", units=CHUNKS, at_most=1.5)
def streamed() -> Pair:
    return reading(write), reading_bare


@versus_bare("chunk emitted by run.emit", per="chunk", units=CHUNKS, at_most=1.5)
def emitted() -> Pair:
    return reading(emit), reading_bare


async def most_ahead(count: int) -> int:
    """Return how many chunks a writer that never waits has made, at most, before a slow reader read them."""
    made = read = most = 0

    async def eager(_: int) -> AsyncIterator[str]:
        nonlocal made
        for _ in range(count):
            made += 1
            yield "token"

    async for item in Flow(Step("write", eager)).stream_async(count):
        if isinstance(item, StreamChunk):
            read += 1
            most = max(most, made - read)
            await asyncio.sleep(0)  # gives the writer every opportunity
    return most


async def measure_back_pressure(plan: Plan) -> Sequence[Figure]:
    """Count the chunks that wait for a slow reader; without back-pressure it would be all of them."""
    ahead = await most_ahead(CHUNKS)
    return [Figure(name="chunks a writer runs ahead", per=f"{CHUNKS:,} chunks", cost=ahead, unit="chunks", at_most=128)]


SCENARIOS = [streamed, emitted, Scenario("back-pressure", measure_back_pressure)]
