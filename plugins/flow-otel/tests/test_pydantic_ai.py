"""A real PydanticAI agent: its own spans nest inside the step's, and tokens count once."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from flow import Step


def agent_of(tracing: Any) -> Agent[None, str]:
    provider: dict[str, Any] = {"tracer_provider": tracing.provider, "include_content": False}
    if find_spec("pydantic_ai.capabilities") is not None:  # since version 2
        from pydantic_ai.capabilities.instrumentation import Instrumentation

        options: dict[str, Any] = {"capabilities": [Instrumentation(settings=InstrumentationSettings(**provider))]}
    else:  # the names of version 2 have to be asked for
        spans = InstrumentationSettings(**provider, version=3, use_aggregated_usage_attribute_names=True)
        options = {"instrument": spans}
    return Agent(TestModel(custom_output_text="four"), name="counter", **options)


@pytest.mark.parametrize(("retries", "around"), [(0, "invoke_agent counter"), (2, "attempt 1")])
async def test_its_spans_are_inside_the_steps(traced: Any, retries: int, around: str) -> None:
    tracing = traced()
    result = await tracing.run(Step("count", agent_of(tracing), retries=retries), "two and two?")
    assert result.output == "four"
    by_id = {span.context.span_id: span for span in tracing.spans}
    ours, theirs = [span for span in tracing.spans if span.name == "invoke_agent counter"]
    assert ours.attributes["flow.step.path"] == "0:count"
    assert by_id[theirs.parent.span_id].name == around
    chat = next(span for span in tracing.spans if span.name.startswith("chat"))
    assert by_id[chat.parent.span_id] is theirs
    assert len({span.context.trace_id for span in tracing.spans}) == 1


async def test_tokens_count_once(traced: Any) -> None:
    tracing = traced()
    result = await tracing.run(Step("count", agent_of(tracing)), "two and two?")
    assert result.usage.input_tokens > 0
    counted = sum(span.attributes.get("gen_ai.usage.input_tokens", 0) for span in tracing.spans)
    assert counted == result.usage.input_tokens
    ours = next(span for span in tracing.spans if "flow.step.path" in span.attributes)
    assert ours.attributes["gen_ai.aggregated_usage.input_tokens"] == result.usage.input_tokens


async def test_its_prompt_stays_inside(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("count", agent_of(tracing)), "the prompt of a customer")
    assert "the prompt of a customer" not in tracing.told
