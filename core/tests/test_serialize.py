"""Values: what a step returns comes back as it was, or is refused with a text that says what to do."""

from __future__ import annotations

import collections
import datetime as dt
import json
import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import Base64Bytes, BaseModel, Field, ImportString, Secret, SecretBytes, SecretStr

from core.tests import value_types as v
from flow import SerializationError
from flow._plain import MAX_DEPTH
from flow._serialize import MAX_STORED_BYTES, Codec, build_adapter, codec_for

MOMENT = dt.datetime(2024, 2, 29, 12, 30, 1, 7, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=30)))


def stored(declared: Any, value: Any) -> Any:
    """Return what comes back of `value`; what is written is JSON that everybody reads."""
    data = Codec(declared).dumps(value, path="0:a")
    json.loads(data, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    return Codec(declared).loads(data, path="0:a")


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (type(None), None),
        (bool, True),
        (int, 2**200),
        (int, -(2**63)),
        (float, math.inf),
        (float, 1e-310),
        (float, -0.0),
        (complex, 1 - 2j),
        (str, "ünï\x00\u2028"),
        (bytes, b"\xff\x00"),
        (bytearray, bytearray(b"\xff")),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (dt.datetime, MOMENT),
        (dt.datetime, dt.datetime(1, 1, 1)),  # noqa: DTZ001  naive on purpose
        (dt.date, dt.date(9999, 12, 31)),
        (dt.time, dt.time(1, 2, 3, 4, tzinfo=dt.UTC)),
        (dt.timedelta, dt.timedelta.max),
        (dt.timedelta, dt.timedelta(microseconds=-1)),
        (Path, Path("/a b/ü")),
        (PurePosixPath, PurePosixPath("a/../b")),
        (v.Colour, v.Colour.BLUE),
        (v.Level, v.Level.HIGH),
        (v.Mixed, v.Mixed.TEXT),
        (v.Mixed, v.Mixed.PAIR),
        (v.Rights, v.Rights.READ | v.Rights.WRITE),
        (v.UserId, v.UserId(3)),
        (v.Kind, None),
        (v.Kind, 1),
        (Literal["a", "b"], "b"),
        (Literal[v.Colour.RED, b"x"], v.Colour.RED),
        (list, [1, {"a": None}]),
        (dict, {"a": [1.5]}),
        (tuple, (1, "a")),
        (tuple[()], ()),
        (tuple[int, ...], (1, 2)),
        (set[tuple[int, str]], {(1, "a"), (2, "b")}),
        (frozenset[bytes], frozenset({b"\xff"})),
        (collections.deque[int], collections.deque([1, 2])),
        (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
        (collections.defaultdict[str, list[int]], collections.defaultdict(list, a=[1])),
        (collections.Counter[str], collections.Counter("hello")),
        (dict[int, str], {1: "a", 2**70: "b"}),
        (dict[tuple[int, bytes], None], {(1, b"\xff"): None}),
        (dict[v.Colour, float], {v.Colour.RED: math.inf}),
        (dict[int | str, int], {1: 1, "1": 2}),
        (Sequence[int], (1, 2)),
        (Sequence[int], [1, 2]),
        (Mapping[str, int], {"a": 1}),
        (int | str, 1),
        (int | str, "1"),
        (float | str, "NaN"),
        (float | int, 1),
        (float | int, 1.0),
        (dt.datetime | str, "2024-01-01T00:00:00"),
        (dt.datetime | str, MOMENT),
        (UUID | Decimal | str | None, "1"),
        (UUID | Decimal | str | None, Decimal(1)),
        (UUID | Decimal | str | None, None),
        (list[int] | list[str], ["1"]),
        (list[int] | set[int] | tuple[int, ...], {1}),
        (v.Article | v.LongArticle, v.LongArticle(title="a")),
        (v.LongArticle | v.Article, v.Article(title="a")),
        (v.Article | dict[str, Any], {"title": "a", "words": 0}),
        (Annotated[v.Article | v.LongArticle, Field(description="either")], v.Article(title="b")),
        (v.Article, v.Article(title="a", raw=b"\xff")),
        (v.Aliased, v.Aliased(theName="abc", hidden=7)),
        (v.Doubling, v.Doubling(n=2)),
        (v.Weather, v.Weather(temperature=1.5)),
        (v.Node, v.Node(value=1, children=[v.Node(value=2), v.Node(value=3, children=[v.Node(value=4)])])),
        (v.Box[int], v.Box[int](item=1)),
        (v.Box[v.Box[bytes]], v.Box[v.Box[bytes]](item=v.Box[bytes](item=b"\xff"))),
        (v.Point, v.Point(1, math.inf, b"\xff")),
        (v.Frozen, v.Frozen((1, 2), name="y")),
        (v.Counted, v.Counted(["a", "b"])),
        (v.Pair[bytes], v.Pair(b"\xff", [b"a"])),
        (v.Person, v.Person("Ada", 36, [v.Person("Bob")])),
        (v.Holder[dt.date], v.Holder(dt.date(2024, 1, 1), v.Colour.BLUE)),
        (
            v.IntHolder,
            v.IntHolder(v.Holder(1), v.Article(title="x"), {dt.date(2024, 1, 1): v.Holder(b"\xff")}),
        ),
        (list[v.Person], [v.Person("Ada")]),
        (v.Box[v.Person], v.Box[v.Person](item=v.Person("Ada"))),
        (v.Coordinates, v.Coordinates(1, "a")),
        (v.Untyped, v.Untyped(1, "a")),
        (v.Movie, {"title": "a", "director": v.Person("Ada")}),
        (Base64Bytes, b"abc"),
        (Annotated[list[int], Field(min_length=3)], [1]),
        (type("Local", (BaseModel,), {"__annotations__": {"a": "int"}}), None),
    ],
    ids=lambda item: item.__name__ if isinstance(item, type) else type(item).__name__,
)
def test_values_come_back_as_they_were(declared: Any, value: Any) -> None:
    if value is None and isinstance(declared, type) and issubclass(declared, BaseModel):
        value = declared(a=1)
    found = stored(declared, value)
    assert found == value
    assert type(found) is type(value)
    assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


def test_a_model_comes_back_with_everything_in_it() -> None:
    value = v.Everything(
        when=MOMENT,
        price=Decimal("1.10"),
        id=UUID(int=1),
        tags={"a"},
        pair=(1, "x"),
        colour=v.Colour.RED,
        path=PurePosixPath("a"),
        article=v.Article(title="t", raw=b"\xff"),
        choice=v.LongArticle(title="l", chapters=["1"]),
        loose={"__type__": "os.system", "set": [1]},
        more={"extra": 1},  # pyright: ignore[reportCallIssue]
    )
    found = stored(v.Everything, value)
    assert found == value
    assert found.__pydantic_extra__ == {"more": {"extra": 1}}
    assert isinstance(found.choice, v.LongArticle)


def test_nan_comes_back() -> None:
    assert math.isnan(stored(float, math.nan))
    assert math.isnan(stored(v.Point, v.Point(1, math.nan)).y)
    assert stored(Decimal, Decimal("NaN")).is_nan()


def test_a_class_that_does_more_when_it_is_made_does_it_again() -> None:
    counted = v.Counted(["a", "b"])
    counted.count = 7
    found = stored(v.Counted, counted)
    assert (found.count, found.index) == (7, {"a": 0, "b": 1})
    assert stored(v.Private, v.Private(n=1))._seen == []


def test_generic_values_may_be_made_without_their_argument() -> None:
    assert stored(v.Box[int], v.Box(item=1)) == v.Box[int](item=1)


def test_zones_come_back_as_their_offset() -> None:
    value = dt.datetime(2024, 7, 1, tzinfo=ZoneInfo("UTC"))
    assert stored(dt.datetime, value) == value


class Old(BaseModel):
    a: int
    gone: int = 0


class New(BaseModel):
    a: int
    added: list[str] = []


def test_fields_that_were_added_or_taken_out_since_do_not_matter() -> None:
    found = Codec(New).loads(Codec(Old).dumps(Old(a=1), path="a"))
    assert found == New(a=1)
    found.added.append("x")
    assert New(a=1).added == []


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "os.system", "lc": 1},
        {"set": {"a": 1}, "append": [1]},
        {"str": "a"},
        {"$ref": "#/a", "": None},
        {"v": {"output": "x"}},
        [{"typed": True}],
    ],
)
@pytest.mark.parametrize("declared", [Any, dict[str, Any] | list[Any], list[Any] | dict[str, Any]])
def test_no_value_is_taken_for_an_envelope(declared: Any, value: Any) -> None:
    assert stored(declared, value) == value


# -- refused --


def nest(levels: int, of: Any = None) -> Any:
    for _ in range(levels):
        of = [of]
    return of


def circle() -> Any:
    items: list[Any] = []
    items.append(items)
    return items


def chain(levels: int) -> v.Node:
    node = v.Node(value=0)
    for _ in range(levels):
        node = v.Node(value=1, children=[node])
    return node


def own_child() -> v.Node:
    node = v.Node(value=0)
    node.children.append(node)
    return node


@pytest.mark.parametrize(
    ("declared", "value", "reason"),
    [
        (v.Article, v.LongArticle(title="a"), "it is a LongArticle where Article is declared.*declare LongArticle"),
        (list[v.Article], [v.LongArticle(title="a")], "LongArticle where Article is declared"),
        (v.Article | None, v.LongArticle(title="a"), "LongArticle where Article is declared"),
        (v.Article | str, v.LongArticle(title="a"), "it is a LongArticle and none of Article, str"),
        (v.Movie, {"title": "a", "director": v.Person("A"), "stars": 5}, "Movie does not declare the key 'stars'"),
        (v.Movie, {"title": "a"}, "the key 'director' of Movie is missing"),
        (dt.date, dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "datetime and not a date"),
        (v.Box[Any], v.Box[Any](item=dt.date(2024, 1, 1)), "datetime.date is not a plain JSON value"),
        (dict[str, Any], {"a": {1, 2}}, "builtins.set is not a plain JSON value"),
        (dict[str, Any], {"a": {1: 2}}, "the key 1 is not a string"),
        (list[int], ["a"], "int"),
        (str, "\ud800", "surrogates"),
        (Any, "\ud800", "UTF-8|surrogates"),
        (dict[str, Any], {"a": "\ud800"}, "surrogates"),
        (Any, 2**64, "64-bit"),
        (Any, math.nan, "nan is not a JSON number"),
        (int, 10**5000, "4300"),
        (Any, nest(MAX_DEPTH + 1), "nested deeper than 100 levels"),
        (list[Any], nest(MAX_DEPTH + 2), "nested deeper than 100 levels"),
        (Any, circle(), "nested deeper than 100 levels"),
        (v.Node, chain(60), "nested deeper than 100 levels"),
        (v.Node, own_child(), "[Cc]ircular"),
        (object, object(), "builtins.object is not a plain JSON value"),
        (v.Celsius, v.Celsius(1.0), "Celsius"),
        (ImportString[Any], math.sqrt, "cannot be used"),
        (Literal["a", "b"], "c", "'c' is none of 'a', 'b'"),
        (v.Colour, "red", "it is a str and not a Colour"),
        (bytes, b"x" * (MAX_STORED_BYTES + 1), "64 MiB exceed the limit of 64 MiB for one value"),
        (list[str], ["x" * 2**25] * 32, "1024 MiB exceed the limit"),
        (Any, ["é" * 2**20] * 40, "80 MiB exceed the limit"),
    ],
    ids=lambda item: item.__name__ if isinstance(item, type) else type(item).__name__,
)
def test_what_would_not_come_back_is_refused(declared: Any, value: Any, reason: str) -> None:
    with pytest.raises(SerializationError, match=reason) as refused:
        Codec(declared).dumps(value, path="3:ask")
    assert refused.value.message.startswith("step '3:ask': a value")
    assert refused.value.path == "3:ask"
    assert refused.value.hint is not None


def test_the_text_names_the_field_of_the_context() -> None:
    with pytest.raises(SerializationError, match=r"step '0:a': context.when: a value of type date"):
        Codec(Any).dumps(dt.date(2024, 1, 1), path="0:a", field="when")


@pytest.mark.parametrize(
    ("declared", "text", "reason"),
    [
        (Any, b'{"a":1,"a":2}', "the key 'a' stands there twice"),
        (v.Article, b'{"title":"a","title":"b"}', "the key 'title' stands there twice"),
        (dict[str, Any], b'{"b":{"a":1,"\\u0061":2}}', "the key 'a' stands there twice"),
        (Any, b"NaN", "does not fit"),
        (float, b"NaN", "NaN is not a JSON number"),
        (list[float], b"[Infinity]", "Infinity is not a JSON number"),
        (int, b"1" * 4301, "4300|does not fit"),
        (Any, b"[" * 101 + b"]" * 101, "nested deeper"),
        (v.Node, b'{"value":1,"children":[' * 60 + b"]}" * 60, "nested deeper"),
        (Any, b"[" * 100_000, "nested deeper"),
        (int, b'"a"', "valid integer"),
        (v.Article, b'{"words":1}', "title: Field required"),
        (v.Article | str, b'{"os.system":"x"}', "which member"),
        (v.Article | str, b'{"str":"x","Article":{"title":"a"}}', "which member"),
        (v.Colour, b'"green"', "'green' is not a value of Colour"),
        (dt.datetime, b'"yesterday"', "does not fit"),
        (Decimal, b'"x"', "does not fit"),
        (dt.timedelta, b"1" + b"0" * 30, "does not fit"),
        (set[v.UserId], b"[[]]", "does not fit"),
        (dict[tuple[int, bytes], None], b"[[1]]", "does not fit"),
        (bytes, b'"*"', "base64"),
        (str, b"\xff", "does not fit"),
        (str, b"", "does not fit"),
    ],
)
def test_damaged_text_is_refused(declared: Any, text: bytes, reason: str) -> None:
    with pytest.raises(SerializationError, match=reason) as refused:
        codec_for(declared).loads(text, path="3:ask")
    assert refused.value.message.startswith("step '3:ask': the stored value")


# -- secrets --


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (SecretStr, SecretStr("s3cret")),
        (SecretBytes, SecretBytes(b"s3cret")),
        (Secret[int], Secret[int](73)),
        (v.Account, v.Account(user="ada", password=SecretStr("s3cret"))),
        (list[v.Account | None], [v.Account(user="ada", password=SecretStr("s3cret"))]),
        (v.Holder[SecretStr], v.Holder(SecretStr("s3cret"))),
        (dict[str, SecretStr], {"a": SecretStr("s3cret")}),
    ],
)
def test_secrets_are_stored_as_masks(declared: Any, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    codec = Codec(declared)
    with caplog.at_level(logging.WARNING, logger="flow"):
        data = codec.dumps(value, path="1:login")
        codec.dumps(value, path="1:login")
    assert b"s3cret" not in data
    assert b"73" not in data
    assert b"**********" in data
    assert str(codec.loads(data)) == str(value)
    assert [record.getMessage() for record in caplog.records] == [
        "step '1:login': a secret is never stored; what is stored has a mask in its place"
    ]


def test_secrets_where_nothing_is_declared_are_refused() -> None:
    with pytest.raises(SerializationError, match="SecretStr is not a plain JSON value") as refused:
        Codec(Any).dumps({"a": SecretStr("s3cret")}, path="a")
    assert "s3cret" not in str(refused.value)


# -- codecs --


def test_what_takes_the_place_of_the_declared_type_is_stored_as_it_is() -> None:
    codec = Codec(v.Article)
    assert codec.encode({"note": 1}, path="a") == (b'{"note":1}', False)
    assert codec.decode(b'{"note":1}', False) == {"note": 1}
    with pytest.raises(SerializationError, match="LongArticle where Article is declared"):
        codec.encode(v.LongArticle(title="a"), path="a")


def test_codecs_are_built_once() -> None:
    assert codec_for(list[int]) is codec_for(list[int])
    assert codec_for(Literal[1]) is not codec_for(Literal[True])
    assert codec_for(Annotated[int, []]).loads(b"1") == 1


@pytest.mark.parametrize("declared", [Any, object, None])
def test_without_a_declared_type_there_is_no_adapter(declared: Any) -> None:
    assert build_adapter(declared) is None
