"""Metrics: what is counted, under which labels, and that it is only counted where somebody reads it."""

from __future__ import annotations

from typing import Any

import pytest
from flow_otel import AsTool

from flow import Cache, Pipeline, Step


class Agent:
    async def run(self, data: Any) -> Any:
        return data


class Flaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def __call__(self, data: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("reset")
        return data


async def echo(data: Any) -> Any:
    return data


async def spend(data: Any, run: Any) -> Any:
    run.usage.add(cost_usd=0.25, input_tokens=10, output_tokens=5)
    return data


def labels(step: str) -> dict[str, str]:
    return {"gen_ai.workflow.name": "triage", "flow.step.name": step}


async def measured(traced: Any, *steps: Any, **options: Any) -> Any:
    tracing = traced(metrics=True)
    await tracing.run(Pipeline(steps, name="triage"), **options)
    return tracing


async def test_runs_are_measured_by_how_they_end(traced: Any) -> None:
    tracing = await measured(traced, Step("work", echo))
    await tracing.run(Pipeline([Step("work", Flaky(1))], name="triage"))
    found = tracing.points("gen_ai.invoke_workflow.duration")
    points = {told["flow.run.status"]: (told, point) for told, point in found}
    assert points["completed"][0] == {"gen_ai.workflow.name": "triage", "flow.run.status": "completed"}
    assert points["failed"][0]["error.type"] == "ConnectionError"
    assert points["completed"][1].explicit_bounds == (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
    assert points["completed"][1].count == points["failed"][1].count == 1


async def test_steps_are_measured_by_name(traced: Any) -> None:
    tracing = await measured(traced, Step("one", echo), Pipeline([Step("two", echo), Step("two", echo)]).as_step("sub"))
    counts = {told["flow.step.name"]: (told, point.count) for told, point in tracing.points("flow.step.duration")}
    assert counts == {
        "one": (labels("one"), 1),
        "two": (labels("two"), 2),
        "sub": (labels("sub"), 1),
    }


async def test_a_measurement_names_the_span_it_was_made_in_as_an_example(traced: Any) -> None:
    tracing = await measured(traced, Step("one", echo), Step("two", Flaky(1)))
    examples = {
        told["flow.step.name"]: point.exemplars[0].span_id for told, point in tracing.points("flow.step.duration")
    }
    assert examples == {name: tracing.span(f"step {name}").context.span_id for name in ("one", "two")}


async def test_attempts_are_counted_where_there_may_be_several(traced: Any) -> None:
    tracing = await measured(traced, Step("once", echo), Step("flaky", Flaky(2), retries=3))
    assert tracing.points("flow.step.attempts") == [(labels("flaky"), 3)]


async def test_failures_are_counted_by_their_sort(traced: Any) -> None:
    tracing = await measured(traced, Step("call", Flaky(9)))
    assert tracing.points("flow.step.failures") == [({**labels("call"), "flow.error.category": "network"}, 1)]
    ((told, _),) = tracing.points("flow.step.duration")
    assert told["error.type"] == "ConnectionError"


async def test_tokens_and_money_are_counted_once_by_step(traced: Any) -> None:
    tracing = await measured(traced, Pipeline([Step("ask", spend), Step("ask", spend)]).as_step("sub"))
    assert tracing.points("flow.usage.cost") == [(labels("ask"), 0.5)]
    tokens = {told["gen_ai.token.type"]: value for told, value in tracing.points("flow.usage.tokens")}
    assert tokens == {"input": 20, "output": 10}


async def test_hits_and_misses_are_counted(traced: Any) -> None:
    tracing = traced(metrics=True)
    flow = tracing.flow(Pipeline([Step("slow", echo, cache=Cache())], name="triage"))
    for _ in range(3):
        await flow.run_async("data")
    found = {told["flow.step.cache.outcome"]: value for told, value in tracing.points("flow.step.cache.lookups")}
    assert found == {"hit": 2, "miss": 1}


@pytest.mark.parametrize(
    ("step", "metric", "name"),
    [
        (Step("ask", Agent()), "gen_ai.invoke_agent.duration", ("gen_ai.agent.name", "ask")),
        (
            Step("look", echo, policies=[AsTool("search")]),
            "gen_ai.execute_tool.duration",
            ("gen_ai.tool.name", "search"),
        ),
    ],
)
async def test_agents_and_tools_are_measured_as_the_conventions_say(
    traced: Any, step: Any, metric: str, name: tuple[str, str]
) -> None:
    tracing = await measured(traced, step)
    ((told, point),) = tracing.points(metric)
    assert told[name[0]] == name[1]
    assert point.count == 1
    assert point.explicit_bounds[0] == 0.01


async def test_replayed_steps_are_counted_once(traced: Any) -> None:
    tracing = traced(metrics=True)
    first = Step("first", spend, retries=1)
    flow = tracing.flow(Pipeline([first, Step("flaky", Flaky(1))], name="triage"), state="memory://")
    await flow.resume_async((await flow.run_async("data")).run_id)
    assert tracing.points("flow.step.attempts") == [(labels("first"), 1)]
    assert tracing.points("flow.usage.cost") == [(labels("first"), 0.25)]
    counts = {told["flow.step.name"]: point.count for told, point in tracing.points("flow.step.duration")
              if "error.type" not in told}  # fmt: skip
    assert counts == {"first": 1, "flaky": 1}


async def test_nothing_is_recorded_without_a_provider_of_metrics(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("work", spend))
    assert tracing.tracer._sinks().instruments is None
    assert tracing.points("flow.step.duration") == []
