"""Streaming: chunks as they come, in order, with back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flow import Flow, RunResult, Step, StepRun, StreamChunk


async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def gather(flow: Flow[Any, Any], data: Any) -> tuple[list[StreamChunk], RunResult[Any]]:
    items = [item async for item in flow.stream_async(data)]
    return items[:-1], items[-1]  # type: ignore[return-value]


async def test_chunks_come_in_order_and_unchanged_then_the_result() -> None:
    chunks, result = await gather(Flow(Step("say", letters) >> Step("upper", str.upper)), "abaac")
    assert [str(chunk) for chunk in chunks] == list("abaac")
    assert [chunk.seq for chunk in chunks] == [0, 1, 2, 3, 4]
    assert {chunk.stream_id for chunk in chunks} == {"0:say"}
    assert result.output == "ABAAC"


async def test_a_chunk_arrives_before_the_next_is_made() -> None:
    go = asyncio.Event()

    async def slow(_: Any) -> AsyncIterator[str]:
        yield "first"
        await go.wait()
        yield "second"

    seen = []
    async for item in Flow(Step("slow", slow)).stream_async(1):
        seen.append(item)
        go.set()
    assert seen[:2] == ["first", "second"]


async def test_the_writer_waits_while_the_reader_is_behind() -> None:
    made = 0

    async def many(_: Any) -> AsyncIterator[int]:
        nonlocal made
        for made in range(1000):
            yield made

    async for item in Flow(Step("many", many)).stream_async(1):
        if isinstance(item, StreamChunk):
            assert made - item.seq <= 66
            await asyncio.sleep(0)


async def test_what_came_before_a_failure_is_delivered() -> None:
    async def broken(_: Any) -> AsyncIterator[str]:
        for letter in "Hel":
            yield letter
        raise ConnectionError("gone")

    chunks, result = await gather(Flow(Step("broken", broken)), 1)
    assert "".join(chunks) == "Hel"
    assert result.step_history[0].feedback == "Agent failed with ConnectionError: gone"


async def test_a_retry_says_that_the_stream_begins_again() -> None:
    calls = 0

    async def flaky(_: Any) -> AsyncIterator[str]:
        nonlocal calls
        calls += 1
        yield "a"
        if calls == 1:
            raise ValueError("once")
        yield "b"

    chunks, result = await gather(Flow(Step("flaky", flaky, retries=1)), 1)
    assert [(str(chunk), chunk.seq, chunk.meta) for chunk in chunks] == [
        ("a", 0, None),
        ("", 0, {"restart": True}),
        ("a", 1, None),
        ("b", 2, None),
    ]
    assert result.output == "ab"


async def test_an_agent_may_emit_beside_its_output() -> None:
    async def work(data: str, *, run: StepRun) -> int:
        await run.emit("half", meta={"percent": 50})
        await run.emit("all", done=True)
        return 42

    chunks, result = await gather(Flow(Step("work", work)), "x")
    assert [(str(chunk), chunk.done, chunk.meta) for chunk in chunks] == [
        ("half", False, {"percent": 50}),
        ("all", True, None),
    ]
    assert result.output == 42


async def test_leaving_the_loop_early_cancels_the_run() -> None:
    closed = False

    async def endless(_: Any) -> AsyncIterator[str]:
        nonlocal closed
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            closed = True

    stream = Flow(Step("endless", endless)).stream_async(1)
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_run_that_does_not_stream_yields_its_result_alone() -> None:
    chunks, result = await gather(Flow(Step("upper", str.upper)), "a")
    assert (chunks, result.output) == ([], "A")


@pytest.mark.parametrize(("data", "text"), [("a", "a"), (b"\xc3\xa9", "é"), (5, "5"), ({"k": 1}, "{'k': 1}")])
def test_a_chunk_is_its_text_and_keeps_the_raw_data(data: Any, text: str) -> None:
    chunk = StreamChunk(data, "0:s", 3)
    assert (str(chunk), chunk.text, chunk.data) == (text, text, data)
    assert isinstance(chunk, str)
    assert repr(chunk) == f"StreamChunk({text!r}, stream_id='0:s', seq=3, done=False)"
