"""The wall clock is set while runs are stored: leases do not notice, deadlines are moments and stay where they are."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flow_hitl import human_in_the_loop

from flow import Flow, RunOwned, RunRecord, RunStatus, Step, lease_clock
from tests.reliability.stores import KINDS, kernel, opened, url_of

DAY, HOUR = 86_400.0, 3600.0
JUMPS = [DAY, -DAY, HOUR, -HOUR]


class Clock:
    """The wall clock, which somebody may set; the clocks that nobody can set go on as they do."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def living_owner() -> str:
    """The owner text of a process of this machine that is alive: our parent."""
    from flow import _lease

    return f"{_lease._place()} {_lease._identity(os.getppid())}/1"


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_lease_neither_ends_early_nor_lasts_for_ever(
    kind: str, jump: float, tmp_path: Path, clock: Clock
) -> None:
    async with opened(url_of(kind, tmp_path)) as store:
        for run_id, lease in (("held", 60.0), ("over", 0.0)):
            await store.create_run(
                RunRecord(run_id=run_id, pipeline="p", fingerprint="f", owner=living_owner(), epoch=1), lease
            )
        clock.offset = jump
        with pytest.raises(RunOwned):
            await store.claim_run("held", "somebody else", 60.0)
        assert await store.claim_run("over", "somebody else", 60.0) == 2
        await store.renew_run("held", 1, 0.0)
        assert await store.claim_run("held", "somebody else", 60.0) == 2


def waiting() -> Any:
    return Step("before", int) >> human_in_the_loop("ask", "?", int) >> Step("after", int)


@pytest.mark.parametrize(
    ("jump", "status"),
    [(HOUR, RunStatus.DEADLINE_EXCEEDED), (DAY, RunStatus.DEADLINE_EXCEEDED), (-HOUR, "completed"), (0.0, "completed")],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_of_a_stored_run_is_a_moment(
    kind: str, jump: float, status: str, tmp_path: Path, clock: Clock
) -> None:
    async with Flow(waiting(), state=url_of(kind, tmp_path), kernel=kernel()) as flow:
        paused = await flow.run_async(1, deadline=60)
        clock.offset = jump
        resumed = await flow.resume_async(paused.run_id, 2)
    assert resumed.status == status


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_running_run_does_not_notice_a_jump(jump: float, clock: Clock) -> None:
    def jumps(value: int) -> int:
        clock.offset = jump
        return value

    async def waits(value: int) -> int:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.02)
        return value

    async with Flow(Step("jump", jumps) >> Step("wait", waits, timeout=30), state="memory://", kernel=kernel()) as flow:
        result = await flow.run_async(3, deadline=60)
    assert result.status == "completed"
    assert result.latency_s < 30
    assert all(0 <= step.latency_s < 30 for step in result.step_history if step.name == "wait")


@pytest.mark.parametrize(("jump", "answered"), [(HOUR, True), (-HOUR, False), (0.0, False)])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_time_to_answer_ends_at_a_moment(
    kind: str, jump: float, answered: bool, tmp_path: Path, clock: Clock
) -> None:
    pipeline = human_in_the_loop("ask", "?", int, timeout=600, default=5)
    async with Flow(pipeline, state=url_of(kind, tmp_path), kernel=kernel()) as flow:
        await flow.run_async(1, run_id="r")
        clock.offset = jump
        recovered = await flow.recover_async()
    assert [result.output for result in recovered] == ([5] if answered else [])


@pytest.mark.parametrize("jump", [DAY, HOUR])
@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_a_cached_value_has_its_time(kind: str, jump: float, tmp_path: Path, clock: Clock) -> None:
    url = url_of(kind, tmp_path)
    cache = kernel().open_cache(url)
    await cache.set(b"key", b"value", ttl=60.0)
    assert await cache.get(b"key") == b"value"
    clock.offset = -jump
    await cache.set(b"later", b"value", ttl=60.0)
    assert await cache.get(b"later") == b"value"
    await cache.aclose()


def test_the_clock_of_leases_cannot_be_set(clock: Clock) -> None:
    before = lease_clock()
    clock.offset = DAY
    assert lease_clock() - before < 30
