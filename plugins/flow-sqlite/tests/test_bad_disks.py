"""Disks that are full, limited or read-only: the write fails by name, and everything acknowledged stays."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import _writer
from flow_sqlite._faults import code_of, concerns_file, state_error
from flow_sqlite._integrity import check
from flow_sqlite._opening import open_connection

from flow import StateError

LIMITED = """
import asyncio, resource, sys
from flow import RunRecord, StateError, StepRecord
from flow_sqlite import SqliteState
async def main():
    state = SqliteState(sys.argv[1])
    await state.create_run(RunRecord(run_id="r", pipeline="p", fingerprint="f"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    stored = 0
    try:
        while stored < 1000:
            output = b'"' + b"x" * 8000 + b'"'
            step = StepRecord(path=f"{stored}:s", parent="", name="s", kind="step", status="completed", output=output)
            await state.append_steps("r", 0, [step])
            stored += 1
    except StateError as error:
        print(stored)
        print(error)
    await state.aclose()
asyncio.run(main())
"""

NOBODY = """
import asyncio, os, sys
from flow import RunRecord, StateError
from flow_sqlite import SqliteState, SqliteCache
async def attempt(url):
    state = SqliteState(url)
    for work in (state.load_run("r"), state.create_run(RunRecord(run_id="r", pipeline="p", fingerprint="f"))):
        try:
            await work
            print("done")
        except StateError as error:
            print(error)
    await state.aclose()
asyncio.run(attempt(sys.argv[1]))  # everything is imported while it can be
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for url in sys.argv[2:]:
    asyncio.run(attempt(url))
"""


async def test_full_disk_stops_the_writer_and_loses_nothing(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: Callable[..., Any],
    begun: Callable[..., Any],
    make_step: Callable[..., Any],
) -> None:
    def limited(path: Path, patience: float) -> sqlite3.Connection:
        connection = open_connection(path, patience)
        connection.execute("PRAGMA max_page_count = 100")
        return connection

    monkeypatch.setattr(_writer, "open_connection", limited)
    output = b'"' + b"x" * 8000 + b'"'
    async with opened() as state:
        epoch = await begun(state)
        stored = 0

        async def fill() -> None:
            nonlocal stored
            while stored < 1000:
                step = make_step(f"{stored}:s", output=output)
                await state.append_steps("run-1", epoch, [step], sync=stored % 2 == 0)
                stored += 1

        with pytest.raises(StateError) as caught:
            await fill()
        for part in (str(file), "the disk is full", "SQLITE_FULL", "Make room"):
            assert part in str(caught.value)
        assert stored > 10
        assert len(await state.load_steps("run-1")) == stored
        writer = state._handle.database._writer._connection
        assert writer is not None
        writer.execute("PRAGMA max_page_count = 10000")
        await state.append_steps("run-1", epoch, [make_step("again", output=output)])
        assert len(await state.load_steps("run-1")) == stored + 1, "there is room again"
    assert check(file).findings == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits are set with the resource module")
async def test_file_size_limit_stops_the_writer_and_loses_nothing(
    file: Path, url: str, opened: Callable[..., Any], program: Callable[..., Any]
) -> None:
    stored, message = program(LIMITED, url).stdout.splitlines()
    assert int(stored) > 5
    assert str(file) in message
    assert "SQLITE_IOERR" in message or "SQLITE_FULL" in message
    async with opened() as state:
        assert len(await state.load_steps("r")) == int(stored)
    assert check(file).findings == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes of directories mean something else")
async def test_read_only_directory_is_named(
    tmp_path: Path, opened: Callable[..., Any], begun: Callable[..., Any], program: Callable[..., Any]
) -> None:
    frozen, empty = tmp_path / "frozen", tmp_path / "empty"
    frozen.mkdir()
    empty.mkdir()
    async with opened(at=f"sqlite:///{frozen}/runs.db") as state:
        await begun(state, "r")
    before = (frozen / "runs.db").read_bytes()
    (frozen / "runs.db").chmod(0o644)
    for folder in (frozen, empty):
        folder.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    try:
        ended = program(
            NOBODY,
            f"sqlite:///{tmp_path}/warm/up.db",
            f"sqlite:///{frozen}/runs.db",
            f"sqlite:///{empty}/runs.db",
        )
    finally:
        for folder in (frozen, empty):
            folder.chmod(0o755)
    assert (frozen / "runs.db").read_bytes() == before
    lines = ended.stdout.splitlines()
    assert lines[:2] == ["done", "done"]
    for line, folder in zip(lines[2:], [frozen, frozen, empty, empty], strict=True):
        assert line.startswith(f"{folder}/runs.db: ")
        assert "permissions" in line or "writable" in line


@pytest.mark.parametrize("code", ["FULL", "IOERR", "READONLY", "CANTOPEN", "CORRUPT", "NOTADB", "BUSY"])
def test_every_fault_of_the_file_names_it_and_what_helps(code: str) -> None:
    error = sqlite3.OperationalError("words of SQLite")
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
    error.sqlite_errorname = f"SQLITE_{code}"
    reported = state_error(error, Path("runs.db"))
    assert "runs.db" in reported.message
    assert reported.hint
    assert concerns_file(error)


def test_errors_without_a_code_are_reported_as_they_are(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, pytest.raises(sqlite3.Error) as caught:
        connection.execute("SELECT ?", (1, 2))
    assert code_of(caught.value) == 0
    assert str(state_error(caught.value, Path("runs.db"))).startswith("runs.db: Incorrect number of bindings")
