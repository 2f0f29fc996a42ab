"""For every pipeline the tree of spans is the tree of results."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow import Pipeline, RunResult, Step


async def echo(data: Any) -> Any:
    await asyncio.sleep(0)
    return data


def blocking(data: Any) -> Any:
    return data


async def fails(data: Any) -> Any:
    raise ValueError("no")


def leaf(draw: Any, name: str) -> Step[Any, Any]:
    agent = draw(st.sampled_from([echo, echo, echo, blocking, fails]))
    fallback = draw(st.sampled_from([None, None, Step("instead", echo), Step("instead", fails)]))
    return Step(name, agent, retries=draw(st.integers(0, 2)), fallback=fallback)


@st.composite
def pipelines(draw: Any, both: Any, times: Any, depth: int = 3) -> Any:
    kind = draw(st.sampled_from(["leaf", "leaf", "sub", "both", "times"] if depth else ["leaf"]))
    name = draw(st.sampled_from("abcd"))
    if kind == "leaf":
        return leaf(draw, name)
    inner = pipelines(both, times, depth - 1)
    if kind == "times":
        return times(name=name, body=Pipeline([draw(inner)]), count=draw(st.integers(1, 3)))
    children = [draw(inner) for _ in range(draw(st.integers(1, 3)))]
    if kind == "both":
        return both(name=name, branches={f"b{number}": Pipeline([child]) for number, child in enumerate(children)})
    return Pipeline(children).as_step(name)


def results_of(result: RunResult[Any]) -> dict[str, tuple[str | None, bool]]:
    """Return of each step the path of the one around it, and whether it failed."""
    found: dict[str, tuple[str | None, bool]] = {}

    def look(step: Any, around: str | None) -> None:
        found[step.path] = (around, not step.success)
        for child in step.children:
            look(child, step.path)

    for step in result.step_history:
        look(step, None)
    return found


def spans_of(tracing: Any) -> dict[str, tuple[str | None, bool]]:
    """Return the same of spans; attempts are left out, and a step that was tried again counts as it was at last."""
    by_id = {span.context.span_id: span for span in tracing.spans}
    found = {}
    for span in sorted(tracing.spans, key=lambda span: span.start_time):
        if "flow.step.path" in span.attributes:
            around = by_id[span.parent.span_id]
            while around.parent is not None and "flow.step.path" not in around.attributes:
                around = by_id[around.parent.span_id]
            status = span.status.status_code.name == "ERROR"
            found[span.attributes["flow.step.path"]] = (around.attributes.get("flow.step.path"), status)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_tree_of_spans_is_the_tree_of_results(traced: Any, both: Any, times: Any, data: Any) -> None:
    pipeline = Pipeline([data.draw(pipelines(both, times)) for _ in range(data.draw(st.integers(0, 3)))])
    tracing = traced()
    result = tracing.flow(pipeline).run("data")
    results, spans = results_of(result), spans_of(tracing)
    assert {path: spans[path] for path in results} == results
    assert tracing.run_span.attributes["flow.run.status"] == result.status.value
    assert len({span.context.trace_id for span in tracing.spans}) == 1
    assert all(span.end_time is not None for span in tracing.spans)
    # Beyond these there are only steps of attempts that were dropped.
    dropped = set(spans) - set(results)
    assert not dropped or any(span.name == "attempt 2" for span in tracing.spans)
