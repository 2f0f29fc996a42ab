"""The stores under test: where they are, how they are opened, and whether what they hold is in order."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from typing import Any

from flow import Kernel, Settings, StateBackend, StepRecord

LASTING = ("sqlite", "file")
"""The kinds of stores that outlive a process."""
KINDS = (*LASTING, "memory")

COMPLETED, RESTARTED = "completed", "restarted"

LAYERS: list[Callable[[StateBackend], Any]] = []


def url_of(kind: str, folder: Path) -> str:
    """The URL of a store of this kind in `folder`."""
    return {"sqlite": f"sqlite:///{folder}/runs.db", "file": f"file:///{folder}/runs", "memory": "memory://"}[kind]


@cache
def kernel() -> Kernel:
    """One kernel for this process, without whatever settings may lie around."""
    return Kernel(Settings())


def open_store(url: str) -> StateBackend:
    """Open a store, behind the layers that a mutation puts in front of it."""
    store = kernel().open_state(url)
    for layer in LAYERS:
        store = layer(store)
    return store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[StateBackend]:
    """A store that is closed in the end."""
    store = open_store(url)
    try:
        yield store
    finally:
        await store.aclose()


def completed_paths(records: Any) -> set[str]:
    """The paths of the steps that a resumed run must not execute again."""
    paths: set[str] = set()
    for record in records:
        _count(record, paths)
    return paths


def _count(record: StepRecord, paths: set[str]) -> None:
    if record.status == RESTARTED:
        paths.difference_update({path for path in paths if path.startswith(f"{record.parent}/")})
    elif record.status == COMPLETED:
        paths.add(record.path)
    else:
        paths.discard(record.path)


def damage(url: str) -> list[str]:
    """What the store itself says is wrong with its files; nothing when all is well."""
    if not url.startswith("sqlite"):
        return []  # its journals are read, and their checksums compared, whenever they are loaded
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        found = [row[0] for row in connection.execute("PRAGMA quick_check")]
        return [f"foreign keys: {row}" for row in connection.execute("PRAGMA foreign_key_check")] + [
            text for text in found if text != "ok"
        ]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
