"""Records, stores and programs for the tests of flow-sqlite."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite import SqliteState

from flow import RunRecord, StepRecord


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a store, not made yet."""
    return tmp_path / "runs.db"


@pytest.fixture
def url(file: Path) -> str:
    """The URL of `file`."""
    return f"sqlite:///{file}"


@pytest.fixture
def older(file: Path) -> Path:
    """A file as an older release left it: runs, steps, a large value, written before runs had a time to wake up."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
    return file


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    """Make a run: ``make_run("run-1", status="failed")``."""

    def make(run_id: str = "run-1", **fields: Any) -> RunRecord:
        values = {"pipeline": "audit", "fingerprint": "f1", "created_at": 1_700_000_000.0, "input": b'{"a": 1}'}
        return RunRecord(run_id=run_id, **values | fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_step() -> Callable[..., StepRecord]:
    """Make a finished step: ``make_step("0:a", output=b'"text"')``."""

    def make(path: str, **fields: Any) -> StepRecord:
        values = {"name": path.partition(":")[2], "kind": "step", "status": "completed", "output": b'{"b": [2]}'}
        return StepRecord(path=path, parent="", **values | fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def opened(url: str) -> Callable[..., AbstractAsyncContextManager[SqliteState]]:
    """Open the store and close it: ``async with opened("?synchronous=off") as state``."""

    @asynccontextmanager
    async def open_it(options: str = "", at: str = url) -> AsyncIterator[SqliteState]:
        state = SqliteState(at + options)
        try:
            yield state
        finally:
            await state.aclose()

    return open_it


@pytest.fixture
def begun(make_run: Callable[..., RunRecord]) -> Callable[..., Any]:
    """Store runs and claim them: ``epoch = await begun(state, "run-1")``."""

    async def begin(state: SqliteState, run_id: str = "run-1", **fields: Any) -> int:
        await state.create_run(make_run(run_id, **fields))
        return await state.claim_run(run_id, "somebody", 3600.0)

    return begin


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a process of its own: ``program(text, *arguments).stdout``."""

    def run(text: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-c", text, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    return run


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Start programs that say "ready", let them go on at the same moment, and return what they print then."""
    started: list[subprocess.Popen[str]] = []

    def run(*commands: tuple[object, ...]) -> list[str]:
        started.extend(
            subprocess.Popen(
                [sys.executable, "-c", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=tmp_path,
            )
            for command in commands
        )
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=60)[0].strip() for process in started]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every store of a test is closed, and its threads with it."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("flow-sqlite")]
    assert left == []


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often something random is tried: ``rounds(short, long)``, the long form with ``FLOW_TEST_SOAK=1``."""
    return lambda short, long: long if os.environ.get("FLOW_TEST_SOAK") == "1" else short
