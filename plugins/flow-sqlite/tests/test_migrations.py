"""Older files are brought up to date: once, completely or not at all, and after a copy was made."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import _opening
from flow_sqlite._integrity import check
from flow_sqlite._migrations import VERSION, migrations
from flow_sqlite._opening import open_connection

from flow import StateError

OPEN = """
import asyncio, sys
from flow_sqlite import SqliteState
import sqlite_utils
print("ready", flush=True)
sys.stdin.readline()
async def main():
    state = SqliteState(sys.argv[1])
    print(sorted(run.run_id for run in await state.list_runs()))
    await state.aclose()
asyncio.run(main())
"""


def _schema(file: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(file)) as connection:
        objects = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        return connection.execute("PRAGMA user_version").fetchone()[0], [sql for (sql,) in objects]


def _backups(file: Path) -> list[Path]:
    return sorted(path for path in file.parent.iterdir() if path.name != file.name and "-" not in path.suffix)


def _dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


async def test_older_file_is_read_and_written(older: Path, opened: Callable[..., Any]) -> None:
    async with opened() as state:
        assert [run.run_id for run in await state.list_runs()] == ["run-3", "run-2", "run-1"]
        assert [record.path for record in await state.load_steps("run-1")] == ["0:a", "1:b", "2:c"]
        assert len((await state.load_steps("run-1"))[1].output) > 20_000
        assert await state.load_pipeline("f1") == b'{"steps": ["a", "b", "c"]}'
        epoch = await state.claim_run("run-3", "somebody", 60.0)
        await state.update_run("run-3", epoch, owner=None, status="paused", wake_at=1_800_000_000.0)
        assert [run.run_id for run in await state.list_runs(due=1_900_000_000.0)] == ["run-3"]
    assert check(older).findings == []


async def test_older_file_gets_the_schema_of_a_new_one(older: Path, tmp_path: Path, opened: Callable[..., Any]) -> None:
    new = tmp_path / "new.db"
    async with opened() as state, opened(at=f"sqlite:///{new}") as fresh:
        await state.list_runs()
        await fresh.list_runs()
    version, objects = _schema(older)
    expected_version, expected = _schema(new)
    assert version == expected_version == VERSION
    assert len(objects) == len(expected)


async def test_older_file_is_copied_before(older: Path, opened: Callable[..., Any]) -> None:
    before = _dump(older)
    async with opened() as state:
        await state.list_runs()
    (copy,) = _backups(older)
    assert copy.name.startswith("runs.db.schema-1-")
    assert copy.name.endswith(".bak")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert _dump(copy) == before


async def test_new_file_is_not_copied(file: Path, opened: Callable[..., Any]) -> None:
    async with opened() as state:
        await state.list_runs()
    assert _backups(file) == []


def test_every_migration_is_recorded(file: Path) -> None:
    open_connection(file, 1.0).close()
    with closing(sqlite3.connect(file)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    assert names == [migration.name for migration in migrations()._migrations]
    assert len(names) == VERSION


@pytest.mark.parametrize("start", ["fresh", "older"])
def test_four_processes_open_a_file_at_once(
    start: str, file: Path, url: str, request: pytest.FixtureRequest, programs: Callable[..., list[str]]
) -> None:
    if start == "older":
        request.getfixturevalue("older")
    answers = programs(*[(OPEN, url)] * 4)
    assert answers == [str([] if start == "fresh" else ["run-1", "run-2", "run-3"])] * 4
    assert check(file).findings == []
    assert len(_backups(file)) == (start == "older")


@pytest.mark.skipif(sys.platform == "win32", reason="kills a forked child")
@pytest.mark.parametrize("start", ["fresh", "older"])
def test_migration_is_done_completely_or_not_at_all(
    start: str, file: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if start == "older":
        request.getfixturevalue("older")
    else:
        file.touch(mode=0o600)
    before = _dump(file)
    monkeypatch.setattr(_opening, "_PRAGMAS", [*_opening._PRAGMAS, "synchronous = OFF"])
    deaths = 0
    while _dies_at_statement(file, deaths):
        deaths += 1
        assert _dump(file) == before, f"killed before statement {deaths}"
    assert deaths > 10
    assert check(file).schema == VERSION
    assert check(file).findings == []


def _dies_at_statement(file: Path, number: int) -> bool:
    """Open `file` in a process that is killed when it has executed `number` statements; False when it comes through."""
    child = os.fork()
    if child == 0:
        left = number

        def count_down(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), 9)

        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(count_down)
            return connection

        sqlite3.connect = traced
        try:
            open_connection(file, 1.0)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -9)
    return code == -9


def test_unfinished_copy_stops_the_migration(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _dump(older)

    def full(path: Path, to: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("flow_sqlite._files.copy_database", full)
    with pytest.raises(StateError, match="full"):
        open_connection(older, 1.0)
    assert _dump(older) == before
