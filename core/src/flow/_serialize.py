"""Values on the wire: JSON with the types that the pipeline declares.

Nothing is pickled, and no name found in stored data is ever imported: what a value is when it comes back is decided
by the type that the step or context field declares.
"""

from __future__ import annotations

import logging
import re
from collections import abc
from functools import lru_cache
from typing import Any, TypeVar, get_origin

import orjson
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic_core import (
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    ValidationError,
    from_json,
    to_json,
)

from ._plain import MAX_STORED_BYTES, check_depth, check_digits, check_json, check_length, check_plain, check_size
from ._value_schema import CONFIG, SchemaBuilder, field_type, pydantic_adapter
from .errors import SerializationError

__all__ = [
    "INPUT",
    "MAX_STORED_BYTES",
    "Codec",
    "build_adapter",
    "check_plain",
    "codec_for",
    "dump_context",
    "field_type",
    "load_context",
]

logger = logging.getLogger("flow")

# Pydantic checks these while they are consumed, through a one-shot iterator that would replace the user's list.
_LAZY = (abc.Iterable, abc.Iterator, abc.Generator, abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
# What resolving annotations and building schemas may raise: both run code of the module that declares the type.
_UNUSABLE = (
    PydanticUserError,
    SchemaError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)
_UNWRITABLE = (TypeError, ValueError, PydanticSerializationError, RecursionError, LookupError, AttributeError)
_UNREADABLE = (ValueError, ValidationError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
_CALLED = re.compile(r"\A.*Error calling function `\w+`: \w+: ", re.DOTALL)
_MAX_WARNED = 1024
_SHORT = 4096

INPUT = "input"
"""Stands for the path of a step where the input of the run is meant."""


def is_open(declared: Any) -> bool:
    """Tell whether a declared type says nothing about its values."""
    return declared in (Any, object, None) or isinstance(declared, TypeVar) or get_origin(declared) in _LAZY


def build_adapter(declared: Any) -> TypeAdapter[Any] | None:
    """Return a type adapter for a declared type, or ``None`` when nothing is declared or Pydantic cannot handle it."""
    if is_open(declared):
        return None
    try:
        return pydantic_adapter(declared)
    except (PydanticSchemaGenerationError, SchemaError, PydanticUserError):
        return None


def equal(left: Any, right: Any) -> bool:
    """Compare two values; those that cannot be compared differ."""
    try:
        return bool(left == right)
    except (TypeError, ValueError):
        return False


class Codec:
    """Writes and reads values of one declared type.

    >>> codec = Codec(tuple[int, str])
    >>> codec.loads(codec.dumps((1, "a"), path="0:pair"))
    (1, 'a')
    """

    __slots__ = ("_depth_varies", "_holds_secrets", "_read", "_unusable", "_warned", "_write")

    def __init__(self, declared: Any) -> None:
        self._unusable: Exception | None = None
        self._write: Any = None
        self._read: Any = None
        self._holds_secrets, self._depth_varies = False, True
        self._warned: set[str] = set()
        if not is_open(declared):
            self._build(declared)

    def _build(self, declared: Any) -> None:
        builder = SchemaBuilder()
        try:
            schema = builder.schema(declared)
            self._write = SchemaSerializer(schema, CONFIG).to_json
            self._read = SchemaValidator(schema, CONFIG).validate_json
        except _UNUSABLE as error:
            self._unusable = error
        self._holds_secrets, self._depth_varies = builder.holds_secrets, builder.depth_varies

    def dumps(self, value: Any, *, path: str, field: str | None = None) -> bytes:
        """Write `value` as JSON; raises `SerializationError` that names `path`, the type and the remedy.

        :param field: the field of the context that holds `value`, if it is in there.
        """
        try:
            return self._written(value, path)
        except _UNWRITABLE as error:
            raise _not_stored(value, error, path, field) from error

    def _written(self, value: Any, path: str) -> bytes:
        check_length(value)
        if self._write is None:
            if self._unusable is not None:
                raise TypeError(f"its declared type cannot be used: {self._unusable}")
            return _dump_plain(value)
        data: bytes = self._write(value, warnings="error")
        if len(data) > _SHORT:
            check_size(len(data))
            check_digits(data)
        if self._depth_varies:
            check_depth(data)
        if self._holds_secrets and path not in self._warned:
            self._warn(path)
        return data

    def _warn(self, path: str) -> None:
        if len(self._warned) < _MAX_WARNED:
            self._warned.add(path)
            logger.warning("%s: a secret is never stored; what is stored has a mask in its place", _place(path, None))

    @property
    def holds_secrets(self) -> bool:
        """True when values of the type may hold secrets, which are not written."""
        return self._holds_secrets

    def masks(self, value: Any, data: bytes) -> bool:
        """Tell whether `data`, which was written for `value`, has a mask in the place of a secret."""
        return self._holds_secrets and not equal(self.loads(data), value)

    def encode(self, value: Any, *, path: str) -> tuple[bytes, bool]:
        """Write `value`, and say whether with its declared type.

        What a fallback, a processor or a caller puts in the place of the declared type is written as it is when it is
        plain JSON; otherwise `SerializationError` is raised.
        """
        try:
            return self._written(value, path), True
        except _UNWRITABLE as error:
            refused = error
        try:
            check_length(value)
            return _dump_plain(value), False
        except _UNWRITABLE:
            raise _not_stored(value, refused, path, None) from refused

    def decode(self, data: bytes, typed: bool, *, path: str = "") -> Any:
        """Read what `encode` wrote."""
        return self.loads(data, path=path) if typed else _PLAIN.loads(data, path=path)

    def loads(self, data: bytes, *, path: str = "", field: str | None = None) -> Any:
        """Read a value back; raises `SerializationError` when the stored text does not fit the declared type."""
        try:
            if self._depth_varies:
                check_depth(data)
            if len(data) > _SHORT:
                check_digits(data)
            if self._unusable is not None:
                raise TypeError(f"its declared type cannot be used: {self._unusable}")
            value = orjson.loads(data) if self._read is None else self._read(data)
            if b'"' in data or b"N" in data or b"I" in data:  # there may be keys, or what is no number
                self._check_json(data, value)
            return value
        except _UNREADABLE as error:
            raise SerializationError(
                f"{_place(path, field)}: the stored value does not fit the declared type: {_first_line(error)}",
                path=path,
                hint="The type has changed since, or the stored text was damaged",
                cause=error,
            ) from error

    def _check_json(self, data: bytes, value: Any) -> None:
        """Check the text unless it is what `value` is written as, which is told five times as fast."""
        try:
            written = orjson.dumps(value) if self._write is None else self._write(value)
        except _UNWRITABLE:
            written = b""
        if written != data:
            check_json(data)


def _dump_plain(value: Any) -> bytes:
    check_plain(value)
    data = orjson.dumps(value)
    check_size(len(data))
    return data


def _not_stored(value: Any, error: BaseException, path: str, field: str | None) -> SerializationError:
    size = "" if "exceed the limit" in str(error) else f" of type {type(value).__qualname__}"
    return SerializationError(
        f"{_place(path, field)}: a value{size} cannot be stored: {_reason(error)}",
        path=path,
        hint=_remedy(path, field),
        cause=error,
    )


def _reason(error: BaseException) -> str:
    """Say what is wrong without naming the functions of ours that Pydantic has called."""
    return _CALLED.sub("", str(error))


def _first_line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, found["loc"]))
        return f"{place}: {found['msg']}" if place else found["msg"]
    return str(error)


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


_PLAIN = Codec(Any)


def dump_context(model: type[BaseModel], values: dict[str, Any], *, path: str) -> bytes:
    """Write some fields of a context as one JSON object, each with its declared type."""
    fields = model.__pydantic_fields__
    parts = []
    for name, value in values.items():
        codec = codec_for(field_type(fields[name])) if name in fields else _PLAIN
        parts.append(orjson.dumps(name) + b":" + codec.dumps(value, path=path, field=name))
    return b"{" + b",".join(parts) + b"}"


def load_context(model: type[BaseModel], data: bytes, *, path: str = "") -> dict[str, Any]:
    """Read fields that `dump_context` wrote."""
    fields = model.__pydantic_fields__
    return {
        name: (codec_for(field_type(fields[name])) if name in fields else _PLAIN).loads(
            to_json(value), path=path, field=name
        )
        for name, value in read_object(data, path=path).items()
    }


def read_object(data: bytes, *, path: str) -> dict[str, Any]:
    """Read a JSON object whose values are read with types of their own later."""
    try:
        check_json(data)
        found = from_json(data)
        if not isinstance(found, dict):
            raise TypeError(f"it is a {type(found).__name__} and no object")
    except _UNREADABLE as error:
        raise SerializationError(
            f"{_place(path, None)}: the stored context cannot be read: {error}", path=path, cause=error
        ) from error
    return found
