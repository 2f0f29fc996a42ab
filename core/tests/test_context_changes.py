"""Changes of the context: what a step added is written, and not what was there before."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from flow import SerializationError
from flow._context import changes, isolate
from flow._context_changes import dump_changes, load_changes


class State(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0
    text: str = ""
    log: list[str] = []
    days: list[dt.date] | None = None
    bounded: Annotated[list[int], Field(max_length=3)] = []
    table: dict[str, list[int]] = {}
    by_number: dict[int, bytes] = {}
    loose: list[Any] = []
    whole: Annotated[list[int], PlainSerializer(lambda value: len(value), return_type=int)] = []
    pair: tuple[int, ...] = ()


def written(before: BaseModel, after: dict[str, Any]) -> Any:
    return orjson.loads(dump_changes(before, after, path="0:a"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"n": 1, "text": "x"}, {"set": {"n": 1, "text": "x"}}),
        ({"log": ["a"]}, {"log": ["a", "b"]}, {"append": {"log": ["b"]}}),
        ({"log": ["a"]}, {"log": []}, {"set": {"log": []}}),
        ({"log": ["a"]}, {"log": ["b", "a"]}, {"set": {"log": ["b", "a"]}}),
        ({"days": None}, {"days": [dt.date(2024, 1, 1)]}, {"set": {"days": ["2024-01-01"]}}),
        ({"days": []}, {"days": [dt.date(2024, 1, 1)]}, {"append": {"days": ["2024-01-01"]}}),
        ({"days": []}, {"days": None}, {"set": {"days": None}}),
        ({"bounded": [1]}, {"bounded": [1, 2, 3, 4]}, {"append": {"bounded": [2, 3, 4]}}),
        ({"table": {"a": [1]}}, {"table": {"a": [1], "b": []}}, {"merge": {"table": {"b": []}}}),
        ({"table": {"a": [1], "b": []}}, {"table": {"a": [1, 2], "b": []}}, {"merge": {"table": {"a": [1, 2]}}}),
        ({"table": {"a": [1]}}, {"table": {}}, {"set": {"table": {}}}),
        ({"table": {"a": [], "b": []}}, {"table": {"b": [], "a": []}}, {"set": {"table": {"b": [], "a": []}}}),
        ({"by_number": {}}, {"by_number": {1: b"\xff"}}, {"merge": {"by_number": [[1, "/w=="]]}}),
        ({"pair": (1,)}, {"pair": (1, 2)}, {"set": {"pair": [1, 2]}}),
        ({}, {"extra": {"set": 1}}, {"set": {"extra": {"set": 1}}}),
        ({"extra": [1]}, {"extra": [1, 2]}, {"set": {"extra": [1, 2]}}),
        ({}, {}, {}),
    ],
)
def test_what_is_written(before: dict[str, Any], after: dict[str, Any], expected: Any) -> None:
    base = State.model_construct(**before)
    assert written(base, after) == expected
    assert load_changes(base, dump_changes(base, after, path="a"), path="a") == after


def test_what_a_writer_of_its_own_writes_is_never_split() -> None:
    assert written(State(whole=[1]), {"whole": [1, 2]}) == {"set": {"whole": 2}}


def test_changes_are_added_to_what_others_have_added_since() -> None:
    change = dump_changes(
        State(log=["a"], table={"a": [1]}), {"log": ["a", "b"], "table": {"a": [1], "b": [2]}}, path="a"
    )
    grown = State(log=["a", "x"], table={"a": [1], "x": [9]})
    assert load_changes(grown, change, path="a") == {"log": ["a", "x", "b"], "table": {"a": [1], "x": [9], "b": [2]}}


def test_what_others_hold_is_not_touched() -> None:
    base = State(log=["a"], table={"a": [1]})
    before = copy.deepcopy(base)
    change = dump_changes(base, {"log": ["a", "b"], "table": {"a": [1], "b": []}}, path="a")
    load_changes(base, change, path="a")["log"].append("c")
    assert base == before


def test_a_view_is_read_without_completing_it() -> None:
    view = isolate(State(log=["a"]))
    assert written(view, {"log": ["a", "b"]}) == {"append": {"log": ["b"]}}
    assert not changes(view)


def test_a_journal_grows_with_what_is_added() -> None:
    base, sizes = State(), []
    for number in range(1000):
        log = [*base.log, f"line {number:04}"]
        sizes.append(len(dump_changes(base, {"log": log}, path="a")))
        base.log = log
    assert set(sizes) == {len(b'{"append":{"log":["line 0000"]}}')}


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(),
    "text": st.text(),
    "log": st.lists(st.sampled_from(["a", "b", "ü"]), max_size=4),
    "days": st.none() | st.lists(st.dates(), max_size=3),
    "bounded": st.lists(st.integers(0, 1), max_size=5),
    "table": st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 1), max_size=2)),
    "by_number": st.dictionaries(st.integers(0, 3), st.binary(max_size=2)),
    "loose": st.lists(st.none() | st.booleans() | st.text(max_size=2) | st.just({"append": {"log": []}}), max_size=4),
    "pair": st.lists(st.integers(), max_size=3).map(tuple),
    "extra": st.none() | st.lists(st.integers(0, 1), max_size=3),
}


@given(st.fixed_dictionaries(VALUES), st.fixed_dictionaries({}, optional=VALUES))
@settings(max_examples=200, deadline=None)
def test_changes_come_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    base = State.model_construct(**copy.deepcopy(before))
    found = load_changes(base, dump_changes(base, after, path="a"), path="a")
    assert {name: repr(value) for name, value in found.items()} == {name: repr(value) for name, value in after.items()}
    assert {name: getattr(base, name) for name in before} == before


def test_what_cannot_be_stored_is_named_with_step_field_type_and_remedy() -> None:
    with pytest.raises(SerializationError) as refused:
        dump_changes(State(), {"loose": [object()]}, path="3:ask")
    assert str(refused.value) == (
        "step '3:ask': context.loose: a value of type list cannot be stored: "
        "builtins.object is not a plain JSON value. "
        "Annotate the field 'loose' of the context (a Pydantic model, dataclass or JSON type)"
    )
    with pytest.raises(SerializationError, match=r"step '3:ask': context.other: a value of type date"):
        dump_changes(State(), {"other": dt.date(2024, 1, 1)}, path="3:ask")


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b"7",
        b'{"delete":{}}',
        b'{"set":[]}',
        b'{"set":{"n":"x"}}',
        b'{"append":{"log":[1]}}',
        b'{"merge":{"table":[]}}',
        b'{"set":{"n":1,"n":2}}',
        b'{"set":{},"set":{"n":1}}',
    ],
)
def test_a_damaged_change_is_refused(stored: bytes) -> None:
    with pytest.raises(SerializationError, match="step '3:ask'"):
        load_changes(State(), stored, path="3:ask")
