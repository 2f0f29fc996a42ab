"""Operations share transactions, fail alone, and cost as few statements as they may."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import SqliteCache, SqliteState, _writer
from flow_sqlite._database import registry
from flow_sqlite._opening import open_connection
from flow_testkit import KernelFactory

from flow import Flow, LeaseLost, RunNotFound, StateError, Step, StepRecord

Begun = Callable[..., Any]
MakeStep = Callable[..., StepRecord]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the writer executes, from the first use of the store on."""
    executed: list[str] = []

    def traced(path: Path, patience: float) -> sqlite3.Connection:
        connection = open_connection(path, patience)
        connection.set_trace_callback(lambda text: executed.append(" ".join(text.split()[:2]).upper()))
        return connection

    monkeypatch.setattr(_writer, "open_connection", traced)
    return executed


class Gate:
    """An operation that holds the writer up, so that others gather behind it."""

    def __init__(self, state: SqliteState) -> None:
        self._open, self.closed = threading.Event(), threading.Event()
        state._handle.database.post(self._wait, state._target)
        assert self.closed.wait(10)

    def _wait(self, connection: sqlite3.Connection) -> None:
        self.closed.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


async def _gather_behind_gate(state: SqliteState, *writes: Any) -> list[Any]:
    gate = Gate(state)
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)  # each task has queued its operation
    gate.open()
    return await asyncio.gather(*tasks, return_exceptions=True)


# -- how much is executed


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_step_of_a_lone_run_costs_one_commit_and_two_statements(
    durability: Any, url: str, statements: list[str], flow_kernel: KernelFactory
) -> None:
    steps = [Step(f"step-{number}", str.strip) for number in range(20)]
    flow = Flow(steps[0] >> steps[1], state=url, kernel=flow_kernel("flow-sqlite"), durability=durability)
    longer = flow.evolve()
    for step in steps[2:]:
        longer.pipeline = longer.pipeline >> step
    counts = []
    for one in (flow, longer):
        async with one:
            await one.run_async("data")
            statements.clear()
            assert (await one.run_async("data")).success
            counts.append(Counter(statements))
    assert counts[1] - counts[0] == {"BEGIN IMMEDIATE": 18, "SELECT ID,": 18, "INSERT INTO": 18, "COMMIT": 18}


async def test_writes_that_wait_share_a_commit(
    statements: list[str], opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    async with opened() as state:
        epochs = {f"run-{number}": await begun(state, f"run-{number}") for number in range(100)}
        statements.clear()
        writes = [state.append_steps(run_id, epoch, [make_step("0:a")]) for run_id, epoch in epochs.items()]
        assert await _gather_behind_gate(state, *writes) == [None] * 100
        assert statements.count("COMMIT") == 2, "the one that held the writer up, and one for all others"
        assert "SAVEPOINT OPERATION" not in statements


@pytest.mark.parametrize(
    ("options", "sync", "level"),
    [
        ("", True, 2),
        ("?synchronous=normal", True, 1),
        ("?synchronous=off", True, 0),
        ("?synchronous=extra", True, 3),
        ("", False, 1),
        ("?synchronous=extra", False, 1),
        ("?synchronous=off", False, 0),
    ],
)
async def test_url_caps_how_much_a_commit_waits_for_the_disk(
    options: str, sync: bool, level: int, opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    levels = []

    def ask(connection: sqlite3.Connection) -> None:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    async with opened(options) as state:
        await begun(state)
        await state._handle.database.write(ask, state._target, sync=sync)
    assert levels == [level]


async def test_one_write_that_must_be_synced_is_enough(opened: Callable[..., Any], begun: Begun) -> None:
    levels = []

    def ask(connection: sqlite3.Connection) -> None:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    async with opened() as state:
        epoch = await begun(state)
        database = state._handle.database
        careless = database.write(ask, state._target, sync=False)
        await _gather_behind_gate(state, careless, state.update_run("run-1", epoch, status="failed"))
    assert levels == [2]


async def test_lone_careless_writes_are_done_at_once(
    opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    threads: set[str] = set()

    async with opened() as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a")], sync=False)
        database = state._handle.database
        await database.write(
            lambda _: threads.add(threading.current_thread().name), state._target, sync=False, lone="run-1"
        )
        assert threads == {"MainThread"}


async def test_locked_file_does_not_hold_up_the_event_loop(
    file: Path, opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a")], sync=False)
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(state.append_steps("run-1", epoch, [make_step("1:b")], sync=False))
        await asyncio.sleep(0)
        assert not write.done(), "it waits in the thread"
        other.execute("ROLLBACK")
        other.close()
        await write
        assert [record.path for record in await state.load_steps("run-1")] == ["0:a", "1:b"]


# -- what fails fails alone


def _poison(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO runs (run_id) VALUES ('half a row')")


def _abort(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR ROLLBACK INTO runs (run_id) VALUES ('half a row')")


@pytest.mark.parametrize("poison", [_poison, _abort], ids=["statement fails", "transaction is rolled back"])
async def test_poisoned_operation_fails_alone(
    poison: Callable[[sqlite3.Connection], None], opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        database = state._handle.database
        writes = [state.append_steps("run-1", epoch, [make_step(f"{number}:step")]) for number in range(6)]
        writes.insert(3, database.write(poison, state._target))
        results = await _gather_behind_gate(state, *writes)
        failed = results.pop(3)
        assert isinstance(failed, StateError)
        assert "NOT NULL" in str(failed)
        assert results == [None] * 6
        assert [record.path for record in await state.load_steps("run-1")] == [f"{n}:step" for n in range(6)]


async def test_refused_operations_do_not_disturb_others(
    statements: list[str], opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        statements.clear()
        results = await _gather_behind_gate(
            state,
            state.append_steps("run-1", epoch, [make_step("0:a")]),
            state.append_steps("run-1", epoch - 1, [make_step("1:b")]),
            state.append_steps("nobody", epoch, [make_step("1:b")]),
            state.append_steps("run-1", epoch, [make_step("2:c")]),
        )
        assert [type(result) for result in results] == [type(None), LeaseLost, RunNotFound, type(None)]
        assert statements.count("COMMIT") == 2
        assert statements.count("ROLLBACK") == 0


async def test_cancelled_writer_does_not_disturb_others(
    opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        gate = Gate(state)
        tasks = [asyncio.ensure_future(state.append_steps("run-1", epoch, [make_step(f"{n}:step")])) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.open()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
        assert {"0:step", "2:step"} <= {record.path for record in await state.load_steps("run-1")}


# -- many users, and the end


def test_event_loops_of_several_threads_share_a_store(url: str, begun: Begun, make_step: MakeStep) -> None:
    state = SqliteState(url)

    async def work(run_id: str) -> int:
        epoch = await begun(state, run_id)
        for number in range(30):
            await state.append_steps(run_id, epoch, [make_step(f"{number}:step")], sync=number % 2 == 0)
        return len(await state.load_steps(run_id))

    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda name=f"run-{n}": counts.append(asyncio.run(work(name)))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [30] * 4
    asyncio.run(state.aclose())


def test_store_that_several_threads_open_at_once_is_opened_once(url: str) -> None:
    for _ in range(20):
        state, together, found = SqliteState(url), threading.Barrier(4), []

        def use(state: SqliteState = state, together: threading.Barrier = together, found: list[Any] = found) -> None:
            together.wait()
            found.append(state._handle.database)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1
        assert found[0].users == 1
        asyncio.run(state.aclose())


async def test_stores_of_one_file_share_its_threads(opened: Callable[..., Any], begun: Begun) -> None:
    async with opened() as state, opened("?synchronous=off") as other:
        await begun(state)
        assert (await other.load_run("run-1")) == await state.load_run("run-1")
        names = Counter(thread.name for thread in threading.enumerate())
        assert names["flow-sqlite-write:runs.db"] == 1
        assert names["flow-sqlite-read:runs.db"] == 1


async def test_state_and_cache_may_be_one_file(url: str, opened: Callable[..., Any], begun: Begun) -> None:
    cache = SqliteCache(url)
    async with opened() as state:
        await begun(state)
        await cache.set(b"key", b"value")
        assert await cache.get(b"key") == b"value"
    await cache.aclose()


async def test_closed_store_opens_again(opened: Callable[..., Any], begun: Begun) -> None:
    async with opened() as state:
        epoch = await begun(state)
        await state.aclose()
        await state.update_run("run-1", epoch, status="failed")
        await state.aclose()
        loaded = await state.load_run("run-1")
        assert loaded is not None
        assert loaded.status == "failed"


async def test_closing_waits_for_what_was_begun(opened: Callable[..., Any], begun: Begun, make_step: MakeStep) -> None:
    async with opened() as state:
        epoch = await begun(state)
        gate = Gate(state)
        write = asyncio.ensure_future(state.append_steps("run-1", epoch, [make_step("0:a")]))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(state.aclose())
        await asyncio.sleep(0)
        gate.open()
        await closing
        await write
        assert len(await state.load_steps("run-1")) == 1


async def test_store_that_was_never_closed_is_given_back(url: str, begun: Begun) -> None:
    state = SqliteState(url)
    await begun(state)
    database = state._handle.database
    del state
    assert not database.alive
    database.join(10)
    assert registry._open == {}


def test_program_that_never_closes_ends_and_loses_nothing(
    url: str, program: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    text = """
import asyncio, sys
from flow import RunRecord, StepRecord
from flow_sqlite import SqliteState
state = SqliteState(sys.argv[1])
async def main():
    await state.create_run(RunRecord(run_id="r", pipeline="p", fingerprint="f"))
    for number in range(50):
        step = StepRecord(path=f"{number}:s", parent="", name="s", kind="step", status="completed")
        asyncio.ensure_future(state.append_steps("r", 0, [step]))
    await asyncio.sleep(0)
asyncio.run(main())
"""
    ended = program(text, url)
    assert ended.stderr == ""

    async def count() -> int:
        async with opened() as state:
            return len(await state.load_steps("r"))

    assert asyncio.run(count()) == 50


def test_wal_is_emptied_when_nothing_happens(file: Path, opened: Callable[..., Any], begun: Begun) -> None:
    async def work() -> None:
        async with opened() as state:
            await begun(state)
            assert file.with_name("runs.db-wal").stat().st_size > 0
            state._handle.database._writer.tidy()
            assert file.with_name("runs.db-wal").stat().st_size == 0

    asyncio.run(work())


async def test_wal_does_not_grow_with_the_number_of_steps(
    file: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any], begun: Begun, make_step: MakeStep
) -> None:
    monkeypatch.setattr(_writer, "CHECKPOINT_AFTER", 20)
    sizes = []
    async with opened("?synchronous=off") as state:
        epoch = await begun(state)
        for number in range(400):
            await state.append_steps("run-1", epoch, [make_step(f"{number}:step")], sync=number % 3 == 0)
            sizes.append(file.with_name("runs.db-wal").stat().st_size)
    assert max(sizes[200:]) <= 2 * max(sizes[:100])
