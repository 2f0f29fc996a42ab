"""Several processes at one file: one owner per run, locks that are waited for, children that do no harm."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import SqliteCache, _database
from flow_sqlite._integrity import check

from flow import LeaseLost, StateBusy, StateError

CLAIM = """
import asyncio, sys
from flow import RunOwned
from flow_sqlite import SqliteState
async def main():
    state = SqliteState(sys.argv[1])
    await state.list_runs()
    print("ready", flush=True)
    sys.stdin.readline()
    won = []
    for number in range(int(sys.argv[3])):
        try:
            await state.claim_run(f"run-{number}", sys.argv[2], 3600.0)
            won.append(number)
        except RunOwned:
            pass
    await state.aclose()
    print(*won)
asyncio.run(main())
"""

TAKE_OVER = """
import asyncio, sys
from flow_sqlite import SqliteState
async def main():
    state = SqliteState(sys.argv[1])
    print(await state.claim_run("run-1", "the same", 3600.0))
    await state.aclose()
asyncio.run(main())
"""

USE = """
import asyncio, os, sys
from flow import RunRecord, StepRecord
from flow_sqlite import SqliteState
def step(path):
    return StepRecord(path=path, parent="", name="s", kind="step", status="completed")
async def write(state, *paths):
    for path in paths:
        await state.append_steps("r", 0, [step(path)])
    return len(await state.load_steps("r"))
"""

FORK = (
    USE
    + """
import warnings
warnings.simplefilter("ignore")
state = SqliteState(sys.argv[1])
asyncio.run(state.create_run(RunRecord(run_id="r", pipeline="p", fingerprint="f")))
asyncio.run(write(state, "0:parent"))
done, go_on = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    try:
        asyncio.run(write(state, "1:child"))
        os.write(done[1], b"x")
        os.read(go_on[0], 1)
        count = asyncio.run(write(state, "3:child"))
        asyncio.run(state.aclose())
        os._exit(count)
    finally:
        os._exit(99)
os.read(done[0], 1)
asyncio.run(write(state, "2:parent"))
asyncio.run(state.aclose())
print(os.path.exists(sys.argv[2] + "-wal"), end=" ")
os.write(go_on[1], b"x")
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), asyncio.run(write(state, "4:parent")), end=" ")
asyncio.run(state.aclose())
print(os.path.exists(sys.argv[2] + "-wal"))
"""
)

VISIT = """
import asyncio, sys
from flow_sqlite import SqliteState
async def main():
    state = SqliteState(sys.argv[1])
    await state.list_runs()
    print(*[record.path for record in await state.load_steps("run-1")])
    await state.aclose()
asyncio.run(main())
"""


@pytest.fixture
def locked(file: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Lock the file as another process would; the lock ends with the test at the latest."""
    connections: list[sqlite3.Connection] = []

    def lock() -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        connections.append(connection)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    yield lock
    for connection in connections:
        connection.close()


async def test_run_is_claimed_by_one_process(
    url: str, opened: Callable[..., Any], make_run: Callable[..., Any], programs: Callable[..., list[str]]
) -> None:
    async with opened("?synchronous=off") as state:
        for number in range(40):
            await state.create_run(make_run(f"run-{number}"))
    slower = f"{url}?synchronous=normal"
    won = programs(*[(CLAIM, slower, f"another machine {name}", 40) for name in "abcd"])
    numbers = [int(number) for line in won for number in line.split()]
    assert sorted(numbers) == list(range(40)), "each run has one owner"


async def test_writes_of_a_process_that_lost_its_run_are_refused(
    url: str,
    opened: Callable[..., Any],
    make_run: Callable[..., Any],
    make_step: Callable[..., Any],
    program: Callable[..., Any],
) -> None:
    async with opened() as state:
        await state.create_run(make_run())
        epoch = await state.claim_run("run-1", "the same", 3600.0)
        await state.append_steps("run-1", epoch, [make_step("0:a")])
        assert int(program(TAKE_OVER, url).stdout) == epoch + 1
        for sync in (True, False):
            with pytest.raises(LeaseLost, match="taken over by the same"):
                await state.append_steps("run-1", epoch, [make_step("1:b")], sync=sync)
            with pytest.raises(LeaseLost):
                await state.update_run("run-1", epoch, sync=sync, status="completed")
        with pytest.raises(LeaseLost):
            await state.renew_run("run-1", epoch, 60.0)
        assert [record.path for record in await state.load_steps("run-1")] == ["0:a"]


async def test_lock_is_waited_for_and_the_file_left_alone(
    file: Path,
    opened: Callable[..., Any],
    begun: Callable[..., Any],
    make_step: Callable[..., Any],
    locked: Callable[[], sqlite3.Connection],
) -> None:
    async with opened("?busy_timeout=0.2") as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a")])
        locked()
        before = (file.stat().st_ino, file.read_bytes())
        with pytest.raises(StateBusy, match=r"another process holds the lock for 0\.2 s"):
            await state.append_steps("run-1", epoch, [make_step("1:b")])
        with pytest.raises(StateBusy):
            await state.append_steps("run-1", epoch, [make_step("1:b")], sync=False)
        assert (file.stat().st_ino, file.read_bytes()) == before
        assert len(await state.load_steps("run-1")) == 1, "reading does not wait"


async def test_lock_during_a_migration_is_waited_for(
    older: Path, url: str, opened: Callable[..., Any], locked: Callable[[], sqlite3.Connection]
) -> None:
    locked()
    before = older.read_bytes()
    async with opened("?busy_timeout=0.2") as state:
        with pytest.raises(StateBusy):
            await state.list_runs()
    cache = SqliteCache(f"{url}?busy_timeout=0.2")
    with pytest.raises(StateBusy):
        await cache.set(b"key", b"value")
    await cache.aclose()
    assert older.read_bytes() == before


async def test_lock_that_ends_in_time_is_no_error(
    opened: Callable[..., Any], begun: Callable[..., Any], locked: Callable[[], sqlite3.Connection]
) -> None:
    async with opened("?busy_timeout=20") as state:
        epoch = await begun(state)
        other = locked()
        tries = 0
        database = state._handle.database
        connection = database._writer._connection
        assert connection is not None

        def release(statement: str) -> None:
            nonlocal tries
            tries += statement == "BEGIN IMMEDIATE"
            if tries == 5:
                other.execute("ROLLBACK")

        connection.set_trace_callback(release)
        await state.update_run("run-1", epoch, status="failed")
        assert tries >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_child_opens_the_file_anew(url: str, file: Path, program: Callable[..., Any]) -> None:
    """Were it to go on with what it inherited, its parent would delete the -wal that the child writes to."""
    assert program(FORK, url, file).stdout.split() == ["True", "4", "5", "False"]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_child_does_not_use_a_file_that_was_being_written(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any], begun: Callable[..., Any]
) -> None:
    monkeypatch.setattr(_database, "_FORK_S", 0.0)
    async with opened() as state:
        await begun(state)
        with state._handle.database._writer.turn:
            child = os.fork()
        if child == 0:
            try:
                _database.registry.acquire(state._target.path)
            except StateError as error:
                os._exit("was being written" in str(error))
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert await state.load_run("run-1") is not None, "the parent goes on"


async def test_locks_are_kept_when_the_file_is_opened_once_more(
    url: str,
    file: Path,
    opened: Callable[..., Any],
    begun: Callable[..., Any],
    make_step: Callable[..., Any],
    program: Callable[..., Any],
) -> None:
    """Another process that comes and goes must not take the -wal for left behind."""
    async with opened() as state:
        epoch = await begun(state)
        await state.load_steps("run-1")
        check(file)
        async with opened() as other:
            await other.list_runs()
        before = file.with_name("runs.db-wal").stat().st_ino
        program(VISIT, url)
        assert file.with_name("runs.db-wal").stat().st_ino == before
        await state.append_steps("run-1", epoch, [make_step("0:a")])
        assert program(VISIT, url).stdout.split() == ["0:a"]
