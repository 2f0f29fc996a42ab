"""Graceful degradation: levels, hysteresis, what is left out, and that nothing is measured when nothing runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from flow_resilience import GracefulDegradation, LoadLevel
from flow_resilience._levels import LevelMeter, Reading, Thresholds, memory_in_use
from flow_testkit import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from flow import ConfigurationError, Event, EventKind, Flow, RunResult, Step, StepRun

Run = Callable[..., RunResult[Any]]
MakeFlow = Callable[..., Flow[Any, Any]]
NORMAL, MINOR, MODERATE, SEVERE = LoadLevel


class Load:
    """Readings that a test sets."""

    def __init__(self) -> None:
        self.lag = self.memory = self.queue = 0.0
        self.asked = 0

    def policy(self, **settings: Any) -> GracefulDegradation:
        return GracefulDegradation(
            read_lag=self._read_lag, read_memory=lambda: self.memory, read_queue=lambda: self.queue, **settings
        )

    def _read_lag(self) -> float:
        self.asked += 1
        return self.lag


@pytest.mark.parametrize(
    ("reading", "level"),
    [
        (Reading(), NORMAL),
        (Reading(lag_s=0.1), MINOR),
        (Reading(memory=0.9), MODERATE),
        (Reading(queue=10_000), SEVERE),
        (Reading(lag_s=0.1, memory=0.99), SEVERE),
    ],
)
def test_the_worst_reading_counts(reading: Reading, level: LoadLevel) -> None:
    meter = LevelMeter(Thresholds((0.1, 0.5, 2.0), (0.75, 0.85, 0.95), (100, 1000, 10_000)), 10, 0.8)
    assert meter.take(reading, 0) is level


LAG = Thresholds((1.0, 2.0, 3.0), (9, 9, 9), (9, 9, 9))


def levels(*readings: tuple[float, float]) -> list[LoadLevel]:
    meter = LevelMeter(LAG, recover_after=10.0, relief=0.8)
    return [meter.take(Reading(lag_s=lag), now) for now, lag in readings]


def test_it_gets_worse_at_once_and_better_step_by_step() -> None:
    calm = [(float(now), 0.0) for now in range(1, 32, 10)]
    assert levels((0.0, 3.5), *calm) == [SEVERE, SEVERE, MODERATE, MINOR, NORMAL]


def test_it_does_not_flicker_around_a_threshold() -> None:
    around = [(float(now), 1.1 if now % 2 else 0.9) for now in range(100)]
    assert set(levels((0.0, 1.1), *around)) == {MINOR}


def test_one_bad_reading_begins_the_wait_anew() -> None:
    assert levels((0, 1.5), (1, 0), (9, 0.9), (10, 0), (19, 0), (20, 0)) == [MINOR] * 5 + [NORMAL]


@given(st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 4)), max_size=40))
def test_a_level_is_never_below_what_is_read_and_falls_by_one(steps: list[tuple[float, float]]) -> None:
    meter, now, fallen_at = LevelMeter(LAG, recover_after=10.0, relief=0.8), 0.0, -100.0
    for seconds, lag in steps:
        before, now = meter.level, now + seconds
        level = meter.take(Reading(lag_s=lag), now)
        assert level >= LAG.level(Reading(lag_s=lag))
        if level < before:
            assert level == before - 1
            assert now - fallen_at >= 10.0
            fallen_at = now


# -- in a flow


async def _streaming(data: str, *, run: StepRun) -> Any:
    await asyncio.sleep(10)
    await run.emit("chunk")
    return data.upper()


def observed(run: Run, load: Load, **settings: Any) -> list[Event]:
    events: list[Event] = []
    failures = [ConnectionError("x")]

    async def flaky(data: str, *, run: StepRun) -> str:
        if failures:
            raise failures.pop()
        return str(await _streaming(data, run=run))

    result = run(
        Step("wait", asyncio.sleep) >> Step("flaky", lambda _: "in") >> Step("work", flaky, retries=1),
        5,
        policies=[load.policy(**settings)],
        hooks=[events.append],
    )
    assert result.output == "IN"
    return [event for event in events if event.path == "2:work" or event.kind is EventKind.LOAD]


@pytest.mark.parametrize(
    ("lag", "kinds", "content"),
    [
        (0.0, ["step.started", "attempt.failed", "step.retry", "step.chunk", "step.finished"], True),
        (0.1, ["load", "step.started", "step.chunk", "step.finished"], True),
        (0.5, ["load", "step.started", "step.finished"], False),
        (2.0, ["load", "step.started", "step.finished"], False),
    ],
)
def test_what_is_optional_is_left_out_of_the_events(lag: float, kinds: list[str], content: bool, run: Run) -> None:
    load = Load()
    load.lag = lag
    events = observed(run, load)
    assert [event.kind.value for event in events] == kinds
    started, finished = [event for event in events if event.kind in (EventKind.STEP_STARTED, EventKind.STEP_FINISHED)]
    assert started.data == ("in" if content else None)
    assert finished.result is not None
    assert finished.result.success
    assert finished.result.output == ("IN" if content else None)
    assert (finished.detail == {"left_out": "input_output_capture"}) is not content


def test_where_features_switch_off_can_be_chosen(run: Run) -> None:
    load = Load()
    load.lag = 0.1
    chosen = {"detailed_tracing": SEVERE, "progress": MINOR}
    assert [event.kind.value for event in observed(run, load, features=chosen)] == [
        "load",
        "step.started",
        "attempt.failed",
        "step.retry",
        "step.finished",
    ]


def test_changes_are_told_and_features_come_back(
    flow: MakeFlow, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    load = Load()
    events: list[Event] = []
    policy = load.policy(features={"thumbnails": MINOR}, recover_after=5.0)
    seen = []

    async def work(data: Any) -> None:
        load.queue = 150
        await asyncio.sleep(1)
        seen.append((policy.level, policy.enabled("thumbnails"), policy.enabled("progress"), policy.enabled("other")))
        load.queue = 0
        await asyncio.sleep(10)
        seen.append((policy.level, policy.enabled("thumbnails"), policy.enabled("progress"), policy.enabled("other")))

    caplog.set_level("INFO", "flow")
    clock.run(flow(Step("work", work), policies=[policy], hooks=[events.append]).run_async(1))
    assert seen == [(MINOR, False, True, True), (NORMAL, True, True, True)]
    changes = [event.detail for event in events if event.kind is EventKind.LOAD and event.detail]
    assert [(change["from"], change["to"], change["off"]) for change in changes] == [
        ("normal", "minor", ["detailed_tracing", "thumbnails"]),
        ("minor", "normal", []),
    ]
    assert changes[0]["queue"] == 150
    assert [record.getMessage() for record in caplog.records if "load is" in record.getMessage()] == [
        "load is minor, was normal (loop 0 s late, 0% of memory, 150 calls wait); off: detailed_tracing, thumbnails",
        "load is normal, was minor (loop 0 s late, 0% of memory, 0 calls wait); off: nothing",
    ]


def test_the_end_of_a_run_keeps_its_result_under_any_load(run: Run) -> None:
    load = Load()
    events: list[Event] = []
    load.lag = 100
    result = run(Step("wait", asyncio.sleep), 5, policies=[load.policy()], hooks=[events.append])
    assert [event.result is result for event in events if event.kind is EventKind.RUN_FINISHED] == [True]


def test_nothing_is_measured_when_no_run_is_active(flow: MakeFlow, clock: FakeClock) -> None:
    load = Load()
    policy = load.policy(every=1.0)
    runner = flow(Step("wait", asyncio.sleep), policies=[policy])

    async def program() -> None:
        await asyncio.sleep(100)
        assert load.asked == 0
        await asyncio.gather(runner.run_async(10.5), runner.run_async(5.5))
        assert load.asked == 10  # one sampler for both
        await asyncio.sleep(100)
        assert load.asked == 10
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    clock.run(program())
    assert policy.level is NORMAL


def test_the_lag_of_the_loop_is_what_a_timer_is_late_by(flow: MakeFlow, clock: FakeClock) -> None:
    policy = GracefulDegradation(every=1.0, read_memory=lambda: 0.0, read_queue=lambda: 0.0)
    found = []

    async def work(data: Any) -> None:
        await asyncio.sleep(2.5)
        found.append(policy.level)
        clock.advance(1.1)  # as if something had blocked the loop: the timer that is due in 0.5 s is 0.6 s late
        await asyncio.sleep(0.1)
        found.append(policy.level)

    clock.run(flow(Step("work", work), policies=[policy]).run_async(1))
    assert found == [NORMAL, MODERATE]


def test_the_memory_in_use_is_a_share() -> None:
    share = memory_in_use()
    assert 0 <= share < 1


def test_it_is_a_policy_of_a_flow(run: Run) -> None:
    with pytest.raises(ConfigurationError, match="GracefulDegradation is a policy of a flow"):
        run(Step("call", str, policies=[GracefulDegradation()]))


@pytest.mark.parametrize(
    "wrong", [{"lag": (1, 2)}, {"memory": (0.9, 0.8, 0.95)}, {"queue": (0, 1, 2)}, {"every": 0}], ids=repr
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="GracefulDegradation: "):
        GracefulDegradation(**wrong)


def test_a_reading_is_cheap() -> None:
    started = time.process_time()
    for _ in range(100):
        memory_in_use()
    assert (time.process_time() - started) / 100 < 0.001  # seconds; it is done twice a second
