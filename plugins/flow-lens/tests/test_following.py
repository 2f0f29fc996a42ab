"""A run that goes on is looked at until it ends; each step is told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens import follow
from flow_lens._following import News

from flow import RunNotFound, StateBackend, StepRecord

Make = Callable[..., StepRecord]


async def test_each_step_is_told_once_until_the_run_has_ended(store: StateBackend, fill: Any, make_step: Make) -> None:
    await fill("run-1", make_step("0:a"), status="running", owner="somebody")
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            await store.append_steps("run-1", 1, [make_step("1:b", at=2), make_step("2:c", at=1)])
        if len(waited) == 3:
            await store.update_run("run-1", 1, status="failed", owner=None)

    news = News()
    told = [
        [step.path for step in news.of(trace)] async for trace in follow(store, "run-1", interval_s=0.25, sleep=sleep)
    ]
    assert told == [["0:a"], [], ["2:c", "1:b"], []]  # in the order in which they ended
    assert waited == [0.25] * 3


@pytest.mark.parametrize(
    "ended",
    [{"status": "completed"}, {"status": "paused"}, {"status": "running", "owner": "gone"}],
)
async def test_a_run_that_nobody_executes_is_looked_at_once(
    ended: dict[str, Any], store: StateBackend, fill: Any, make_step: Make
) -> None:
    await fill("run-1", make_step("0:a"), **ended)
    if ended["status"] == "running":
        await store.update_run("run-1", 1, owner=None)

    async def never(seconds: float) -> None:
        raise AssertionError("it has ended")

    assert len([trace async for trace in follow(store, "run-1", sleep=never)]) == 1


async def test_a_run_that_is_deleted_meanwhile_is_an_error(store: StateBackend, fill: Any) -> None:
    await fill("run-1", status="running", owner="somebody")

    async def sleep(seconds: float) -> None:
        await store.delete_run("run-1")

    with pytest.raises(RunNotFound):
        _ = [trace async for trace in follow(store, "run-1", sleep=sleep)]


async def test_a_step_that_is_executed_again_is_told_again(
    store: StateBackend, fill: Any, make_step: Make, trace_of: Any
) -> None:
    news = News()
    assert [step.path for step in news.of(trace_of(make_step("0:a", status="failed")))] == ["0:a"]
    assert [step.path for step in news.of(trace_of(make_step("0:a", at=9)))] == ["0:a"]
    assert list(news.of(trace_of(make_step("0:a", at=9)))) == []
