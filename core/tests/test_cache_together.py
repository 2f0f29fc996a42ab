"""Equal computations at the same time are made once, and nobody waits for what never comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flow import Cache, Flow, PauseSignal, PipelineContext, Step, StepRun
from flow._builtin.memory_cache import MemoryCache
from flow._single_flight import _flights


class Gate:
    """An agent that waits until it is let through, and then does what it is told."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.open = asyncio.Event()

    async def answer(self, data: str, *, run: StepRun, context: PipelineContext) -> Any:
        self.calls += 1
        run.usage.add(cost_usd=0.5)
        outcome = self.outcomes.pop(0) if self.outcomes else data
        await self.open.wait()
        context.hitl_history.append(data)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def settled() -> None:
    """Let everything go as far as it goes."""
    for _ in range(50):
        await asyncio.sleep(0)


def ask(agent: Any, **options: Any) -> Step[Any, Any]:
    return Step("ask", agent, cache=Cache(**options))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    assert not _flights


async def test_one_of_many_computes_and_pays() -> None:
    gate, store = Gate(), MemoryCache()
    flow = Flow(ask(gate.answer), cache=store)
    other = Flow(ask(gate.answer), cache=store)
    runs = [asyncio.create_task(chosen.run_async("x")) for chosen in (flow, flow, other, other)]
    await settled()
    gate.open.set()
    results = await asyncio.gather(*runs)
    assert gate.calls == 1
    assert [result.output for result in results] == ["x"] * 4
    assert [result.step_history[0].cached for result in results] == [False, True, True, True]
    assert [result.total_cost_usd for result in results] == [0.5, 0, 0, 0]
    assert [result.final_pipeline_context.hitl_history for result in results] == [["x"]] * 4


async def test_different_computations_do_not_wait_for_each_other() -> None:
    gate = Gate()
    flow = Flow(ask(gate.answer))
    runs = [asyncio.create_task(flow.run_async(data)) for data in ("x", "y")]
    await settled()
    assert gate.calls == 2
    gate.open.set()
    await asyncio.gather(*runs)


@pytest.mark.parametrize("outcome", [ValueError("no"), PauseSignal("sure?")], ids=["fails", "pauses"])
async def test_one_of_those_who_wait_tries_when_the_first_gives_nothing(outcome: BaseException) -> None:
    gate = Gate(outcome)
    flow = Flow(ask(gate.answer))
    runs = [asyncio.create_task(flow.run_async("x")) for _ in range(3)]
    await settled()
    gate.open.set()
    results = await asyncio.gather(*runs)
    assert gate.calls == 2
    assert sorted(result.success for result in results) == [False, True, True]


async def test_one_of_those_who_wait_goes_on_when_the_first_is_cancelled() -> None:
    gate = Gate()
    flow = Flow(ask(gate.answer))
    handles = [flow.start("x") for _ in range(3)]
    await settled()
    handles[0].cancel()
    await settled()
    gate.open.set()
    results = [await handle for handle in handles]
    assert [result.status for result in results] == ["cancelled", "completed", "completed"]
    assert gate.calls == 2


async def test_to_cancel_one_who_waits_disturbs_nobody() -> None:
    gate = Gate()
    flow = Flow(ask(gate.answer))
    handles = [flow.start("x") for _ in range(3)]
    await settled()
    handles[1].cancel()
    await settled()
    gate.open.set()
    results = [await handle for handle in handles]
    assert [result.status for result in results] == ["completed", "cancelled", "completed"]
    assert gate.calls == 1


async def test_what_cannot_be_kept_is_computed_by_all_at_once() -> None:
    gate = Gate(object(), object(), object())
    flow = Flow(ask(gate.answer))
    runs = [asyncio.create_task(flow.run_async("x")) for _ in range(3)]
    await settled()
    assert gate.calls == 1
    gate.open.set()
    results = await asyncio.gather(*runs)
    assert gate.calls == 3
    assert len({id(result.output) for result in results}) == 3


async def test_those_who_wait_get_the_result_also_when_the_cache_is_broken() -> None:
    class Broken(MemoryCache):
        async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
            raise ConnectionError("down")

    gate = Gate()
    flow = Flow(ask(gate.answer), cache=Broken())
    runs = [asyncio.create_task(flow.run_async("x")) for _ in range(3)]
    await settled()
    gate.open.set()
    assert [result.output for result in await asyncio.gather(*runs)] == ["x"] * 3
    assert gate.calls == 1


async def test_each_gets_a_value_of_its_own() -> None:
    gate = Gate(["x"])
    flow = Flow(ask(gate.answer))
    runs = [asyncio.create_task(flow.run_async("x")) for _ in range(3)]
    await settled()
    gate.open.set()
    outputs = [result.output for result in await asyncio.gather(*runs)]
    outputs[0].append("mutated")
    assert outputs[1:] == [["x"], ["x"]]


async def test_a_step_that_calls_itself_with_its_own_input_does_not_wait_for_itself() -> None:
    store = MemoryCache()
    depth = 0

    async def again(data: str) -> str:
        nonlocal depth
        depth += 1
        if depth < 3:
            await Flow(ask(again), cache=store).run_async(data)
        return data

    async with asyncio.timeout(10):
        assert (await Flow(ask(again), cache=store).run_async("x")).output == "x"
    assert depth == 3


async def test_two_steps_that_need_each_other_do_not_wait_for_ever() -> None:
    store = MemoryCache()
    both = asyncio.Barrier(2)
    calls: list[str] = []

    async def first(data: str) -> str:
        calls.append("first")
        if calls.count("first") == 1:
            await both.wait()
            await Flow(Step("second", second, cache=Cache()), cache=store).run_async(data)
        return data

    async def second(data: str) -> str:
        calls.append("second")
        if calls.count("second") == 1:
            await both.wait()
            await Flow(Step("first", first, cache=Cache()), cache=store).run_async(data)
        return data

    async with asyncio.timeout(10):
        results = await asyncio.gather(
            Flow(Step("first", first, cache=Cache()), cache=store).run_async("x"),
            Flow(Step("second", second, cache=Cache()), cache=store).run_async("x"),
        )
    assert all(result.success for result in results)


def test_loops_of_their_own_compute_on_their_own() -> None:
    async def fast(data: str) -> str:
        return data

    store = MemoryCache()
    assert [Flow(ask(fast), cache=store).run("x").step_history[0].cached for _ in range(2)] == [False, True]
