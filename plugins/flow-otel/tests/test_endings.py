"""How runs and steps end: failures, budgets, pauses and cancellations, and what is told of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from flow import CancelSignal, InterruptSignal, PauseSignal, Pipeline, Step, UsageLimits, ValidationResult, validator


async def echo(data: Any) -> Any:
    return data


async def forever(data: Any) -> Any:
    await asyncio.Event().wait()


async def dear(data: Any, run: Any) -> Any:
    run.usage.add(cost_usd=1.0)
    return data


def raising(error: BaseException) -> Any:
    async def agent(data: Any) -> Any:
        raise error

    return agent


@validator
def never(output: Any) -> ValidationResult:
    return ValidationResult(False, "it is not good")


@pytest.mark.parametrize("stored", [False, True])
async def test_a_failure_is_told_where_it_happened_and_marked_all_the_way_up(traced: Any, stored: bool) -> None:
    tracing = traced()
    group = Pipeline([Step("parse", raising(KeyError("x")))]).as_step("group")
    await tracing.run(group, **({"state": "memory://"} if stored else {}))
    assert {span.status.status_code for span in tracing.spans} == {StatusCode.ERROR}
    assert [span.name for span in tracing.spans if span.events] == ["step parse"]
    ((name, told),) = tracing.events("step parse")
    assert (name, told) == ("exception", {"exception.type": "KeyError", "exception.message": "'x'"})
    span = tracing.span("step parse")
    assert span.attributes["error.type"] == "KeyError"
    assert span.attributes["flow.error.category"] == "data"
    assert span.status.description == "KeyError: 'x'"
    assert tracing.run_span.attributes["flow.run.status"] == "failed"


async def test_flows_own_errors_go_by_their_public_name(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("check", echo, validators=[never]))
    assert tracing.span("step check").attributes["error.type"] == "flow.ValidationFailed"
    assert tracing.span("step check").attributes["flow.error.category"] == "validation"


async def test_a_timeout_is_a_failure(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("slow", forever, timeout=0.01))
    assert tracing.span("step slow").attributes["error.type"] == "flow.StepTimeout"


@pytest.mark.parametrize("place", ["step", "run"])
async def test_a_budget_that_is_spent_fails_the_step_that_spent_it(traced: Any, place: str) -> None:
    limits = UsageLimits(total_cost_usd_limit=0.5)
    tracing = traced()
    step = Step("dear", dear, usage_limits=limits if place == "step" else None)
    await tracing.run(step >> Step("never", echo), usage_limits=limits if place == "run" else None)
    assert tracing.span("step dear").status.status_code is StatusCode.ERROR
    assert tracing.span("step dear").attributes["error.type"] == "flow.UsageLimitExceeded"
    assert tracing.run_span.attributes["flow.run.status"] == "limit_exceeded"
    assert tracing.run_span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("deadline", [0.02, 1e-9])
async def test_a_deadline_fails_the_run_and_cancels_the_step(traced: Any, deadline: float) -> None:
    tracing = traced()
    result = await tracing.run(Step("slow", forever), deadline=deadline)
    assert tracing.run_span.attributes["flow.run.status"] == result.status.value == "deadline_exceeded"
    assert tracing.run_span.status.status_code is StatusCode.ERROR
    for span in tracing.spans[1:]:
        assert span.attributes["flow.step.status"] == "cancelled"
        assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("signal", "status"),
    [
        (PauseSignal("which?"), "paused"),
        (CancelSignal(), "cancelled"),
        (InterruptSignal(), "interrupted"),
    ],
)
async def test_waiting_and_being_stopped_are_no_failures(traced: Any, signal: BaseException, status: str) -> None:
    tracing = traced()
    result = await tracing.run(Pipeline([Step("stop", raising(signal))]).as_step("group"))
    assert tracing.run_span.attributes["flow.run.status"] == result.status.value == status
    for name in ("step stop", "pipeline group"):
        assert tracing.span(name).attributes["flow.step.status"] == status
    assert {span.status.status_code for span in tracing.spans} == {StatusCode.UNSET}


async def test_a_question_is_an_event_of_the_step_that_asks(traced: Any) -> None:
    tracing = traced()
    question = PauseSignal("shall we pay Ada Lovelace?", deadline=1e9)
    await tracing.run(Pipeline([Step("ask", raising(question))]).as_step("group"))
    told = {"flow.step.path": "0:group/0:ask", "flow.pause.deadline": 1e9}
    assert tracing.events("step ask") == [("flow.pause", told)]
    assert tracing.events("pipeline group") == []


async def test_two_questions_at_once_pause_what_is_around_them(traced: Any, both: Any) -> None:
    tracing = traced()
    branches = {label: Step(label, raising(PauseSignal("?"))) for label in ("left", "right")}
    result = await tracing.run(both(name="fan", branches=branches))
    assert result.status.value == "paused"
    assert tracing.span("both fan").attributes["flow.step.status"] == "paused"
    assert [name for label in branches for name, _ in tracing.events(f"step {label}")] == ["flow.pause"] * 2


async def test_a_run_that_is_cancelled_from_outside_is_cancelled(traced: Any) -> None:
    tracing = traced()
    task = asyncio.create_task(tracing.run(Step("slow", forever)))
    while not tracing.tracer._sinks().runs:  # the run has begun
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracing.run_span.attributes["flow.run.status"] == "cancelled"
    assert tracing.run_span.status.status_code is StatusCode.UNSET
    assert tracing.tracer._sinks().runs == {}


async def test_a_handle_that_cancels_says_the_same(traced: Any) -> None:
    tracing = traced()
    handle = tracing.flow(Step("slow", forever)).start("data")
    while not tracing.tracer._sinks().runs:
        await asyncio.sleep(0)
    assert handle.cancel()
    assert (await handle).status.value == "cancelled"
    assert tracing.run_span.attributes["flow.run.status"] == "cancelled"


async def test_a_group_of_failures_is_told_in_one_event(traced: Any) -> None:
    group = ExceptionGroup("both", [ValueError("one"), KeyError("two")])
    tracing = traced()
    await tracing.run(Step("many", raising(group)))
    ((_, told),) = tracing.events("step many")
    assert told == {"exception.type": "ExceptionGroup", "exception.message": "ValueError: one; KeyError: 'two'"}


async def test_a_store_that_fails_fails_the_span_of_the_run(traced: Any) -> None:
    tracing = traced()
    flow = tracing.flow(Step("work", echo), state="memory://")
    await flow.run_async("data", run_id="taken")
    with pytest.raises(Exception, match="exists already"):
        await flow.run_async("data", run_id="taken")
    assert tracing.run_span.status.status_code is StatusCode.ERROR
    assert tracing.run_span.attributes["error.type"] == "flow.StateError"
    assert [event.name for event in tracing.run_span.events] == ["exception"]


async def test_a_plugin_that_cannot_classify_does_not_disturb(traced: Any, caplog: pytest.LogCaptureFixture) -> None:
    from flow_otel._failures import category_of

    def broken(**_: Any) -> Any:
        raise RuntimeError("broken plugin")

    assert category_of(ValueError("x"), broken) == "unknown"
    assert "could not classify ValueError" in caplog.text
