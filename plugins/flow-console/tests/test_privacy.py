"""No prompt, no output and no secret leaves the process unless it is asked for."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flow_console import ConsoleTracer, run_tree
from pydantic import BaseModel, SecretStr

from flow import (
    BaseValidator,
    Flow,
    FlowError,
    PauseSignal,
    Pipeline,
    Step,
    ValidationResult,
)

CANARY = "canary-3f9a in the input\nand a second line of it"
KEY = "sk-live-0123456789abcdef"


class Typed(BaseModel):
    number: int
    password: str = "hunter2"
    token: SecretStr = SecretStr("hunter2")


async def echo(data: Any) -> Any:
    return data


async def stream(data: str) -> AsyncIterator[str]:
    for word in data.split():
        yield word


async def quote(data: Any) -> str:
    raise ValueError(f"cannot use {data!r}")


async def quote_a_part(data: str) -> str:
    raise ValueError(f"cannot parse: {data[7:30]}…")


async def parse(data: str) -> Typed:
    return Typed(number=data)  # type: ignore[arg-type]


async def ask(data: str) -> str:
    raise PauseSignal(f"Is this spam? {data}")


async def hint(data: str) -> str:
    raise FlowError("refused", hint=f"Shorten {data}")


class Quoting(BaseValidator):
    name = "quoting"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=False, feedback=f"not allowed: {output}")


def made(data: str) -> dict[str, str]:
    return {"text": f"{data} made of it"}


PIPELINES = {
    "plain": Step("echo", echo) >> Step("made", made),
    "nested": (Step("echo", echo) >> Step("made", made) >> Step("quote", quote)).as_step("inner"),
    "failing": Step("echo", echo) >> Step("quote", quote, retries=1),
    "a part": Step("quote", quote_a_part),
    "fallback": Step("quote", quote, fallback=Step("again", quote)),
    "validated": Step("echo", echo, validators=[Quoting()]),
    "parsing": Step("parse", parse),
    "streaming": Step("stream", stream) >> Step("quote", quote),
    "pausing": Step("ask", ask),
    "hinting": Step("hint", hint),
    "cancelled": Step("echo", echo),
}


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.parametrize("stream", [io.StringIO, Tty])
@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_no_content_by_default(name: str, level: str, stream: type[io.StringIO]) -> None:
    out = stream()
    flow = Flow(Pipeline.of(PIPELINES[name]), state="memory://", local_tracer=ConsoleTracer(level=level, stream=out))
    result = flow.run(CANARY)
    for text in (out.getvalue(), run_tree(result, width=300)):
        assert result.run_id in text
        assert "canary" not in text
        assert "second line" not in text


def test_a_value_that_pydantic_refused_is_withheld_however_short() -> None:
    assert "xyz" not in run_tree(Flow(Step("parse", parse)).run("xyz"), width=300)


@pytest.mark.parametrize("stream", [io.StringIO, Tty])
def test_secrets_are_masked_even_when_content_is_asked_for(stream: type[io.StringIO]) -> None:
    out = stream()
    tracer = ConsoleTracer(level="debug", log_inputs=True, log_outputs=True, stream=out)
    data = {
        "user": "ada",
        "api_key": "hunter2",
        "note": f"use {KEY}",
        "nested": [{"Authorization": "hunter2"}, Typed(number=1)],
    }
    Flow(Step("echo", echo) >> Step("quote", quote), local_tracer=tracer).run(data)
    assert "'ada'" in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert KEY not in out.getvalue()


def test_a_key_in_an_error_message_is_masked() -> None:
    async def fail(data: str) -> str:
        raise ConnectionError(f"401 for key {KEY} at https://ada:hunter2@example.org?token=hunter2")

    text = run_tree(Flow(Step("call", fail)).run("x"), width=300)
    assert "https://ada:****@example.org?token=****" in text
    assert KEY not in text


def test_a_secret_is_withheld_from_messages_although_content_is_shown() -> None:
    async def refuse(form: dict[str, Any]) -> str:
        raise PermissionError(f"{form['user']} / {form['password']} / {form['model'].token.get_secret_value()}")

    out = io.StringIO()
    tracer = ConsoleTracer(level="debug", log_inputs=True, stream=out)
    form = {"user": "ada@example.org", "password": "pass1", "model": Typed(number=1, token=SecretStr("token-1"))}
    Flow(Step("login", refuse), local_tracer=tracer).run(form)
    assert "ada@example.org / [withheld] / [withheld]" in out.getvalue()
    assert "pass1" not in out.getvalue()
    assert "token-1" not in out.getvalue()
