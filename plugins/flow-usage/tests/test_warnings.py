"""Warnings before a limit: once each, at the moment when it is reached, wherever the money is spent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flow_usage import UsageWarning, WarnAt

from flow import ConfigurationError, Event, EventKind, Flow, Pipeline, Step, StepRun, UsageLimits

MakeFlow = Callable[..., Flow[Any, Any]]
LIMITS = UsageLimits(total_cost_usd_limit=1.0)


def spends(*amounts: float, then: Callable[[], Any] = lambda: None) -> Any:
    async def agent(data: Any, *, run: StepRun) -> Any:
        for amount in amounts:
            run.usage.add(cost_usd=amount)
            then()
        return data

    return agent


@pytest.fixture
def told() -> list[UsageWarning]:
    return []


def shares(told: list[UsageWarning]) -> list[float]:
    return [warning.threshold for warning in told]


async def test_each_threshold_is_told_once_at_the_moment_when_it_is_reached(
    flow: MakeFlow, told: list[UsageWarning]
) -> None:
    seen: list[list[float]] = []
    agent = spends(0.3, 0.2, 0.2, 0.1, 0.1, 0.1, then=lambda: seen.append(shares(told)))
    runner = flow(Step("ask", agent), usage_limits=LIMITS, policies=[WarnAt(0.5, 0.8, 0.95, callback=told.append)])
    for _ in range(2):
        told.clear()
        seen.clear()
        assert (await runner.run_async(1)).success
        assert seen == [[], [0.5], [0.5], [0.5, 0.8], [0.5, 0.8], [0.5, 0.8, 0.95]]
    first = told[0]
    assert (first.path, first.limit, first.allowed, first.spent) == ("", "total_cost_usd_limit", 1.0, 0.5)


async def test_warnings_are_events_and_lines_of_the_log(
    flow: MakeFlow, recording_observer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "flow")
    runner = flow(Step("ask", spends(0.75)), usage_limits=LIMITS, policies=[WarnAt(0.5)], hooks=[recording_observer])
    await runner.run_async(1, run_id="r1")
    (event,) = [event for event in recording_observer.events if event.kind is EventKind.USAGE_WARNING]
    assert (event.run_id, event.path) == ("r1", "")
    assert event.detail == {"limit": "total_cost_usd_limit", "threshold": 0.5, "spent": 0.75, "allowed": 1.0}
    assert caplog.messages == ["run r1 has spent $0.75 of its cost limit of $1: 50 % are reached"]


async def test_the_tighter_limits_of_one_run_are_watched(flow: MakeFlow, told: list[UsageWarning]) -> None:
    runner = flow(Step("ask", spends(0.3)), policies=[WarnAt(0.5, callback=told.append)])
    await runner.run_async(1)
    assert told == []
    await runner.run_async(1, usage_limits=UsageLimits(total_cost_usd_limit=0.5, total_tokens_limit=10))
    assert [(warning.limit, warning.allowed) for warning in told] == [("total_cost_usd_limit", 0.5)]


async def test_the_limits_of_a_step_are_watched_by_its_own_policy(flow: MakeFlow, told: list[UsageWarning]) -> None:
    warn = WarnAt(0.5, callback=told.append)
    inner: Any = Pipeline([Step("a", spends(0.3)), Step("b", spends(0.3))]).as_step("sub")
    sub = inner.evolve(usage_limits=LIMITS, policies=(warn,))
    result = await flow(Step("first", spends(5.0)) >> sub >> Step("last", spends(5.0))).run_async(1)
    assert result.success
    assert [(warning.path, warning.spent) for warning in told] == [("1:sub", 0.6)]


async def test_attempts_of_a_step_do_not_repeat_a_warning(flow: MakeFlow, told: list[UsageWarning]) -> None:
    async def agent(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.3)
        if run.attempt < 3:
            raise ValueError("no")
        return data

    step = Step("ask", agent, retries=5, usage_limits=LIMITS, policies=[WarnAt(0.5, 0.9, callback=told.append)])
    assert (await flow(step).run_async(1)).success
    assert shares(told) == [0.5, 0.9]


async def test_a_resumed_run_does_not_repeat_warnings(flow: MakeFlow, told: list[UsageWarning]) -> None:
    failing = True

    async def agent(data: Any, *, run: StepRun) -> Any:
        if failing:
            raise ValueError("no")
        run.usage.add(cost_usd=0.3)
        return data

    warn = WarnAt(0.5, 0.8, callback=told.append)
    pipeline = Step("first", spends(0.6)) >> Step("second", agent)
    runner = flow(pipeline, usage_limits=LIMITS, policies=[warn], state="memory://")
    await runner.run_async(1, run_id="r")
    failing = False
    assert shares(told) == [0.5]
    assert (await runner.resume_async("r")).success
    assert shares(told) == [0.5, 0.8]


async def test_what_worker_threads_spend_is_told_in_the_loop(flow: MakeFlow) -> None:
    loop = asyncio.get_running_loop()
    told: list[tuple[UsageWarning, asyncio.AbstractEventLoop]] = []

    def agent(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.6)
        return data

    warn = WarnAt(0.5, callback=lambda warning: told.append((warning, asyncio.get_running_loop())))
    events: list[Event] = []
    result = await flow(Step("ask", agent), usage_limits=LIMITS, policies=[warn], hooks=[events.append]).run_async(1)
    assert result.success
    assert [(warning.threshold, where is loop) for warning, where in told] == [(0.5, True)]
    kinds = [event.kind for event in events]
    assert kinds.index(EventKind.USAGE_WARNING) < kinds.index(EventKind.STEP_FINISHED)


async def test_a_callback_that_raises_disturbs_nothing(flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    def broken(warning: UsageWarning) -> None:
        raise RuntimeError("broken callback")

    runner = flow(Step("ask", spends(0.6, 0.3)), usage_limits=LIMITS, policies=[WarnAt(0.5, 0.9, callback=broken)])
    assert (await runner.run_async(1)).success
    assert caplog.text.count("RuntimeError: broken callback") == 2


async def test_a_breach_is_told_as_a_warning_first(flow: MakeFlow, told: list[UsageWarning]) -> None:
    runner = flow(Step("ask", spends(2.0)), usage_limits=LIMITS, policies=[WarnAt(0.5, 0.8, callback=told.append)])
    assert (await runner.run_async(1)).status == "limit_exceeded"
    assert shares(told) == [0.5, 0.8]


def test_a_limit_of_zero_is_not_reached_by_nothing(flow: MakeFlow, told: list[UsageWarning]) -> None:
    limits = UsageLimits(total_cost_usd_limit=0)
    runner = flow(Step("a", spends(0.0)), usage_limits=limits, policies=[WarnAt(0.5, callback=told.append)])
    assert runner.run(1).success
    assert told == []


def test_a_step_without_limits_has_nothing_to_warn_of(flow: MakeFlow) -> None:
    with pytest.raises(ConfigurationError, match="step 'ask' carries WarnAt and has no usage_limits"):
        flow(Step("ask", spends(1.0), policies=[WarnAt(0.5)])).run(1)


async def _asynchronous(warning: UsageWarning) -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        lambda: WarnAt(),
        lambda: WarnAt(0),
        lambda: WarnAt(80),
        lambda: WarnAt("0.5"),  # type: ignore[arg-type]
        lambda: WarnAt(0.5, callback=5),  # type: ignore[arg-type]
        lambda: WarnAt(0.5, callback=_asynchronous),
    ],
)
def test_senseless_settings_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match="WarnAt: "):
        make()
