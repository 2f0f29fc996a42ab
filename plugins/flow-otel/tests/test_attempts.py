"""A span per attempt of steps that may be retried, and what is told of retries."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from flow import PauseSignal, Pipeline, RecoveryStrategy, Step


class Flaky:
    """Fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def __call__(self, data: Any) -> Any:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("reset by peer")
        return data


def quick(**settings: Any) -> RecoveryStrategy:
    return RecoveryStrategy(name="quick", retry_delay_seconds=0, jitter=False, **settings)


async def test_each_attempt_has_a_span_inside_the_steps(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("call", Flaky(2), retries=3))
    assert [span.name for span in tracing.spans][1:] == ["step call", "attempt 1", "attempt 2", "attempt 3"]
    assert {tracing.parent(f"attempt {number}") for number in (1, 2, 3)} == {"step call"}
    assert [tracing.span(f"attempt {n}").attributes["flow.step.attempt"] for n in (1, 2, 3)] == [1, 2, 3]
    codes = [tracing.span(f"attempt {n}").status.status_code for n in (1, 2, 3)]
    assert codes == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert tracing.span("step call").status.status_code is StatusCode.UNSET
    assert tracing.span("step call").attributes["flow.step.attempts"] == 3


async def test_retries_are_events_of_the_step(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("call", Flaky(2), retries=3))
    events = tracing.events("step call")
    assert [(name, told["flow.step.attempt"]) for name, told in events] == [("flow.retry", 2), ("flow.retry", 3)]
    assert all(told["flow.retry.wait_s"] >= 0 for _, told in events)


async def test_the_wait_before_a_retry_is_told(traced: Any) -> None:
    strategy = RecoveryStrategy(name="wait", retry_delay_seconds=0.02, jitter=False)
    tracing = traced()
    await tracing.run(Step("call", Flaky(1), policies=[strategy]))
    ((_, told),) = tracing.events("step call")
    assert told["flow.retry.wait_s"] >= 0.02


async def test_a_step_without_retries_has_one_span(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("call", Flaky(0)))
    assert [span.name for span in tracing.spans] == ["invoke_workflow pipeline", "step call"]


@pytest.mark.parametrize("whose", ["step", "flow"])
async def test_a_strategy_asks_for_retries_too(traced: Any, whose: str) -> None:
    tracing = traced()
    of_step, of_flow = ([quick()], []) if whose == "step" else ([], [quick()])
    await tracing.run(Step("call", Flaky(1), policies=of_step), policies=of_flow)
    assert [span.name for span in tracing.spans][2:] == ["attempt 1", "attempt 2"]


async def test_a_strategy_of_the_flow_retries_no_step_around_others(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Pipeline([Step("call", Flaky(1))]).as_step("group"), policies=[quick()])
    assert tracing.parent("attempt 1") == "step call"
    assert tracing.parent("step call") == "pipeline group"


async def test_what_an_attempt_does_is_inside_it(traced: Any) -> None:
    tracing = traced()
    tracer = tracing.provider.get_tracer("user")
    flaky = Flaky(1)

    async def call(data: Any) -> Any:
        with tracer.start_as_current_span(f"query {2 - flaky.failures}"):
            pass
        return await flaky(data)

    await tracing.run(Step("call", call, retries=1))
    assert [tracing.parent(f"query {number}") for number in (1, 2)] == ["attempt 1", "attempt 2"]


async def test_steps_inside_a_step_that_is_retried_are_inside_its_attempts(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Pipeline([Step("call", Flaky(1))]).as_step("group").evolve(retries=1))
    parents = {span.context.span_id: span.name for span in tracing.spans}
    inside = [parents[span.parent.span_id] for span in tracing.spans if span.name == "step call"]
    assert inside == ["attempt 1", "attempt 2"]


async def test_the_exception_is_told_once_on_the_attempt(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("call", Flaky(9), retries=1))
    events = {span.name: [event.name for event in span.events] for span in tracing.spans}
    assert events == {
        "invoke_workflow pipeline": [],
        "step call": ["flow.retry"],
        "attempt 1": ["exception"],
        "attempt 2": ["exception"],
    }
    failed = {span.name for span in tracing.spans if span.status.status_code is StatusCode.ERROR}
    assert failed == {span.name for span in tracing.spans}


async def test_an_attempt_that_pauses_has_not_failed(traced: Any) -> None:
    async def ask(data: Any) -> Any:
        raise PauseSignal("which?")

    tracing = traced()
    await tracing.run(Step("ask", ask, retries=1))
    span = tracing.span("attempt 1")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["flow.step.status"] == "paused"
