"""Classes whose values are stored in the tests: one of each way to declare a class, alone and inside each other."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_serializer,
)

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "1"
    PAIR = (1, 2)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Article(BaseModel):
    title: str
    words: int = 0
    raw: bytes = b""


class LongArticle(Article):
    chapters: list[str] = []


class Everything(BaseModel):
    model_config = ConfigDict(extra="allow")
    when: dt.datetime
    price: Decimal
    id: UUID
    tags: set[str]
    pair: tuple[int, str]
    colour: Colour
    path: PurePosixPath
    article: Article | None
    choice: Article | LongArticle | str
    loose: Any = None


class Aliased(BaseModel):
    name: str = Field(alias="theName", serialization_alias="other-name", min_length=3)
    hidden: int = Field(default=1, exclude=True)

    @computed_field
    def size(self) -> int:
        return len(self.name)


class Doubling(BaseModel):
    n: Annotated[int, AfterValidator(lambda n: n * 2)]


class Private(BaseModel):
    n: int
    _seen: list[int] = PrivateAttr(default_factory=list)


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and other.degrees == self.degrees

    __hash__ = None  # type: ignore[assignment]


class Weather(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    temperature: Any

    @field_serializer("temperature")
    def _write(self, value: Any) -> float:
        return value.degrees if isinstance(value, Celsius) else value


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Box(BaseModel, Generic[T]):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    item: T


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    data: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    point: tuple[int, int]
    name: str = dataclasses.field(default="x", kw_only=True)


@dataclasses.dataclass
class Counted:
    words: list[str]
    count: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.count = len(self.words)
        self.index = {word: place for place, word in enumerate(self.words)}


@dataclasses.dataclass
class Pair(Generic[T]):
    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # attrs classes, where it is in a model
    first: T
    second: list[T]


@attrs.define
class Person:
    name: str
    _age: int = attrs.field(default=0, converter=int)
    friends: list[Person] = attrs.field(factory=list)


@attrs.frozen
class Holder(Generic[T]):
    content: T
    colour: Colour = Colour.RED


@attrs.define
class IntHolder:
    inner: Holder[int]
    article: Article
    by_day: dict[dt.date, Holder[bytes]] = attrs.field(factory=dict)


class Coordinates(NamedTuple):
    x: int
    label: str = ""


class Movie(TypedDict):
    title: str
    year: NotRequired[int]
    director: Person


class Account(BaseModel):
    user: str
    password: SecretStr


Untyped = collections.namedtuple("Untyped", "a b")
Kind = Literal["a", 1, None]
