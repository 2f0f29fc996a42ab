"""Rate limits and bulkheads: bounds, order, cancellation, deadlines, loops. The clock is simulated."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from flow_resilience import Bulkhead, BulkheadFull, RateLimit, RateLimited
from flow_resilience._limits import Bucket, Slots, buckets, bulkheads, waiting_calls
from flow_testkit import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import ConfigurationError, Event, EventKind, Flow, RunResult, RunStatus, Step

Run = Callable[..., RunResult[Any]]
MakeFlow = Callable[..., Flow[Any, Any]]


class Meter:
    """An agent that notes when it was called and how many of its calls ran at once."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.at: list[float] = []
        self.order: list[Any] = []
        self.inside = self.most = 0

    async def run(self, data: Any) -> Any:
        self.at.append(round(asyncio.get_running_loop().time() - 1000.0, 6))
        self.order.append(data)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.inside -= 1
        return data


# -- rate limits


def test_calls_beyond_the_rate_wait_for_their_turn_in_their_order(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter()
    runner = flow(Step("call", meter, policies=[RateLimit(2, per=1.0)]))
    clock.run(runner.run_many(range(7)))
    assert meter.at == [0, 0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert meter.order == list(range(7))


def test_less_than_one_call_per_period_is_a_rate_too(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter()
    clock.run(flow(Step("call", meter, policies=[RateLimit(0.5, per=1.0)])).run_many(range(3)))
    assert meter.at == [0, 2, 4]


def test_each_attempt_counts(run: Run) -> None:
    calls: list[float] = []

    async def fail(data: Any) -> None:
        calls.append(asyncio.get_running_loop().time() - 1000.0)
        raise ConnectionError

    run(Step("call", fail, retries=2, policies=[RateLimit(1, per=10)]))
    assert calls == [0, 10, 20]


def test_several_limits_hold_together(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter()
    step = Step("call", meter, policies=[RateLimit(2, per=1), RateLimit(3, per=100)])
    clock.run(flow(step).run_many(range(4)))
    assert meter.at[:3] == [0, 0, 0.5]
    assert meter.at[3] == pytest.approx(100 / 3)


def test_waiting_takes_nothing_from_the_time_of_an_attempt(run: Run, clock: FakeClock) -> None:
    step = Step("a", Meter(), timeout=1.0, policies=[limit := RateLimit(1, per=50)]) >> Step(
        "b", Meter(), timeout=1.0, policies=[limit]
    )
    assert run(step).success
    assert clock.elapsed == 50


def test_a_wait_that_outlasts_the_deadline_is_not_begun(run: Run, clock: FakeClock) -> None:
    limit = RateLimit(1, per=50, name="slow")
    cheap = Step("cheap", Meter())
    assert run(Step("a", Meter(), policies=[limit])).success
    result = run(Step("a", Meter(), policies=[limit]), deadline=10)
    assert result.status is RunStatus.FAILED
    assert isinstance(result.error, RateLimited)
    assert (round(result.error.retry_after, 3), result.error.path) == (50.0, "0:a")
    assert "rate limit 'slow' lets the call through in 50 s" in str(result.error)
    assert run(Step("a", Meter(), policies=[limit], fallback=cheap), deadline=10).output == "in"
    assert clock.elapsed == 0


def test_a_cancelled_wait_gives_its_turn_to_the_next(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter()
    runner = flow(Step("call", meter, policies=[RateLimit(1, per=10.0)]))

    async def program() -> None:
        handles = [runner.start(index) for index in range(5)]
        await asyncio.sleep(1)
        handles[1].cancel()
        handles[3].cancel()
        for handle in handles:
            await handle

    clock.run(program())
    assert (meter.order, meter.at) == ([0, 2, 4], [0, 10, 20])
    assert waiting_calls() == 0


def test_nobody_goes_through_ahead_of_those_who_wait(clock: FakeClock) -> None:
    bucket = Bucket(RateLimit(1, per=10.0))

    async def program() -> None:
        now = asyncio.get_running_loop().time
        assert bucket.try_take(now())
        waiting = asyncio.create_task(bucket.take())
        await asyncio.sleep(1)
        clock.advance(20)  # there is room, but the one who waits has not had its turn of the loop yet
        assert not bucket.try_take(now())
        await waiting
        assert not bucket.try_take(now())

    clock.run(program())


def test_waits_are_told(run: Run) -> None:
    events: list[Event] = []
    limit = RateLimit(1, per=4)
    run(Step("a", str, policies=[limit]) >> Step("b", str, policies=[limit]), hooks=[events.append])
    (event,) = [event for event in events if event.kind is EventKind.THROTTLED]
    assert (event.path, event.detail) == (
        "1:b",
        {"policy": "rate_limit", "limit": "the rate limit of 1 per 4 s"},
    )
    assert event.delay_s == pytest.approx(4, abs=0.1)


@given(
    arrivals=st.lists(st.tuples(st.floats(0, 20), st.one_of(st.none(), st.floats(0, 10))), min_size=1, max_size=25),
    calls=st.sampled_from([0.5, 1.0, 3.0, 4.0]),
    per=st.sampled_from([0.5, 1.0, 7.0]),
)
@settings(max_examples=100, deadline=None)
def test_no_window_holds_more_calls_than_the_rate_allows(
    arrivals: list[tuple[float, float | None]], calls: float, per: float
) -> None:
    bucket, through, gave_up = Bucket(RateLimit(calls, per=per)), [], []

    async def caller(arrives: float, patience: float | None) -> None:
        await asyncio.sleep(arrives)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                if not bucket.try_take(loop.time()):
                    await bucket.take()
        except TimeoutError:
            gave_up.append(arrives)
            return
        through.append(loop.time())

    async def program() -> None:
        await asyncio.gather(*(caller(*arrival) for arrival in arrivals))

    FakeClock().run(program())
    assert len(through) + len(gave_up) == len(arrivals)
    assert bucket.waiting == 0
    through.sort()
    for first in range(len(through)):
        for last in range(first, len(through)):
            allowed = max(1.0, calls) + (through[last] - through[first]) * calls / per
            assert last - first + 1 <= allowed + 1e-6
    if not gave_up:  # nobody waits longer than it takes to serve those before
        last_arrival = 1000.0 + max(arrives for arrives, _ in arrivals)
        assert through[-1] <= last_arrival + len(arrivals) * per / calls + 1e-6


# -- bulkheads


def test_no_more_calls_than_the_limit_run_at_once(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter(takes=1.0)
    runner = flow(Step("call", meter, policies=[Bulkhead(3)]))
    clock.run(runner.run_many(range(10)))
    assert (meter.most, meter.order) == (3, list(range(10)))
    assert clock.elapsed == 4


def test_calls_beyond_the_waiting_ones_fail_at_once(flow: MakeFlow, clock: FakeClock) -> None:
    meter = Meter(takes=1.0)
    runner = flow(Step("call", meter, policies=[Bulkhead(2, max_waiting=3)]))
    results = clock.run(runner.run_many(range(10)))
    refused = [result for result in results if not result.success]
    assert (len(refused), clock.elapsed) == (5, 3)
    assert isinstance(refused[0].error, BulkheadFull)
    assert str(refused[0].error) == "the bulkhead is full: 2 calls run and 3 wait"
    assert refused[0].error.path == "0:call"


def test_a_bulkhead_without_a_queue(flow: MakeFlow, clock: FakeClock) -> None:
    runner = flow(Step("call", Meter(takes=1.0), policies=[Bulkhead(1, max_waiting=0)]))
    assert sum(result.success for result in clock.run(runner.run_many(range(3)))) == 1


@pytest.mark.parametrize("settings", [{"retries": 1}, {"timeout": 5.0}, {"retries": 1, "timeout": 5.0}])
def test_a_slot_is_free_again_however_the_call_ends(settings: dict[str, Any], run: Run) -> None:
    limit = Bulkhead(1)

    async def fail(data: Any) -> None:
        await asyncio.sleep(10 if "timeout" in settings else 0)
        raise ConnectionError

    for _ in range(3):
        run(Step("call", fail, policies=[limit], **settings))
    assert bulkheads.of(limit).inside == 0


def test_backing_off_holds_no_slot(flow: MakeFlow, clock: FakeClock) -> None:
    from flow import RecoveryStrategy

    limit = Bulkhead(1)
    waits = RecoveryStrategy(name="s", retry_delay_seconds=100, max_delay_seconds=100, jitter=False, max_retries=1)

    async def fail(data: Any) -> None:
        raise ConnectionError

    meter = Meter()

    async def program() -> None:
        slow = flow(Step("slow", fail, policies=[limit, waits])).start(1)
        await asyncio.sleep(1)
        assert (await flow(Step("quick", meter, policies=[limit])).run_async(2)).success
        await slow

    clock.run(program())
    assert meter.at == [1]


def test_the_deadline_ends_a_wait_for_a_slot(flow: MakeFlow, clock: FakeClock) -> None:
    limit = Bulkhead(1)
    runner = flow(Step("call", Meter(takes=100), policies=[limit]))

    async def program() -> RunResult[Any]:
        first = runner.start(1)
        await asyncio.sleep(1)
        result = await runner.run_async(2, deadline=5)
        assert bulkheads.of(limit).waiting == 0
        await first
        return result

    assert clock.run(program()).status is RunStatus.DEADLINE_EXCEEDED
    assert bulkheads.of(limit).inside == 0


@given(
    callers=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 6))),
        min_size=1,
        max_size=20,
    ),
    limit=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_slots_are_neither_lost_nor_made_up(callers: list[tuple[int, int, int | None]], limit: int) -> None:
    """Callers come, stay and lose patience at whole seconds, so that these often coincide."""
    slots = Slots(Bulkhead(limit))
    inside = 0
    served: list[int] = []

    async def caller(number: int, arrives: int, stays: int) -> None:
        nonlocal inside
        await asyncio.sleep(arrives)
        if not slots.try_enter():
            await slots.enter()
        served.append(number)
        inside += 1
        assert inside <= limit
        assert slots.inside >= inside
        try:
            await asyncio.sleep(stays)
        finally:
            inside -= 1
            slots.leave()

    async def program() -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(caller(index, *item[:2])) for index, item in enumerate(callers)]
        for task, (_, _, patience) in zip(tasks, callers, strict=True):
            if patience is not None:
                loop.call_later(patience, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

    FakeClock().run(program())
    assert (slots.inside, slots.waiting, inside) == (0, 0, 0)
    patient = {index for index, item in enumerate(callers) if item[2] is None}
    assert patient <= set(served)


# -- what is shared


def in_threads(count: int, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    threads = [threading.Thread(target=lambda: asyncio.run(make())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_bulkhead_holds_across_loops_in_threads(flow: MakeFlow) -> None:
    guard, inside, most, calls = threading.Lock(), 0, 0, 0

    async def call(data: Any) -> None:
        nonlocal inside, most, calls
        with guard:
            inside += 1
            calls += 1
            most = max(most, inside)
        await asyncio.sleep(0)
        with guard:
            inside -= 1

    step = Step("call", call, policies=[Bulkhead(3)])
    in_threads(4, lambda: flow(step).run_many(range(100), concurrency=10))
    assert calls == 400
    assert 1 <= most <= 3


def test_a_rate_holds_across_loops_in_threads() -> None:
    bucket, through = Bucket(RateLimit(20, per=0.1)), []

    async def program() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(15):
            if not bucket.try_take(loop.time()):
                await bucket.take()
            through.append(loop.time())

    in_threads(4, program)
    through.sort()
    assert len(through) == 60
    assert through[-1] - through[0] >= 40 / 200 - 0.01


def test_a_rate_holds_from_one_run_to_the_next(flow: MakeFlow, clock: FakeClock) -> None:
    step = Step("call", Meter(), policies=[RateLimit(1, per=10)])
    for _ in range(3):
        clock.run(flow(step).run_async(1))  # a new flow and a new loop each time
    assert clock.elapsed == 20


def test_equal_policies_share_only_by_name(flow: MakeFlow, clock: FakeClock) -> None:
    for name, elapsed in ((None, 0), ("model", 10)):
        before = clock.elapsed
        for _ in range(2):
            clock.run(flow(Step("call", Meter(), policies=[RateLimit(1, per=10, name=name)])).run_async(1))
        assert clock.elapsed - before == elapsed
    buckets.clear()


def test_one_name_has_one_set_of_settings(run: Run) -> None:
    run(Step("call", str, policies=[Bulkhead(2, name="shared")]))
    with pytest.raises(ConfigurationError, match="Bulkhead 'shared' is used with different settings: limit 2 and 3"):
        run(Step("call", str, policies=[Bulkhead(3, name="shared")]))
    bulkheads.clear()


def test_the_state_of_a_policy_without_a_name_goes_with_it() -> None:
    gc.collect()
    before = len(buckets.every())
    limit = RateLimit(1)
    assert buckets.of(limit) is buckets.of(limit)
    assert len(buckets.every()) == before + 1
    del limit
    gc.collect()
    assert len(buckets.every()) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimit(0),
        lambda: RateLimit(1, per=-1),
        lambda: RateLimit(float("inf")),
        lambda: Bulkhead(0),
        lambda: Bulkhead(1.5),  # type: ignore[arg-type]
        lambda: Bulkhead(1, max_waiting=-1),
        lambda: Bulkhead(1, name=" "),
    ],
)
def test_limits_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"(RateLimit|Bulkhead): \w+ must be"):
        make()
