"""Values of any type that can be declared come back, and no stored text does anything but fail to fit."""

from __future__ import annotations

import collections
import datetime as dt
import os
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NewType

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, SecretStr, create_model

from core.tests import value_types as v
from flow import SerializationError
from flow._serialize import Codec, codec_for

SOAK = os.environ.get("FLOW_TEST_SOAK", "") not in ("", "0")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
Named = NewType("Named", str)

# A type, and what makes values of it.
Typed = tuple[Any, st.SearchStrategy[Any]]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
HASHABLE: list[Typed] = [
    (int, st.integers()),
    (bool, st.booleans()),
    (str, TEXTS),
    (Named, TEXTS),
    (bytes, st.binary(max_size=5)),
    (float, st.floats(allow_nan=False)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (dt.date, st.dates()),
    (dt.datetime, st.datetimes() | st.datetimes(timezones=OFFSETS)),
    (dt.time, st.times() | st.times(timezones=OFFSETS)),
    (dt.timedelta, st.timedeltas()),
    (complex, st.complex_numbers(allow_nan=False)),
    (v.Colour, st.sampled_from(v.Colour)),
    (v.Mixed, st.sampled_from(v.Mixed)),
    (v.Rights, st.sampled_from([v.Rights(0), v.Rights.READ, v.Rights.READ | v.Rights.WRITE])),
    (PurePosixPath, TEXTS.filter(lambda text: "\0" not in text).map(PurePosixPath)),
    (v.Coordinates, st.builds(v.Coordinates, st.integers(), TEXTS)),
    (v.Frozen, st.builds(v.Frozen, st.tuples(st.integers(), st.integers()), name=TEXTS)),
]
OTHERS: list[Typed] = [
    (Any, JSON.filter(lambda value: -(2**63) <= value < 2**64 if type(value) is int else True)),
    (type(None), st.none()),
    (v.Article, st.builds(v.Article, title=TEXTS, words=st.integers(), raw=st.binary(max_size=4))),
    (v.LongArticle, st.builds(v.LongArticle, title=TEXTS, chapters=st.lists(TEXTS, max_size=2))),
    (v.Point, st.builds(v.Point, st.integers(), st.floats(allow_nan=False), st.binary(max_size=3))),
    (v.Person, st.builds(v.Person, TEXTS, st.integers(0, 9), st.lists(st.builds(v.Person, TEXTS), max_size=2))),
]


def _listed(inner: Typed) -> list[Typed]:
    kind, values = inner
    return [
        (list[kind], st.lists(values, max_size=3)),
        (tuple[kind, ...], st.lists(values, max_size=3).map(tuple)),
        (tuple[kind, int], st.tuples(values, st.integers())),
        (collections.deque[kind], st.lists(values, max_size=3).map(collections.deque)),
        (dict[str, kind], st.dictionaries(TEXTS, values, max_size=3)),
        (kind | None, st.none() | values),
        (v.Box[kind], values.map(lambda item: v.Box[kind](item=item))),
        (v.Pair[kind], st.builds(v.Pair, values, st.lists(values, max_size=2))),
        (v.Holder[kind], st.builds(v.Holder, values, st.sampled_from(v.Colour))),
        (_model_of(kind), values.map(lambda item: _model_of(kind)(field=item))),
    ]


_models: dict[Any, Any] = {}


def _model_of(kind: Any) -> Any:
    if kind not in _models:
        config = ConfigDict(arbitrary_types_allowed=True, revalidate_instances="never")
        _models[kind] = create_model(f"Model{len(_models)}", __config__=config, field=(kind, ...))
    return _models[kind]


def _keyed(key: Typed, inner: Typed) -> Typed:
    return dict[key[0], inner[0]], st.dictionaries(key[1], inner[1], max_size=3)  # type: ignore[name-defined]


def _either(one: Typed, other: Typed) -> Typed:
    return one[0] | other[0], one[1] | other[1]


def _nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    hashable = st.sampled_from(HASHABLE)
    return st.one_of(
        inner.flatmap(lambda typed: st.sampled_from(_listed(typed))),
        st.builds(_keyed, hashable, inner),
        st.builds(_either, inner, inner).filter(lambda typed: typed[0] is not Any),
        hashable.map(lambda typed: (set[typed[0]], st.sets(typed[1], max_size=3))),  # type: ignore[name-defined]
        hashable.map(lambda typed: (frozenset[typed[0]], st.frozensets(typed[1], max_size=3))),  # type: ignore[name-defined]
    )


TYPES = st.recursive(st.sampled_from(HASHABLE + OTHERS), _nested, max_leaves=4)


@given(st.data())
@settings(
    max_examples=2000 if SOAK else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_values_of_any_type_come_back(data: st.DataObject) -> None:
    declared, values = data.draw(TYPES)
    value = data.draw(values)
    codec = Codec(declared)
    text = codec.dumps(value, path="0:a")
    orjson.loads(text)
    found = codec.loads(text, path="0:a")
    assert found == value
    assert type(found) is type(value)


@given(JSON)
@settings(max_examples=500 if SOAK else 100, deadline=None)
def test_plain_values_come_back_whatever_they_look_like(value: Any) -> None:
    for declared in (dict[str, Any], list[Any], dict[str, Any] | list[Any] | int | str):
        text, typed = codec_for(declared).encode({"": value}, path="0:a")
        assert codec_for(declared).decode(text, typed) == {"": value}


# -- damaged and hostile text --

_FORBIDDEN = ("import", "exec", "open", "os.system", "subprocess.Popen", "compile", "socket.connect", "marshal.loads")


class _Watch:
    """Audit hooks cannot be taken away again, so there is one, which looks when it is told to."""

    def __init__(self) -> None:
        self.looks = False
        self.seen: list[str] = []

    def __call__(self, event: str, _: Any) -> None:
        if self.looks and event in _FORBIDDEN:
            self.seen.append(event)


@pytest.fixture(scope="module")
def watch() -> Callable[[], Any]:
    watching = _Watch()
    sys.addaudithook(watching)

    @contextmanager
    def quiet() -> Iterator[None]:
        watching.seen.clear()
        watching.looks = True
        try:
            yield
        finally:
            watching.looks = False
        assert not watching.seen

    return quiet


SEEDS: list[tuple[Any, Any]] = [
    (Any, {"a": [1, 2.5, None, True, "x"], "__type__": "os.system"}),
    (v.Node, v.Node(value=1, children=[v.Node(value=2)])),
    (v.Article | v.LongArticle | str, v.LongArticle(title="x", chapters=["a"])),
    (list[v.Person], [v.Person("Ada", 3, [v.Person("Bob")])]),
    (dict[tuple[int, bytes], Decimal], {(1, b"\xff"): Decimal("1.5")}),
    (v.Movie, {"title": "a", "year": 1, "director": v.Person("x")}),
    (v.Pair[dt.datetime], v.Pair(dt.datetime(2024, 1, 1), [dt.datetime(1, 1, 1)])),  # noqa: DTZ001
    (tuple[uuid.UUID, dt.timedelta, complex], (uuid.UUID(int=1), dt.timedelta(1), 1j)),
    (v.Account, v.Account(user="a", password=SecretStr("b"))),
    (list[v.Colour | v.Mixed | v.Rights], [v.Colour.RED, v.Mixed.PAIR, v.Rights.READ]),
    (v.Weather, v.Weather(temperature=1.0)),
    (v.Counted, v.Counted(["a"])),
]
PIECES = [
    *(bytes([number]) for number in b'{}[]",:\\0-eE.NIn'),
    b"null", b"NaN", b"Infinity", b"1e999", b'"\\ud800"', b"9" * 5000, b"[" * 300, b'{"a":' * 300, b'"__class__":',
    b'{"py/object":"os.system"}', b"\xff\xfe", b"\x00", b'"os:system"', b"1.0", b'{"str":1}', b"-0", b"true",
]  # fmt: skip


def _mutated(text: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        start, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        end = min(end, start + chance.choice([0, 1, 3, 1000]))
        text = text[:start] + chance.choice([*PIECES, text[start:end] * 2]) + text[end:]
    return text


def test_damaged_text_is_refused_or_read_and_nothing_else(watch: Callable[[], Any]) -> None:
    chance = random.Random(4)
    texts = [(codec_for(declared), codec_for(declared).dumps(value, path="0:a")) for declared, value in SEEDS]
    for codec, text in texts:
        codec.loads(text)
    _try(codec_for(str), b'"\xff')  # what is imported with the first error is imported now
    refused = 0
    with watch():
        for number in range(10_000 if SOAK else 500):
            codec, text = texts[number % len(texts)]
            refused += not _try(codec, _mutated(text, chance))
    assert refused > 100


def _try(codec: Codec, text: bytes) -> bool:
    try:
        codec.loads(text, path="0:a")
    except SerializationError as error:
        assert error.path == "0:a"  # noqa: PT017  any other exception fails the test
        return False
    return True
