"""How values of a declared type are written as JSON and read back: one Pydantic core schema for each type.

Pydantic's own schemas are made for data from outside: they convert, run validators, write unions without saying which
member it is, and drop the fields of subclasses. A stored value must come back as it was, so the schemas here keep the
state of objects and nothing else. What they do not know, Pydantic writes its way.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import types
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import attrs
from pydantic import SecretBytes, SecretStr
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from ._plain import check_plain

CONFIG = core_schema.CoreConfig(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
MASK = "**********"

Fits: TypeAlias = Callable[[Any], bool]


@attrs.frozen(eq=False)
class Shape:
    """The schema of a type.

    :ivar fits: tells the values that may be of the type from those that are not; it does not look inside.
    :ivar may_be_none: ``None`` is a value of the type.
    :ivar scalar: one of ``str``, ``int``, ``float`` and ``bool``, which JSON tells from each other.
    """

    schema: CoreSchema
    fits: Fits
    may_be_none: bool = False
    scalar: type | None = None


def exactly(kind: type) -> Fits:
    """Return a test for values of `kind` itself."""
    return lambda value: type(value) is kind


def converted(
    write: Callable[[Any], Any], read: Callable[[Any], Any], inner: CoreSchema, fits: Fits, **more: Any
) -> Shape:
    """Return the shape of values that are written as what `write` makes of them and come back through `read`."""
    writer = core_schema.plain_serializer_function_ser_schema(write, return_schema=inner)
    return Shape(core_schema.no_info_after_validator_function(read, inner, serialization=writer), fits, **more)


def only(kind: type | tuple[type, ...], write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Guard `write` against values that are no `kind`."""

    def checked(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"it is a {type(value).__name__} and not a {_names(kind)}")
        return write(value)

    return checked


def _names(kind: type | tuple[type, ...]) -> str:
    return " or ".join(item.__name__ for item in (kind if isinstance(kind, tuple) else (kind,)))


def _plain(value: Any) -> Any:
    check_plain(value)
    return value


def _read_microseconds(number: int) -> dt.timedelta:
    return dt.timedelta(microseconds=number)


def _write_date(value: dt.date) -> str:
    if isinstance(value, dt.datetime):
        raise TypeError("it is a datetime and not a date")
    return value.isoformat()


def _write_base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _read_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(kind: type, write: Callable[[Any], str], read: Callable[[str], Any]) -> Shape:
    return converted(only(kind, write), read, core_schema.str_schema(), exactly(kind))


def _scalar(kind: type, schema: CoreSchema) -> Shape:
    return Shape(schema, exactly(kind), scalar=kind)


PLAIN = Shape(
    core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(_plain)),
    lambda _: True,
    may_be_none=True,
)
"""What nothing is declared about: plain JSON values."""

NONE = Shape(core_schema.none_schema(), lambda value: value is None, may_be_none=True)

_COMPLEX = core_schema.tuple_schema([core_schema.float_schema(), core_schema.float_schema()])

LEAVES: dict[Any, Shape] = {
    str: _scalar(str, core_schema.str_schema()),
    int: _scalar(int, core_schema.int_schema()),
    float: _scalar(float, core_schema.float_schema()),
    bool: _scalar(bool, core_schema.bool_schema()),
    None: NONE,
    types.NoneType: NONE,
    bytes: _text(bytes, _write_base64, _read_base64),
    bytearray: _text(bytearray, _write_base64, lambda text: bytearray(_read_base64(text))),
    complex: converted(
        only(complex, lambda value: (value.real, value.imag)), lambda pair: complex(*pair), _COMPLEX, exactly(complex)
    ),
    Decimal: _text(Decimal, str, Decimal),
    UUID: _text(UUID, str, UUID),
    dt.datetime: _text(dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: _text(dt.date, _write_date, dt.date.fromisoformat),
    dt.time: _text(dt.time, dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: converted(
        only(dt.timedelta, lambda value: value // dt.timedelta(microseconds=1)),
        _read_microseconds,
        core_schema.int_schema(),
        exactly(dt.timedelta),
    ),
}


def path_shape(kind: type[PurePath]) -> Shape:
    """Return the shape of a path; ``Path`` stands for the class of the system it is read on."""
    return converted(only(kind, str), kind, core_schema.str_schema(), lambda value: isinstance(value, kind))


def secret_shape(kind: Any) -> Shape:
    """Return the shape of a secret: what is written is a mask, and what comes back is a secret that holds the mask."""
    masked = kind(MASK.encode() if kind is SecretBytes else MASK)
    return converted(
        only(type(masked), lambda _: MASK), lambda _: masked, core_schema.str_schema(), exactly(type(masked))
    )


SECRETS = (SecretStr, SecretBytes)


def enum_shape(kind: type[enum.Enum]) -> Shape:
    """Return the shape of an enum: members are written by value when those are texts or numbers, else by name."""
    members = list(kind.__members__.values())
    values = {type(member.value) for member in members}
    if issubclass(kind, enum.Flag):
        return converted(only(kind, lambda flags: flags.value), kind, core_schema.int_schema(), exactly(kind))
    if values == {str} or values == {int}:
        inner: CoreSchema = core_schema.str_schema() if values == {str} else core_schema.int_schema()
        names = {member: member.value for member in members}
    else:
        inner, names = core_schema.str_schema(), {member: member.name for member in members}
    by_name = {name: member for member, name in names.items()}
    return converted(only(kind, names.__getitem__), _looked_up(by_name, kind.__name__), inner, exactly(kind))


def literal_shape(values: tuple[Any, ...]) -> Shape:
    """Return the shape of a ``Literal``."""

    def is_one(value: Any) -> bool:
        return any(type(value) is type(item) and value == item for item in values)

    def write(value: Any) -> Any:
        if not is_one(value):
            raise TypeError(f"{value!r:.40} is none of {', '.join(map(repr, values))}")
        return value if simple else values.index(value)

    simple = {type(value) for value in values} <= {str, int}
    if simple:
        schema = core_schema.literal_schema(list(values))
        return converted(write, lambda value: value, schema, is_one)
    by_index = dict(enumerate(values))
    return converted(
        write, _looked_up(by_index, "the literal"), core_schema.int_schema(), is_one, may_be_none=None in values
    )


def _looked_up(known: dict[Any, Any], what: str) -> Callable[[Any], Any]:
    def read(stored: Any) -> Any:
        if stored not in known:
            raise ValueError(f"{stored!r:.40} is not a value of {what}")
        return known[stored]

    return read


def union_shape(members: list[tuple[str, Shape]], serializer: Callable[[CoreSchema], SchemaSerializer]) -> Shape:
    """Return the shape of a union: JSON with the label of the member, unless JSON itself tells which member it is.

    :param serializer: makes the serializer of a member, to try which of several members takes a value.
    """
    shapes = [shape for _, shape in members]

    def fits(value: Any) -> bool:
        return any(shape.fits(value) for shape in shapes)

    may_be_none = any(shape.may_be_none for shape in shapes)
    scalars = {shape.scalar for shape in shapes}
    if None not in scalars and not scalars >= {str, float}:  # not a number is written as text
        return Shape(core_schema.union_schema([shape.schema for shape in shapes]), fits)
    labels = dict(members)
    fields = {label: core_schema.typed_dict_field(shape.schema, required=False) for label, shape in members}
    write = _choice(labels, serializer)
    return converted(write, _only_item, core_schema.typed_dict_schema(fields), fits, may_be_none=may_be_none)


def _choice(
    labels: dict[str, Shape], serializer: Callable[[CoreSchema], SchemaSerializer]
) -> Callable[[Any], dict[str, Any]]:
    tried: dict[str, SchemaSerializer] = {}

    def takes(label: str, value: Any) -> bool:
        if label not in tried:
            tried[label] = serializer(labels[label].schema)
        try:
            tried[label].to_json(value, warnings="error")
        except ValueError:
            return False
        return True

    def write(value: Any) -> dict[str, Any]:
        found = [label for label, shape in labels.items() if shape.fits(value)]
        if len(found) > 1:
            found = [label for label in found if takes(label, value)]
        if not found:
            raise TypeError(f"it is a {type(value).__name__} and none of {', '.join(labels)}")
        return {found[0]: value}

    return write


def _only_item(stored: dict[str, Any]) -> Any:
    if len(stored) != 1:
        raise ValueError("it does not say which member of the union it is")
    return next(iter(stored.values()))


def nullable(shape: Shape) -> Shape:
    """Return the shape of a type or ``None``."""
    if shape.may_be_none:
        return shape
    return Shape(
        core_schema.nullable_schema(shape.schema),
        lambda value: value is None or shape.fits(value),
        may_be_none=True,
    )


def pairs_shape(keys: Shape, values: Shape, read: Callable[[Iterable[Any]], Any], fits: Fits) -> Shape:
    """Return the shape of a dictionary with keys that are no texts: a list of pairs."""
    pair = core_schema.tuple_schema([keys.schema, values.schema])
    return converted(only(dict, lambda value: list(value.items())), read, core_schema.list_schema(pair), fits)
