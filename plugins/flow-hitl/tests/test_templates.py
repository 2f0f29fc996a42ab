"""Messages with placeholders."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from flow_hitl import approval, human_in_the_loop
from flow_hitl._template import Template
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr

from flow import ConfigurationError, PipelineContext, StepFailed


class Address(BaseModel):
    city: str = "Bern"
    _secret: str = PrivateAttr("hidden")

    def street(self) -> str:
        raise AssertionError("a template has called something")

    @property
    def country(self) -> str:
        raise AssertionError("a template has called something")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@attrs.frozen
class Point:
    x: int = 1
    _y: int = 2


@dataclasses.dataclass
class Author:
    name: str = "Ada"
    _rank: int = 1


class Research(PipelineContext):
    topic: str = "rivers"
    address: Address = Address()
    people: list[Author] = [Author(), Author("Grace")]
    password: SecretStr = SecretStr("hunter2")


def rendered(text: str, data: Any = "input", context: Any = None) -> str:
    return Template.parse(text).render(data, Research() if context is None else context)


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ("no placeholder", None, "no placeholder"),
        ("", None, ""),
        ("{{ data }}", "input", "input"),
        ("{{data}}", "input", "input"),
        ("{{\n  data\t}}", "input", "input"),
        ("a {{ data }} b {{ data }} c", 1, "a 1 b 1 c"),
        ("{{ data }}", None, "None"),
        ("{{ data }}", "{{ context.topic }}", "{{ context.topic }}"),
        ("{{ data.title }}", {"title": "x"}, "x"),
        ("{{ data . title }}", {"title": "x"}, "x"),
        ("{{ data.content-type }}", {"content-type": "text"}, "text"),
        ("{{ data.0.1 }}", [["a", "b"]], "b"),
        ("{{ data.1 }}", {"1": "text"}, "text"),
        ("{{ data.1 }}", {1: "number"}, "number"),
        ("{{ data.x }}", Point(), "1"),
        ("{{ data.name }}", Author(), "Ada"),
        ("{{ data.ünï }}", {"ünï": "x"}, "x"),
        ("{{ data.anything }}", Open(anything="goes"), "goes"),  # type: ignore[call-arg]
        ("{{ data.key }}", OrderedDict(key="x"), "x"),
        ("{{ context.topic }}", None, "rivers"),
        ("{{ context.address.city }}", None, "Bern"),
        ("{{ context.people.1.name }}", None, "Grace"),
        ("{{ context.password }}", None, "**********"),
        ('{"a": {"b": "{{ data }}"}}', 1, '{"a": {"b": "1"}}'),
        ("{ data } }}", 1, "{ data } }}"),
    ],
)
def test_placeholders_are_filled_in(text: str, data: Any, message: str) -> None:
    assert rendered(text, data) == message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ data", "opens a placeholder with {{ and does not close it"),
        ("{{ data }} {{", "opens a placeholder"),
        ("{{ }}", "is no path of names"),
        ("{{}}", "is no path of names"),
        ("{{ data. }}", "is no path of names"),
        ("{{ .data }}", "is no path of names"),
        ("{{ data..a }}", "is no path of names"),
        ("{{ data.keys() }}", "is no path of names"),
        ("{{ data['a'] }}", "is no path of names"),
        ("{{ data | upper }}", "is no path of names"),
        ("{{ 1 + 1 }}", "is no path of names"),
        ("{{{ data }}}", "is no path of names"),
        ("{{ dta }}", "begins with neither data nor context"),
        ("{{ resources.db }}", "begins with neither data nor context"),
        ("{{ context._private }}", "reaches for '_private', which is private"),
        ("{{ data.__class__ }}", "reaches for '__class__', which is private"),
        ("{{ data.a.__init__.__globals__ }}", "which is private"),
    ],
)
@pytest.mark.parametrize("make", [human_in_the_loop, approval])
def test_a_broken_message_is_refused_when_the_step_is_made(make: Any, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make("label", text)
    assert caught.value.message.startswith(f"step 'label': the message {text!r}")
    assert complaint in caught.value.message


@pytest.mark.parametrize("message", [7, b"bytes", ["a"]], ids=repr)
def test_a_message_is_a_text_or_a_function(message: Any) -> None:
    with pytest.raises(ConfigurationError, match="step 'label': the message is a text or a function"):
        human_in_the_loop("label", message)


@pytest.mark.parametrize(
    ("text", "data", "complaint"),
    [
        ("{{ data.titel }}", {"title": 1, 2: 3}, "data is of type dict and has no 'titel'; it has: title, 2"),
        ("{{ data.0 }}", [], "data has 0 items and none at '0'"),
        ("{{ data.first }}", [1], "data has 1 items and none at 'first'"),
        ("{{ data.5.a }}", [1], "data has 1 items and none at '5'"),
        ("{{ data.0 }}", "text", "data is of type str and has no '0'; it has no fields"),
        ("{{ data.real }}", 7, "data is of type int and has no 'real'; it has no fields"),
        ("{{ data.a }}", None, "data is of type NoneType and has no 'a'; it has no fields"),
        ("{{ data.y }}", Point(), "data is of type Point and has no 'y'; it has: x"),
        ("{{ data.rank }}", Author(), "data is of type Author and has no 'rank'; it has: name"),
        ("{{ data.keys }}", {}, "data is of type dict and has no 'keys'; it has no fields"),
        ("{{ context.address.street }}", None, "context.address is of type Address and has no 'street'; it has: city"),
        ("{{ context.address.country }}", None, "has no 'country'; it has: city"),
        ("{{ context.model_fields }}", None, "has no 'model_fields'; it has: initial_prompt"),
        ("{{ data.x }}", {f"k{n}": n for n in range(30)}, "k18, k19, …"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_that_are(text: str, data: Any, complaint: str) -> None:
    with pytest.raises(StepFailed) as caught:
        rendered(text, data)
    assert caught.value.message.startswith(f"the message {text!r} names {text}, but ")
    assert complaint in caught.value.message


class Hostile(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("not today")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("not today")

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError("not today")


@pytest.mark.parametrize("text", ["{{ data }}", "{{ data.a }}", "{{ data.a.b }}"])
def test_what_the_users_objects_raise_is_told(text: str) -> None:
    with pytest.raises(StepFailed, match=f"{text} raised RuntimeError: not today"):
        rendered(text, Hostile())


# -- whatever is written, and whatever it is filled with

NAMES = st.sampled_from(
    ["data", "context", "topic", "address", "city", "people", "0", "1", "name", "__class__", "_x", ""]
)
PATHS = st.lists(NAMES, max_size=4).map(".".join)
TEXTS = st.lists(st.one_of(st.text(max_size=5), PATHS, st.sampled_from(["{{", "}}", "{", "}", " ", "."]))).map("".join)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just(Point())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers(0, 2), inner, max_size=3),
    max_leaves=8,
)


@given(TEXTS)
def test_any_text_is_a_message_or_refused(text: str) -> None:
    try:
        parsed = Template.parse(text)
    except ConfigurationError:
        return
    assert len(parsed.literals) == len(parsed.paths) + 1
    assert all(path[0] in ("data", "context") for path in parsed.paths)
    assert not any(name.startswith("_") for path in parsed.paths for name in path)


@given(PATHS, VALUES)
def test_filling_in_gives_a_text_or_says_what_is_missing(path: str, data: Any) -> None:
    try:
        message = rendered("<{{ " + path + " }}>", data)
    except (ConfigurationError, StepFailed):
        return
    assert message.startswith("<")
    assert message.endswith(">")


@given(VALUES)
def test_what_is_filled_in_is_never_read_as_a_message(data: Any) -> None:
    assert rendered("{{ data }}", data) == str(data)
