"""What leaves the process: no content unless it is asked for, and no secret that is recognised even then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flow_otel import AsTool, OtelTracer

from flow import PauseSignal, Pipeline, PipelineContext, Step

PROMPT = "the diagnosis of patient Lovelace"
KEY = "sk-live-0123456789abcdef"


class Clinic(PipelineContext):
    note: str = "private remark of the doctor"


class Doctor:
    async def run(self, data: Any) -> Any:
        return {"answer": f"concerning {data}", "api_key": "hunter2"}


async def echo(data: Any) -> Any:
    return data


def repeats(data: Any) -> Any:
    raise ValueError(f"cannot read {data!r} with {KEY}")


async def repeats_context(data: Any, context: Clinic) -> Any:
    raise ValueError(f"cannot read {context.note}")


async def asks(data: Any) -> Any:
    raise PauseSignal(f"what about {data}?")


def pipelines() -> dict[str, Any]:
    return {
        "plain": Step("a", echo) >> Step("b", echo),
        "agent": Step("a", Doctor()) >> Step("b", echo, policies=[AsTool()]),
        "failing": Step("a", repeats),
        "failing later": Step("a", echo)
        >> Pipeline([Step("b", lambda data: "x" * 9), Step("c", repeats)]).as_step("d"),
        "retried": Step("a", repeats, retries=1),
        "fallen back": Step("a", repeats, fallback=Step("b", echo)),
        "paused": Step("a", asks),
        "context": Step("a", repeats_context),
    }


@pytest.mark.parametrize("shape", sorted(pipelines()))
async def test_no_content_leaves_the_process(traced: Any, shape: str) -> None:
    tracing = traced(metrics=True)
    await tracing.run(pipelines()[shape], PROMPT, context_model=Clinic)
    for text in (PROMPT, "Lovelace", "private remark", KEY, "hunter2"):
        assert text not in tracing.told


async def test_the_words_of_a_failure_stay_where_they_repeat_nothing(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("a", repeats), PROMPT)
    ((_, told),) = tracing.events("step a")
    assert told["exception.message"] == "cannot read '[withheld]' with ****"
    assert "exception.stacktrace" not in told
    assert tracing.span("step a").status.description == "ValueError: cannot read '[withheld]' with ****"


async def test_what_an_earlier_step_returned_is_withheld_too(traced: Any) -> None:
    async def secretive(data: Any) -> Any:
        return "the password of the vault is swordfish"

    def forgetful(data: Any) -> Any:
        raise ValueError("I was told: the password of the vault is swordfish")

    tracing = traced()
    await tracing.run(Step("a", secretive) >> Step("b", lambda data: 1) >> Step("c", forgetful))
    assert "swordfish" not in tracing.told
    assert "I was told: [withheld]" in tracing.told


async def test_content_is_told_where_it_is_asked_for(traced: Any) -> None:
    tracing = traced(content=True)
    await tracing.run(
        Step("doctor", Doctor()) >> Step("tool", echo, policies=[AsTool()]) >> Step("plain", echo), PROMPT
    )
    agent = tracing.span("invoke_agent doctor").attributes
    assert json.loads(agent["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert PROMPT in json.loads(agent["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert PROMPT in tracing.span("execute_tool tool").attributes["gen_ai.tool.call.arguments"]
    assert PROMPT in tracing.span("execute_tool tool").attributes["gen_ai.tool.call.result"]
    assert PROMPT in tracing.span("step plain").attributes["flow.step.input"]
    assert PROMPT in tracing.span("step plain").attributes["flow.step.output"]
    assert PROMPT in tracing.run_span.attributes["gen_ai.input.messages"]
    assert PROMPT in tracing.run_span.attributes["gen_ai.output.messages"]
    assert "hunter2" not in tracing.told


async def test_failures_and_questions_are_told_in_full_where_content_is(traced: Any) -> None:
    tracing = traced(content=True)
    await tracing.run(Step("a", repeats), PROMPT)
    ((_, told),) = tracing.events("step a")
    assert told["exception.message"] == f"cannot read {PROMPT!r} with ****"
    assert "in repeats" in told["exception.stacktrace"]
    await tracing.run(Step("q", asks), PROMPT)
    assert tracing.events("step q")[0][1]["flow.pause.question"] == f"what about {PROMPT}?"
    assert KEY not in tracing.told


async def test_content_is_cut(traced: Any) -> None:
    tracing = traced(content=True, content_limit=10)
    await tracing.run(Step("a", echo), "x" * 1000)
    assert tracing.span("step a").attributes["flow.step.input"] == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("variable", "told"),
    [("true", True), ("TRUE", True), ("SPAN_ONLY", True), ("SPAN_AND_EVENT", True), ("NO_CONTENT", False), ("", False)],
)
async def test_the_standard_variable_asks_for_content(
    traced: Any, monkeypatch: pytest.MonkeyPatch, variable: str, told: bool
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", variable)
    tracing = traced()
    await tracing.run(Step("a", echo), PROMPT)
    assert (PROMPT in tracing.told) is told


async def test_an_argument_goes_before_the_variable(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    tracing = traced(content=False)
    await tracing.run(Step("a", echo), PROMPT)
    assert PROMPT not in tracing.told


def test_the_repr_of_options_shows_no_headers() -> None:
    from flow_otel._options import Options

    assert KEY not in repr(Options(headers={"api-key": KEY}))
    assert isinstance(OtelTracer(), OtelTracer)
