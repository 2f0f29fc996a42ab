"""``sqlite:///`` cache: computed results that outlive the process, bounded, least recently used out first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from flow import CacheBackend, hookimpl
from flow_sqlite._database import Handle
from flow_sqlite._faults import corrupt_error
from flow_sqlite._rows import INLINE, content_hash
from flow_sqlite._url import CACHE_OPTIONS, SCHEME, parse_url

_GET = "SELECT value, expires_at, checksum FROM cache WHERE key = ?"
_SET = """
    INSERT OR REPLACE INTO cache (key, value, size, expires_at, used_at, checksum) VALUES (?, ?, ?, ?, ?, ?)
"""
_TOUCH = "UPDATE cache SET used_at = :now WHERE key = :key AND used_at < :now"
_EXPIRE = "DELETE FROM cache WHERE expires_at <= ?"
_EVICT = """
    DELETE FROM cache WHERE rowid IN (
        SELECT row FROM (
            SELECT rowid AS row, row_number() OVER latest AS entries, sum(size) OVER latest AS bytes
            FROM cache WINDOW latest AS (ORDER BY used_at DESC, rowid DESC ROWS UNBOUNDED PRECEDING)
        ) WHERE entries > ? OR bytes > ?
    )
"""
# How much may be written before the limits are looked at again: looking reads an index of all entries.
_SLACK = 20
_TOUCHES = 256


@hookimpl
def flow_open_cache(url: str, settings: Mapping[str, Any]) -> CacheBackend | None:
    """Open ``sqlite:///cache.db``; nothing is touched before the first use."""
    return SqliteCache(url, settings) if url.startswith(SCHEME) else None


class SqliteCache:
    """Computed results in a SQLite file, also one that holds runs.

    :param url: ``sqlite:///cache.db`` with ``?max_bytes=N`` (256 MiB unless given), ``?max_entries=N`` (100,000)
        and the options of `SqliteState`.
    :param settings: defaults for the options.

    The limits may be exceeded by a twentieth for a while. Raises `ConfigurationError` for a URL that cannot be read.

    >>> import asyncio
    >>> cache = SqliteCache("sqlite:///no-such-file.db?max_entries=1000")
    >>> asyncio.run(cache.aclose())
    """

    def __init__(self, url: str, settings: Mapping[str, Any] | None = None) -> None:
        self._target = parse_url(url, CACHE_OPTIONS, settings)
        self._handle = Handle(self._target)
        self._used: dict[bytes, float] = {}
        self._entries_left = self._bytes_left = 0

    async def get(self, key: bytes) -> bytes | None:
        """Return the value unless it has expired; `StateCorrupt` when it is not what was stored."""
        database = self._handle.database

        def load(connection: sqlite3.Connection) -> tuple[Any, ...] | None:
            found: tuple[Any, ...] | None = connection.execute(_GET, (key,)).fetchone()
            return found

        found = await database.read(load, self._target)
        if found is None:
            return None
        value, expires_at, check = found
        if not isinstance(value, bytes) or _checksum(key, value, expires_at) != check:
            raise corrupt_error(database.path, "a cached value is damaged: its content does not fit its checksum")
        now = time.time()
        if expires_at is not None and now >= expires_at:
            return None
        self._used[key] = now
        if len(self._used) >= _TOUCHES:
            database.post(self._touch, self._target)
        return value

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        """Keep `value` for `ttl` seconds; what was used longest ago makes room."""
        value, now = bytes(value), time.time()
        if len(value) > self._target.max_bytes:
            return
        expires_at = None if ttl is None else now + ttl
        row = (key, value, len(value), expires_at, now, _checksum(key, value, expires_at))
        self._used.pop(key, None)

        def store(connection: sqlite3.Connection) -> None:
            self._touch(connection)
            connection.execute(_SET, row)
            self._make_room(connection, len(value))

        alone = self if len(value) <= INLINE else None
        await self._handle.database.write(store, self._target, sync=False, lone=alone)

    async def aclose(self) -> None:
        """Note what was used, and release the file; used afterwards, it opens again."""
        if self._used:
            await self._handle.database.write(self._touch, self._target, sync=False)
        await self._handle.aclose()

    def _touch(self, connection: sqlite3.Connection) -> None:
        used, self._used = self._used, {}
        connection.executemany(_TOUCH, [{"key": key, "now": now} for key, now in used.items()])

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        self._entries_left -= 1
        self._bytes_left -= size
        if self._entries_left >= 0 and self._bytes_left >= 0:
            return
        connection.execute(_EXPIRE, (time.time(),))
        connection.execute(_EVICT, (self._target.max_entries, self._target.max_bytes))
        self._entries_left = self._target.max_entries // _SLACK
        self._bytes_left = self._target.max_bytes // _SLACK


def _checksum(key: bytes, value: bytes, expires_at: float | None) -> bytes:
    return content_hash(b"%d %r " % (len(key), expires_at) + key + value)
