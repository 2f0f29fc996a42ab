"""``memory://``: what is particular to it. What all stores do is shown by the conformance suite of the test kit."""

from __future__ import annotations

import pytest

from flow import Flow, Kernel, RunRecord, Settings, Step
from flow._builtin.memory_state import MemoryState
from flow.errors import RunNotFound


def broken(data: str) -> str:
    raise ValueError("broken")


def kernel() -> Kernel:
    return Kernel(Settings(), only=())


def test_url_opens_a_store_of_its_own_each_time() -> None:
    shared = kernel()
    first, second = shared.open_state("memory://"), shared.open_state("memory://")
    assert isinstance(first, MemoryState)
    assert first is not second


async def test_flows_do_not_see_the_runs_of_each_other() -> None:
    shared = kernel()
    first, second = (Flow(Step("a", broken), state="memory://", kernel=shared) for _ in range(2))
    failed = await first.run_async("data")
    with pytest.raises(RunNotFound):
        await second.resume_async(failed.run_id)
    assert not (await first.resume_async(failed.run_id)).success


async def test_runs_stay_when_the_store_is_closed() -> None:
    state = MemoryState()
    await state.create_run(RunRecord(run_id="r", pipeline="p", fingerprint="f"))
    await state.aclose()
    assert await state.load_run("r") is not None
    assert [run.run_id for run in await state.list_runs()] == ["r"]


async def test_flow_leaves_a_store_open_that_it_was_given() -> None:
    state = MemoryState()
    async with Flow(Step("a", str.upper), state=state, kernel=kernel()) as flow:
        result = await flow.run_async("data")
    async with Flow(Step("a", str.upper), state=state, kernel=kernel()) as flow:
        assert (await flow.resume_async(result.run_id)).output == "DATA"
