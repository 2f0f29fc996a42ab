"""A span per run and step: what they are called, what they say, and which is inside which."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from flow_otel import AsTool
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from flow import Cache, Flow, Pipeline, Step, step


class Poet:
    """An agent that is an object."""

    async def run(self, data: str) -> str:
        return f"{data}, said the poet"


class Named(Poet):
    name = "bard"


async def echo(data: Any) -> Any:
    return data


def fails(data: Any) -> Any:
    raise ValueError("no")


async def test_a_run_is_a_workflow_and_its_steps_are_inside(traced: Any) -> None:
    tracing = traced()
    result = await tracing.run(Pipeline([Step("first", echo), Step("second", echo)], name="greet"))
    assert [span.name for span in tracing.spans] == ["invoke_workflow greet", "step first", "step second"]
    assert tracing.parent("invoke_workflow greet") is None
    assert tracing.parent("step first") == tracing.parent("step second") == "invoke_workflow greet"
    assert dict(tracing.run_span.attributes) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "greet",
        "flow.run.id": result.run_id,
        "flow.run.status": "completed",
    }
    assert dict(tracing.span("step second").attributes) == {"flow.step.path": "1:second"}
    assert {span.status.status_code for span in tracing.spans} == {StatusCode.UNSET}


async def test_the_run_is_inside_the_span_that_is_current_where_it_starts(traced: Any) -> None:
    tracing = traced()
    with tracing.provider.get_tracer("web").start_as_current_span("GET /"):
        await tracing.run(Step("work", echo))
    assert tracing.parent("invoke_workflow pipeline") == "GET /"
    assert len({span.context.trace_id for span in tracing.spans}) == 1


async def test_a_run_that_is_started_in_the_background_is_inside_too(traced: Any) -> None:
    tracing = traced()
    flow = tracing.flow(Step("work", echo))
    with tracing.provider.get_tracer("web").start_as_current_span("GET /"):
        handle = flow.start("data")
    await handle
    assert tracing.parent("invoke_workflow pipeline") == "GET /"


async def test_nothing_is_current_any_more_when_a_run_is_over(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("work", echo) >> Step("fail", fails))
    assert not trace.get_current_span().get_span_context().is_valid


async def test_nesting_is_that_of_the_pipeline(traced: Any, times: Any) -> None:
    inner = (Step("deep", echo) >> Step("deeper", echo)).as_step("inner")
    outer = (Step("before", echo) >> times(name="twice", body=inner, count=1)).as_step("outer")
    tracing = traced()
    await tracing.run(outer)
    assert tracing.parent("step deeper") == tracing.parent("step deep") == "pipeline inner"
    assert tracing.parent("pipeline inner") == "times twice"
    assert tracing.parent("times twice") == tracing.parent("step before") == "pipeline outer"
    assert tracing.span("step deeper").attributes["flow.step.path"] == "0:outer/1:twice/i0/1:deeper"
    told = tracing.span("times twice").attributes
    assert (told["flow.step.kind"], told["flow.step.name"], told["flow.step.iterations"]) == ("times", "twice", 1)


async def test_steps_that_run_at_the_same_time_are_beside_each_other(traced: Any, both: Any) -> None:
    met = asyncio.Barrier(3)

    async def meet(data: Any) -> Any:
        await met.wait()  # all three are running now
        with tracing.provider.get_tracer("user").start_as_current_span("user's"):
            await met.wait()
        return data

    branches = {label: Step(label, meet).evolve(name=label) for label in ("a", "b", "c")}
    tracing = traced()
    await tracing.run(both(name="fan", branches={key: Pipeline([step]) for key, step in branches.items()}))
    by_id = {span.context.span_id: span for span in tracing.spans}
    for label in branches:
        assert tracing.parent(f"step {label}") == "both fan"
    inside = [by_id[span.parent.span_id].name for span in tracing.spans if span.name == "user's"]
    assert sorted(inside) == ["step a", "step b", "step c"]


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_spans_of_user_code_are_inside_the_step(traced: Any, where: str) -> None:
    tracing = traced()
    tracer = tracing.provider.get_tracer("user")
    threads: list[str] = []

    def work(data: Any) -> Any:
        threads.append(threading.current_thread().name)
        with tracer.start_as_current_span("query"):
            return data

    async def on_the_loop(data: Any) -> Any:
        return work(data)

    await tracing.run(Step("work", work if where == "thread" else on_the_loop))
    assert tracing.parent("query") == "step work"
    assert threads[0].startswith("flow-step" if where == "thread" else "MainThread")


async def test_a_flow_that_an_agent_runs_is_inside_its_step(traced: Any) -> None:
    tracing = traced()
    inner = tracing.flow(Pipeline([Step("deep", echo)], name="inner"))

    async def delegate(data: Any) -> Any:
        return (await inner.run_async(data)).output

    await tracing.run(Step("delegate", delegate))
    assert tracing.parent("invoke_workflow inner") == "step delegate"
    assert tracing.parent("step deep") == "invoke_workflow inner"


async def test_runs_at_the_same_time_do_not_mix(traced: Any) -> None:
    tracing = traced()
    met = asyncio.Barrier(10)

    async def meet(data: int) -> int:
        await met.wait()
        return data

    await tracing.flow(Pipeline([Step("one", meet), Step("two", meet)])).run_many(range(10), concurrency=10)
    runs = [span for span in tracing.spans if span.parent is None]
    assert len(runs) == 10
    for run in runs:
        inside = [span.name for span in tracing.spans if span.parent and span.parent.span_id == run.context.span_id]
        assert inside == ["step one", "step two"]
    assert len({run.context.trace_id for run in runs}) == 10


async def test_a_fallback_is_inside_the_step_that_has_failed(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("risky", fails, fallback=Step("safe", echo)))
    assert tracing.parent("step safe") == "step risky"
    assert tracing.span("step safe").attributes["flow.step.path"] == "0:risky/fallback"
    assert tracing.span("step risky").attributes["flow.step.fallback"] is True
    assert tracing.span("step risky").status.status_code is StatusCode.UNSET
    ((name, told),) = tracing.events("step risky")
    assert name == "flow.fallback"
    assert told["flow.step.name"] == "safe"
    assert told["flow.fallback.reason"] == "Agent failed with ValueError: no"


async def test_a_child_that_happens_to_be_called_fallback_is_none(traced: Any, both: Any) -> None:
    tracing = traced()
    await tracing.run(both(name="fan", branches={"fallback": Step("fallback", echo)}))
    assert tracing.events("both fan") == []


@pytest.mark.parametrize(("agent", "name"), [(Poet(), "poet"), (Named(), "bard")])
async def test_agents_that_are_objects_are_invoked_agents(traced: Any, agent: Any, name: str) -> None:
    tracing = traced()
    await tracing.run(Step("poet", agent))
    told = tracing.span(f"invoke_agent {name}").attributes
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.agent.name"] == name
    assert (told["flow.step.name"], told["flow.step.kind"], told["flow.step.path"]) == ("poet", "step", "0:poet")


async def test_a_step_is_a_tool_where_it_says_so(traced: Any) -> None:
    tracing = traced()
    tool = AsTool("web_search", type="datastore", description="Finds pages.")
    await tracing.run(Step("look", Poet(), policies=[tool]) >> Step("plain", echo, policies=[AsTool()]))
    told = tracing.span("execute_tool web_search").attributes
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["gen_ai.tool.name"] == "web_search"
    assert (told["gen_ai.tool.type"], told["gen_ai.tool.description"]) == ("datastore", "Finds pages.")
    assert "gen_ai.agent.name" not in told
    assert tracing.span("execute_tool plain").attributes["gen_ai.tool.type"] == "function"


def test_a_tool_has_one_of_the_types_of_the_conventions() -> None:
    with pytest.raises(ValueError, match="datastore"):
        AsTool(type="hammer")


async def test_the_conversation_is_that_of_the_metadata(traced: Any) -> None:
    tracing = traced()
    await tracing.flow(Step("work", echo)).run_async("data", metadata={"conversation_id": "c-17"})
    assert tracing.run_span.attributes["gen_ai.conversation.id"] == "c-17"


async def test_a_result_from_the_cache_says_so(traced: Any) -> None:
    tracing = traced()
    flow = tracing.flow(Step("slow", echo, cache=Cache()))
    await flow.run_async("data")
    await flow.run_async("data")
    found = [span.attributes["flow.step.cached"] for span in tracing.spans if span.name == "step slow"]
    assert found == [False, True]


async def test_the_scope_tells_which_names_are_used(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("work", echo))
    scope = tracing.run_span.instrumentation_scope
    assert (scope.name, dict(scope.attributes)) == ("flow_otel", {"flow.names.version": 1})


@pytest.mark.parametrize("pipeline", [Pipeline(), Step("work", echo)])
def test_a_flow_may_run_without_a_loop(traced: Any, pipeline: Any) -> None:
    tracing = traced()
    assert tracing.flow(pipeline).run("data").success
    assert tracing.run_span.attributes["flow.run.status"] == "completed"


async def test_two_tracers_watch_one_run_without_meeting(traced: Any) -> None:
    one, other = traced(), traced()

    async def stream(data: Any) -> Any:
        yield "chunk"

    flow = Flow(Step("work", stream), tracers=[one.tracer, other.tracer])
    assert (await flow.run_async("data")).output == "chunk"
    for tracing in (one, other):
        assert [name for name, _ in tracing.events("step work")] == ["flow.chunks"]
        assert list(tracing.run_span.links) == []


async def test_decorated_functions_are_plain_steps_too(traced: Any) -> None:
    tracing = traced()
    await tracing.run(step(echo))
    assert dict(tracing.span("step echo").attributes) == {"flow.step.path": "0:echo"}
