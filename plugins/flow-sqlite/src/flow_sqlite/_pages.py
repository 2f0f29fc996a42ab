"""Reading the pages of a SQLite file without SQLite: what a damaged file still holds.

Only leaves of tables are read. Whether what is found there is a row, and of which table, is decided by the checksum in
it, so nothing here has to be trusted: neither the schema, nor the pages that lead to the leaves, nor the free list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_LEAF = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_SIZES = {512 << shift for shift in range(8)}
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Pages:
    """The pages of a file, those in its -wal before those in the file itself."""

    def __init__(self, path: Path, wal: Path) -> None:
        self._data = path.read_bytes() if path.exists() else b""
        log = wal.read_bytes() if wal.exists() else b""
        self.size = _page_size(self._data, log)
        self._newer = dict(_committed_frames(log, self.size))

    def __len__(self) -> int:
        return max(len(self._data) // self.size, *self._newer, 0)

    def page(self, number: int) -> bytes:
        """Return page `number`, counted from 1; empty when there is none."""
        newer = self._newer.get(number)
        return self._data[(number - 1) * self.size : number * self.size] if newer is None else newer

    def records(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield number and values of everything on leaves of tables that can be read as a record."""
        for number in range(1, len(self) + 1):
            yield from self._records_on(self.page(number), 100 if number == 1 else 0)

    def _records_on(self, page: bytes, start: int) -> Iterator[tuple[int, list[Any]]]:
        if len(page) != self.size or page[start] != _LEAF:
            return
        (count,) = struct.unpack_from(">H", page, start + 3)
        for index in range(min(count, (self.size - start - 8) // 2)):
            (offset,) = struct.unpack_from(">H", page, start + 8 + 2 * index)
            try:
                yield self._record_at(page, offset)
            except (IndexError, ValueError, struct.error):
                continue  # this cell is damaged; its neighbours may not be

    def _record_at(self, page: bytes, offset: int) -> tuple[int, list[Any]]:
        length, offset = _varint(page, offset)
        number, offset = _varint(page, offset)
        if length > self.size * len(self):
            raise ValueError("longer than the file")
        return number - (1 << 64) if number >> 63 else number, _values(self._payload(page, offset, length))

    def _payload(self, page: bytes, offset: int, length: int) -> bytes:
        """Return the whole of a record, with what did not fit into its page."""
        local = self._local(length)
        pieces = [page[offset : offset + local]]
        missing = length - local
        following = struct.unpack_from(">I", page, offset + local)[0] if missing else 0
        while missing > 0:
            further = self.page(following)
            if following == 0 or len(further) != self.size:
                raise ValueError("the chain of pages is broken")
            (following,) = struct.unpack_from(">I", further)
            pieces.append(further[4 : 4 + missing])
            missing -= self.size - 4
        return b"".join(pieces)

    def _local(self, length: int) -> int:
        """Return how much of a record of `length` bytes is in the leaf, as the file format has it."""
        most = self.size - 35
        if length <= most:
            return length
        least = (self.size - 12) * 32 // 255 - 23
        fitting = least + (length - least) % (self.size - 4)
        return fitting if fitting <= most else least


def _page_size(data: bytes, log: bytes) -> int:
    stated = int.from_bytes(data[16:18])
    stated = 65536 if stated == 1 else stated
    logged = int.from_bytes(log[8:12])
    return next((size for size in (stated, logged) if size in _SIZES), 4096)


def _committed_frames(log: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the pages in a -wal up to the last commit, in their order."""
    salts = log[16:24]
    waiting: list[tuple[int, bytes]] = []
    for offset in range(_WAL_HEADER, len(log) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
        number, commits = struct.unpack_from(">II", log, offset)
        if log[offset + 8 : offset + 16] != salts:
            return  # left over from an earlier round
        waiting.append((number, log[offset + _FRAME_HEADER : offset + _FRAME_HEADER + size]))
        if commits:
            yield from waiting
            waiting.clear()


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and where it ends.

    >>> _varint(bytes([0x81, 0x00]), 0)
    (128, 2)
    """
    value = 0
    for index in range(8):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    return value << 8 | data[offset + 8], offset + 9


def _values(payload: bytes) -> list[Any]:
    """Return the columns of a record."""
    end, offset = _varint(payload, 0)
    if end > len(payload):
        raise ValueError("the header is longer than the record")
    types = []
    while offset < end:
        kind, offset = _varint(payload, offset)
        types.append(kind)
    return list(_read(payload, end, types))


def _read(payload: bytes, offset: int, types: Sequence[int]) -> Iterator[Any]:
    for kind in types:
        if kind == 0:
            yield None
        elif kind in _INTEGERS:
            yield int.from_bytes(payload[offset : offset + _INTEGERS[kind]], signed=True)
            offset += _INTEGERS[kind]
        elif kind == 7:
            yield struct.unpack_from(">d", payload, offset)[0]
            offset += 8
        elif kind in (8, 9):
            yield kind - 8
        else:
            length = (kind - 12) // 2
            if kind < 12 or offset + length > len(payload):
                raise ValueError("no such type, or a value that ends after the record")
            data = payload[offset : offset + length]
            yield data.decode() if kind % 2 else data
            offset += length
