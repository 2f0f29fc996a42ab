"""The cache is bounded, forgets what was used longest ago, and never returns what it did not store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
from flow_sqlite import SqliteCache
from flow_testkit import KernelFactory

from flow import Cache, Flow, StateCorrupt, Step

Opened = Callable[..., AbstractAsyncContextManager[SqliteCache]]


@pytest.fixture
def cached(url: str) -> Opened:
    """Open a cache: ``async with cached("?max_entries=3") as cache``."""

    @asynccontextmanager
    async def open_it(options: str = "") -> AsyncIterator[SqliteCache]:
        cache = SqliteCache(url + options)
        try:
            yield cache
        finally:
            await cache.aclose()

    return open_it


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which goes on by a second whenever it is asked for."""
    now = [1_700_000_000.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(time, "time", tick)
    return now


async def _kept(cache: SqliteCache, *keys: bytes) -> list[bytes]:
    return [key for key in keys if await cache.get(key) is not None]


@pytest.mark.usefixtures("clock")
async def test_what_was_used_longest_ago_makes_room(cached: Opened) -> None:
    async with cached("?max_entries=3") as cache:
        for key in (b"a", b"b", b"c"):
            await cache.set(key, b"value")
        assert await cache.get(b"a") == b"value"
        await cache.set(b"d", b"value")
        assert await _kept(cache, b"a", b"b", b"c", b"d") == [b"a", b"c", b"d"]


@pytest.mark.usefixtures("clock")
async def test_use_is_remembered_when_the_cache_is_closed(cached: Opened) -> None:
    async with cached("?max_entries=2") as cache:
        await cache.set(b"a", b"value")
        await cache.set(b"b", b"value")
        await cache.get(b"a")
    async with cached("?max_entries=2") as cache:
        await cache.set(b"c", b"value")
        assert await _kept(cache, b"a", b"b", b"c") == [b"a", b"c"]


@pytest.mark.usefixtures("clock")
async def test_bytes_are_bounded(cached: Opened, file: Path) -> None:
    async with cached("?max_bytes=10000") as cache:
        for number in range(100):
            await cache.set(b"%d" % number, bytes(1000))
        kept = await _kept(cache, *(b"%d" % number for number in range(100)))
    assert kept == [b"%d" % number for number in range(100 - len(kept), 100)]
    assert 9 <= len(kept) <= 11


async def test_value_that_is_larger_than_the_cache_is_not_kept(cached: Opened) -> None:
    async with cached("?max_bytes=1000") as cache:
        await cache.set(b"small", b"value")
        await cache.set(b"large", bytes(1001))
        assert await _kept(cache, b"small", b"large") == [b"small"]


async def test_expired_values_make_room_first(cached: Opened, clock: list[float], file: Path) -> None:
    async with cached("?max_entries=2") as cache:
        await cache.set(b"lasting", b"value")
        await cache.set(b"short", b"value", ttl=10.0)
        clock[0] += 100.0
        await cache.set(b"new", b"value")
        assert await _kept(cache, b"lasting", b"short", b"new") == [b"lasting", b"new"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM cache").fetchone() == (2,)


@pytest.mark.parametrize("column", ["value = x'00'", "expires_at = 9e9", "checksum = x'00'", "value = 'text'"])
async def test_changed_value_is_an_error(column: str, cached: Opened, file: Path) -> None:
    async with cached() as cache:
        await cache.set(b"key", b"value")
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"UPDATE cache SET {column}")
            connection.commit()
        with pytest.raises(StateCorrupt, match="a cached value is damaged"):
            await cache.get(b"key")
        await cache.set(b"key", b"again")
        assert await cache.get(b"key") == b"again"


async def test_many_reads_are_noted_together(cached: Opened, file: Path) -> None:
    async with cached() as cache:
        for number in range(300):
            await cache.set(b"%d" % number, b"value")
        for number in range(300):
            await cache.get(b"%d" % number)
        await cache._handle.database.write(lambda connection: None, cache._target)  # after what was posted before
        assert len(cache._used) < 300


async def test_results_outlive_the_flow(url: str, flow_kernel: KernelFactory) -> None:
    calls = []

    async def costly(text: str) -> str:
        calls.append(text)
        return text.upper()

    for _ in range(2):
        flow = Flow(Step("costly", costly, cache=Cache()), cache=url, kernel=flow_kernel("flow-sqlite"))
        async with flow:
            assert (await flow.run_async("a")).output == "A"
    assert calls == ["a"]


async def test_broken_cache_costs_a_computation_and_a_warning(
    file: Path, url: str, flow_kernel: KernelFactory, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(b"not a database" * 100)
    async with Flow(Step("upper", str.upper, cache=Cache()), cache=url, kernel=flow_kernel("flow-sqlite")) as flow:
        assert (await flow.run_async("a")).output == "A"
    assert "is no SQLite database" in caplog.text
    assert file.read_bytes() == b"not a database" * 100
