"""Cancellation and deadlines, wherever a run happens to be: it ends at once, leaves nothing behind, disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
from flow_hitl import human_in_the_loop
from flow_loop import Refinement, loop_until, refine_until
from flow_parallel import map_over, parallel
from flow_resilience import Bulkhead, RateLimit
from flow_testkit import FakeClock, RecordingObserver

from flow import (
    DeadlineExceeded,
    EventKind,
    Flow,
    Kernel,
    Pipeline,
    RecoveryStrategy,
    RunResult,
    RunStatus,
    Settings,
    Step,
    StepRun,
    StepTimeout,
    StreamChunk,
)

SOAK = os.environ.get("FLOW_TEST_SOAK", "") not in ("", "0")
MOMENTS = 500 if SOAK else 100
CHUNKS = 1_000_000 if SOAK else 20_000
KERNEL = Kernel(Settings())


def make(pipeline: Any, **options: Any) -> Flow[Any, Any]:
    return Flow(pipeline, **{"kernel": KERNEL, **options})


async def turns(count: int = 5) -> None:
    """Let others run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def tasks_besides(known: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    await turns()  # a task that is done leaves the set in a later turn
    return {task for task in asyncio.all_tasks() - known if not task.done()}


# -- where a run may be waiting


@attrs.define(eq=False)
class Station:
    """An agent that waits for ever, and notices what becomes of its calls."""

    reached: asyncio.Event = attrs.field(factory=asyncio.Event)
    calls: int = 0
    cancelled: int = 0

    async def run(self, data: Any) -> Any:
        self.calls += 1
        if "through" in str(data):
            return "through"
        self.reached.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def same(data: Any) -> Any:
    return data


async def again(output: Any, context: Any) -> bool:
    return output == "through"


async def content(draft: Any) -> Refinement:
    return Refinement(is_complete=True)


PLACES: dict[str, Callable[[Any], Any]] = {
    "a step": lambda waits: waits,
    "a step with all its layers": lambda waits: waits.evolve(retries=3, timeout=3600, fallback=Step("instead", same)),
    "a fallback": lambda waits: Step("broken", lambda _: 1 / 0, fallback=waits),
    "a sub-workflow of a sub-workflow": lambda waits: Pipeline([Pipeline([waits]).as_step("inner")]).as_step("outer"),
    "a flow as a step": lambda waits: make(Pipeline([waits]), deadline=60).as_step("sub", inherit_context=False),
    "a branch beside another": lambda waits: parallel("fan", {"a": waits, "b": waits.evolve(name="other")}),
    "an iteration": lambda waits: loop_until("loop", waits, again, max_loops=3),
    "a refinement": lambda waits: refine_until("refine", waits, Step("judge", content)),
    "items of a map": lambda waits: map_over("map", waits, items=lambda data, context: [data] * 50, max_concurrency=4),
    "a bulkhead": lambda waits: waits.evolve(policies=(Bulkhead(1),)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("state", [None, "memory://"], ids=["unstored", "stored"])
async def test_a_run_that_waits_anywhere_is_cancelled_alone(place: str, state: str | None) -> None:
    before = asyncio.all_tasks()
    station, observer = Station(), RecordingObserver()
    pipeline = Step("first", same) >> PLACES[place](Step("waits", station)) >> Step("never", same)
    flow = make(pipeline, state=state, hooks=[observer])
    handle, other = flow.start("stay"), flow.start("through")
    await station.reached.wait()
    assert await flow.cancel(handle.run_id) is True
    assert await flow.cancel(handle.run_id) is False
    result = await handle
    assert result.status is RunStatus.CANCELLED
    assert await flow.cancel(handle.run_id) is False
    assert [item.name for item in result.step_history][0] == "first"
    assert "never" not in {item.name for item in result.walk()}
    assert "through" in str((await other).output)
    assert station.cancelled >= 1
    own = [event for event in observer.events if event.run_id == handle.run_id]
    assert own[-1].kind is EventKind.RUN_FINISHED
    assert [event.kind for event in own].count(EventKind.RUN_CANCELLING) == 1
    assert await tasks_besides(before) == set()
    if state is not None:
        store = flow._bind().services.state
        assert store is not None
        record = await store.load_run(handle.run_id)
        assert (record is not None and record.status) == "cancelled"
        assert record is not None
        assert record.owner is None


# -- random moments


class Disturbed:
    """A pipeline with everything in it whose steps take random times, none of them real."""

    def __init__(self, numbers: random.Random) -> None:
        self.numbers = numbers
        self.running = 0

    def step(self, name: str, fails: float = 0.0, **settings: Any) -> Step[Any, Any]:
        async def agent(data: Any, *, run: StepRun) -> Any:
            self.running += 1
            try:
                for _ in range(self.numbers.randrange(4)):
                    await asyncio.sleep(self.numbers.choice([0, 0, 0.01, 0.05]))
                await run.emit(name)
                if self.numbers.random() < fails:
                    raise ConnectionError("try again")
                return data
            finally:
                self.running -= 1

        return Step(name, agent, **settings)

    def pipeline(self) -> Pipeline[Any, Any]:
        back_off = RecoveryStrategy(name="again", max_retries=4, retry_delay_seconds=0.02, jitter=False)
        fan = parallel("fan", {label: self.step(f"in {label}") >> self.step(f"out {label}") for label in "abc"})
        items = map_over("map", self.step("item"), items=lambda data, context: range(6), max_concurrency=3)
        body = self.step("body") >> fan.evolve(name="inner fan")
        loop = loop_until("loop", body, lambda output, context: False, max_loops=3, on_exhausted="return")
        flaky = self.step("flaky", 0.5, policies=[back_off], fallback=self.step("instead"), timeout=5.0)
        ask = human_in_the_loop("ask", "go on?", bool) if self.numbers.random() < 0.3 else self.step("no question")
        sub = Pipeline([flaky, loop]).as_step("sub")
        return self.step("first") >> fan >> items >> sub >> ask >> self.step("last")


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_a_cancel_at_a_random_moment_leaves_nothing_behind(seed: int) -> None:
    numbers = random.Random(seed)

    async def program() -> None:
        before, observer = asyncio.all_tasks(), RecordingObserver()
        work, undisturbed = Disturbed(numbers), Disturbed(random.Random(seed))
        flow = make(work.pipeline(), state="memory://", hooks=[observer])
        other = make(Step("before", same) >> undisturbed.step("work") >> Step("after", same)).start("untouched")
        handle = flow.start("data")
        if numbers.random() < 0.5:
            await turns(numbers.randrange(200))
        else:
            await asyncio.sleep(numbers.random() * 1.2)
        ended = handle.done()
        cancelled = await flow.cancel(handle.run_id)
        assert await flow.cancel(handle.run_id) is False, "cancelling twice is cancelling once"
        result = await handle
        store = flow._bind().services.state
        assert store is not None
        record = await store.load_run(handle.run_id)
        assert record is not None
        if not ended:
            assert cancelled
            assert result.status is RunStatus.CANCELLED
            assert record.status == "cancelled"
        elif result.status is RunStatus.PAUSED:
            assert (cancelled, record.status) == (True, "cancelled"), "nobody waits for an answer any more"
        else:
            assert (cancelled, record.status) == (False, "completed")
        assert work.running == 0
        assert (await other).output == "untouched"
        assert observer.events[-1].kind is EventKind.RUN_FINISHED
        count = len(observer.events)
        assert await tasks_besides(before) == set()
        await asyncio.sleep(10)
        assert len(observer.events) == count, "nothing is told after the end"

    FakeClock().run(program())
