"""A pipeline's structure as plain data: for fingerprints, comparison and drawing. Knows no step type."""

from __future__ import annotations

import enum
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_origin

import attrs
import orjson
from blake3 import blake3
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ._pipeline import Pipeline
from ._step import BaseStep
from ._types import type_name

_NOT_STRUCTURE = frozenset({"name", "metadata"})
# Fields of every step that hold values flow and its plugins define; what else a step holds may be an agent.
_VALUES = frozenset(field.name for field in attrs.fields(BaseStep))
_SECRET = re.compile("secret|token|passw|key|auth|credential", re.IGNORECASE)
_LONGEST_TEXT = 80


def digest(data: bytes) -> str:
    """Return the blake3 hash of `data` in hexadecimal."""
    return blake3(data).hexdigest()


def structure(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> dict[str, Any]:
    """Describe a step or pipeline and everything inside it as nested dictionaries of plain values.

    Keys: ``name``, ``kind``, ``config`` (the fields that differ from their defaults), ``types`` (those that are
    declared) and ``children`` by label.
    """
    config: dict[str, Any] = {}
    if isinstance(item, BaseStep):
        inside = {id(child) for child in item.children().values()}
        for field in attrs.fields(type(item)):
            value = item.__getattribute__(field.name)
            if field.name not in _NOT_STRUCTURE and not _is_default(field, value) and not _holds(value, inside):
                config[field.name] = _told(field.name, value, describe if field.name in _VALUES else _outline)
    return {
        "name": item.name,
        "kind": item.kind,
        "config": config,
        "types": _declared(item),
        "children": {label: structure(child) for label, child in item.children().items()},
    }


def _declared(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> dict[str, str]:
    if isinstance(item, Pipeline):  # its types are those of its first and last step
        return {}
    types = zip(("input", "output"), item.declared_types(), strict=True)
    return {side: type_name(declared) for side, declared in types if declared is not Any}


def fingerprint(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> str:
    """Return the hash of the structure; functions and types count by their qualified names, not their code."""
    return digest(orjson.dumps(structure(item), option=orjson.OPT_SORT_KEYS))


def describe(value: Any) -> Any:
    """Turn a value into plain data that is the same in every process: attrs and Pydantic values by their fields."""
    if attrs.has(type(value)) and not isinstance(value, (BaseStep, Pipeline)):
        fields = [field for field in attrs.fields(type(value)) if field.repr]
        told = {field.name: _told(field.name, value.__getattribute__(field.name), describe) for field in fields}
        return {"type": _qualified(type(value)), **told}
    if isinstance(value, BaseModel):
        told = to_jsonable_python(value, fallback=lambda item: _qualified(type(item)))
        return {"type": _qualified(type(value)), **told}
    return _outline(value, describe)


def _outline(value: Any, inner: Callable[[Any], Any] | None = None) -> Any:
    """Describe plain values, functions and types; of any other object, such as an agent, only the type.

    An agent's fields change while it works, and may hold a secret or a prompt.
    """
    inner = inner or _outline
    if isinstance(value, enum.Enum):
        return inner(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (BaseStep, Pipeline)):
        return structure(value)
    if isinstance(value, Mapping):
        return {str(_outline(key)): _told(str(key), item, inner) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((inner(item) for item in value), key=repr)
    if isinstance(value, functools.partial):
        bound = _outline([value.args, value.keywords])
        return [_outline(value.func), digest(orjson.dumps(bound, option=orjson.OPT_SORT_KEYS))]
    if get_origin(value) is not None:
        return type_name(value)
    if isinstance(value, type) or inspect.isroutine(value):
        return _qualified(value)
    return _qualified(type(value))


def _told(name: str, value: Any, inner: Callable[[Any], Any]) -> Any:
    """Describe a named value; of secrets and of long texts, such as prompts, only the hash."""
    if isinstance(value, str) and (len(value) > _LONGEST_TEXT or _SECRET.search(name)):
        return f"blake3:{digest(value.encode())}"
    return inner(value)


def _qualified(item: Any) -> str:
    if inspect.ismethod(item) and not isinstance(item.__self__, type):
        return f"{_qualified(type(item.__self__))}.{item.__name__}"
    module = getattr(item, "__module__", None) or "builtins"  # method descriptors such as str.upper have none
    return f"{_main_name() if module == '__main__' else module}.{item.__qualname__}"


@functools.cache
def _main_name() -> str:
    """Return the name under which others import the program: it must be able to resume what a worker began."""
    main = sys.modules["__main__"]
    spec, file = vars(main).get("__spec__"), vars(main).get("__file__")
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return Path(file).stem if file else "__main__"


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
