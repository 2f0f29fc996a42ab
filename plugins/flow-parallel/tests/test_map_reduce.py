"""Folding outputs as they arrive: in the order of the items, and without piling up behind a slow one."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flow_parallel import map_reduce
from flow_testkit import StubAgent

from flow import Flow, Step, StepFailed

MakeFlow = Callable[..., Flow[Any, Any]]


async def echo(n: Any) -> Any:
    return n


def append(outputs: list[Any], output: Any) -> list[Any]:
    outputs.append(output)  # writes to what it was given, as many do
    return outputs


@pytest.mark.parametrize(
    ("reduce", "initial", "expected"),
    [(operator.add, 0, 10), (max, 0, 4), (lambda a, b: a * 10 + b, 0, 1234), (append, [], [1, 2, 3, 4])],
)
async def test_outputs_are_folded_in_the_order_of_the_items(
    flow: MakeFlow, reduce: Callable[..., Any], initial: Any, expected: Any
) -> None:
    step = map_reduce("fold", Step("echo", echo), reduce=reduce, initial=initial)
    result = await flow(step).run_async([1, 2, 3, 4])
    assert result.output == expected
    assert result.step_history[0].metadata == {"failed_items": []}


async def test_nothing_to_fold_is_the_initial_value(flow: MakeFlow) -> None:
    assert (
        await flow(map_reduce("fold", Step("echo", echo), reduce=operator.add, initial=7)).run_async([])
    ).output == 7


async def test_reducers_may_be_async(flow: MakeFlow) -> None:
    async def add(total: int, output: int) -> int:
        await asyncio.sleep(0)
        return total * 10 + output

    step = map_reduce("fold", Step("echo", echo), reduce=add, initial=0, max_concurrency=3)
    assert (await flow(step).run_async([1, 2, 3, 4, 5])).output == 12345


async def test_every_run_and_every_attempt_begins_with_the_initial_value(flow: MakeFlow) -> None:
    agent = StubAgent([1, ValueError("once"), 2, 3, 4, 5])
    step = map_reduce("fold", Step("it", agent), reduce=append, initial=[], retries=1, max_concurrency=1)
    runner = flow(step)
    assert (await runner.run_async(list("ab"))).output == [2, 3]
    assert (await runner.run_async(list("ab"))).output == [4, 5]
    assert step.initial == []


async def test_the_order_is_that_of_the_items_whatever_finishes_first(flow: MakeFlow) -> None:
    events = [asyncio.Event() for _ in range(6)]
    events[5].set()

    async def backwards(n: int) -> int:
        await events[n].wait()
        if n:
            events[n - 1].set()
        return n

    step = map_reduce("fold", Step("it", backwards), reduce=append, initial=[])
    assert (await flow(step).run_async(range(6))).output == [0, 1, 2, 3, 4, 5]


async def test_outputs_are_folded_as_they_arrive(flow: MakeFlow) -> None:
    folded = asyncio.Event()

    def note(total: list[int], output: int) -> list[int]:
        if output == 1:
            folded.set()
        return [*total, output]

    async def last_waits_for_the_fold(n: int) -> int:
        if n == 2:
            await folded.wait()
        return n

    step = map_reduce("fold", Step("it", last_waits_for_the_fold), reduce=note, initial=[])
    async with asyncio.timeout(10):
        assert (await flow(step).run_async([0, 1, 2])).output == [0, 1, 2]


async def test_a_slow_item_holds_back_those_far_behind_it(flow: MakeFlow) -> None:
    taken: list[int] = []
    full, release = asyncio.Event(), asyncio.Event()

    def source() -> Iterator[int]:
        for n in range(200):
            taken.append(n)
            yield n

    finished: list[int] = []

    async def first_is_slow(n: int) -> int:
        if n == 0:
            await release.wait()
        finished.append(n)
        if len(finished) == 15:  # the window of 4 x 4, but the slow one
            full.set()
        return n

    step = map_reduce("fold", Step("it", first_is_slow), reduce=append, initial=[], max_concurrency=4)
    handle = flow(step).start(source())
    await full.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(finished) == 15
    assert len(taken) <= 16 + 4
    release.set()
    assert (await handle).output == list(range(200))


async def test_a_failing_item_fails_the_fold(flow: MakeFlow) -> None:
    step = map_reduce(
        "fold", Step("it", StubAgent([1, ValueError("two"), 3])), reduce=append, initial=[], max_concurrency=1
    )
    result = await flow(step).run_async(list("abc"))
    assert (result.status, result.failed_path) == ("failed", "0:fold/1/0:it")
    assert result.step_history[0].metadata == {"failed_items": [1]}


async def test_collect_folds_what_succeeded_and_tells_the_rest_by_index(flow: MakeFlow) -> None:
    agent = StubAgent([1, ValueError("two"), 3, ValueError("four")])
    step = map_reduce("fold", Step("it", agent), reduce=append, initial=[], on_failure="collect")
    result = await flow(step).run_async(list("abcd"))
    assert (result.output, result.step_history[0].metadata) == ([1, 3], {"failed_items": [1, 3]})


async def test_collect_fails_when_all_items_failed(flow: MakeFlow) -> None:
    agent = StubAgent([ValueError("no")] * 3)
    step = map_reduce("fold", Step("it", agent), reduce=append, initial=[], on_failure="collect")
    result = await flow(step).run_async(list("abc"))
    assert (result.status, result.step_history[0].metadata) == ("failed", {"failed_items": [0, 1, 2]})


async def test_a_raising_reducer_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def merge_reports(total: Any, output: Any) -> Any:
        raise KeyError("score")

    result = await flow(map_reduce("fold", Step("echo", echo), reduce=merge_reports, initial=0)).run_async([1, 2])
    assert result.step_history[0].feedback == "reduce function 'merge_reports' raised KeyError: 'score'"
    assert isinstance(result.error, StepFailed)


async def test_a_fold_is_resumed_from_the_items_that_are_done(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, ValueError("once"), 3, 4])
    step = map_reduce("fold", Step("it", agent), reduce=append, initial=[], max_concurrency=1)
    runner = flow(step, state="memory://")
    await runner.run_async(["a", "b", "c", "d"], run_id="r")
    result = await runner.resume_async("r")
    assert (result.output, agent.inputs) == ([1, 2, 3, 4], ["a", "b", "c", "c", "d"])
