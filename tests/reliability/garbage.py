"""What may stand in a damaged or hostile store: texts that are no JSON, or not the right one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

CORPUS: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"null",
    b"{",
    b"[1,",
    b'"\\ud800"',
    b'"\xff\xfe"',
    b"\xef\xbb\xbf1",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"set":{"trail":"no list"}}',
    b'{"set":{"__class__":"os.system"}}',
    b'{"set":7}',
    b'{"exec":{"trail":[]}}',
    b'{"py/object":"os.system","__reduce__":["os.system",["true"]]}',
    b'{"lc":1,"type":"constructor","id":["os","system"]}',
    b"!!python/object/apply:os.system [true]",
    b"cos\nsystem\n(S'true'\ntR.",
    b'[{"path":"9:ask"}]',
    b'[{"path":7,"message":null,"extra":true}]',
    b'{"a":1,"a":2}',
    b'"' + b"x" * 1_000_000 + b'"',
)


def garbled(value: bytes | None, random: Random) -> bytes:
    """Something else in the place of a stored text."""
    if not value or random.random() < 0.3:
        return random.choice(CORPUS)
    data = bytearray(value)
    for _ in range(random.randrange(1, 4)):
        position = random.randrange(len(data) + 1)
        match random.randrange(5):
            case 0:
                data[position : position + 1] = bytes([random.randrange(256)])
            case 1:
                del data[position : position + random.randrange(1, 20)]
            case 2:
                data[position:position] = random.choice(CORPUS)[:2000]
            case 3:
                data[position:position] = data[: random.randrange(1, 20)]
            case _:
                data[position:position] = random.choice([b"{", b"]", b'"', b",", b"\\u0000", b"1e5", b"true"])
    return bytes(data)


_watched: set[str] | None = None
_EVENTS = frozenset(
    {"import", "os.system", "os.exec", "os.fork", "subprocess.Popen", "pickle.find_class", "marshal.loads"}
)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event in _EVENTS:
        _watched.add(f"{event} {args[0]!r:.60}" if args else event)
    elif event in ("compile", "exec"):
        _watched.add(f"{event} {args[0] if event == 'compile' else args[0].co_filename!r:.60}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[set[str]]:
    """Note what is imported, compiled or started meanwhile."""
    global _watched
    _watched = events = set()
    try:
        yield events
    finally:
        _watched = None
