"""No prompt, no output and no secret leaves the process unless it is asked for."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from flow_console import ConsoleTracer, run_tree
from flow_console._privacy import mask, shortened, texts_in, withhold
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


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefgh12345678",
        "Bearer abcdefghijkl",
        "ghp_0123456789abcdefghij",
        "github_pat_0123456789abcdefghij",
        "xoxb-0123456789-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "password=hunter2hunter2",
        "'api_key': 'abcdefgh'",
        "postgres://ada:hunter2hunter2@db/x",
        "-----BEGIN RSA PRIVATE KEY-----\nabc",
    ],
)
def test_texts_that_look_like_secrets(text: str) -> None:
    masked = mask(f"before {text} after")
    secret = text.rpartition(":")[2] if "://" in text else text
    assert "****" in masked
    assert secret not in masked
    assert masked.startswith("before ")


@pytest.mark.parametrize(
    "text", ["the task-force met", "tokens: many of them were sent", "a password is needed", "ask-me"]
)
def test_texts_that_only_sound_like_secrets(text: str) -> None:
    assert mask(text).replace("many", "").count("****") <= ("tokens:" in text)


def test_a_long_value_is_one_short_line() -> None:
    assert len(shortened("x\n" * 10_000)) == 200
    assert len(shortened({str(number): list(range(100)) for number in range(1_000)})) == 200
    assert "\n" not in shortened({"a": "b\nc"})


def test_values_of_all_sorts() -> None:
    @dataclasses.dataclass
    class Data:
        name: str
        secret: str

    @attrs.define
    class Slotted:
        token: str
        size: int

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert shortened(Data("ada", "hunter2")) == "Data(name='ada', secret=****)"
    assert shortened(Slotted("hunter2", 3)) == "Slotted(token=****, size=3)"
    assert shortened(Typed(number=3)) == "Typed(number=3, password=****, token=****)"
    assert shortened((1, {2}, b"x", None)) == "(1, {2}, b'x', None)"
    assert shortened(Broken()) == "<Broken: its repr raised RuntimeError>"


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


def test_a_value_that_holds_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "…" in shortened(endless)
    assert texts_in(endless) == []


def test_what_is_withheld_is_what_was_repeated() -> None:
    assert withhold("got 'a long prompt' and more", ["a long prompt"]) == "got '[withheld]' and more"
    assert withhold("got 'yes'", texts_in("yes")) == "got 'yes'"
    assert withhold("got: prompt with a lot of text …", ["a prompt with a lot of text in it"]) == "got:[withheld]…"
    assert withhold("a" * 50_000, ["a" * 1_000_000]) == "[withheld]"
