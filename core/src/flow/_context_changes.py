"""What a step changed in the context, as JSON: whole values, or what was added to a list or a dictionary.

A step that appends one line to a log writes that line and not the log, so that a journal grows with what the steps do
and not with what the context holds. Applied to a context that has grown in between, by a sibling or in another run that
hits the cache, such a change adds to what is there instead of replacing it.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import attrs
import orjson
from pydantic import BaseModel
from pydantic_core import to_json

from ._context import differs, peek
from ._serialize import Codec, codec_for, field_type, read_object
from .errors import SerializationError

_Kind: TypeAlias = Literal["set", "append", "merge"]
_MISSING: Any = object()


@attrs.frozen
class _Field:
    """How one field of a context is written.

    :ivar kind: what a change of it may be written as beside the whole value.
    """

    codec: Codec
    kind: _Kind


_UNDECLARED = _Field(codec_for(Any), "set")


def dump_changes(base: BaseModel, changed: Mapping[str, Any], *, path: str) -> bytes:
    """Write the fields that the step at `path` changed, as JSON with the optional keys "set", "append" and "merge".

    :param base: the context before the changes.
    :param changed: the changed fields as the step left them.

    Raises `SerializationError` that names the step, the field, its type and the remedy.
    """
    fields = _fields_of(type(base))
    groups: dict[str, list[bytes]] = {}
    for name, value in changed.items():
        field = fields.get(name, _UNDECLARED)
        kind, part = _difference(field.kind, _current(base, name), value)
        item = orjson.dumps(name) + b":" + field.codec.dumps(part, path=path, field=name)
        groups.setdefault(kind, []).append(item)
    return b"{" + b",".join(b'"%s":{%s}' % (kind.encode(), b",".join(items)) for kind, items in groups.items()) + b"}"


def may_hide_secrets(base: BaseModel, changed: Mapping[str, Any]) -> bool:
    """Tell whether some of the changed fields may hold secrets, of which `dump_changes` writes masks."""
    fields = _fields_of(type(base))
    return any(name in fields and fields[name].codec.holds_secrets for name in changed)


def load_changes(base: BaseModel, data: bytes, *, path: str) -> dict[str, Any]:
    """Return the new values of the fields that `dump_changes` wrote, on top of what `base` holds now.

    Raises `SerializationError` when the stored text does not fit the context.
    """
    fields = _fields_of(type(base))
    changed: dict[str, Any] = {}
    for kind, items in _read(data, path).items():
        for name, stored in items.items():
            part = fields.get(name, _UNDECLARED).codec.loads(to_json(stored), path=path, field=name)
            changed[name] = part if kind == "set" else _joined(_current(base, name), part)
    return changed


def _difference(kind: _Kind, old: Any, new: Any) -> tuple[_Kind, Any]:
    if kind == "append" and type(old) is list and type(new) is list and _starts_with(new, old):
        return "append", new[len(old) :]
    if kind == "merge" and type(old) is dict and type(new) is dict and _has_keys_of(new, old):
        return "merge", {key: item for key, item in new.items() if key not in old or differs(item, old[key])}
    return "set", new


def _starts_with(new: list[Any], old: list[Any]) -> bool:
    return len(new) >= len(old) and not differs(new[: len(old)], old)


def _has_keys_of(new: dict[Any, Any], old: dict[Any, Any]) -> bool:
    """Tell whether the keys of `old` are the first ones of `new`, so that joining them gives the same order too."""
    return len(new) >= len(old) and all(map(operator.eq, old, new))


def _joined(old: Any, part: Any) -> Any:
    if type(old) is type(part) is list:
        return [*old, *part]
    if type(old) is type(part) is dict:
        return {**old, **part}
    return part  # a field that is not there yet, or was emptied by somebody else


def _current(base: BaseModel, name: str) -> Any:
    if name in type(base).__pydantic_fields__:
        return peek(base, name)
    return (base.__pydantic_extra__ or {}).get(name, _MISSING)


def _read(data: bytes, path: str) -> dict[str, dict[str, Any]]:
    groups = read_object(data, path=path)
    if not groups.keys() <= {"set", "append", "merge"} or not all(isinstance(items, dict) for items in groups.values()):
        raise SerializationError(f"step {path!r}: what is stored is not the change of a context", path=path)
    return groups


@lru_cache(maxsize=256)
def _fields_of(model: type[BaseModel]) -> dict[str, _Field]:
    return {
        name: _Field(codec_for(field_type(info)), _kind_of(field_type(info)))
        for name, info in model.__pydantic_fields__.items()
    }


def _kind_of(declared: Any) -> _Kind:
    origin = get_origin(declared)
    if origin is Annotated:
        attached = [item for item in get_args(declared)[1:] if hasattr(item, "__get_pydantic_core_schema__")]
        return "set" if attached else _kind_of(get_args(declared)[0])
    if origin is Union or origin is types.UnionType:
        members = [member for member in get_args(declared) if member is not type(None)]
        return _kind_of(members[0]) if len(members) == 1 else "set"
    if origin is list or declared is list:
        return "append"
    return "merge" if origin is dict or declared is dict else "set"
