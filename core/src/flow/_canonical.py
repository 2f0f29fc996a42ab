"""The canonical form of a value: the same bytes for equal values, in every process, and others for different ones."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import attrs
import orjson
from pydantic import BaseModel

from ._plain import MAX_DEPTH, check_plain

_WRITERS: dict[type, Callable[[Any], str]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
    int: hex,  # of more than 64 bits
    float: repr,  # infinite, or not a number
    complex: repr,
    Decimal: str,
    UUID: str,
    dt.datetime: dt.datetime.isoformat,
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    dt.timedelta: repr,
}


def canonical(value: Any) -> bytes:
    """Return the canonical form of `value`; the order of a dictionary or set does not matter, types do.

    Raises `TypeError` or `ValueError` for values that have none: functions, clients, secrets, circles.

    >>> canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
    True
    >>> canonical((1, 2)) == canonical([1, 2])
    False
    """
    try:
        check_plain(value)
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):
        return b"!" + orjson.dumps(_form(value, 0))


def _form(value: Any, depth: int) -> Any:
    """Return a plain value that stands for `value`: what JSON knows is itself, all else a list with its type first."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if (kind is int and -(2**63) <= value < 2**63) or (kind is float and math.isfinite(value)):
        return value
    if kind in _WRITERS:
        return [kind.__name__, _WRITERS[kind](value)]
    if isinstance(value, enum.Enum):
        return ["enum", _name(kind), str(value.name)]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    items = _items(value, kind, depth + 1)
    if items is None:
        raise TypeError(f"{_name(kind)} has no canonical form")
    return [_name(kind), *items]


def _items(value: Any, kind: type, depth: int) -> list[Any] | None:
    if kind in (set, frozenset):
        return sorted((_form(item, depth) for item in value), key=orjson.dumps)
    if kind in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return sorted(([_form(key, depth), _form(item, depth)] for key, item in value.items()), key=orjson.dumps)
    if kind in (list, collections.deque) or isinstance(value, tuple):
        return [_form(item, depth) for item in value]
    state = _state(value, kind)
    return None if state is None else [[name, _form(item, depth)] for name, item in state.items()]


def _state(value: Any, kind: type) -> dict[str, Any] | None:
    if isinstance(value, BaseModel):
        extra = value.__pydantic_extra__ or {}
        return {name: value.__dict__[name] for name in type(value).__pydantic_fields__} | dict(sorted(extra.items()))
    if dataclasses.is_dataclass(kind):
        return {field.name: value.__getattribute__(field.name) for field in dataclasses.fields(kind)}
    if attrs.has(kind):
        return {field.name: value.__getattribute__(field.name) for field in attrs.fields(kind)}
    return None


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
