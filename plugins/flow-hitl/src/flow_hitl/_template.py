"""Messages with placeholders: ``{{ data }}``, ``{{ context.field }}``, and nothing else.

A placeholder is a dotted path into declared fields, keys and positions. It calls nothing and reaches nothing private,
so that a message may come from a file or from somebody who must not run code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from pydantic import BaseModel

from flow import ConfigurationError, FlowError, StepFailed

ROOTS = ("data", "context")

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"[^\W_][\w-]*")
_MOST_NAMES = 20
_USE = "Write {{ data }}, {{ data.field }} or {{ context.field }}; for anything else pass a function of (data, context)"


@attrs.frozen
class Template:
    """A parsed message.

    :ivar text: the message as it was written.
    :ivar literals: what stands around the placeholders: one more than there are placeholders.
    :ivar paths: the placeholders, each as the names from its root on.

    >>> Template.parse("{{ context.user }} wrote {{data.0}}").paths
    (('context', 'user'), ('data', '0'))
    """

    text: str
    literals: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a message; raises `ConfigurationError` that says what is wrong with it."""
        pieces = _PLACEHOLDER.split(text)
        literals = tuple(pieces[::2])
        if any("{{" in literal for literal in literals):
            raise ConfigurationError(f"the message {text!r} opens a placeholder with {{{{ and does not close it")
        return cls(text, literals, tuple(_path(piece, text) for piece in pieces[1::2]))

    def render(self, data: Any, context: Any) -> str:
        """Fill in the placeholders; raises `StepFailed` when one leads to nothing."""
        roots = {"data": data, "context": context}
        texts = [self._value(path, roots[path[0]]) for path in self.paths]
        return self.literals[0] + "".join(map("".join, zip(texts, self.literals[1:], strict=True)))

    def _value(self, path: tuple[str, ...], value: Any) -> str:
        placeholder = "{{ " + ".".join(path) + " }}"
        try:
            for depth, name in enumerate(path[1:], start=1):
                value = _member(value, name, ".".join(path[:depth]))
            return str(value)
        except FlowError as error:
            raise StepFailed(f"the message {self.text!r} names {placeholder}, but {error}") from error
        except Exception as error:  # a mapping or a __str__ of the user's
            reason = f"{type(error).__name__}: {error}"
            raise StepFailed(f"the message {self.text!r}: {placeholder} raised {reason}", cause=error) from error


def _path(placeholder: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in placeholder.split("."))
    written = "{{" + placeholder + "}}"
    private = next((name for name in names if name.startswith("_")), None)
    if private is not None:
        raise ConfigurationError(f"the message {text!r}: {written} reaches for {private!r}, which is private")
    if not all(_NAME.fullmatch(name) for name in names):
        raise ConfigurationError(f"the message {text!r}: {written} is no path of names", hint=_USE)
    if names[0] not in ROOTS:
        raise ConfigurationError(f"the message {text!r}: {written} begins with neither data nor context", hint=_USE)
    return names


def _member(value: Any, name: str, where: str) -> Any:
    """Return what `value` declares under `name`; raises `StepFailed` with the names there are."""
    if isinstance(value, Mapping):
        return _entry(value, name, where)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        if name.isdecimal() and int(name) < len(value):
            return value[int(name)]
        raise StepFailed(f"{where} has {len(value)} items and none at {name!r}")
    fields = _fields(value)
    if name not in fields:
        raise _unknown(where, value, name, fields)
    return getattr(value, name)  # a field that the user's class declares


def _entry(value: Mapping[Any, Any], name: str, where: str) -> Any:
    if name in value:
        return value[name]
    if name.isdecimal() and int(name) in value:
        return value[int(name)]
    raise _unknown(where, value, name, [key for key in value if isinstance(key, (str, int))])


def _fields(value: Any) -> list[str]:
    """Return the names of the public fields that the class of `value` declares."""
    cls = type(value)
    names: list[str] = []
    if isinstance(value, BaseModel):
        names = [*cls.model_fields, *(value.__pydantic_extra__ or ())]
    elif attrs.has(cls):
        names = [field.name for field in attrs.fields(cls)]
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    return [name for name in names if not name.startswith("_")]


def _unknown(where: str, value: Any, name: str, names: Iterable[Any]) -> StepFailed:
    known = [str(item) for item in names]
    told = ", ".join(known[:_MOST_NAMES]) + (", …" if len(known) > _MOST_NAMES else "")
    has = f"it has: {told}" if known else "it has no fields"
    return StepFailed(f"{where} is of type {type(value).__name__} and has no {name!r}; {has}")
