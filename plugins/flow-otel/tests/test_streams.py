"""Chunks: one summary on the step that made them, whoever reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flow import Step


async def words(data: Any) -> AsyncIterator[str]:
    for word in ("one ", "two ", "three"):
        yield word


async def octets(data: Any) -> AsyncIterator[bytes]:
    yield b"\x00\x01"
    yield b"\x02"


class Starting:
    """Streams, fails, and streams again."""

    def __init__(self) -> None:
        self.failing = True

    async def __call__(self, data: Any, run: Any) -> Any:
        await run.emit("void" if self.failing else "good")
        if self.failing:
            self.failing = False
            raise ValueError("no")
        return data


@pytest.mark.parametrize("streamed", [False, True])
async def test_chunks_are_summed_up_whoever_reads_them(traced: Any, streamed: bool) -> None:
    tracing = traced()
    flow = tracing.flow(Step("write", words))
    if streamed:
        items = [item async for item in flow.stream_async("data")]
        assert items[:-1] == ["one ", "two ", "three"]
    else:
        await flow.run_async("data")
    ((name, told),) = tracing.events("step write")
    assert (name, told["flow.chunks.count"], told["flow.chunks.characters"]) == ("flow.chunks", 3, 13)
    assert 0 <= told["flow.chunks.first_s"] < 5
    assert "flow.chunks.bytes" not in told
    assert "three" not in tracing.told


async def test_bytes_are_counted_as_bytes(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("write", octets))
    ((_, told),) = tracing.events("step write")
    assert (told["flow.chunks.count"], told["flow.chunks.bytes"]) == (2, 3)
    assert "flow.chunks.characters" not in told


async def test_what_is_streamed_anew_is_counted_anew(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("write", Starting(), retries=1))
    chunks = [told for name, told in tracing.events("step write") if name == "flow.chunks"]
    assert [told["flow.chunks.count"] for told in chunks] == [1]


async def test_steps_are_counted_apart(traced: Any, both: Any) -> None:
    tracing = traced()
    await tracing.run(both(name="fan", branches={"a": Step("a", words), "b": Step("b", octets)}))
    counts = [tracing.events(name)[0][1]["flow.chunks.count"] for name in ("step a", "step b")]
    assert counts == [3, 2]
    assert tracing.events("both fan") == []


async def test_a_reader_that_leaves_early_cancels_the_run(traced: Any) -> None:
    tracing = traced()

    async def endless(data: Any) -> AsyncIterator[str]:
        yield "one"
        await asyncio.Event().wait()

    flow = tracing.flow(Step("write", endless))
    stream = flow.stream_async("data")
    await anext(stream)
    await stream.aclose()
    assert tracing.run_span.attributes["flow.run.status"] == "cancelled"
