"""The memory cache: bounded in entries, bytes and time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flow import ConfigurationError, Kernel, Settings
from flow._builtin.memory_cache import MemoryCache


async def test_what_was_used_longest_ago_makes_room() -> None:
    store = MemoryCache(max_entries=2)
    await store.set(b"a", b"1")
    await store.set(b"b", b"2")
    assert await store.get(b"a") == b"1"
    await store.set(b"c", b"3")
    assert [await store.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]


async def test_bytes_are_bounded() -> None:
    store = MemoryCache(max_bytes=10)
    await store.set(b"a", b"1234")
    await store.set(b"b", b"1234")
    await store.set(b"c", b"1234")
    assert [await store.get(key) for key in (b"a", b"b", b"c")] == [None, b"1234", b"1234"]
    await store.set(b"b", b"too long to be kept")
    assert [await store.get(key) for key in (b"b", b"c")] == [None, b"1234"]


@pytest.mark.parametrize(
    ("url", "entries", "size"),
    [
        ("memory://", 1024, 2**27),
        ("memory://?max_entries=5", 5, 2**27),
        ("memory://?max_bytes=100&max_entries=7", 7, 100),
    ],
)
def test_the_url_says_how_much_is_kept(url: str, entries: int, size: int) -> None:
    store: Any = Kernel(Settings(), only=[]).open_cache(url)
    assert (store._max_entries, store._max_bytes) == (entries, size)


@pytest.mark.parametrize("url", ["memory://?max_bytes=0", "memory://?max_bytes=-1", "memory://?max_bytes=1e6"])
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes must be a whole number of at least 1"):
        Kernel(Settings(), only=[]).open_cache(url)


KEYS = st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"eeeee"])


class Lru(RuleBasedStateMachine):
    """The cache against a list of what was used when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryCache(max_entries=3, max_bytes=40, clock=lambda: self.now)
        self.model: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    @rule(key=KEYS, value=st.binary(max_size=45), ttl=st.none() | st.sampled_from([0.0, 1.0, 5.0]))
    def put(self, key: bytes, value: bytes, ttl: float | None) -> None:
        asyncio.run(self.store.set(key, value, ttl))
        self.model.pop(key, None)
        if len(key) + len(value) <= 40:
            self.model[key] = value, float("inf") if ttl is None else self.now + ttl
        while len(self.model) > 3 or self.held() > 40:
            self.model.popitem(last=False)

    @rule(key=KEYS)
    def look(self, key: bytes) -> None:
        found = asyncio.run(self.store.get(key))
        value, until = self.model.get(key, (None, 0.0))
        if self.now >= until:
            self.model.pop(key, None)
            value = None
        else:
            self.model.move_to_end(key)
        assert found == value

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def close(self) -> None:
        asyncio.run(self.store.aclose())
        self.model.clear()

    def held(self) -> int:
        return sum(len(key) + len(value) for key, (value, _) in self.model.items())

    @invariant()
    def is_bounded(self) -> None:
        assert list(self.store._entries) == list(self.model)
        assert self.store._bytes == self.held() <= 40


TestLru = Lru.TestCase
TestLru.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
