"""``memory://`` cache: bounded in entries and bytes, least recently used out first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from .._protocols import CacheBackend
from .._urls import url_options
from ..hookspecs import hookimpl

_MAX_ENTRIES = 1024
_MAX_BYTES = 128 * 2**20


@hookimpl
def flow_open_cache(url: str, settings: Mapping[str, Any]) -> CacheBackend | None:
    """Open ``memory://`` or ``memory://?max_entries=100&max_bytes=1000000``."""
    if not url.startswith("memory://"):
        return None
    options = url_options(url, {"max_entries": _MAX_ENTRIES, "max_bytes": _MAX_BYTES})
    return MemoryCache(options["max_entries"], options["max_bytes"])


class MemoryCache:
    """Keeps the most recently used values of this process.

    :param max_entries: how many values are kept.
    :param max_bytes: how many bytes their keys and values have together; a longer value is not kept.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        max_entries: int = _MAX_ENTRIES,
        max_bytes: int = _MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[bytes, float | None]] = OrderedDict()
        self._lock = threading.Lock()  # flows in several threads may share a cache

    async def get(self, key: bytes) -> bytes | None:
        """Return the value unless it has expired."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            value, expires = entry
            if expires is not None and self._clock() >= expires:
                self._remove(key)
                return None
            self._entries.move_to_end(key)
            return value

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        """Keep `value` for `ttl` seconds; the entries used longest ago make room."""
        key, value = bytes(key), bytes(value)
        with self._lock:
            if key in self._entries:
                self._remove(key)
            if len(key) + len(value) > self._max_bytes:
                return
            self._entries[key] = value, None if ttl is None else self._clock() + ttl
            self._bytes += len(key) + len(value)
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        value, _ = self._entries.pop(key)
        self._bytes -= len(key) + len(value)

    async def aclose(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0
