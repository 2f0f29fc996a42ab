"""Types are read from annotations, and compared as Pydantic will treat the values."""

from __future__ import annotations

import collections
import enum
import functools
import operator
import subprocess
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    Never,
    NewType,
    NoReturn,
    Protocol,
    Self,
    SupportsInt,
    TypedDict,
    TypeVar,
    get_args,
)

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue

from flow import AsyncAgentProtocol, BaseStep, ContextAwareAgentProtocol, Step, step
from flow._types import accepts, agent_types, base_step_types, type_name

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")
U = TypeVar("U")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Doc(BaseModel):
    title: str


class LongDoc(Doc):
    pages: int


class Page(BaseModel, Generic[T]):
    items: list[T]


class DocDict(TypedDict):
    title: str


@dataclass
class Row:
    title: str


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Sized(Protocol):
    def size(self) -> int: ...


class Box(Generic[T]): ...


class IntBox(Box[int]): ...


class Names(list[str]): ...


class PlainList(list): ...  # type: ignore[type-arg]


UserId = NewType("UserId", int)
Positive = Annotated[int, Field(gt=0)]


# -- steps ---------------------------------------------------------------------------------------------------------


class Shout(BaseStep[str, str]): ...


class Quiet(Shout): ...


class Bare(BaseStep): ...  # type: ignore[type-arg]


class Each(BaseStep[list[T], list[U]], Generic[T, U]): ...


class Lengths(Each[str, int]): ...


class Swapped(Each[U, T], Generic[T, U]): ...


class Backwards(Swapped[int, str]): ...


class Forward(BaseStep["Doc", "list[Doc]"]): ...


class Lost(BaseStep["Missing", str]): ...  # type: ignore[name-defined]


@attrs.frozen(kw_only=True)
class Attributed(Each[bytes, int]):
    times: int = 1


@pytest.mark.parametrize(
    ("cls", "types"),
    [
        (Shout, (str, str)),
        (Quiet, (str, str)),
        (Bare, (Any, Any)),
        (Each, (list[Any], list[Any])),
        (Lengths, (list[str], list[int])),
        (Backwards, (list[str], list[int])),
        (Attributed, (list[bytes], list[int])),
        (Forward, (Doc, list[Doc])),
        (Lost, (Any, str)),
        (BaseStep, (Any, Any)),
    ],
)
def test_a_step_type_declares_its_types_by_its_generic_base(cls: type, types: tuple[Any, Any]) -> None:
    made = cls(name="x")
    assert base_step_types(made) == types
    assert made.declared_types() == types


# -- agents --------------------------------------------------------------------------------------------------------


async def asynchronous(text: str) -> int: ...  # type: ignore[empty-body]
def synchronous(text: str, limit: int = 3) -> list[int]: ...  # type: ignore[empty-body]
def returns_nothing(text: str) -> None: ...
def unannotated(text): ...  # type: ignore[no-untyped-def]
def half(text, limit: int = 3) -> int: ...  # type: ignore[no-untyped-def,empty-body]
def awaitable(text: str) -> Awaitable[int]: ...  # type: ignore[empty-body]
def coroutine(text: str) -> Coroutine[Any, Any, int]: ...  # type: ignore[empty-body]
def sometimes_awaitable(text: str) -> int | Awaitable[str]: ...  # type: ignore[empty-body]
async def gives_awaitable(text: str) -> Awaitable[int]: ...  # type: ignore[empty-body]
def no_data(*, context: Any) -> int: ...  # type: ignore[empty-body]
def nothing_at_all() -> int: ...  # type: ignore[empty-body]
def many(*parts: str) -> str: ...  # type: ignore[empty-body]
def keyword_run(text: str, *, run: int, context: Doc) -> int: ...  # type: ignore[empty-body]
def positional_context(context: Doc) -> int: ...  # type: ignore[empty-body]
def variable(item: T) -> T: ...  # type: ignore[empty-body]
def variables(items: list[T]) -> dict[str, T]: ...  # type: ignore[empty-body]
def missing(item: Missing) -> str: ...  # type: ignore[name-defined,empty-body]  # noqa: F821
def missing_inside(item: list[Missing]) -> str: ...  # type: ignore[name-defined,empty-body]  # noqa: F821
def only_for_checkers(item: Decimal) -> str: ...  # type: ignore[empty-body]
def odd(item: 3, other: int = 1) -> {1: 2}: ...  # type: ignore[valid-type]
def broken(item: 1 / 0) -> "nothing at all": ...  # type: ignore[valid-type]  # noqa: F722
def constrained(number: Positive) -> Annotated[str, "doc"]: ...  # type: ignore[empty-body]
def optional(text: str | None = None) -> Doc | None: ...
def fails(text: str) -> NoReturn: ...  # type: ignore[misc]
def literal(text: LiteralString) -> Literal["a", "b"]: ...  # type: ignore[empty-body]


async def text_stream(prompt: str) -> AsyncIterator[str]:
    yield prompt


async def byte_stream(prompt: str) -> AsyncGenerator[bytes, None]:
    yield b""


async def number_stream(prompt: str) -> AsyncIterator[int]:
    yield 1


async def untyped_stream(prompt: str):  # type: ignore[no-untyped-def]
    yield 1


@functools.wraps(asynchronous)
def wrapper(*args: Any, **kwargs: Any) -> Any: ...


class Runs:
    async def run(self, data: bytes, *, context: Any = None) -> Doc: ...  # type: ignore[empty-body]


class Calls:
    def __call__(self, data: bytes) -> Self: ...  # type: ignore[empty-body]


class RunsAndCalls(Runs):
    def __call__(self, data: str) -> str: ...  # type: ignore[empty-body]


class Methods:
    def method(self, data: int) -> str: ...  # type: ignore[empty-body]
    @classmethod
    def of(cls, data: int) -> Self: ...  # type: ignore[empty-body]
    @staticmethod
    def plain(data: int) -> str: ...  # type: ignore[empty-body]


class Untyped(AsyncAgentProtocol[str, Doc]):
    async def run(self, data, **kwargs): ...  # type: ignore[no-untyped-def]


class PartlyTyped(ContextAwareAgentProtocol[str, Doc, Any]):
    async def run(self, data: bytes, *, context, **kwargs): ...  # type: ignore[no-untyped-def]


class GenericAgent(Generic[In, Out]):
    async def run(self, data: In) -> list[Out]: ...  # type: ignore[empty-body]


class DocAgent(GenericAgent[str, Doc]): ...


class Built:
    def __init__(self, text: str) -> None: ...


@dataclass
class BuiltRow:
    title: str


@pytest.mark.parametrize(
    ("agent", "types"),
    [
        (asynchronous, (str, int)),
        (synchronous, (str, list[int])),
        (returns_nothing, (str, type(None))),
        (unannotated, (Any, Any)),
        (half, (Any, int)),
        (awaitable, (str, int)),
        (coroutine, (str, int)),
        (sometimes_awaitable, (str, int | str)),
        (gives_awaitable, (str, Awaitable[int])),
        (no_data, (Any, int)),
        (nothing_at_all, (Any, int)),
        (many, (str, str)),
        (keyword_run, (str, int)),
        (positional_context, (Doc, int)),
        (variable, (Any, Any)),
        (variables, (list[Any], dict[str, Any])),
        (missing, (Any, str)),
        (missing_inside, (Any, str)),
        (only_for_checkers, (Any, str)),
        (odd, (Any, Any)),
        (broken, (Any, Any)),
        (constrained, (Positive, Annotated[str, "doc"])),
        (optional, (str | None, Doc | None)),
        (fails, (str, Any)),
        (literal, (str, Literal["a", "b"])),
        (text_stream, (str, str)),
        (byte_stream, (str, bytes)),
        (number_stream, (str, Any)),
        (untyped_stream, (str, Any)),
        (wrapper, (str, int)),
        (functools.partial(synchronous, limit=2), (str, list[int])),
        (functools.partial(synchronous, "text"), (int, list[int])),
        (functools.partial(text_stream), (str, str)),
        (functools.lru_cache(synchronous), (str, list[int])),
        (Runs(), (bytes, Doc)),
        (Calls(), (bytes, Any)),
        (RunsAndCalls(), (bytes, Doc)),
        (Methods().method, (int, str)),
        (Methods.of, (int, Any)),
        (Methods.plain, (int, str)),
        (Untyped(), (str, Doc)),
        (PartlyTyped(), (bytes, Doc)),
        (DocAgent(), (str, list[Doc])),
        (GenericAgent(), (Any, list[Any])),
        (Built, (str, Built)),
        (BuiltRow, (str, BuiltRow)),
        (Doc, (Any, Doc)),
        (int, (Any, int)),
        (lambda text: text, (Any, Any)),
        (str.upper, (str, Any)),
        (bytes.decode, (bytes, Any)),
        (dict.__len__, (dict, Any)),
        (len, (Any, Any)),
        ("a".join, (Any, Any)),
        (operator.itemgetter(0), (Any, Any)),
        (list[int], (Any, Any)),
        (None, (Any, Any)),
        (5, (Any, Any)),
    ],
    ids=lambda value: type_name(value) if isinstance(value, type) else None,
)
def test_an_agent_declares_its_types_by_its_annotations(agent: Any, types: tuple[Any, Any]) -> None:
    assert agent_types(agent) == types
    assert Step("x", agent).declared_types() == types


def test_a_decorated_function_declares_the_types_of_the_function() -> None:
    assert step(asynchronous).declared_types() == (str, int)
    assert step(retries=1)(text_stream).declared_types() == (str, str)


class _Model:
    """Stands for an agent of PydanticAI, which is recognised by the name of its module."""

    output_type: Any = Doc

    async def run(self, user_prompt: Any = None) -> Any: ...


_Model.__module__ = "pydantic_ai.agent"


@pytest.mark.parametrize(
    ("output_type", "expected"), [(Doc, Doc), (list[Doc], list[Doc]), ([Doc, int], Any), (Doc | None, Doc | None)]
)
def test_a_pydantic_ai_agent_takes_a_prompt_and_returns_its_output_type(output_type: Any, expected: Any) -> None:
    agent = _Model()
    agent.output_type = output_type
    takes, gives = agent_types(agent)
    assert (gives, accepts(takes, str), accepts(takes, list[Any]), accepts(takes, int)) == (expected, True, True, False)


def test_reading_types_does_not_import_beartype() -> None:
    program = (
        "import sys; from flow import BaseStep, Step; from flow._types import *\n"
        "class Shout(BaseStep[str, list[str]]): ...\n"
        "Shout(name='x').declared_types(); Step('x', str.upper).declared_types()\n"
        "assert 'beartype' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- what fits into what -------------------------------------------------------------------------------------------

FITS = [
    (int, int),
    (bool, int),
    (int, float),
    (bool, float),
    (float, complex),
    (int, object),
    (LongDoc, Doc),
    (list[bool], list[int]),
    (list[int], list[float]),
    (dict[str, int], dict[str, int | str]),
    (int, int | str),
    (None, int | None),
    (int | None, str | int | None),
    (list[int] | None, list[int] | None | str),
    # unknown parts
    (Any, int),
    (int, Any),
    (list, list[int]),
    (list[Any], list[int]),
    (list[list[Any]], list[list[int]]),
    (list[int], list),
    (dict[str, Any], dict[str, int]),
    (list[dict], list[dict[str, Any]]),  # type: ignore[type-arg]
    (Box, Box[int]),
    (Box[Any], Box[int]),
    (PlainList, list[int]),
    (Point, tuple[int, ...]),
    (T, int),
    (int, T),
    (list[T], list[int]),  # type: ignore[valid-type]
    ("Missing", int),
    (int, "Missing"),
    (list["Missing"], list[int]),  # type: ignore[name-defined]  # noqa: F821
    (Never, int),
    (NoReturn, int),
    # metadata, literals, new types, aliases
    (int, Positive),
    (Positive, int),
    (list[int], list[Positive]),
    (Literal["a"], str),
    (Literal["a", "b"], Literal["b", "a", "c"]),
    (Literal["a", 1], str | int),
    (Literal[1], float),
    (Literal[Color.RED], Color),
    (LiteralString, str),
    (UserId, int),
    (UserId, float),
    (UserId, UserId | str),
    (JsonValue, JsonValue),
    (dict[str, int], JsonValue),
    # generic classes and protocols of the library
    (IntBox, Box[int]),
    (Names, list[str]),
    (list[int], Sequence[int]),
    (list[int], Iterable[float]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, int], Iterable[str]),
    (Generator[int, None, None], Iterator[int]),
    (collections.defaultdict[str, int], dict[str, int]),
    (collections.Counter[str], dict[str, int]),
    (str, Iterable[str]),
    (tuple[int, bool], tuple[int, ...]),
    (tuple[bool, str], tuple[int, str]),
    (tuple[int, str], Sequence[int | str]),
    (Callable[[int], str], Callable[[bool], object]),
    (Callable[..., Any], Callable[[int], str]),
    (Callable[[int], str], Callable),
    (type[bool], type[int]),
    (int, SupportsInt),
    (int, Sized),  # cannot be judged: the protocol is not runtime checkable
    # what Pydantic converts
    (dict, Doc),
    (dict[str, Any], Doc),
    (Mapping[str, str], Doc),
    (DocDict, Doc),
    (DocDict, Mapping[str, object]),
    (DocDict, DocDict),
    (dict[str, Any], DocDict),
    (dict[str, Any], Row),
    (list[dict[str, Any]], list[Doc]),
    (Page, Page[int]),
    (Page[int], Page),
]

DOES_NOT_FIT = [
    (float, int),
    (int | str, int),
    (int | None, int),
    (None, int),
    (int, None),
    (object, int),
    (list[object], list[int]),
    (bytes, str),
    (Doc, LongDoc),
    (Doc, dict),
    (Row, Doc),
    (str, Doc),
    (int, DocDict),
    (str, Positive),
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["a"]),
    (Literal["a", 1], str),
    (int, UserId),
    (JsonValue, dict),
    (str, list[str]),
    (list[int], Sequence[str]),
    (set[int], frozenset[int]),
    (dict[str, int], dict[int, int]),
    (dict[str, int], Iterable[int]),
    (Generator[int, None, None], Iterator[str]),
    (IntBox, Box[str]),
    (Box[int], Box[str]),
    (Names, list[int]),
    (Page[int], Page[str]),
    (tuple[int, str], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, str], tuple[int, str, str]),
    (Callable[[bool], str], Callable[[int], str]),
    (Callable[[int], str], Callable[[int, int], str]),
    (Callable[[int], object], Callable[[int], str]),
    (str, SupportsInt),
    (list[list[int]], list[list[str]]),
]


def _pair_name(pair: Any) -> str:
    return type_name(pair)


@pytest.mark.parametrize(("offered", "wanted"), FITS, ids=_pair_name)
def test_a_type_is_accepted_where_its_values_can_be_passed(offered: Any, wanted: Any) -> None:
    assert accepts(wanted, offered) is True


@pytest.mark.parametrize(("offered", "wanted"), DOES_NOT_FIT, ids=_pair_name)
def test_a_type_is_refused_where_some_values_cannot_be_passed(offered: Any, wanted: Any) -> None:
    assert accepts(wanted, offered) is False


@pytest.mark.parametrize("offered", [object, list[object], dict[str, object], object | None])
def test_object_can_be_taken_as_unknown(offered: Any) -> None:
    wanted = int | list[int] | dict[str, int] | None
    assert (accepts(wanted, offered), accepts(wanted, offered, object_fits=True)) == (False, True)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in Python 3.12")
def test_aliases_of_the_type_statement_are_followed_and_may_be_recursive() -> None:
    names: dict[str, Any] = {}
    exec("type Number = int | float\ntype Json = int | list[Json]\ntype Other = int | list[Other]\n", names)
    assert accepts(names["Number"], int)
    assert not accepts(names["Number"], str)
    assert accepts(names["Json"], list[list[int]])
    assert not accepts(names["Json"], list[str])
    assert accepts(names["Json"], names["Other"])


_ATOMS = st.sampled_from([int, str, bytes, float, bool, Doc, LongDoc, Color, type(None), Any, UserId, Positive])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda item: list[item]),
        inner.map(lambda item: dict[str, item]),
        inner.map(lambda item: tuple[item, ...]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),
        st.tuples(inner, inner).map(lambda pair: operator.or_(*pair) if None not in pair else Any),
        inner.map(lambda item: Annotated[item, "note"]),
    )


_HINTS = st.recursive(_ATOMS, _containers, max_leaves=6)


@given(_HINTS)
def test_every_type_fits_itself_any_and_object(hint: Any) -> None:
    assert accepts(hint, hint)
    assert accepts(object, hint)
    assert accepts(hint, Any)
    assert accepts(Any, hint)


@given(_HINTS, _HINTS)
def test_a_union_accepts_its_members_and_fits_where_all_of_them_do(one: Any, other: Any) -> None:
    both = one | other
    assert accepts(both, one)
    assert accepts(both, other)
    assert accepts(one, both) is accepts(one, other)


@given(_HINTS, _HINTS)
def test_containers_fit_when_their_items_do(one: Any, other: Any) -> None:
    fits = accepts(one, other)
    assert accepts(Sequence[one], list[other]) is fits
    assert accepts(dict[str, one], dict[str, other]) is fits


@given(_HINTS)
def test_every_type_has_a_readable_name(hint: Any) -> None:
    name = type_name(hint)
    assert name
    assert "typing." not in name
    assert all(type_name(argument) in name for argument in get_args(hint) if isinstance(argument, type))


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Any, "Any"),
        (int | None, "int | None"),
        (dict[str, list[Doc]], "dict[str, list[Doc]]"),
        (Positive, "int"),
        (Literal["a", 1], "Literal['a', 1]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (Callable[..., str], "Callable[..., str]"),
        (UserId, "UserId"),
        (Page[int], "Page[int]"),
    ],
)
def test_types_are_named_as_people_write_them(hint: Any, name: str) -> None:
    assert type_name(hint) == name
