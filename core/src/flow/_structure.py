"""A pipeline's structure as plain data: for fingerprints, comparison and drawing. Knows no step type."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import attrs
import orjson
from blake3 import blake3
from pydantic import BaseModel

from ._pipeline import Pipeline
from ._step import BaseStep

_NOT_STRUCTURE = frozenset({"name", "metadata"})


def digest(data: bytes) -> str:
    """Return the blake3 hash of `data` in hexadecimal."""
    return blake3(data).hexdigest()


def structure(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> dict[str, Any]:
    """Describe a step or pipeline and everything inside it as nested dictionaries of plain values.

    Keys: ``name``, ``kind``, ``config`` (the fields that differ from their defaults) and ``children`` by label.
    """
    config: dict[str, Any] = {}
    if isinstance(item, BaseStep):
        inside = {id(child) for child in item.children().values()}
        for field in attrs.fields(type(item)):
            value = item.__getattribute__(field.name)
            if field.name not in _NOT_STRUCTURE and not _is_default(field, value) and not _holds(value, inside):
                config[field.name] = describe(value)
    return {
        "name": item.name,
        "kind": item.kind,
        "config": config,
        "children": {label: structure(child) for label, child in item.children().items()},
    }


def fingerprint(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> str:
    """Return the hash of the structure; functions and types count by their qualified names, not their code."""
    return digest(orjson.dumps(structure(item), option=orjson.OPT_SORT_KEYS))


def describe(value: Any) -> Any:
    """Turn a field's value into plain data that is the same in every process."""
    if isinstance(value, enum.Enum):
        return describe(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (BaseStep, Pipeline)):
        return structure(value)
    if isinstance(value, Mapping):
        return {str(describe(key)): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((describe(item) for item in value), key=repr)
    if isinstance(value, functools.partial):
        return [describe(value.func), describe(value.args), describe(value.keywords)]
    if isinstance(value, type) or inspect.isroutine(value):
        return _qualified(value)
    if attrs.has(type(value)):
        fields = {field.name: describe(value.__getattribute__(field.name)) for field in attrs.fields(type(value))}
        return {"type": _qualified(type(value)), **fields}
    if isinstance(value, BaseModel):
        return {
            "type": _qualified(type(value)),
            **value.model_dump(mode="json", fallback=lambda v: _qualified(type(v))),
        }
    return _qualified(type(value))  # never its repr: that may hold an address or a secret


def _qualified(item: Any) -> str:
    if inspect.ismethod(item) and not isinstance(item.__self__, type):
        return f"{_qualified(type(item.__self__))}.{item.__name__}"
    module = getattr(item, "__module__", None) or "builtins"  # method descriptors such as str.upper have none
    return f"{module}.{item.__qualname__}"


def _is_default(field: attrs.Attribute[Any], value: Any) -> bool:
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()  # type: ignore[union-attr]
    return type(default) is type(value) and bool(default == value)


def _holds(value: Any, children: set[int]) -> bool:
    """Tell whether a field only holds children, which `structure` describes by label already."""
    if isinstance(value, Mapping):
        return bool(value) and all(id(item) in children for item in value.values())
    if isinstance(value, (list, tuple)):
        return bool(value) and all(id(item) in children for item in value)
    return id(value) in children
