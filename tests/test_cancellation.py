"""Cancellation and deadlines, wherever a run happens to be: it ends at once, leaves nothing behind, disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import tracemalloc
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
    Event,
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
    return bool(output == "through")


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
    assert result.step_history[0].name == "first"
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
        sub: Any = Pipeline([flaky, loop]).as_step("sub")
        pipeline: Pipeline[Any, Any] = self.step("first") >> fan >> items >> sub >> ask >> self.step("last")
        return pipeline


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
        moment = asyncio.get_running_loop().time()
        result = await handle
        assert asyncio.get_running_loop().time() == moment, "nothing is waited for"
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


# -- a paused run, a run that ends just now, an agent that does not want to end


async def test_a_paused_run_is_cancelled_in_the_store_once() -> None:
    flow = make(Step("before", same) >> human_in_the_loop("ask", "go on?", bool), state="memory://")
    paused = await flow.run_async(1)
    assert paused.status is RunStatus.PAUSED
    assert [await flow.cancel(paused.run_id) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("late", ["the store writes how it ended", "a listener is told of its end"])
async def test_a_run_that_is_ending_cannot_be_cancelled_any_more(late: str) -> None:
    ending, go_on = asyncio.Event(), asyncio.Event()
    store = LateStore(KERNEL.open_state("memory://"))

    async def wait() -> None:
        ending.set()
        await go_on.wait()

    async def listen(event: Event) -> None:
        if event.kind is EventKind.RUN_FINISHED:
            await wait()

    if late.startswith("the store"):
        store.before_update = wait
    flow = make(Step("a", same), state=store, hooks=[listen] if late.startswith("a listener") else [])
    handle = flow.start("data")
    await ending.wait()
    assert await flow.cancel(handle.run_id) is False
    go_on.set()
    assert (await handle).output == "data"
    record = await store.load_run(handle.run_id)
    assert (record.status, record.owner) == ("completed", None)


class LateStore:
    """A store whose last write can be held up."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.before_update: Callable[[], Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def update_run(self, *arguments: Any, **changes: Any) -> None:
        if self.before_update is not None:
            await self.before_update()
        await self._store.update_run(*arguments, **changes)


@pytest.mark.parametrize("follows", [False, True], ids=["it is the last", "others follow"])
async def test_an_agent_that_swallows_its_cancellation_ends_no_other_way(follows: bool) -> None:
    reached = asyncio.Event()

    async def stubborn(data: Any) -> Any:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "I go on"

    pipeline: Any = Step("stubborn", stubborn)
    handle = make(pipeline >> Step("after", same) if follows else pipeline).start(1)
    await reached.wait()
    assert handle.cancel() is True
    result = await handle
    assert result.status is RunStatus.CANCELLED
    assert [item.name for item in result.step_history] == ["stubborn"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# -- what a run may wait for


async def test_the_wait_for_a_thread_ends_at_once_and_the_thread_when_it_likes() -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def tool(data: Any, *, run: StepRun) -> Any:
        begun.set()
        assert go_on.wait(30)
        run.usage.add(cost_usd=1.0)  # nobody asks any more; it must not harm
        over.set()
        return data

    before = asyncio.all_tasks()
    handle = make(Step("tool", tool, retries=3) >> Step("never", same)).start(1)
    await asyncio.to_thread(begun.wait, 30)
    assert handle.cancel()
    result = await handle
    assert (result.status, go_on.is_set(), result.total_cost_usd) == (RunStatus.CANCELLED, False, 0)
    go_on.set()
    assert await asyncio.to_thread(over.wait, 30)
    assert await tasks_besides(before) == set()
    assert result.total_cost_usd == 0


async def test_a_writer_whose_reader_has_stopped_reading_is_cancelled() -> None:
    made = 0

    async def write(data: Any) -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield "token"

    before, flow = asyncio.all_tasks(), make(Step("write", write, retries=2))
    stream = flow.stream_async(1, run_id="stuck")
    await anext(stream)
    await turns(20)
    behind = made
    assert behind <= 128
    assert await flow.cancel("stuck") is True
    *_, result = [item async for item in stream]
    assert isinstance(result, RunResult)
    assert (result.status, made) == (RunStatus.CANCELLED, behind)
    assert await tasks_besides(before) == set()


@pytest.mark.parametrize("policy", ["back-off", "rate limit", "retry-after"])
def test_waits_between_calls_are_cancelled(policy: str, fake_clock: FakeClock) -> None:
    class Busy(Exception):
        retry_after = 1000.0

    calls = 0

    async def agent(data: Any) -> Any:
        nonlocal calls
        calls += 1
        raise Busy("later")

    policies: dict[str, Any] = {
        "back-off": RecoveryStrategy(name="slow", retry_delay_seconds=1000, max_delay_seconds=1000, jitter=False),
        "retry-after": RecoveryStrategy(name="told", max_retry_after_seconds=1000),
        "rate limit": RateLimit(1, per=1000),
    }
    step = Step("call", agent, retries=5, policies=[policies[policy]])

    async def program() -> RunResult[Any]:
        handle = make(step).start(1)
        await asyncio.sleep(5)
        assert handle.cancel()
        return await handle

    result = fake_clock.run(program())
    assert (result.status, calls) == (RunStatus.CANCELLED, 1)
    assert fake_clock.elapsed == 5


async def test_items_that_wait_for_their_turn_do_not_begin() -> None:
    station = Station()
    before = asyncio.all_tasks()
    handle = make(map_over("map", Step("item", station), max_concurrency=3)).start(list(range(100)))
    await station.reached.wait()
    await turns()
    assert handle.cancel()
    assert (await handle).status is RunStatus.CANCELLED
    assert (station.calls, station.cancelled) == (3, 3)
    assert await tasks_besides(before) == set()


# -- as asyncio users expect


async def test_a_task_that_awaits_a_run_is_cancelled_with_it() -> None:
    station = Station()
    flow = make(Step("waits", station), state="memory://")
    task = asyncio.create_task(flow.run_async(1, run_id="r"))
    await station.reached.wait()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (task.cancelled(), station.cancelled) == (True, 1)
    store = flow._bind().services.state
    assert store is not None
    record = await store.load_run("r")
    assert (record is not None and record.status) == "cancelled"


@pytest.mark.parametrize("first", ["the run", "the task"])
async def test_both_the_run_and_its_task_may_be_cancelled(first: str) -> None:
    station = Station()
    flow = make(Step("waits", station))
    task = asyncio.create_task(flow.run_async(1, run_id="r"))
    await station.reached.wait()
    if first == "the run":
        assert await flow.cancel("r")
    task.cancel()
    if first == "the task":
        assert await flow.cancel("r")
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_timeout_around_a_run_fires_in_time_and_leaves_the_task_usable(fake_clock: FakeClock) -> None:
    station = Station()

    async def program() -> None:
        flow = make(PLACES["a branch beside another"](Step("waits", station)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await flow.run_async(1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert (await flow.run_async("through")).success
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flow.run_async(1), 5)
        assert await tasks_besides({task}) == set()

    fake_clock.run(program())
    assert fake_clock.elapsed == 10


async def test_a_failing_sibling_in_a_task_group_cancels_the_run() -> None:
    station = Station()

    async def fails() -> None:
        await station.reached.wait()
        raise ValueError("sibling")

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(make(Step("waits", station)).run_async(1)))
            group.create_task(fails())

    tasks: list[asyncio.Task[Any]] = []
    with pytest.raises(ExceptionGroup) as caught:
        await together()
    assert [str(error) for error in caught.value.exceptions] == ["sibling"]
    assert tasks[0].cancelled()


async def test_a_cancelled_run_is_no_cancellation_of_who_awaits_it() -> None:
    station = Station()
    flow = make(Step("waits", station))

    async def caller() -> RunResult[Any]:
        result = await flow.run_async(1, run_id="r")
        await turns()  # would raise if a cancellation were left over
        return result

    task = asyncio.create_task(caller())
    await station.reached.wait()
    assert await flow.cancel("r")
    assert (await task).status is RunStatus.CANCELLED


async def test_leaving_a_run_to_the_background_is_a_matter_of_shield() -> None:
    station = Station()
    flow = make(Step("waits", station))
    handle = flow.start(1)

    async def caller() -> Any:
        return await asyncio.shield(handle._task)

    task = asyncio.create_task(caller())
    await station.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not handle.done()
    assert handle.cancel()
    assert (await handle).status is RunStatus.CANCELLED


# -- deadlines


@pytest.mark.parametrize("place", [name for name in PLACES if name != "a flow as a step"])
def test_a_deadline_ends_what_runs_at_that_time(place: str, fake_clock: FakeClock) -> None:
    station, observer = Station(), RecordingObserver()
    flow = make(PLACES[place](Step("waits", station)) >> Step("never", same), hooks=[observer])

    async def program() -> RunResult[Any]:
        before = asyncio.all_tasks()
        result = await flow.run_async(1, deadline=30)
        assert await tasks_besides(before) == set()
        return result

    result = fake_clock.run(program())
    assert (result.status, type(result.error), fake_clock.elapsed) == ("deadline_exceeded", DeadlineExceeded, 30)
    assert station.cancelled == station.calls
    assert "never" not in {item.name for item in result.walk()}
    kinds = observer.kinds
    assert (kinds.count(EventKind.RUN_DEADLINE), kinds[0], kinds[-1]) == (1, "run.started", "run.finished")


@pytest.mark.parametrize(
    ("timeout", "deadline", "status", "seconds", "calls"),
    [(10, 30, "failed", 20, 2), (10, 15, "deadline_exceeded", 15, 2), (30, 10, "deadline_exceeded", 10, 1)],
)
def test_an_attempt_has_its_timeout_or_what_is_left_of_the_run(
    timeout: float, deadline: float, status: str, seconds: float, calls: int, fake_clock: FakeClock
) -> None:
    station = Station()
    flow = make(Step("waits", station, timeout=timeout, retries=1), deadline=deadline)
    result = fake_clock.run(flow.run_async(1))
    assert (result.status, fake_clock.elapsed, station.calls) == (status, seconds, calls)
    cause = result.step_history[0].error
    assert isinstance(cause, StepTimeout if status == "failed" else (asyncio.CancelledError, DeadlineExceeded))


def test_when_both_come_at_once_the_deadline_is_what_is_told(fake_clock: FakeClock) -> None:
    station = Station()
    step = Step("waits", station, timeout=10, retries=3, fallback=Step("instead", same))
    result = fake_clock.run(make(step, deadline=10).run_async(1))
    assert (result.status, fake_clock.elapsed, station.calls) == ("deadline_exceeded", 10, 1)


def test_steps_see_the_time_that_is_left(fake_clock: FakeClock) -> None:
    seen: list[float | None] = []

    async def looks(data: Any, *, run: StepRun) -> Any:
        seen.append(run.remaining_s)
        await asyncio.sleep(10)
        return data

    look = Step("look", looks)
    pipeline: Any = look >> parallel("fan", {"a": look, "b": look}) >> Pipeline([look]).as_step("sub")
    assert fake_clock.run(make(pipeline, deadline=60).run_async(1)).success
    assert seen == [60, 50, 50, 40]


# -- a reader that is slow (R9)


async def test_a_slow_reader_holds_up_its_own_writer_and_nobody_else() -> None:
    made = 0

    async def write(count: int) -> AsyncIterator[str]:
        nonlocal made
        for number in range(count):
            made += 1
            yield f"chunk {number:060}"

    async def read(count: int) -> RunResult[Any]:
        *_, result = [item async for item in make(Step("write", write)).stream_async(count)]
        assert isinstance(result, RunResult)
        return result

    async def emit(count: int, *, run: StepRun) -> int:
        for number in range(count):
            await run.emit(f"chunk {number:060}")
        return count

    async def read_and_forget(count: int) -> None:
        async for _ in make(Step("emit", emit)).stream_async(count):
            pass

    stuck: Any = make(Step("write", write)).stream_async(CHUNKS, run_id="stuck")
    await anext(stuck)
    tracemalloc.start()
    try:
        await read_and_forget(CHUNKS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20, "chunks that were read are gone"
    results = await asyncio.gather(*(read(200) for _ in range(100)))
    assert all(result.success for result in results)
    await stuck.aclose()
    assert made <= 100 * 200 + 128, "the writer of the stuck reader has waited"
