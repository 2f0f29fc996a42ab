"""Resumed runs: linked to the execution before, with the steps that were replayed marked."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import format_span_id, format_trace_id

from flow import Pipeline, Step


class Flaky:
    def __init__(self, failures: int = 1) -> None:
        self.failures = failures

    async def __call__(self, data: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise ValueError("no")
        return data


async def echo(data: Any) -> Any:
    return data


def traceparent(span: Any) -> str:
    context = span.get_span_context()
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


async def test_each_execution_links_to_the_one_before(traced: Any) -> None:
    tracing = traced()
    flow = tracing.flow(Step("first", echo) >> Step("flaky", Flaky(2)), state="memory://")
    result = await flow.run_async("data", run_id="r1")
    for _ in range(2):
        result = await flow.resume_async("r1")
    assert result.success
    first, second, third = (span for span in tracing.spans if span.name == "invoke_workflow pipeline")
    assert list(first.links) == []
    for earlier, later in ((first, second), (second, third)):
        (link,) = later.links
        assert link.context.span_id == earlier.context.span_id
        assert link.context.trace_id == earlier.context.trace_id
        assert dict(link.attributes) == {"flow.link.reason": "resumed"}
        assert later.attributes["flow.run.resumed"] is True
    assert len({span.context.trace_id for span in (first, second, third)}) == 3
    assert first.attributes["flow.run.id"] == third.attributes["flow.run.id"] == "r1"


async def test_where_a_run_is_traced_is_stored_with_it(traced: Any) -> None:
    tracing = traced()
    store = tracing.kernel.open_state("memory://")
    flow = tracing.flow(Step("flaky", Flaky()), state=store)
    await flow.run_async("data", run_id="r1", metadata={"ticket": "7"})
    record = await store.load_run("r1")
    assert record.metadata["traceparent"] == traceparent(tracing.run_span)
    assert record.metadata["ticket"] == "7"
    await flow.resume_async("r1")
    record = await store.load_run("r1")
    assert record.metadata["traceparent"] == traceparent(tracing.run_span)


async def test_it_is_stored_before_the_run_does_anything(traced: Any) -> None:
    tracing = traced()
    store = tracing.kernel.open_state("memory://")
    seen = []

    async def look(data: Any, run: Any) -> Any:
        seen.append((await store.load_run(run.run_id)).metadata["traceparent"])
        return data

    await tracing.run(Step("look", look), state=store)
    assert seen == [traceparent(tracing.run_span)]


async def test_replayed_steps_say_so(traced: Any) -> None:
    tracing = traced()
    done = Pipeline([Step("inner", echo)]).as_step("done")
    flow = tracing.flow(done >> Step("flaky", Flaky()), state="memory://")
    await flow.resume_async((await flow.run_async("data")).run_id)
    resumed = [span for span in tracing.spans if span.context.trace_id == tracing.run_span.context.trace_id]
    replayed = {span.name: span.attributes.get("flow.step.replayed") for span in resumed[1:]}
    assert replayed == {"pipeline done": True, "step flaky": None}


async def test_a_flow_that_continues_by_itself_links_too(traced: Any) -> None:
    tracing = traced()
    result = await tracing.run(Step("flaky", Flaky()), max_retries=1, retry_on_error=True)
    assert result.success
    first, second = (span for span in tracing.spans if span.name == "invoke_workflow pipeline")
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


@pytest.mark.parametrize("broken", ["", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"])
async def test_a_broken_traceparent_is_no_link(traced: Any, broken: str) -> None:
    tracing = traced()
    with tracing.provider.get_tracer("web").start_as_current_span("GET /"):
        await tracing.flow(Step("work", echo)).run_async("data", metadata={"traceparent": broken})
    assert list(tracing.run_span.links) == []


async def test_a_caller_may_link_a_run_to_what_caused_it(traced: Any) -> None:
    tracing = traced()
    cause = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await tracing.flow(Step("work", echo)).run_async("data", metadata={"traceparent": cause})
    (link,) = tracing.run_span.links
    assert format_span_id(link.context.span_id) == "b7ad6b7169203331"


async def test_a_run_that_is_not_sampled_leaves_no_trace(traced: Any) -> None:
    from flow_otel import OtelTracer
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from flow import Flow

    store = traced().kernel.open_state("memory://")
    tracer = OtelTracer(TracerProvider(sampler=ALWAYS_OFF))
    await Flow(Step("work", echo), state=store, tracers=[tracer]).run_async("data", run_id="r1")
    assert "traceparent" not in (await store.load_run("r1")).metadata


async def test_a_fork_says_where_it_comes_from(traced: Any) -> None:
    tracing = traced()
    flow = tracing.flow(Step("first", echo) >> Step("second", echo), state="memory://")
    await flow.run_async("data", run_id="r1")
    origin = tracing.run_span
    await flow.fork_async("r1", "1:second", run_id_new="r2")
    assert tracing.run_span.attributes["flow.run.id"] == "r2"
    assert tracing.run_span.attributes["flow.run.forked_from"] == "r1"
    (link,) = tracing.run_span.links
    assert link.context.span_id == origin.context.span_id
    resumed = [span for span in tracing.spans if span.context.trace_id == tracing.run_span.context.trace_id]
    assert [span.attributes.get("flow.step.replayed") for span in resumed[1:]] == [True, None]


async def test_a_replay_marks_every_step_and_counts_none(traced: Any) -> None:
    tracing = traced(metrics=True)
    flow = tracing.flow(Step("first", echo) >> Step("flaky", Flaky()), state="memory://")
    await flow.run_async("data", run_id="r1")
    result = await flow.replay_async("r1")
    assert tracing.run_span.attributes["flow.run.status"] == result.status.value == "failed"
    replayed = [span for span in tracing.spans if span.context.trace_id == tracing.run_span.context.trace_id]
    assert [span.attributes.get("flow.step.replayed") for span in replayed[1:]] == [True, True]
    assert sum(value for _, value in tracing.points("flow.step.failures")) == 1
