"""Lines of a journal: JSON objects that begin with a checksum of what follows it.

``{"sum":"<32 hexadecimal digits>","kind":"steps","epoch":2,"safe":910,"at":1700000000.5,…}``. The sum is that of all
bytes after the comma behind it. Values of users stand in such a line only as strings in fixed places.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import orjson
from blake3 import blake3

from flow.errors import StateError

_BEGIN = b'{"sum":"'
_REST = len(_BEGIN) + 32 + 2
_ENVELOPE = re.compile(rb'"kind":"([a-z]+)","epoch":(\d+),"safe":(\d+),(?:"from":(\d+),)?')


@attrs.frozen(slots=True)
class Line:
    """A line whose checksum is right.

    :ivar safe: its writer knew that everything before this offset survives a loss of power.
    :ivar resumes: where the remains of a write begin that this line says to pass over; ``None`` for nearly all lines.
    """

    text: bytes
    kind: str
    epoch: int
    safe: int
    resumes: int | None

    @property
    def sum(self) -> bytes:
        """The checksum of the line."""
        return sum_of(self.text)

    def fields(self) -> dict[str, Any]:
        """Return the whole object."""
        fields: dict[str, Any] = orjson.loads(self.text)
        return fields


def seal(fields: dict[str, Any]) -> bytes:
    """Return the line of an object: with its checksum, without a line end; `StateError` for what JSON cannot hold."""
    try:
        rest = orjson.dumps(fields)[1:]
    except TypeError as error:
        raise StateError(
            f"a record cannot be written as JSON: {error}",
            hint="Text has to be Unicode without lone surrogates, and numbers have at most 64 bits",
        ) from error
    return b"".join((_BEGIN, blake3(rest).hexdigest(length=16).encode(), b'",', rest))


def sum_of(text: bytes) -> bytes:
    """Return the checksum that a line bears, which also tells it from all others."""
    return text[len(_BEGIN) : _REST - 2]


def is_intact(text: bytes) -> bool:
    """Tell whether the checksum is right.

    >>> is_intact(seal({"kind": "note"})), is_intact(seal({"kind": "note"}).replace(b"o", b"0"))
    (True, False)
    """
    if not text.startswith(_BEGIN) or text[_REST - 2 : _REST] != b'",':
        return False
    return blake3(memoryview(text)[_REST:]).hexdigest(length=16).encode() == text[len(_BEGIN) : _REST - 2]


def parse(text: bytes) -> Line | None:
    """Return the line when it is intact and one of a journal."""
    if not is_intact(text):
        return None
    match = _ENVELOPE.match(text, _REST)
    if match is None:
        return None
    kind, epoch, safe, resumes = match.groups()
    return Line(text, kind.decode(), int(epoch), int(safe), None if resumes is None else int(resumes))


def could_begin(data: bytes) -> bool:
    r"""Tell whether `data` may be what is left of a line, zeros where a block never reached the disk.

    >>> could_begin(b'{"su'), could_begin(b'{"s\0\0\0\0\0'), could_begin(b"SQLite format 3")
    (True, True, False)
    """
    return _BEGIN.startswith(data[: len(_BEGIN)].partition(b"\0")[0])


def find_all(data: bytes, start: int) -> list[tuple[int, Line]]:
    """Return every intact line that begins at `start` or later, whatever stands between them, with its position."""
    found = []
    position = data.find(_BEGIN, start)
    while position >= 0:
        stop = data.find(b"\n", position)
        if stop < 0:
            break
        line = parse(data[position:stop])
        if line is not None:
            found.append((position, line))
        position = data.find(_BEGIN, stop if line is not None else position + 1)
    return found
