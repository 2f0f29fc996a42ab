"""The file is private, and a file that is not ours is left alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import SqliteCache, SqliteState
from flow_sqlite._files import APPLICATION_ID
from flow_sqlite._migrations import VERSION

from flow import RunRecord, StateCorrupt, StateError


@pytest.fixture
def permissive() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("permissive")
async def test_files_and_directories_are_private(tmp_path: Path, begun: Callable[..., Any]) -> None:
    file = tmp_path / "deep" / "down" / "runs.db"
    state = SqliteState(f"sqlite:///{file}")
    await begun(state)
    await state.load_steps("run-1")
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
    assert [folder.stat().st_mode & 0o777 for folder in (file.parent, file.parent.parent)] == [0o700, 0o700]
    await state.aclose()
    assert [path.name for path in file.parent.iterdir()] == ["runs.db"]


async def _refused(url: str, error: type[StateError], match: str) -> None:
    state, cache = SqliteState(url), SqliteCache(url)
    with pytest.raises(error, match=match):
        await state.load_run("run-1")
    with pytest.raises(error, match=match):
        await state.create_run(RunRecord(run_id="run-1", pipeline="p", fingerprint="f"))
    with pytest.raises(error, match=match):
        await cache.get(b"key")
    await state.aclose()
    await cache.aclose()


def _snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
async def test_database_of_another_program_is_refused_and_untouched(file: Path, url: str, wal: bool) -> None:
    with closing(sqlite3.connect(file)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customers (name TEXT)")
        connection.commit()
    before = _snapshot(file.parent)
    await _refused(url, StateError, "a database of another program")
    assert _snapshot(file.parent)[file.name] == before[file.name]


async def test_other_application_id_is_refused(file: Path, url: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("CREATE TABLE runs (name TEXT)")
    before = _snapshot(file.parent)
    await _refused(url, StateError, "a database of another program")
    assert _snapshot(file.parent) == before


async def test_newer_schema_is_refused_and_untouched(file: Path, url: str, opened: Callable[..., Any]) -> None:
    async with opened() as state:
        await state.list_runs()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = _snapshot(file.parent)
    await _refused(url, StateError, rf"its schema is {VERSION + 1}, this one knows {VERSION}")
    assert _snapshot(file.parent) == before


@pytest.mark.parametrize("content", [b"x", b"not a database at all\n" * 50, b"SQLite format 3\0short"])
async def test_file_that_is_no_database_is_refused_and_untouched(file: Path, url: str, content: bytes) -> None:
    file.write_bytes(content)
    before = _snapshot(file.parent)
    await _refused(url, StateCorrupt, "it is no SQLite database")
    assert _snapshot(file.parent) == before


@pytest.mark.parametrize("kept", [0, None], ids=["empty", "missing"])
async def test_wal_without_its_database_is_not_thrown_away(file: Path, url: str, kept: int | None) -> None:
    if kept is not None:
        file.touch()
    file.with_name("runs.db-wal").write_bytes(b"commits that were never copied into the database")
    await _refused(url, StateCorrupt, r"runs\.db-wal beside it holds data")
    assert file.with_name("runs.db-wal").read_bytes().startswith(b"commits")


async def test_directory_is_refused(tmp_path: Path) -> None:
    await _refused(f"sqlite:///{tmp_path}", StateError, "directory|cannot be opened")


async def test_link_to_nothing_is_refused(tmp_path: Path, file: Path, url: str) -> None:
    file.symlink_to(tmp_path / "elsewhere.db")
    await _refused(url, StateError, "is a link to a file that does not exist")
    assert not (tmp_path / "elsewhere.db").exists()


async def test_stores_behind_a_link_and_its_target_are_one(
    tmp_path: Path, file: Path, opened: Callable[..., Any], begun: Callable[..., Any]
) -> None:
    async with opened() as state:
        await begun(state)
        (tmp_path / "link.db").symlink_to(file)
        async with opened(at=f"sqlite:///{tmp_path}/link.db") as other:
            assert await other.load_run("run-1") == await state.load_run("run-1")
            assert other._handle.database is state._handle.database


async def test_file_says_what_it_is(file: Path, opened: Callable[..., Any]) -> None:
    async with opened() as state:
        await state.list_runs()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_deleted_wal_stops_the_writer(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        wal = file.with_name("runs.db-wal")
        wal.rename(file.with_name("moved-wal"))
        with pytest.raises(StateError, match=r"runs\.db-wal was moved, deleted or replaced"):
            await state.append_steps("run-1", epoch, [make_step("0:a")])
        file.with_name("moved-wal").rename(wal)
        await state.append_steps("run-1", epoch, [make_step("0:a")])


async def test_moved_file_stops_the_writer(file: Path, opened: Callable[..., Any], begun: Callable[..., Any]) -> None:
    async with opened() as state:
        epoch = await begun(state)
        file.rename(file.with_name("moved.db"))
        for sync in (True, False):
            with pytest.raises(StateError, match="was moved, deleted or replaced"):
                await state.update_run("run-1", epoch, sync=sync, status="failed")
