"""What `flow.privacy` recognises: secrets by type, name and shape, and content that a message repeats."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs
import pytest
from pydantic import BaseModel, SecretStr

from flow.privacy import mask, shortened, texts_in, withhold


class Typed(BaseModel):
    number: int
    password: str = "hunter2"
    token: SecretStr = SecretStr("hunter2")


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
