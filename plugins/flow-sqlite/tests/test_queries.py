"""What users pass is data, never SQL; and what people ask in SQL is answered quickly."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite._journal import _FENCE, _LOAD
from flow_sqlite._opening import open_connection
from flow_sqlite._runs import selection

from flow import RunNotFound, StateError

HOSTILE = [
    "'; DROP TABLE runs; --",
    "' OR '1'='1",
    '" OR ""="',
    "run-1' --",
    "run-1'; DELETE FROM steps; --",
    "') UNION SELECT * FROM runs --",
    "x'; ATTACH DATABASE '/tmp/evil.db' AS evil; --",
    "%",
    "_un-1",
    "run-1\0",
    "run-1\n",
    "*",
    "RUN-1",
    "?",
    ":status",
    "@p",
    "$1",
    "run-1 ",
    "\\'; --",
    "run-1%00",
    "1; PRAGMA writable_schema=ON",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_hostile_text_finds_nothing_and_does_nothing(
    text: str, file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened("?synchronous=off") as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a")])
        assert await state.load_run(text) is None
        assert list(await state.load_steps(text)) == []
        assert await state.delete_run(text) is False
        assert list(await state.list_runs(status=text)) == []
        assert list(await state.list_runs(pipeline=text)) == []
        assert await state.load_pipeline(text) is None
        with pytest.raises(RunNotFound):
            await state.claim_run(text, text, 60.0)
        with pytest.raises(RunNotFound):
            await state.append_steps(text, epoch, [make_step("0:a")])
        with pytest.raises(RunNotFound):
            await state.update_run(text, epoch, status="failed")
        assert [run.run_id for run in await state.list_runs()] == ["run-1"]
        assert len(await state.load_steps("run-1")) == 1
    assert sorted(path.name for path in file.parent.iterdir()) == ["runs.db"]


async def test_text_that_is_no_text_is_refused(
    opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        for work in (
            state.load_run("\udcff"),
            state.list_runs(pipeline="\udcff"),
            state.list_runs(text="\udcff"),
            state.append_steps("\udcff", epoch, [make_step("0:a")]),
            state.append_steps("run-1", epoch, [make_step("0:\udcff")], sync=False),
        ):
            with pytest.raises(StateError, match="surrogate"):
                await work
        assert list(await state.load_steps("run-1")) == []


async def test_names_of_changes_are_no_sql(opened: Callable[..., Any], begun: Callable[..., Any]) -> None:
    async with opened() as state:
        epoch = await begun(state)
        with pytest.raises((TypeError, StateError), match="unexpected keyword argument"):
            await state.update_run("run-1", epoch, **{"status = 'x'; --": "failed"})
        assert await state.load_run("run-1") is not None


def _plan(connection: sqlite3.Connection, statement: str, values: Any) -> str:
    return "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ({}, "runs_by_created_at"),
        ({"status": "failed"}, "runs_by_status"),
        ({"pipeline": "audit"}, "runs_by_pipeline"),
        ({"since": 1.0}, "runs_by_created_at"),
        ({"due": 1.0}, "runs_by_wake_at"),
        ({"id_prefix": "0193"}, "runs_by_run_id"),
        ({"id_prefix": "0193", "status": "failed"}, "runs_by_run_id"),
        ({"text": "refused"}, "runs_by_created_at"),
        ({"min_cost_usd": 1.0}, "runs_by_created_at"),
        ({"status": "paused", "due": 1.0}, "runs_by_wake_at|runs_by_status"),
    ],
)
def test_listing_uses_an_index(given: dict[str, Any], index: str, file: Path) -> None:
    where, values = selection(limit=20, offset=0, **given)
    with closing(open_connection(file, 1.0)) as connection:
        plan = _plan(connection, f"SELECT id FROM runs {where}", values)
        assert any(name in plan for name in index.split("|")), plan
        if not given.keys() & {"due", "id_prefix"}:
            assert "TEMP B-TREE" not in plan, "the newest are not sorted out of all"


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (_FENCE, ("run-1",)),
        (_LOAD, {"run_id": "run-1"}),
        ("SELECT * FROM journal WHERE run_id = ?", ("run-1",)),
        ("SELECT * FROM overview WHERE run_id = ?", ("run-1",)),
        ("DELETE FROM blob_refs WHERE run = ?", (1,)),
    ],
    ids=["append", "load", "journal", "overview", "delete"],
)
def test_one_run_is_found_without_reading_the_others(statement: str, values: Any, file: Path) -> None:
    with closing(open_connection(file, 1.0)) as connection:
        assert "SCAN" not in _plan(connection, statement, values).replace("SCAN CONSTANT ROW", "")


async def test_tables_can_be_read_in_a_shell(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    large = b'"' + b"x" * 20_000 + b'"'
    async with opened() as state:
        epoch = await begun(state)
        steps = [make_step("0:a", output=b'{"title": "x"}'), make_step("1:b", output=large, started_at=1_700_000_000.0)]
        await state.append_steps("run-1", epoch, steps)
    with closing(sqlite3.connect(file)) as connection:
        ask = connection.execute
        assert ask("SELECT run_id, path, output ->> 'title' FROM steps WHERE path = '0:a'").fetchall() == [
            ("run-1", "0:a", "x")
        ]
        assert ask("SELECT number, path, output FROM journal WHERE run_id = 'run-1'").fetchall() == [
            (0, "0:a", '{"title": "x"}'),
            (1, "1:b", large.decode()),
        ]
        assert ask("SELECT started FROM journal WHERE number = 1").fetchone() == ("2023-11-14 22:13:20",)
        assert ask("SELECT run_id, status, created FROM overview").fetchall() == [
            ("run-1", "running", "2023-11-14 22:13:20")
        ]
        assert ask("SELECT length(data) FROM steps JOIN blobs ON blobs.hash = steps.output").fetchall() == [(20_002,)]


async def test_run_that_is_deleted_in_a_shell_takes_its_steps_with_it(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        for run_id in ("run-1", "run-2"):
            await state.append_steps(run_id, await begun(state, run_id), [make_step("0:a")])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM runs WHERE run_id = 'run-1'")
        connection.commit()
        assert connection.execute("SELECT run_id FROM steps").fetchall() == [("run-2",)]
