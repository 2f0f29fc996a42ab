"""The suite for cache backends."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from flow import Cache, CacheBackend, PipelineContext, Step
from flow_testkit.suites._probes import Probe, broken
from flow_testkit.suites._suite import Suite, awaited

LIFETIME_S = 0.05


class CacheBackendSuite(Suite):
    """What every cache must do. Subclass it and write `make_cache`.

    ::

        class TestSqliteCache(CacheBackendSuite):
            def make_cache(self):
                return f"sqlite:///{self.tmp_path}/cache.db"

    :cvar survives_reopen: a cache made later in the same test finds what the one before had stored.
    """

    survives_reopen: ClassVar[bool] = True

    def make_cache(self) -> CacheBackend | str | Awaitable[CacheBackend]:
        """Return a cache or its URL; in one test, every call opens the same store anew."""
        self._not_written("make_cache(self)", 'return f"sqlite:///{self.tmp_path}/cache.db"')

    async def let_values_expire(self, seconds: float) -> None:
        """Let `seconds` pass for the cache; override it when the cache's clock is in the test's hands."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[CacheBackend]:
        """Open a cache and close it in the end."""
        made = self.make_cache()
        cache = self.kernel.open_cache(made) if isinstance(made, str) else await awaited(made)
        try:
            yield cache
        finally:
            await cache.aclose()

    @pytest.mark.asyncio
    async def test_unknown_key_is_none(self) -> None:
        """Failing means: a miss raises, or is taken for a hit."""
        async with self.opened() as cache:
            assert await cache.get(b"nothing") is None

    @pytest.mark.parametrize("key", [b"key", b"\x00\xff\x00", "ünï".encode(), b"a/b\\c:d*?", b"k" * 1000])
    @pytest.mark.parametrize("value", [b"value", b"", b"\x00\xff", "ünï".encode()], ids=repr)
    @pytest.mark.asyncio
    async def test_value_comes_back(self, key: bytes, value: bytes) -> None:
        """Failing means: some bytes cannot be a key or a value; an empty value is not a miss."""
        async with self.opened() as cache:
            await cache.set(key, value)
            found = await cache.get(key)
        assert found == value
        assert type(found) is bytes

    @pytest.mark.asyncio
    async def test_large_value_comes_back(self) -> None:
        """Failing means: long values are cut or refused."""
        value = bytes(range(256)) * 2**12
        async with self.opened() as cache:
            await cache.set(b"large", value)
            assert await cache.get(b"large") == value

    @pytest.mark.asyncio
    async def test_later_value_replaces_an_earlier_one(self) -> None:
        """Failing means: a key keeps its first value."""
        async with self.opened() as cache:
            await cache.set(b"key", b"a longer first value")
            await cache.set(b"key", b"second")
            assert await cache.get(b"key") == b"second"

    @pytest.mark.asyncio
    async def test_keys_do_not_mix(self) -> None:
        """Failing means: keys that begin alike, or differ in case only, meet."""
        keys = (b"key", b"key1", b"KEY", b"ke", b"")
        async with self.opened() as cache:
            for key in keys:
                await cache.set(key, b"of " + key)
            assert [await cache.get(key) for key in keys] == [b"of " + key for key in keys]

    @pytest.mark.asyncio
    async def test_value_is_a_copy(self) -> None:
        """Failing means: what the caller does with its buffer afterwards changes what is stored."""
        buffer: Any = bytearray(b"before")
        async with self.opened() as cache:
            await cache.set(b"key", buffer)
            buffer[:] = b"AFTER!"
            assert await cache.get(b"key") == b"before"

    @pytest.mark.asyncio
    async def test_value_expires(self) -> None:
        """Failing means: results are used for longer than ``Cache(ttl=...)`` allows."""
        async with self.opened() as cache:
            await cache.set(b"short", b"value", ttl=LIFETIME_S)
            await cache.set(b"long", b"value", ttl=3600.0)
            await cache.set(b"for ever", b"value")
            await self.let_values_expire(2 * LIFETIME_S)
            assert await cache.get(b"short") is None
            assert await cache.get(b"long") == b"value"
            assert await cache.get(b"for ever") == b"value"

    @pytest.mark.asyncio
    async def test_new_value_has_a_new_lifetime(self) -> None:
        """Failing means: a value that was stored again still expires with the first one."""
        async with self.opened() as cache:
            await cache.set(b"key", b"first", ttl=LIFETIME_S)
            await cache.set(b"key", b"second")
            await self.let_values_expire(2 * LIFETIME_S)
            assert await cache.get(b"key") == b"second"

    @pytest.mark.asyncio
    async def test_expired_value_makes_room_for_another(self) -> None:
        """Failing means: a key cannot be used again after its value has expired."""
        async with self.opened() as cache:
            await cache.set(b"key", b"first", ttl=LIFETIME_S)
            await self.let_values_expire(2 * LIFETIME_S)
            assert await cache.get(b"key") is None
            await cache.set(b"key", b"second", ttl=3600.0)
            assert await cache.get(b"key") == b"second"

    @pytest.mark.asyncio
    async def test_use_at_the_same_time(self) -> None:
        """Failing means: writes that meet damage each other."""
        keys = [str(number).encode() for number in range(50)]
        async with self.opened() as cache:
            await asyncio.gather(*(cache.set(key, key * 100) for key in keys))
            assert await asyncio.gather(*(cache.get(key) for key in keys)) == [key * 100 for key in keys]

    @pytest.mark.asyncio
    async def test_closing_twice_is_harmless(self) -> None:
        """Failing means: ``aclose`` raises when there is nothing left to close."""
        async with self.opened() as cache:
            await cache.aclose()

    @pytest.mark.asyncio
    async def test_values_survive_reopening(self) -> None:
        """Failing means: the cache is empty after every start."""
        if not self.survives_reopen:
            pytest.skip("keeps nothing when it is closed: survives_reopen is False")
        async with self.opened() as cache:
            await cache.set(b"key", b"value")
        async with self.opened() as cache:
            assert await cache.get(b"key") == b"value"

    @pytest.mark.asyncio
    async def test_step_reuses_an_equal_computation(self) -> None:
        """Failing means: ``Step(..., cache=Cache())`` computes again, or returns what another input gave."""
        probe = Probe()
        async with self.opened() as cache:
            flow = self.flow(Step("costly", probe, cache=Cache()), cache=cache)
            results: list[Any] = [await flow.run_async(data) for data in ("a", "b", "a", "b")]
        assert [result.output for result in results] == ["a", "b", "a", "b"]
        assert [result.step_history[0].cached for result in results] == [False, False, True, True]
        assert probe.calls == 2

    @pytest.mark.asyncio
    async def test_equal_steps_at_the_same_time_compute_once(self) -> None:
        """Failing means: runs that meet compute the same several times, although the kernel lets one go first."""
        probe = Probe()
        async with self.opened() as cache:
            flow = self.flow(Step("costly", probe, cache=Cache()), cache=cache)
            results = await flow.run_many(["a"] * 10, concurrency=10)
        assert [result.output for result in results] == ["a"] * 10
        assert [result.step_history[0].cached for result in results].count(True) == 9
        assert probe.calls == 1

    @pytest.mark.asyncio
    async def test_hit_changes_the_context_again(self) -> None:
        """Failing means: what the step wrote to the context is lost in the cache."""

        async def note(data: str, *, context: PipelineContext) -> str:
            context.scratchpad[data] = "noted"
            return data

        async with self.opened() as cache:
            flow = self.flow(Step("note", note, cache=Cache()), cache=cache)
            results = [await flow.run_async("a") for _ in range(2)]
        assert [result.step_history[0].cached for result in results] == [False, True]
        assert [result.final_pipeline_context.scratchpad for result in results] == [{"a": "noted"}] * 2

    @pytest.mark.asyncio
    async def test_failed_step_is_not_kept(self) -> None:
        """Failing means: a failure is reused."""
        probe = Probe(error=broken, times=1)
        async with self.opened() as cache:
            flow = self.flow(Step("costly", probe, cache=Cache()), cache=cache)
            assert not (await flow.run_async("a")).success
            assert (await flow.run_async("a")).success
