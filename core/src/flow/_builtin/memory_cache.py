"""``memory://`` cache: bounded, least recently used out first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from .._protocols import CacheBackend
from .._urls import url_option
from ..hookspecs import hookimpl

_MAX_ENTRIES = 1024


@hookimpl
def flow_open_cache(url: str, settings: Mapping[str, Any]) -> CacheBackend | None:
    """Open ``memory://`` or ``memory://?max_entries=100``."""
    return MemoryCache(url_option(url, "max_entries", _MAX_ENTRIES)) if url.startswith("memory://") else None


class MemoryCache:
    """Keeps the `max_entries` most recently used values of this process."""

    def __init__(self, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, tuple[bytes, float | None]] = OrderedDict()

    async def get(self, key: bytes) -> bytes | None:
        """Return the value unless it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if expires is not None and time.monotonic() >= expires:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        """Keep `value` for `ttl` seconds; the entry used longest ago makes room."""
        self._entries[key] = (bytes(value), None if ttl is None else time.monotonic() + ttl)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
