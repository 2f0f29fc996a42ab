"""Plain JSON: what comes back from it unchanged without a declared type, and what is refused when it is read."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_STORED_BYTES = 64 * 2**20
"""The largest value that is stored, in bytes of JSON."""

_MIB = 2**20
_LARGE = 2**16
_SAMPLED = 8
_TEXTS = frozenset({str, bytes, bytearray})
_COLLECTIONS = frozenset({list, tuple, dict, set, frozenset})
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INNERMOST = re.compile(rb"\[\]|\{\}")
_MAX_DIGITS = 4300
_TOO_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_plain(value: Any, depth: int = 0) -> None:
    """Raise unless `value` is made of what JSON gives back unchanged: undeclared values are stored only then."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
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


def check_size(size: int) -> None:
    """Raise `ValueError` for more bytes than are stored."""
    if size > MAX_STORED_BYTES:
        raise ValueError(f"{size / _MIB:.0f} MiB exceed the limit of {MAX_STORED_BYTES // _MIB} MiB for one value")


def check_length(value: Any) -> None:
    """Refuse what is too long before its JSON is built: texts and bytes, also directly in a collection."""
    kind = type(value)
    if kind in _TEXTS:
        check_size(len(value))
    elif kind in _COLLECTIONS:
        items = value.values() if kind is dict else value
        if any(type(item) in _TEXTS and len(item) > _LARGE for item in islice(items, _SAMPLED)):
            check_size(sum(len(item) for item in items if type(item) in _TEXTS))


def check_digits(data: bytes) -> None:
    """Raise `ValueError` for JSON with a number of more digits than Python reads."""
    if len(data) <= _MAX_DIGITS:
        return
    for place in range(_MAX_DIGITS, len(data), _MAX_DIGITS):  # so many digits in a row cover one of these places
        if data[place] in b"0123456789":
            near = data[place - _MAX_DIGITS : place + _MAX_DIGITS]
            if _TOO_MANY_DIGITS.search(near) and _TOO_MANY_DIGITS.search(_STRINGS.sub(b"", data)):
                raise ValueError(f"a number has more than {_MAX_DIGITS} digits")


def check_json(data: bytes) -> None:
    """Raise `ValueError` for JSON with repeated keys, NaN or infinite numbers.

    The fast parsers keep the last of several values of one key, and take what is no JSON number for one.
    """
    _STRICT.decode(data.decode())


def check_depth(data: bytes) -> None:
    """Raise `ValueError` for JSON with more than `MAX_DEPTH` levels."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    brackets = _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = _INNERMOST.sub(b"", brackets)
        if not brackets:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated!r:.40} stands there twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
