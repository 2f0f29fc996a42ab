"""Values on the wire: JSON with the types that the pipeline declares.

Nothing is pickled, and no name found in stored data is ever imported: what a value is when it comes back is decided
by the type that the step or context field declares.
"""

from __future__ import annotations

import math
import warnings
from collections import abc
from functools import lru_cache
from typing import Any, TypeVar, get_origin

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, SchemaError, from_json, to_json

from .errors import SerializationError

_MAX_DEPTH = 100
# Pydantic checks these while they are consumed, through a one-shot iterator that would replace the user's list.
_LAZY = (abc.Iterable, abc.Iterator, abc.Generator, abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
INPUT = "input"
"""Stands for the path of a step where the input of the run is meant."""


def build_adapter(declared: Any) -> TypeAdapter[Any] | None:
    """Return a type adapter for a declared type, or ``None`` when nothing is declared or Pydantic cannot handle it."""
    if declared in (Any, object, None) or isinstance(declared, TypeVar) or get_origin(declared) in _LAZY:
        return None
    for config in (ConfigDict(arbitrary_types_allowed=True, ser_json_bytes="base64", val_json_bytes="base64"), None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # about annotations it takes for types: not the user's concern
                return TypeAdapter(declared, config=config)
        except (PydanticSchemaGenerationError, SchemaError):
            return None
        except PydanticUserError:
            continue  # models and dataclasses bring their own configuration and refuse ours
    return None


class Codec:
    """Writes and reads values of one declared type.

    >>> codec = Codec(tuple[int, str])
    >>> codec.loads(codec.dumps((1, "a"), path="0:pair"))
    (1, 'a')
    """

    __slots__ = ("_adapter",)

    def __init__(self, declared: Any) -> None:
        self._adapter = build_adapter(declared)

    def dumps(self, value: Any, *, path: str, field: str | None = None) -> bytes:
        """Write `value` as JSON; raises `SerializationError` that names `path`, the type and the remedy.

        :param field: the field of the context that holds `value`, if it is in there.
        """
        try:
            if self._adapter is None:
                check_plain(value)
                return orjson.dumps(value)
            return self._adapter.dump_json(value, warnings="error")
        except (TypeError, ValueError, PydanticSerializationError, RecursionError) as error:
            raise SerializationError(
                f"{_place(path, field)}: a value of type {type(value).__name__} cannot be stored: {error}",
                path=path,
                hint=_remedy(path, field),
                cause=error,
            ) from error

    def encode(self, value: Any, *, path: str) -> tuple[bytes, bool]:
        """Write `value`, and say whether with its declared type.

        What a fallback, a processor or a caller puts in the place of the declared type is written as it is when it is
        plain JSON; otherwise `SerializationError` is raised.
        """
        try:
            return self.dumps(value, path=path), True
        except SerializationError as error:
            try:
                check_plain(value)
            except (TypeError, ValueError):
                raise error from None
            return orjson.dumps(value), False

    def decode(self, data: bytes, typed: bool, *, path: str = "") -> Any:
        """Read what `encode` wrote."""
        return self.loads(data, path=path) if typed else orjson.loads(data)

    def loads(self, data: bytes, *, path: str = "", field: str | None = None) -> Any:
        """Read a value back; raises `SerializationError` when the stored text does not fit the declared type."""
        try:
            return orjson.loads(data) if self._adapter is None else self._adapter.validate_json(data)
        except (ValueError, ValidationError) as error:
            raise SerializationError(
                f"{_place(path, field)}: the stored value does not fit the declared type: {error}",
                path=path,
                cause=error,
            ) from error


def _place(path: str, field: str | None) -> str:
    place = "the input of the run" if path == INPUT else f"step {path!r}"
    return place if field is None else f"{place}: context.{field}"


def _remedy(path: str, field: str | None) -> str:
    if field is not None:
        what = f"the field {field!r} of the context"
    else:
        what = "what the step takes" if path == INPUT else "what the step returns"
    return f"Annotate {what} (a Pydantic model, dataclass or JSON type)"


@lru_cache(maxsize=1024)
def _cached_codec(declared: Any) -> Codec:
    return Codec(declared)


def codec_for(declared: Any) -> Codec:
    """Return the codec of a declared type, built once per type."""
    try:
        return _cached_codec(declared)
    except TypeError:  # an unhashable annotation, such as Literal[[...]]
        return Codec(declared)


def check_plain(value: Any, depth: int = 0) -> None:
    """Raise unless `value` is made of what JSON gives back unchanged: undeclared values are stored only then."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r:.40} is not a string")
            check_plain(item, depth + 1)
    elif kind is list:
        for item in value:
            check_plain(item, depth + 1)
    elif kind is float and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    elif kind not in (str, int, float, bool, type(None)):
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not a plain JSON value")


def dump_context(model: type[BaseModel], values: dict[str, Any], *, path: str) -> bytes:
    """Write some fields of a context as one JSON object, each with its declared type."""
    fields = model.model_fields
    parts = []
    for name, value in values.items():
        codec = codec_for(fields[name].annotation if name in fields else Any)
        parts.append(orjson.dumps(name) + b":" + codec.dumps(value, path=path, field=name))
    return b"{" + b",".join(parts) + b"}"


def load_context(model: type[BaseModel], data: bytes, *, path: str = "") -> dict[str, Any]:
    """Read fields that `dump_context` wrote."""
    fields = model.model_fields
    stored = from_json(data)
    return {
        name: codec_for(fields[name].annotation if name in fields else Any).loads(to_json(value), path=path, field=name)
        for name, value in stored.items()
    }
