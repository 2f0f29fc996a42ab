"""What a store asks of the disk: SQLite's commits with the level at which they waited, and the files forced to disk."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flow import Flow, Step
from tests.reliability.oracle import Violation
from tests.reliability.stores import kernel, open_store, url_of
from tests.reliability.witness import Layered

STEPS = 10
FULL = 2
_LEVEL = re.compile(r"PRAGMA synchronous = (\d)")


class Acknowledged(Layered):
    """Counts the writes that the store has acknowledged."""

    writes = 0

    async def create_run(self, *args: Any, **how: Any) -> None:
        await self.inner.create_run(*args, **how)
        self.writes += 1

    async def append_steps(self, *args: Any, **how: Any) -> None:
        await self.inner.append_steps(*args, **how)
        self.writes += 1

    async def update_run(self, *args: Any, **how: Any) -> None:
        await self.inner.update_run(*args, **how)
        self.writes += 1


class Traced(sqlite3.Connection):
    """Notes the level of each commit in a list."""

    def note_in(self, commits: list[int]) -> None:
        level = FULL

        def see(statement: str) -> None:
            nonlocal level
            if found := _LEVEL.match(statement):
                level = int(found[1])
            elif statement.upper().startswith("COMMIT"):
                commits.append(level)

        self.set_trace_callback(see)


@contextmanager
def commits() -> Iterator[list[int]]:
    """The transactions that SQLite commits meanwhile, on whatever connection: the level of each."""
    found: list[int] = []
    connect = sqlite3.connect

    def traced(*args: Any, **how: Any) -> Any:
        connection = connect(*args, **{**how, "factory": Traced})
        connection.note_in(found)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        yield found


@contextmanager
def syncs() -> Iterator[list[int]]:
    """The files that are forced to disk meanwhile."""
    from flow_file import _disk

    found: list[int] = []

    def counted(sync: Any) -> Any:
        def force(descriptor: int) -> None:
            found.append(descriptor)
            sync(descriptor)

        return force

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(_disk, "_fdatasync", counted(_disk._fdatasync))
        yield found


def chain() -> Any:
    async def add(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    pipeline: Any = Step("s0", add)
    for number in range(1, STEPS):
        pipeline = pipeline >> Step(f"s{number}", add)
    return pipeline


async def acknowledged_writes(kind: str, folder: Path, runs: int) -> int:
    """Let so many runs go on at once; returns how many of their writes were acknowledged."""
    store: Any = Acknowledged(open_store(url_of(kind, folder)))
    flow: Flow[Any, Any] = Flow(chain(), state=store, kernel=kernel())
    results = await flow.run_many([0] * runs, concurrency=runs)
    assert [result.output for result in results] == [STEPS] * runs
    await store.aclose()
    return store.writes


def wait_for_the_disk(kind: str, folder: Path, runs: int) -> float:
    """Check that what is acknowledged was forced to disk; returns commits or syncs per acknowledged write."""
    with commits() as levels, syncs() as forced:
        writes = asyncio.run(acknowledged_writes(kind, folder, runs))
    if kind == "sqlite":
        if not levels or min(levels) < FULL:
            raise Violation(
                f"commits that did not wait for the disk: {levels.count(0) + levels.count(1)} of {len(levels)}"
            )
        return len(levels) / writes
    if len(forced) < writes:
        raise Violation(f"{writes} writes were acknowledged and {len(forced)} forced to disk")
    return len(forced) / writes
